"""The promotion gate: is the challenger better than the champion, and by more than chance?

Both are scored on the same origins and series. The unit of evidence is the origin: errors of one origin hang together
across series and steps, so they are averaged first. Two tests over the origins must agree: Diebold & Mariano (1995)
with the correction of Harvey, Leybourne & Newbold (1997) for few origins, and a wild bootstrap of whole blocks of
origins (Cameron, Gelbach & Miller 2008), which needs no normal errors. Where forecasts of neighbouring origins overlap,
the degrees of freedom are those of the origins that do not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.messages import Decision, Guard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = [
    "Evidence",
    "Rules",
    "chance",
    "decide",
    "demotion",
    "gain_interval",
    "unopposed",
    "unseen_choice",
]

_DRAWS = 1999


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When a challenger may take over.

    Attributes:
        min_gain: least reduction of the mean loss, as a share of the champion's.
        confidence: level at which the gain must be above zero (one-sided).
        worst_slice: a step bucket or segment may get worse by this share at most, chance aside.
        slice_confidence: level at which it has got worse; a warning needs less proof than a gain.
        least_skill: the skill against the best seasonal naive must not lie below this by more than chance; which of
            the seasonal naives is best is known in hindsight only, which is worth about so much.
        coverage_slack: coverage may lie this far from nominal at most, chance aside, unless the champion's lies
            farther; half as much again within a step bucket.
        least_loss: share of the seasonal naive's loss below which a challenger is not believed.
    """

    min_gain: float = 0.01
    confidence: float = 0.95
    worst_slice: float = 0.10
    slice_confidence: float = 0.80
    coverage_slack: float = 0.10
    least_skill: float = -0.02
    least_loss: float = 0.01


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the gate looks at.

    Attributes:
        champion: mean loss by origin and series, shape (origins, series); NaN where nothing could be scored.
        challenger: the same of the challenger.
        nominal: what coverage should be.
        naive: mean scaled error by origin of the best seasonal naive, and of the challenger; None where its skill is
            not asked for.
        slices: by name of a step bucket or segment, mean loss by origin of champion and challenger.
        coverage: by name of a step bucket, and `all`, share of actuals within the outermost quantiles by origin, of
            champion and challenger.
        rivals: candidates among whom the challenger was chosen, the champion's own recipe not counted.
        new_origins: origins after the champion's training, on which its stored artefact was scored.
        data: what was found in the training data; a guard that fails holds the challenger.
    """

    champion: Floats
    challenger: Floats
    nominal: float
    naive: tuple[Floats, Floats] | None = None
    slices: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict)
    coverage: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict)
    rivals: int = 1
    new_origins: int = 0
    data: Sequence[Guard] = ()


def _by_origin(champion: Floats, challenger: Floats) -> tuple[Floats, Floats]:
    """Mean losses of both by origin, over the series that both were scored on."""
    both = np.isfinite(champion) & np.isfinite(challenger)
    scored = both.any(axis=1)
    ours, theirs = (np.mean(loss[scored], axis=1, where=both[scored]) for loss in (champion, challenger))
    return np.asarray(ours), np.asarray(theirs)


def _spread_of_mean(values: Floats, overlap: int) -> float:
    """Standard error of the mean of an overlapping series, Diebold-Mariano with the HLN correction."""
    n = len(values)
    centred = values - values.mean()
    h = min(overlap, n - 1)
    variance = float(centred @ centred) / n
    variance += 2 * sum(float(centred[k:] @ centred[:-k]) / n * (1 - k / h) for k in range(1, h))
    correction = (n + 1 - 2 * h + h * (h - 1) / n) / n
    return float(np.sqrt(max(variance, 0.0) / n / correction))


def _reach(values: Floats, confidence: float, overlap: int) -> float:
    """How far the mean may lie from the truth at a one-sided level; infinite with a single origin."""
    from scipy import stats

    n = len(values)
    if n < 2:  # noqa: PLR2004 - one origin has no spread
        return np.inf
    return float(stats.t.ppf(confidence, (n - 1) / overlap)) * _spread_of_mean(values, overlap)


def gain_interval(
    champion: Floats, challenger: Floats, confidence: float, *, overlap: int = 1
) -> tuple[float, float, float]:
    """Relative gain of the challenger with bounds that each hold with the stated confidence.

    Args:
        champion: losses, shape (origins, series), NaN where not scored.
        challenger: the same.
        confidence: one-sided level of each bound.
        overlap: forecasts of an origin overlap with those of this many origins, itself included (1: stride >= horizon).

    Returns:
        gain, low, high; the bounds are infinite with a single origin, all NaN without any.
    """
    ours, theirs = _by_origin(champion, challenger)
    if not len(ours):
        return float("nan"), -np.inf, np.inf
    difference, level = ours - theirs, abs(float(ours.mean()))
    if level == 0:  # nothing to gain: equal, or worse beyond measure
        same = not difference.any()
        return (0.0, 0.0, 0.0) if same else (-np.inf, -np.inf, -np.inf)
    gain, reach = float(difference.mean()) / level, _reach(difference, confidence, overlap) / level
    return gain, gain - reach, gain + reach


def chance(champion: Floats, challenger: Floats, *, overlap: int = 1) -> float:
    """Probability of a gain as clear as this one if both were equally good.

    A wild bootstrap: under equality a block of origins may as well have gone the other way, so the blocks' differences
    are multiplied with random numbers around zero, and the t statistic is taken each time.

    Args:
        champion: losses, shape (origins, series), NaN where not scored.
        challenger: the same.
        overlap: origins in a block; see `gain_interval`.

    Returns:
        A one-sided p value; 1 where there are fewer than two blocks.
    """
    ours, theirs = _by_origin(champion, challenger)
    blocks = -(-len(ours) // overlap)
    if blocks < 2:  # noqa: PLR2004 - one block has no spread
        return 1.0
    total: Floats = np.bincount(np.arange(len(ours)) * blocks // len(ours), ours - theirs).astype(float)

    def statistic(values: Floats) -> Floats:
        mean, spread = values.mean(axis=-1), values.std(axis=-1, ddof=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.nan_to_num(mean / spread, nan=0.0))

    drawn = statistic(np.random.default_rng(0).normal(size=(_DRAWS, blocks)) * total)
    return float(1 + (drawn >= statistic(total)).sum()) / (_DRAWS + 1)


def unseen_choice(losses: Floats) -> npt.NDArray[np.intp]:
    """For each origin the candidate that the other origins would have chosen.

    The best of many candidates looks better than it is on the origins that made it the best. Scored on each origin as
    the choice of the others, it has no such luck. What one candidate was scored on counts for all: a loss that is
    missing there is infinite, so that nobody wins by being absent where it is hard.

    Args:
        losses: loss by candidate, origin and series, shape (candidates, origins, series); NaN where nothing could be
            scored.

    Returns:
        Number of a candidate for each origin, shape (origins,). With a single origin, the best on it.
    """
    known: npt.NDArray[np.bool_] = np.isfinite(losses)
    asked = np.asarray(known.any(axis=0))
    total = np.where(known, losses, np.where(asked, np.inf, 0.0)).sum(axis=2)
    mean = np.divide(total, asked.sum(axis=1), out=np.zeros_like(total), where=asked.any(axis=1))
    origins = mean.shape[1]
    others = np.stack([np.delete(mean, n, axis=1).sum(axis=1) for n in range(origins)]) if origins > 1 else mean.T
    return np.asarray(others.argmin(axis=1))


def _finite(evidence: Evidence) -> Guard:
    """Every loss that the champion has, the challenger must have: what is missing would vanish from its mean."""
    missing = int((np.isfinite(evidence.champion) & ~np.isfinite(evidence.challenger)).sum())
    known = int(np.isfinite(evidence.challenger).sum())
    words = "the challenger's losses are numbers"
    if missing or not known:
        words = f"{missing} of {missing + known} of the challenger's losses are no finite numbers"
    return Guard(name="finite", passed=bool(known and not missing), detail=words)


def _against_naive(evidence: Evidence, rules: Rules, overlap: int) -> list[Guard]:
    """The challenger is about as good as a seasonal naive, but not as good as only the answers would be."""
    if evidence.naive is None:
        return []
    naive, challenger = (loss[:, None] for loss in evidence.naive)
    skill, _, high = gain_interval(naive, challenger, rules.confidence, overlap=overlap)
    plausible = not 1 - skill < rules.least_loss
    reach = f" (at most {high:+.3f})" if skill <= 0 and np.isfinite(high) else ""
    return [
        Guard(
            name="skill",
            passed=bool(high >= rules.least_skill),
            detail=f"skill against seasonal naive {skill:+.3f}{reach}, needs {rules.least_skill:+.2f}",
        ),
        Guard(
            name="plausible",
            passed=plausible,
            detail="the challenger errs as forecasts do"
            if plausible
            else f"loss is {1 - skill:.2%} of the seasonal naive's: it has seen the answers (a leak, or train = test)",
        ),
    ]


def _slices(evidence: Evidence, rules: Rules, overlap: int) -> Guard:
    """No slice worse than the margin by more than chance."""
    worst, at, failed = -np.inf, "", []
    for name, (ours, theirs) in evidence.slices.items():
        gain, _, high = gain_interval(ours[:, None], theirs[:, None], rules.slice_confidence, overlap=overlap)
        if np.isfinite(gain) and -gain > worst:
            worst, at = -gain, name
        if -gain > rules.worst_slice and high < 0:
            failed.append(f"{name}: {-gain:+.1%}")
    limit = f"(limit {rules.worst_slice:+.0%})"
    if failed:
        detail = f"worse by more than chance in {', '.join(failed)} {limit}"
    else:
        detail = f"worst slice {at}: {worst:+.1%} {limit}" if at else "no slice to compare"
    return Guard(name="slices", passed=not failed, detail=detail)


def _coverage(evidence: Evidence, rules: Rules, overlap: int) -> Guard:
    """Intervals hold about as much as they say, in all and in each step bucket, or are no worse than the champion's."""
    words, failed = "no interval to look at", []
    for name, (ours, theirs) in evidence.coverage.items():
        known = theirs[np.isfinite(theirs)]
        if not len(known):
            continue
        share, before = float(known.mean()), float(np.nanmean(ours)) if np.isfinite(ours).any() else np.nan
        far, slack = abs(share - evidence.nominal), rules.coverage_slack * (1 if name == "all" else 1.5)
        told = f"{share:.1%} of actuals in the {evidence.nominal:.0%} interval"
        words = told if name == "all" else words
        sure = len(known) < 2 or far > _reach(known, rules.confidence, overlap)  # noqa: PLR2004 - one tells no chance
        if far > slack and sure and not far <= abs(before - evidence.nominal):
            failed.append(told if name == "all" else f"{name}: {told}")
    return Guard(name="coverage", passed=not failed, detail="; ".join(failed) or words)


