"""The promotion gate: is the challenger better than the champion, and by more than chance?

Both are scored on the same origins and series. The unit of evidence is the origin: errors of one origin hang together
across series and steps, so they are averaged first, and the test is a paired one over origins, Diebold & Mariano (1995)
with the correction of Harvey, Leybourne & Newbold (1997) for few origins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.messages import Decision, Guard

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["Evidence", "Rules", "decide", "gain_interval", "unseen_choice"]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When a challenger may take over.

    Attributes:
        min_gain: least relative reduction of the mean loss.
        confidence: level at which the gain must be above zero (one-sided).
        worst_slice: a step bucket or segment may get worse by this share at most.
        coverage_slack: coverage may lie this far from nominal at most, unless the champion's lies farther.
    """

    min_gain: float = 0.01
    confidence: float = 0.95
    worst_slice: float = 0.10
    coverage_slack: float = 0.10


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the gate looks at.

    Attributes:
        champion: mean scaled loss by origin and series, shape (origins, series); NaN where nothing could be scored.
        challenger: the same of the challenger.
        slices: by name of a step bucket or segment, mean loss of champion and challenger.
        coverage: of the challenger's outermost quantiles.
        champion_coverage: of the champion's.
        nominal: what coverage should be.
        skill: of the challenger against seasonal naive.
        new_origins: origins after the champion's training, on which its stored artefact was scored.
    """

    champion: Floats
    challenger: Floats
    slices: Mapping[str, tuple[float, float]]
    coverage: float
    champion_coverage: float
    nominal: float
    skill: float
    new_origins: int = 0


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
        gain, low, high; the bounds are infinite with a single origin.
    """
    from scipy import stats

    both = np.isfinite(champion) & np.isfinite(challenger)
    scored = both.any(axis=1)
    if not scored.any():
        return float("nan"), -np.inf, np.inf
    ours, theirs = (np.mean(loss[scored], axis=1, where=both[scored]) for loss in (champion, challenger))
    level, difference = float(ours.mean()), ours - theirs
    n = len(difference)
    gain = float(difference.mean() / level) if level > 0 else float("nan")
    if n < 2 or not np.isfinite(gain):  # noqa: PLR2004 - one origin has no spread
        return gain, -np.inf, np.inf
    centred = difference - difference.mean()
    h = min(overlap, n - 1)
    variance = float(centred @ centred) / n
    variance += 2 * sum(float(centred[k:] @ centred[:-k]) / n * (1 - k / h) for k in range(1, h))
    correction = (n + 1 - 2 * h + h * (h - 1) / n) / n
    error = np.sqrt(max(variance, 0.0) / n / correction) / level
    reach = float(stats.t.ppf(confidence, n - 1)) * error
    return gain, gain - reach, gain + reach


def unseen_choice(losses: Floats) -> npt.NDArray[np.intp]:
    """For each origin the candidate that the other origins would have chosen.

    The best of many candidates looks better than it is on the origins that made it the best. Scored on each origin as
    the choice of the others, it has no such luck.

    Args:
        losses: mean loss by candidate and origin, shape (candidates, origins); NaN where nothing could be scored.

    Returns:
        Number of a candidate for each origin, shape (origins,). With a single origin, the best on it.
    """
    known = np.nan_to_num(losses)
    others = known.sum(axis=1, keepdims=True) - known if losses.shape[1] > 1 else known
    return np.asarray(others.argmin(axis=0))


def _guards(evidence: Evidence, rules: Rules) -> list[Guard]:
    worse = {
        name: theirs / ours - 1
        for name, (ours, theirs) in evidence.slices.items()
        if np.isfinite(ours) and np.isfinite(theirs) and ours > 0
    }
    worst = max(worse, key=lambda name: worse[name], default="")
    far, champion_far = abs(evidence.coverage - evidence.nominal), abs(evidence.champion_coverage - evidence.nominal)
    finite = bool(np.isfinite(evidence.challenger).any())
    return [
        Guard(
            name="finite",
            passed=finite,
            detail="the challenger's losses are numbers" if finite else "the challenger has no finite loss",
        ),
        Guard(name="skill", passed=evidence.skill > 0, detail=f"skill against seasonal naive {evidence.skill:+.3f}"),
        Guard(
            name="slices",
            passed=not worst or worse[worst] <= rules.worst_slice,
            detail=f"worst slice {worst}: {worse[worst]:+.1%} (limit {rules.worst_slice:+.0%})"
            if worst
            else "no slice to compare",
        ),
        Guard(
            name="coverage",
            passed=not np.isfinite(far) or far <= rules.coverage_slack or far <= champion_far,
            detail=f"{evidence.coverage:.1%} of actuals in the {evidence.nominal:.0%} interval",
        ),
    ]


def decide(evidence: Evidence, rules: Rules, *, overlap: int = 1) -> Decision:
    """Promote or hold, in words and numbers.

    Args:
        evidence: losses of both on the same origins.
        rules: what it takes.
        overlap: see `gain_interval`.
    """
    gain, low, high = gain_interval(evidence.champion, evidence.challenger, rules.confidence, overlap=overlap)
    guards = _guards(evidence, rules)
    better = bool(np.isfinite(gain) and gain >= rules.min_gain)
    sure = bool(low > 0)
    span = f"{gain:+.1%} (between {low:+.1%} and {high:+.1%}, each bound at {rules.confidence:.0%} confidence)"
    origins = int(np.isfinite(evidence.challenger).any(axis=1).sum())
    guards.insert(0, Guard(name="min_gain", passed=better, detail=f"gain {gain:+.2%}, needs {rules.min_gain:+.2%}"))
    guards.insert(
        1,
        Guard(
            name="confidence", passed=sure, detail=f"lower bound {low:+.2%} over {origins} origins, needs to be above 0"
        ),
    )
    failed = [guard for guard in guards if not guard.passed]
    if not failed:
        reason = f"promoted: the challenger's gain is {span} on {origins} origins, and every guard holds"
    elif not better:
        reason = f"held: the gain {span} is below the required {rules.min_gain:+.1%}"
    elif not sure:
        reason = f"held: the gain {span} may be chance on {origins} origins"
    else:
        reason = f"held: the gain is {span}, but " + "; ".join(f"{guard.name}: {guard.detail}" for guard in failed)
    return Decision(
        verdict="hold" if failed else "promote",
        reason=reason,
        gain=gain,
        ci=(low, high),
        confidence=rules.confidence,
        guards=tuple(guards),
    )
