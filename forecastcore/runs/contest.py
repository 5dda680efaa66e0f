"""All candidates on the same rows: backtest, leaderboard, winner."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from forecastcore import runtime
from forecastcore.backtest import fold_origins, rows_of
from forecastcore.errors import DataError
from forecastcore.foresight import assumption_errors
from forecastcore.messages import BacktestReport, SeriesCount
from forecastcore.ports import Steps
from forecastcore.race import Race
from forecastcore.runs.blending import as_chosen, blended
from forecastcore.runs.history import opened
from forecastcore.runs.leaderboard import leaderboard_row, worst_of
from forecastcore.runs.remote import anywhere
from forecastcore.runs.searching import loss, search
from forecastcore.search import require_optuna

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from forecastcore.backtest import Backtest
    from forecastcore.messages import AssumptionError, LeaderboardRow, WorstSeries
    from forecastcore.ports import Engine, Past
    from forecastcore.project import Candidate, Project
    from forecastcore.results import Result
    from forecastcore.runs.searching import Searched
    from forecastcore.search import Search

__all__ = ["Contest", "backtest", "hold_contest"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Contest:
    """All candidates on the same rows, and who won.

    Attributes:
        rows: what they were scored on.
        results: their forecasts.
        leaderboard: their errors, best first.
        slices: their errors by slice (see `metrics.by_slice`), by name.
        best: the winner.
        assumption_errors: how far from what came the covariates were assumed at its origins.
        choices: all that could have won, the trials of searches among them.
        searched: what searches tried, by the name of the candidate.
    """

    rows: Backtest
    results: list[Result]
    leaderboard: list[LeaderboardRow]
    slices: Mapping[str, Mapping[str, Mapping[str, float]]]
    best: Result
    choices: list[Result]
    searched: Mapping[str, Searched]
    assumption_errors: tuple[AssumptionError, ...] = ()

    @property
    def winner(self) -> LeaderboardRow:
        """The winner's line of the leaderboard."""
        return next(row for row in self.leaderboard if row.name == self.best.candidate.name)

    @cached_property
    def worst(self) -> tuple[WorstSeries, ...]:
        """The series that the winner serves worst."""
        return worst_of(self.best, self.rows)

    @property
    def series(self) -> SeriesCount:
        """How the winner serves the series."""
        total, screened = len(self.rows.ids), self.rows.screened.values()
        failed = sum(reason == "no-history" for reason in screened)
        degraded = len(screened) - failed + len(self.best.failures)
        return SeriesCount(total=total, ok=total - degraded - failed, degraded=degraded, failed=failed)