def _soundness(evidence: Evidence, rules: Rules, *, overlap: int = 1) -> list[Guard]:
    """What must hold of a challenger beside being better than the champion.

    Args:
        evidence: losses of both on the same origins.
        rules: what it takes.
        overlap: see `gain_interval`.
    """
    return [
        *evidence.data,
        _finite(evidence),
        *_against_naive(evidence, rules, overlap),
        _slices(evidence, rules, overlap),
        _coverage(evidence, rules, overlap),
    ]


def decide(evidence: Evidence, rules: Rules, *, overlap: int = 1) -> Decision:
    """Promote or hold, in words and numbers.

    Args:
        evidence: losses of both on the same origins.
        rules: what it takes.
        overlap: see `gain_interval`.
    """
    guards = _soundness(evidence, rules, overlap=overlap)
    # A choice among several owes some luck even to the other origins' vote: simulated, see docs/explanation/gate.md.
    doubt = (1 - rules.confidence) / (1 + np.log(max(evidence.rivals, 1)) / 2)
    gain, low, high = gain_interval(evidence.champion, evidence.challenger, 1 - doubt, overlap=overlap)
    p = chance(evidence.champion, evidence.challenger, overlap=overlap)
    origins = int(np.isfinite(evidence.challenger).any(axis=1).sum())
    independent = 1 + (origins - 1) / overlap
    enough, better, sure = independent >= 2, gain >= rules.min_gain, low > 0  # noqa: PLR2004 - one has no spread
    few = f"{origins} origins" + (f", as good as {independent:.1f} that do not overlap" if overlap > 1 else "")
    guards = [
        Guard(name="min_gain", passed=bool(better), detail=f"gain {gain:+.2%}, needs {rules.min_gain:+.2%}"),
        Guard(name="origins", passed=bool(enough), detail=f"{few}; needs 2"),
        Guard(name="confidence", passed=bool(sure), detail=f"lower bound {low:+.2%} over {few}, needs to be above 0"),
        Guard(
            name="bootstrap",
            passed=p < doubt,
            detail=f"such a gain comes by chance in {p:.1%}, needs less than {doubt:.1%}",
        ),
        *guards,
    ]
    span = f"{gain:+.1%} (between {low:+.1%} and {high:+.1%}, each bound at {1 - doubt:.1%} confidence)"
    return Decision(
        verdict="promote" if all(guard.passed for guard in guards) else "hold",
        reason=_reason(guards, span, origins, rules),
        gain=gain,
        ci=(low, high),
        confidence=rules.confidence,
        guards=tuple(guards),
    )


