"""Ensembles of what has been backtested: the members' forecasts are put together, nothing is fitted again."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.backtest import Result
from forecastcore.compare import unseen_choice
from forecastcore.ensemble import Evidence, out_of_fold
from forecastcore.intervals import leave_one_fold_out

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    losses = np.stack([rows.losses_by(metric, r.forecast, r.quantiles, levels) for r in results])
    chosen, place = unseen_choice(losses)[rows.fold], np.arange(len(rows.fold))
    errors = results[0].errors
    forecast, own, made = (
        np.stack([getattr(r.errors, name) for r in results])[chosen, place] for name in ("forecast", "own", "made")
    )
    foresight = np.stack([_knowing(r) for r in results])[chosen, place] if _foresees(results) else None
    errors = replace(errors, forecast=forecast, own=own, made=made)
    quantiles = np.stack([r.quantiles for r in results])[chosen, place]
    return replace(results[0], forecast=forecast, quantiles=quantiles, errors=errors, foresight=foresight)


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
    evidence = Evidence(
        y=rows.y,
        forecasts=np.stack([members[n].forecast for n in able]),
        fold=rows.fold,
        series=rows.series,
        ids=rows.ids,
        group=rows.group,
        scale=(np.sqrt(rows.scale2) if power == 2 else rows.scale).ravel(),  # noqa: PLR2004 - squared errors
        power=power,
    )
    values = np.stack([_answers(members[n]) for n in able])
    combined, blend = out_of_fold(candidate.params["method"], evidence, values)
    made = np.isfinite(combined[:, 0])
    # Where no member gave a forecast, the fallback did, which is the same for all of them.
    forecast = np.where(made, combined[:, 0], members[0].forecast)
    own, foresight = np.sort(combined[:, 1:-1], axis=1), np.where(made, combined[:, -1], members[0].forecast)
    errors = replace(members[0].errors, forecast=forecast, own=own, made=made)
    lost = set(np.asarray(rows.ids, dtype=object)[np.unique(rows.series[~made])].tolist()) - set(rows.screened)
    failures = {uid: next(m.failures[uid] for m in members if uid in m.failures) for uid in sorted(lost)}
    return Result(
        candidate=candidate,
        forecast=forecast,
        quantiles=leave_one_fold_out(errors, levels),
        errors=errors,
        failures=failures,
        seconds=time.perf_counter() - started,
        foresight=foresight if _foresees(members) else None,
        remarks=_remarks(candidate, [members[n] for n in able], members, blend),
        blend=blend.widened(able, len(members)),
    )


def _answers(result: Result) -> Floats:
    """A member's rows as `Blend.combine` takes them, those of the fallback left out: forecast, quantiles, foresight."""
    made = result.errors.made[:, None]
    return np.where(made, np.column_stack([result.errors.forecast, result.errors.own, _knowing(result)]), np.nan)


def _foresees(results: Sequence[Result]) -> bool:
    return any(result.foresight is not None for result in results)


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
