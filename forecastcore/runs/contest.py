"""All candidates on the same rows: backtest, leaderboard, winner."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from forecastcore import runtime
from forecastcore.backtest import fold_origins, leaderboard_row, rows_of, run
from forecastcore.errors import DataError
from forecastcore.foresight import assumption_errors
from forecastcore.messages import BacktestReport, SeriesCount
from forecastcore.ports import Steps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from forecastcore.backtest import Backtest, Result
    from forecastcore.frames import History
    from forecastcore.messages import AssumptionError, LeaderboardRow
    from forecastcore.ports import Engine
    from forecastcore.project import Candidate, Project

__all__ = ["Contest", "backtest", "hold_contest"]


@dataclass(frozen=True, kw_only=True)
class Contest:
    """All candidates on the same rows, and who won.

    Attributes:
        rows: what they were scored on.
        results: their forecasts.
        leaderboard: their errors, best first.
        best: the winner.
        assumption_errors: how far from what came the covariates were assumed at its origins.
    """

    rows: Backtest
    results: list[Result]
    leaderboard: list[LeaderboardRow]
    best: Result
    assumption_errors: tuple[AssumptionError, ...] = ()

    @property
    def winner(self) -> LeaderboardRow:
        """The winner's line of the leaderboard."""
        return next(row for row in self.leaderboard if row.name == self.best.candidate.name)

    @property
    def series(self) -> SeriesCount:
        """How the winner serves the series."""
        total, screened = len(self.rows.ids), self.rows.screened.values()
        failed = sum(reason == "no-history" for reason in screened)
        degraded = len(screened) - failed + len(self.best.failures)
        return SeriesCount(total=total, ok=total - degraded - failed, degraded=degraded, failed=failed)


def hold_contest(
    project: Project, history: History, engine: Engine, steps: Steps, *, champion: Candidate | None = None
) -> Contest:
    """Backtest every candidate, and the champion's recipe where it is none of them.

    Args:
        project: whose candidates, folds and metric.
        history: checked history.
        engine: where to run.
        steps: one stage per candidate.
        champion: its recipe; it is scored, but cannot win unless it is a candidate.

    Raises:
        DataError: no candidate could be scored.
    """
    candidates = list(project.candidates())
    entrants = [*candidates, *([champion] if champion and not any(champion.same_recipe(c) for c in candidates) else [])]
    rows = rows_of(project, history, fold_origins(history, project))
    results = [_one(project, history, engine, steps, candidate, rows) for candidate in entrants]
    levels = project.config.quantiles
    board = [leaderboard_row(r, rows, levels, runtime.unused_by(project, r.candidate)) for r in results]
    metric = project.config.backtest.metric

    def loss(row: LeaderboardRow) -> float:
        value = getattr(row, metric)
        return float(value) if value is not None and row.status != "failed" else np.inf

    best = min(range(len(candidates)), key=lambda i: loss(board[i]))
    if not np.isfinite(loss(board[best])):
        raise DataError(
            "no candidate could be scored: "
            + "; ".join(f"{row.name}: {row.reason or 'no finite error'}" for row in board[: len(candidates)]),
            hint="forecastcore validate --data tells which series have enough values",
        )
    errors = steps.run("measure assumptions", lambda: assumption_errors(project, history, engine, rows.origins))
    return Contest(
        rows=rows,
        results=results,
        leaderboard=sorted(board, key=loss),
        best=results[best],
        assumption_errors=errors,
    )


def _one(
    project: Project, history: History, engine: Engine, steps: Steps, candidate: Candidate, rows: Backtest
) -> Result:
    name = f"backtest {candidate.name}"

    def work() -> Sequence[Result]:
        return run(project, history, [candidate], engine, rows, lambda done, total: steps.progress(name, done, total))

    (result,) = steps.run(name, work)
    return result


def backtest(project: Project, as_of: str | datetime | None = None, *, steps: Steps | None = None) -> BacktestReport:
    """The leaderboard of all candidates; nothing is registered, tracked or written.

    Args:
        project: what to forecast, from what, with which candidates.
        as_of: the end of history; see `retrain`.
        steps: how to run and watch the stages.
    """
    steps, started = steps or Steps(), time.perf_counter()
    history = runtime.history(project, as_of, steps)
    contest = hold_contest(project, history, runtime.engine(project), steps)
    return BacktestReport(
        project=project.config.name,
        as_of=history.origin.to_pydatetime(),
        folds=len(contest.rows.origins),
        leaderboard=tuple(contest.leaderboard),
        assumption_errors=contest.assumption_errors,
        series=contest.series,
        quality=dict(history.counts),
        notes=history.notes,
        seconds=time.perf_counter() - started,
    )
