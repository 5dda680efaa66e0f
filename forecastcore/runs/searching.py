"""A budgeted search: each trial is a backtest of one candidate on the same rows as all others."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from forecastcore.errors import ForecastCoreError
from forecastcore.race import run
from forecastcore.runs.leaderboard import leaderboard_row
from forecastcore.search import explore

if TYPE_CHECKING:
    from collections.abc import Callable

    from forecastcore.backtest import Backtest
    from forecastcore.messages import LeaderboardRow
    from forecastcore.ports import Engine, Past
    from forecastcore.project import Candidate, Project
    from forecastcore.results import Result
    from forecastcore.search import Search

__all__ = ["Searched", "Trial", "loss", "search"]

#: of the proposals; every random choice of a run has the same
_SEED = 0


def loss(row: LeaderboardRow, metric: str) -> float:
    """What candidates and trials are ordered by; infinite for one that failed or has no finite error."""
    value = getattr(row, metric)
    return float(value) if value is not None and row.status != "failed" else np.inf


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Parameters that were tried.

    Attributes:
        params: those that were searched.
        loss: infinite where it failed.
        reason: why it failed, or what else is to be said.
        seconds: wall time.
        result, row: its backtest; None where it raised.
    """

    params: dict[str, Any]
    loss: float
    reason: str
    seconds: float
    result: Result | None = None
    row: LeaderboardRow | None = None

    @property
    def state(self) -> str:
        """`complete` or `failed`."""
        return "complete" if np.isfinite(self.loss) else "failed"


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What a search found.

    Attributes:
        trials: in the order they were tried.
        best: the result of the trial with the least loss.
    """

    trials: list[Trial]
    best: Result

    @property
    def choices(self) -> list[Result]:
        """The results that `best` was chosen from, itself first."""
        complete = [t.result for t in self.trials if t.result is not None and np.isfinite(t.loss)]
        return [self.best, *(result for result in complete if result.candidate != self.best.candidate)]


def search(
    project: Project,
    history: Past,
    engine: Engine,
    candidate: Candidate,
    asked: Search,
    rows: Backtest,
    progress: Callable[[int, int], None],
) -> Searched:
    """Try parameters of a candidate until the budget is used up.

    Raises:
        ForecastCoreError: every trial raised; the last error.
    """
    trials: list[Trial] = []
    errors: list[ForecastCoreError] = []
    metric, levels = project.config.backtest.metric, project.config.quantiles

    def loss_of(params: dict[str, Any]) -> float:
        started = time.perf_counter()
        tried = replace(candidate, params={**candidate.params, **params})
        try:
            (result,) = run(project, history, [tried], engine, rows)
        except ForecastCoreError as error:  # parameters that do not go together
            errors.append(error)
            trial = Trial(params=params, loss=np.inf, reason=str(error), seconds=time.perf_counter() - started)
        else:
            row = leaderboard_row(result, rows, result.slices(levels))
            value, seconds = loss(row, metric), time.perf_counter() - started
            trial = Trial(params=params, loss=value, reason=row.reason, seconds=seconds, result=result, row=row)
        trials.append(trial)
        progress(len(trials), asked.trials)
        return trial.loss

    explore(asked, loss_of, seed=_SEED)
    made = [(trial.loss, trial.result) for trial in trials if trial.result is not None]
    if not made:
        raise errors[-1]
    best = min(made, key=lambda trial: trial[0])[1]
    return Searched(trials=trials, best=_told(best, trials))


def _told(best: Result, trials: list[Trial]) -> Result:
    failed = sum(trial.state == "failed" for trial in trials)
    words = f"best of {len(trials)} trials" + (f", {failed} of them failed" if failed else "")
    return replace(best, remarks=(words, *best.remarks), seconds=sum(trial.seconds for trial in trials))
