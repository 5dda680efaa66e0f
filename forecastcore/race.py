"""Backtests and fits of candidates, cut into units that an engine runs wherever it runs them (see `units`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import numpy as np

from forecastcore import intervals, runtime
from forecastcore.api import quantile_column
from forecastcore.backtest import Result
from forecastcore.errors import EngineError
from forecastcore.package import Package
from forecastcore.parcel import unwrap
from forecastcore.ports import Unit
from forecastcore.segments import by_segment
from forecastcore.serving import Stored, serve_origins
from forecastcore.units import backtest_unit, chunks, fit_unit, request_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    import pandas as pd

    from forecastcore.backtest import Backtest
    from forecastcore.ports import Engine, Past
    from forecastcore.project import Candidate, Project

    Floats = npt.NDArray[np.float64]

__all__ = ["Race", "fit_all", "run", "run_package"]


class Race:
    """Backtests of several candidates whose units share the workers; their results are taken one by one.

    A context manager: what is still under way at its end is ended.

    Args:
        project: whose assumptions and quality rules apply.
        history: checked history; its covariates are complete.
        candidates: what to try.
        engine: where to run.
        rows: as `rows_of` gives them.
        fitted_at: fit each once, as of here, and not at each origin anew.
    """

    def __init__(
        self,
        project: Project,
        history: Past,
        candidates: Sequence[Candidate],
        engine: Engine,
        rows: Backtest,
        fitted_at: pd.Timestamp | None = None,
    ) -> None:
        jobs = [(c.name, unit) for c in candidates for unit in _units(project, history, c, rows, fitted_at)]
        jobs.sort(key=lambda job: job[1].ids is not None)  # the longest first: those of the whole panel
        self._rows, self._levels = rows, tuple(project.config.quantiles)
        self._jobs = jobs
        self._runner = [name for name, _ in jobs]
        #: the candidates in the order in which their work begins
        self.order: list[Candidate] = sorted(candidates, key=lambda one: self._runner.index(one.name))
        self._total = Counter(self._runner)
        self._got = {c.name: _Answers(rows, self._levels) for c in candidates}
        self._stream = engine.map(backtest_unit, history.panel, [unit for _, unit in jobs])

    def __enter__(self) -> Self:
        """Nothing is begun before the first result is asked for."""
        return self

    def __exit__(self, *_: object) -> None:
        """End what is under way."""
        if isinstance(self._stream, Generator):
            self._stream.close()

    def result(self, candidate: Candidate, progress: Callable[[int, int], None] | None = None) -> Result:
        """One candidate's forecasts, once all its units are done; those of others that come meanwhile are kept.

        Args:
            candidate: one of those that run.
            progress: told (its units done, its units in all).
        """
        mine, total = self._got[candidate.name], self._total[candidate.name]
        while True:
            if progress is not None:
                progress(mine.units, total)
            if mine.units == total:
                return mine.result(candidate)
            told = mine.units
            while mine.units == told:
                number, frame = next(self._stream)
                name, unit = self._jobs[number]
                self._got[name].add(frame, unit.ids)


@dataclass
class _Answers:
    """What the units of one candidate have answered: numbers in the order of the backtest's rows, no names.

    Attributes:
        rows: of the backtest.
        levels: of the quantiles.
        units: how many have answered.
        values: forecast, quantiles and foresight of each row, a column each; made when the first comes.
        made: rows that the model made, and no fallback.
        there: how many rows came.
        failed: origin, series and reason of those that the fallback made.
        seconds: work time.
        carried: why covariates were carried on, with the number of units.
    """

    rows: Backtest
    levels: tuple[float, ...]
    units: int = 0
    values: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    made: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    there: int = 0
    failed: list[tuple[int, str, str]] = field(default_factory=list)
    seconds: float = 0.0
    carried: Counter[str] = field(default_factory=Counter)

    def add(self, frame: pd.DataFrame, ids: Sequence[str] | None) -> None:
        """The answer of one more unit, of some series or of all."""
        if not self.units:
            self.values = np.full((len(self.rows.y), len(self.levels) + 2), np.nan, order="F")
            self.made = np.zeros(len(self.rows.y), dtype=bool)
        self.units += 1
        self.seconds += float(frame.attrs["seconds"])
        self.carried.update(frame.attrs["carried"])
        if not len(frame):
            return
        fold, series, step = (frame[name].to_numpy() for name in ("fold", "series", "step"))
        place = self.rows.place_of(fold, series if ids is None else self.rows.numbers_of(ids)[series], step)
        for column, name in enumerate(["forecast", *map(quantile_column, self.levels), "foresight"]):
            if name in frame:
                self.values[place, column] = frame[name].to_numpy()
        self.made[place] = frame["made"].to_numpy()
        self.there += len(frame)
        self.failed += [(fold, uid, reason) for fold, uid, reason in frame.attrs["failed"]]

    def result(self, candidate: Candidate) -> Result:
        """What the candidate did; its numbers are handed over.

        Raises:
            EngineError: rows are missing, or there are too many.
        """
        rows, values = self.rows, self.values
        if self.there != len(rows.y):
            raise EngineError(f"{candidate.name}: the backtest gave {self.there} rows, {len(rows.y)} were asked for")
        errors = rows.errors(values[:, 0], values[:, 1:-1], self.made)
        reasons = {uid: reason for _, uid, reason in sorted(self.failed) if uid not in rows.screened}
        return Result(
            candidate=candidate,
            forecast=errors.forecast,
            quantiles=intervals.leave_one_fold_out(errors, self.levels),
            errors=errors,
            failures=reasons,
            seconds=self.seconds,
            foresight=values[:, -1] if np.isfinite(values[:, -1]).any() else None,
            remarks=tuple(
                f"covariates carried on from the last season: {reason}" for reason, _ in self.carried.most_common(1)
            ),
        )


def run(
    project: Project,
    history: Past,
    candidates: Sequence[Candidate],
    engine: Engine,
    rows: Backtest,
    *,
    fitted_at: pd.Timestamp | None = None,
) -> list[Result]:
    """The results of a `Race`, whose arguments these are."""
    with Race(project, history, candidates, engine, rows, fitted_at) as race:
        return [race.result(candidate) for candidate in candidates]


def run_package(
    project: Project,
    history: Past,
    folder: Path,
    engine: Engine,
    rows: Backtest,
    folds: Sequence[int],
    *,
    actual: bool = False,
) -> tuple[Floats, Floats]:
    """Point forecasts and quantiles of a stored model for the rows of some folds; NaN elsewhere.

    Args:
        project: whose assumptions.
        history: checked history.
        folder: of the stored model.
        engine: where to run.
        rows: as `rows_of` gives them.
        folds: numbers of origins.
        actual: with the covariates that came instead of those assumed.
    """
    stored = Stored(Package.outline(folder, project.host), folder)
    origins = [(n, rows.origins[n]) for n in folds]
    forecast, quantiles = serve_origins(project, stored, history, engine, origins, actual=actual)
    values = np.full((len(rows.y), 1 + quantiles.shape[1]), np.nan)
    values[np.isin(rows.fold, list(folds))] = np.column_stack([forecast, quantiles])
    return values[:, 0], values[:, 1:]


def fit_all(
    project: Project, history: Past, candidate: Candidate, engine: Engine, folder: Path, prefix: str = ""
) -> list[str]:
    """Fit a candidate on all history and write its parts below `folder/state`; the parts' names, all with `prefix`."""
    parts = _parts(project, history, candidate) or chunks(history)
    names = [f"{prefix}{number:05d}" for number in range(len(parts))]
    request = request_of(
        project,
        history.grid,
        candidate=candidate.as_dict(),
        origin=history.origin.isoformat(),
        threads=runtime.threads() if parts == [None] else 1,
    )
    order = json.dumps(request)
    for number, parcel in engine.map(fit_unit, history.panel, [Unit(ids, order) for ids in parts]):
        unwrap(parcel, folder / "state" / names[number])
    return names


def _parts(project: Project, history: Past, candidate: Candidate) -> list[tuple[str, ...] | None]:
    """The series that a model of global scope is fitted on together: all (None), or each segment's; none of local."""
    if project.host.offer("model", candidate.type).spec.capabilities.scope == "local":
        return []
    return [*by_segment(candidate.segments, map(str, history.ids)).values()] if candidate.segments else [None]


def _units(
    project: Project,
    history: Past,
    candidate: Candidate,
    rows: Backtest,
    fitted_at: pd.Timestamp | None,
) -> list[Unit]:
    request, barred = request_of(project, history.grid, candidate=candidate.as_dict()), {}
    if fitted_at is not None:
        request["fitted_at"] = fitted_at.isoformat()
        barred = dict(rows.screened)  # what no model is given today was given to none of then
    stamped = [(number, origin.isoformat()) for number, origin in enumerate(rows.origins)]
    if parts := _parts(project, history, candidate):
        each = [stamped] if fitted_at is not None else [[one] for one in stamped]
        return [Unit(ids, json.dumps({**request, "origins": some}), barred) for some in each for ids in parts]
    return [Unit(ids, json.dumps({**request, "origins": stamped}), barred) for ids in chunks(history)]