def hold_contest(
    project: Project, history: Past, engine: Engine, steps: Steps, *, champion: Candidate | None = None
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
        UsageError: something is to be searched, and Optuna is not installed.
    """
    candidates, searches = project.candidates(), project.searches()
    if searches:
        require_optuna()
    rows = rows_of(project, history, fold_origins(history, project))
    if not np.isfinite(rows.size).any():
        raise _nothing_to_score(history, rows)
    field = _Field(project, history, engine, steps, rows)
    models = [candidate for candidate in candidates if not candidate.members]
    field.race([candidate for candidate in models if candidate.name not in searches])
    for candidate in models:
        if candidate.name in searches:
            field.search(candidate, searches[candidate.name])
    field.found = {candidate.name: field.found[candidate.name] for candidate in models}
    for candidate in candidates:
        if candidate.members:
            field.blend(replace(candidate, members=tuple(field.found[m.name].candidate for m in candidate.members)))
    own = list(field.found.values())
    if champion:
        field.invite(champion)
    results, levels, metric = list(field.found.values()), project.config.quantiles, project.config.backtest.metric
    slices = {r.candidate.name: r.slices(levels) for r in results}
    board = [
        leaderboard_row(r, rows, slices[r.candidate.name], runtime.unused_by(project, r.candidate)) for r in results
    ]
    best = min(range(len(own)), key=lambda i: loss(board[i], metric))
    if not np.isfinite(loss(board[best], metric)):
        raise DataError(
            "no candidate could be scored: "
            + "; ".join(f"{row.name}: {row.reason or 'no finite error'}" for row in board[: len(own)]),
            hint="forecastcore validate --data tells which series have enough values",
        )
    errors = steps.run("measure assumptions", lambda: assumption_errors(project, history, engine, rows.origins))
    able = [r for r, row in zip(own, board, strict=False) if np.isfinite(loss(row, metric))]
    return Contest(
        rows=rows,
        results=results,
        leaderboard=sorted(board, key=lambda row: loss(row, metric)),
        slices=slices,
        best=results[best],
        choices=[choice for result in able for choice in field.choices(result)],
        searched=field.searched,
        assumption_errors=errors,
    )


def _nothing_to_score(history: Past, rows: Backtest) -> DataError:
    newest = "there is none" if history.newest is None else f"the newest is of {history.newest}"
    return DataError(
        f"no value to compare forecasts with after {rows.origins[0]}, where the backtest begins: {newest}",
        hint="retrain as of an earlier moment, or bring newer history",
    )


class _Field:
    """Who competes, and how they did, in the order they came; each recipe is backtested once.

    Attributes:
        found: results by name.
        searched: what searches tried, by name.
    """

    def __init__(self, project: Project, history: Past, engine: Engine, steps: Steps, rows: Backtest) -> None:
        self._setting = (project, history, engine)
        self._steps = steps
        self._rows = rows
        self.found: dict[str, Result] = {}
        self.searched: dict[str, Searched] = {}

    def race(self, candidates: Sequence[Candidate]) -> None:
        """Backtest models; all of their units share the workers, and a stage ends when one model's are done."""
        project, history, engine = self._setting
        with Race(project, history, candidates, engine, self._rows) as race:
            for one in race.order:  # so that a stage lasts about as long as its candidate works
                self.found[one.name] = self._stage(f"backtest {one.name}", partial(race.result, one))

    def search(self, candidate: Candidate, asked: Search) -> None:
        """Search for a model's parameters."""
        work = partial(search, *self._setting, candidate, asked, self._rows)
        searched = self.searched[candidate.name] = self._stage(f"search {candidate.name}", work)
        self.found[candidate.name] = searched.best

    def _stage(self, name: str, work: Callable[[Callable[[int, int], None]], T]) -> T:
        """Do one stage that tells how far it is."""
        return self._steps.run(name, lambda: work(partial(self._steps.progress, name)))

    def blend(self, candidate: Candidate) -> None:
        """Put an ensemble together from its members' results."""
        config, rows = self._setting[0].config, self._rows
        levels, metric = config.quantiles, config.backtest.metric
        members = [as_chosen(self.choices(self._of(m)), rows, levels, metric) for m in candidate.members]
        self.found[candidate.name] = self._steps.run(
            f"combine {candidate.name}", lambda: blended(candidate, members, rows, levels, metric)
        )

    def invite(self, candidate: Candidate) -> None:
        """Let a recipe take part, with its members, unless it does already."""
        for one in (*candidate.members, candidate):
            if not any(one.same_recipe(result.candidate) for result in self.found.values()):
                self.blend(one) if one.members else self.race([one])

    def choices(self, result: Result) -> list[Result]:
        """What a result was chosen from, itself first."""
        searched = self.searched.get(result.candidate.name)
        return searched.choices if searched else [result]

    def _of(self, member: Candidate) -> Result:
        return next(result for result in self.found.values() if member.same_recipe(result.candidate))


@anywhere
def backtest(project: Project, as_of: str | datetime | None = None, *, steps: Steps | None = None) -> BacktestReport:
    """The leaderboard of all candidates; nothing is registered, tracked or written.

    Args:
        project: what to forecast, from what, with which candidates.
        as_of: the end of history; see `retrain`.
        steps: how to run and watch the stages.
    """
    steps, started = steps or Steps(), time.perf_counter()
    with (
        runtime.keeping(project, runtime.engine(project)) as engine,
        opened(project, engine.engine, as_of, steps) as history,
    ):
        contest = hold_contest(project, history, engine, steps)
        return BacktestReport(
            project=project.config.name,
            as_of=history.origin.to_pydatetime(),
            folds=len(contest.rows.origins),
            leaderboard=tuple(contest.leaderboard),
            assumption_errors=contest.assumption_errors,
            series=contest.series,
            quality=dict(history.counts),
            notes=(*history.notes, *engine.remarks),
            seconds=time.perf_counter() - started,
        )