def demotion(
    champion: Floats, previous: Floats, rules: Rules, *, overlap: int = 1, names: tuple[str, str] = ("", "")
) -> Decision:
    """Whether a champion's predecessor should return: by the rule that promotes, on what both would have served.

    Args:
        champion: losses of the champion as stored, on origins after its training; shape (origins, series).
        previous: the same of its predecessor.
        rules: what it takes.
        overlap: see `gain_interval`.
        names: versions of both, for the words.

    Returns:
        `promote` where the predecessor should return.
    """
    found = decide(Evidence(champion=champion, challenger=previous, nominal=0.0), rules, overlap=overlap)
    gain = f"{found.gain:+.1%}" if found.gain is not None else "not known"
    after = f"on {len(champion)} origins after the training of version {names[0]}"
    if found.verdict == "promote":
        reason = (
            f"demoted: version {names[1]} errs less than version {names[0]} {after}: gain {gain}, lower bound above 0"
        )
    else:
        reason = f"kept: version {names[1]} is not surely better than version {names[0]} {after}: gain {gain}"
    return found.model_copy(update={"reason": reason})


def unopposed(champion: str, data: Sequence[Guard], confidence: float) -> Decision:
    """Whoever can serve replaces a champion that cannot, unless its training data is spoilt.

    Args:
        champion: the champion, and why it cannot serve, in words.
        data: what was found in the training data.
        confidence: of the rules; nothing was compared.
    """
    faults = "; ".join(f"{guard.name}: {guard.detail}" for guard in data if not guard.passed)
    return Decision(
        verdict="hold" if faults else "promote",
        reason=f"held: {faults}; nothing was compared, for {champion}" if faults else f"promoted: {champion}",
        confidence=confidence,
        guards=tuple(data),
    )


def _reason(guards: Sequence[Guard], span: str, origins: int, rules: Rules) -> str:
    """The verdict in words. What is wrong with the data or the numbers comes first: no gain counts then."""
    failed = {guard.name: guard.detail for guard in guards if not guard.passed}
    if not failed:
        return f"promoted: the challenger's gain is {span} on {origins} origins, and every guard holds"
    unsound = [name for name in failed if name.startswith("data-") or name in {"finite", "plausible"}]
    if unsound:
        return "held: " + "; ".join(f"{name}: {failed[name]}" for name in unsound)
    also = "".join(f"; {name}: {failed[name]}" for name in ("skill", "slices", "coverage") if name in failed)
    if "min_gain" in failed:
        return f"held: the gain {span} is below the required {rules.min_gain:+.1%}{also}"
    if failed.keys() & {"origins", "confidence", "bootstrap"}:
        return f"held: the gain {span} may be chance on {origins} origins{also}"
    return f"held: the gain is {span}, but {also.removeprefix('; ')}"
