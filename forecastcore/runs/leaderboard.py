"""One line for each candidate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore.messages import LeaderboardRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forecastcore.backtest import Backtest, Result

__all__ = ["leaderboard_row"]


def leaderboard_row(
    result: Result, rows: Backtest, slices: Mapping[str, Mapping[str, float]], note: str = ""
) -> LeaderboardRow:
    """A candidate's errors in one line, from its table of `Backtest.slices`."""
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
        premium=_premium(result, rows),
    )


def _premium(result: Result, rows: Backtest) -> float | None:
    """What the same models would have gained by knowing the covariates' future, in units of mase."""
    if result.foresight is None:
        return None
    gain = rows.losses(result.forecast) - rows.losses(result.foresight)
    return float(gain[np.isfinite(gain)].mean()) if np.isfinite(gain).any() else None


def _commonest(failures: Mapping[str, str]) -> str:
    reason, count = pd.Series(list(failures.values())).value_counts().head(1).items().__iter__().__next__()
    example = next(uid for uid, why in failures.items() if why == reason)
    return f"{reason} ({count} series, such as {example!r})"
