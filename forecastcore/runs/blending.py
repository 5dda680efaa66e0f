"""Ensembles of what has been backtested: the members' forecasts are put together, nothing is fitted again."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.compare import unseen_choice
from forecastcore.ensemble import Evidence, out_of_fold
from forecastcore.results import OWN, Result, bands_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from forecastcore.backtest import Backtest
    from forecastcore.ensemble import Blend
    from forecastcore.project import Candidate

    Floats = npt.NDArray[np.float64]

__all__ = ["as_chosen", "blended"]

#: members that an ensemble's line of the leaderboard names with their shares
_NAMED = 6


def as_chosen(results: Sequence[Result], rows: Backtest, levels: Sequence[float], metric: str) -> Result:
    """The best of several, on each origin as the one that the other origins would have chosen.

    Args:
        results: those that could have been chosen.
        rows: what they were scored on.
        levels: of the quantiles.
        metric: what they were chosen by.
    """
    if len(results) == 1:
        return results[0]
    chosen = unseen_choice(np.stack([result.losses(metric, levels) for result in results]))
    answers, bands = rows.sheet(OWN + len(levels)), rows.sheet(len(levels))
    foresees = _foresees(results)
    for part in rows.parts():
        each = [result.among(part) for result in results]
        of_each, place = chosen[part.fold], np.arange(len(part.fold))
        part.put(answers, np.stack([_answers(one, foresees=foresees) for one in each])[of_each, place])
        part.put(bands, np.stack([one.quantiles for one in each])[of_each, place])
    return replace(results[0], answers=answers, bands=bands, foresees=foresees)


def blended(
    candidate: Candidate, members: Sequence[Result], rows: Backtest, levels: Sequence[float], metric: str
) -> Result:
    """An ensemble's result from those of its members.

    Args:
        candidate: the ensemble; its members in the order of `members`.
        members: their results, each as it may be seen on a fold (see `as_chosen`).
        rows: what they were scored on.
        levels: of the quantiles.
        metric: what decides between candidates; `rmsse` makes weights learn from squared errors.
    """
    started = time.perf_counter()
    able = [number for number, result in enumerate(members) if not result.failed(rows)] or list(range(len(members)))
    power = 2 if metric == "rmsse" else 1

    def each(part: Backtest) -> list[Result]:
        return [members[n].among(part) for n in able]

    def evidence() -> Iterator[Evidence]:
        for part in rows.parts():
            yield Evidence(
                y=part.y,
                forecasts=np.stack([one.forecast for one in each(part)]),
                fold=part.fold,
                series=part.series,
                ids=part.ids,
                group=part.group,
                scale=(np.sqrt(part.scale2) if power == 2 else part.scale).ravel(),  # noqa: PLR2004 - squared errors
                power=power,
            )

    def made_by_each() -> Iterator[Floats]:
        return (np.stack([_made(one) for one in each(part)]) for part in rows.parts())

    answers = rows.sheet(OWN + len(levels))
    lost: set[str] = set()
    put_together, blend = out_of_fold(candidate.params["method"], evidence, made_by_each)
    for part, combined in zip(rows.parts(), put_together, strict=True):
        made = np.isfinite(combined[:, 0])
        # Where no member gave a forecast, the fallback did, which is the same for all of them.
        fallback = members[0].among(part).forecast
        forecast, foresight = (np.where(made, combined[:, column], fallback) for column in (0, -1))
        own = np.sort(combined[:, 1:-1], axis=1)
        part.put(answers, np.column_stack([forecast, made, foresight, own]))
        lost |= {part.ids[number] for number in np.unique(part.series[~made])}
    lost -= set(rows.screened)
    failures = {uid: next(m.failures[uid] for m in members if uid in m.failures) for uid in sorted(lost)}
    return Result(
        candidate=candidate,
        rows=rows,
        answers=answers,
        bands=bands_of(rows, answers, levels),
        failures=failures,
        seconds=time.perf_counter() - started,
        foresees=_foresees(members),
        remarks=_remarks(candidate, [members[n] for n in able], members, blend),
        blend=blend.widened(able, len(members)),
    )


def _answers(result: Result, *, foresees: bool) -> Floats:
    """A result's rows as they are, with a forecast of the actual covariates where any of those beside it has one."""
    errors = result.errors
    foresight = _knowing(result) if foresees else np.full(len(errors.made), np.nan)
    return np.column_stack([errors.forecast, errors.made, foresight, errors.own])


def _made(result: Result) -> Floats:
    """A member's rows as `Blend.combine` takes them, those of the fallback left out: forecast, quantiles, foresight."""
    errors = result.errors
    return np.where(errors.made[:, None], np.column_stack([errors.forecast, errors.own, _knowing(result)]), np.nan)


def _foresees(results: Sequence[Result]) -> bool:
    return any(result.foresees for result in results)


def _knowing(result: Result) -> Floats:
    """Forecasts with the actual covariates; those with the assumed ones where there are none."""
    if result.foresight is None:
        return result.forecast
    return np.where(np.isfinite(result.foresight), result.foresight, result.forecast)


def _remarks(candidate: Candidate, able: Sequence[Result], members: Sequence[Result], blend: Blend) -> tuple[str, ...]:
    """How much each member counts, and who was left out where."""
    order = [n for n in np.argsort(-blend.shares, kind="stable") if blend.shares[n] > 0]
    learned = len(set(blend.shares.tolist())) > 1
    shares = [(f"{blend.shares[n]:.2f} " if learned else "") + able[n].candidate.name for n in order[:_NAMED]]
    shares += [f"{len(order) - _NAMED} more"] if len(order) > _NAMED else []
    words = [f"{candidate.params['method']} of {', '.join(shares)}"]
    out = [m.candidate.name for m in members if all(m is not a for a in able)]
    words += [f"without {', '.join(out)}, which failed"] if out else []
    words += [f"without {a.candidate.name} on {len(a.failures)} series that it failed on" for a in able if a.failures]
    return (*words, *(f"{able[n].candidate.name}: {remark}" for n in order for remark in able[n].remarks))
