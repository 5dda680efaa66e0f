"""Backtests and fits of candidates, cut into units that an engine runs wherever it runs them (see `units`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator
from typing import TYPE_CHECKING, Self

import numpy as np

from forecastcore import runtime
from forecastcore.api import quantile_column
from forecastcore.errors import EngineError
from forecastcore.package import Package
from forecastcore.parcel import unwrap
from forecastcore.ports import Unit
from forecastcore.processes import give_back
from forecastcore.results import FORESIGHT, OWN, Result, bands_of
from forecastcore.segments import by_segment
from forecastcore.serving import Stored, serve_origins
from forecastcore.units import backtest_unit, chunks, fit_unit, request_of, rows_answered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pandas as pd

    from forecastcore.backtest import Backtest
    from forecastcore.ports import Engine, Past
    from forecastcore.project import Candidate, Project
    from forecastcore.sheet import Sheet

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
                number, answer = next(self._stream)
                name, unit = self._jobs[number]
                self._got[name].add(answer, unit.ids)


class _Answers:
    """What the units of one candidate have answered, put into the places of the backtest's rows.

    Args:
        rows: of the backtest.
        levels: of the quantiles.

    Attributes:
        units: how many have answered.
    """

    def __init__(self, rows: Backtest, levels: tuple[float, ...]) -> None:
        self._rows, self._levels = rows, levels
        self.units = 0
        self._sheet: Sheet | None = None  # made when the first comes
        self._there = 0
        self._failed: list[tuple[int, str, str]] = []
        self._seconds = 0.0
        self._carried: Counter[str] = Counter()
        self._foresees = False

    def add(self, answer: bytes, ids: Sequence[str] | None) -> None:
        """The answer of one more unit, of some series or of all; see `units.backtest_unit`."""
        about, blocks = rows_answered(answer)
        self._sheet = self._sheet or self._rows.sheet(OWN + len(self._levels))
        self.units += 1
        self._seconds += float(about["seconds"])
        self._carried.update(about["carried"])
        self._failed += [(fold, uid, reason) for fold, uid, reason in about["failed"]]
        numbers = None if ids is None else self._rows.numbers_of(ids)
        names = ["forecast", "made", "foresight", *map(quantile_column, self._levels)]
        for block in blocks:
            values = np.full((len(block["step"]), len(names)), np.nan)
            for column, name in enumerate(names):
                if name in block:
                    values[:, column] = block[name]
            series = block["series"] if numbers is None else numbers[block["series"]]
            self._rows.place_in(self._sheet, block["fold"], series, block["step"], values)
            self._there += len(values)
            self._foresees |= bool(np.isfinite(values[:, FORESIGHT]).any())
        give_back()

    def result(self, candidate: Candidate) -> Result:
        """What the candidate did; its numbers are handed over.

        Raises:
            EngineError: rows are missing, or there are too many.
        """
        rows, wanted = self._rows, int(self._rows.there.sum()) * self._rows.horizon
        if self._there != wanted or self._sheet is None:
            raise EngineError(f"{candidate.name}: the backtest gave {self._there} rows, {wanted} were asked for")
        reasons = {uid: reason for _, uid, reason in sorted(self._failed) if uid not in rows.screened}
        return Result(
            candidate=candidate,
            rows=rows,
            answers=self._sheet,
            bands=bands_of(rows, self._sheet, self._levels),
            failures=reasons,
            seconds=self._seconds,
            foresees=self._foresees,
            remarks=tuple(
                f"covariates carried on from the last season: {reason}" for reason, _ in self._carried.most_common(1)
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
) -> Sheet:
    """Point forecast and quantiles of a stored model for the rows of some folds; NaN elsewhere.

    Args:
        project: whose assumptions.
        history: checked history.
        folder: of the stored model.
        engine: where to run.
        rows: as `rows_of` gives them.
        folds: numbers of origins.
        actual: with the covariates that came instead of those assumed.
    """
    stored, sheet = Stored(Package.outline(folder, project.host), folder), rows.sheet(1 + len(project.config.quantiles))
    origins = [(n, rows.origins[n]) for n in folds]
    columns = ["forecast", *map(quantile_column, project.config.quantiles)]
    for ids, frame in serve_origins(project, stored, history, engine, origins, actual=actual):
        rows.place_served(sheet, ids, frame, frame[columns].to_numpy())
    return sheet


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
        give_back()
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
