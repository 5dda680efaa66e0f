"""One line for each candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore.messages import LeaderboardRow, WorstSeries
from forecastcore.metrics import group_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from forecastcore.backtest import Backtest
    from forecastcore.results import Result

__all__ = ["by_series", "leaderboard_row", "worst_first", "worst_of"]

#: series that are named
_WORST = 20


def leaderboard_row(
    result: Result, rows: Backtest, slices: Mapping[str, Mapping[str, float]], note: str = ""
) -> LeaderboardRow:
    """A candidate's errors in one line, from its table of `Result.slices`."""
    whole = slices["all"]
    able = len(rows.ids) - len(rows.screened)
    status = "ok" if not result.failures else "failed" if result.failed(rows) else "degraded"
    words = (
        [f"{len(result.failures)} of {able} series served by the fallback: {_commonest(result.failures)}"]
        if result.failures
        else []
    )
    skill = 1 - whole["mase"] / rows.reference if rows.reference > 0 else float("nan")
    return LeaderboardRow(
        name=result.candidate.name,
        model=result.candidate.type,
        params=result.candidate.as_dict()["params"],
        status=status,
        reason="; ".join([*words, *result.remarks, *([note] if note else [])]),
        mase=whole["mase"],
        rmsse=whole["rmsse"],
        wql=whole["wql"],
        bias=whole["bias"],
        coverage=whole["coverage"],
        skill=skill,
        smape=whole["smape"],
        skill_gm=whole["skill_gm"],
        win_rate=whole["win_rate"],
        coverage_by_step={name: one["coverage"] for name, one in slices.items() if name.startswith("steps ")},
        seconds=result.seconds,
        premium=_premium(result),
    )


def _premium(result: Result) -> float | None:
    """What the same models would have gained by knowing the covariates' future, in units of mase."""
    total, count = 0.0, 0
    for part in result.parts():
        if part.foresight is not None:
            gain = part.rows.losses(part.forecast) - part.rows.losses(part.foresight)
            known = gain[np.isfinite(gain)]
            total, count = total + float(known.sum()), count + len(known)
    return total / count if count else None


def _commonest(failures: Mapping[str, str]) -> str:
    reason, count = pd.Series(list(failures.values())).value_counts().head(1).items().__iter__().__next__()
    example = next(uid for uid, why in failures.items() if why == reason)
    return f"{reason} ({count} series, such as {example!r})"


def by_series(rows: Backtest, forecast: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The mean absolute scaled error of each series."""
    losses, count = rows.losses(forecast), len(rows.ids)
    return np.asarray(group_mean(losses.ravel(), np.tile(np.arange(count), len(losses)), count))


def worst_of(result: Result, rows: Backtest) -> tuple[WorstSeries, ...]:
    """The series that a candidate serves worst in the backtest; see `worst_first`."""
    parts = [(by_series(one.rows, one.forecast), by_series(one.rows, one.rows.naive)) for one in result.parts()]
    ours, theirs = (np.concatenate(values) for values in zip(*parts, strict=True))
    times = np.divide(ours, theirs, out=np.full(len(ours), np.nan), where=theirs > 0)
    reasons = [rows.screened.get(uid, result.failures.get(uid, "")) for uid in rows.ids]
    unserved = np.array([bool(reason) for reason in reasons])
    order = np.argsort(np.where(np.isfinite(ours), -ours, -np.inf), kind="stable")
    first = (order[unserved[order]], order[~unserved[order] & np.isfinite(ours)[order]])
    return worst_first(
        WorstSeries(
            unique_id=rows.ids[place],
            mase=float(ours[place]),
            times_naive=float(times[place]),
            reason=reasons[place],
        )
        for place in np.concatenate([some[:_WORST] for some in first]).tolist()
    )


def worst_first(series: Iterable[WorstSeries]) -> tuple[WorstSeries, ...]:
    """The worst 20, each once: those that the model does not serve, then the others, each by error, largest first.

    Those that are not served take half of the places at most while there are others.
    """
    found: dict[str, WorstSeries] = {}
    for one in series:
        found.setdefault(one.unique_id, one)
    ranked = sorted(found.values(), key=lambda one: (-np.inf if one.mase is None else -one.mase, one.unique_id))
    unserved = [one for one in ranked if one.reason]
    served = [one for one in ranked if not one.reason and one.mase is not None]
    first = unserved[: max(_WORST // 2, _WORST - len(served))]
    return (*first, *served[: _WORST - len(first)])
