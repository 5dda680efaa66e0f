"""Backtests and fits of candidates, cut into units that an engine runs wherever it runs them (see `units`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Generator
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

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

    from forecastcore.backtest import Backtest
    from forecastcore.frames import History
    from forecastcore.ports import Engine
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
        history: History,
        candidates: Sequence[Candidate],
        engine: Engine,
        rows: Backtest,
        fitted_at: pd.Timestamp | None = None,
    ) -> None:
        jobs = [(c.name, unit) for c in candidates for unit in _units(project, history, c, rows, fitted_at)]
        jobs.sort(key=lambda job: job[1].ids is not None)  # the longest first: those of the whole panel
        self._rows, self._levels = rows, tuple(project.config.quantiles)
        self._runner = [name for name, _ in jobs]
        #: the candidates in the order in which their work begins
        self.order: list[Candidate] = sorted(candidates, key=lambda one: self._runner.index(one.name))
        self._total = Counter(self._runner)
        self._got: dict[str, list[pd.DataFrame]] = {c.name: [] for c in candidates}
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
                progress(len(mine), total)
            if len(mine) == total:
                return _result(candidate, mine, self._rows, self._levels)
            told = len(mine)
            while len(mine) == told:
                number, frame = next(self._stream)
                self._got[self._runner[number]].append(frame)


def run(
    project: Project,
    history: History,
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
    history: History,
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


def _in_order(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["fold", "unique_id", "step"], kind="stable", ignore_index=True)


def _result(candidate: Candidate, frames: Sequence[pd.DataFrame], rows: Backtest, levels: tuple[float, ...]) -> Result:
    frame = _in_order(pd.concat([part for part in frames if len(part)], ignore_index=True))
    if len(frame) != len(rows.y):
        raise EngineError(f"{candidate.name}: the backtest gave {len(frame)} rows, {len(rows.y)} were asked for")
    forecast = frame["forecast"].to_numpy(dtype=float)
    own = frame[[quantile_column(q) for q in levels]].to_numpy(dtype=float)
    errors = rows.errors(forecast, own, (frame["reason"] == "").to_numpy(dtype=bool))
    failed = frame.loc[(frame["reason"] != "") & (frame["step"] == 1), ["unique_id", "reason"]]
    failures = {
        uid: reason
        for uid, reason in zip(failed["unique_id"], failed["reason"], strict=True)
        if uid not in rows.screened
    }
    foresight = frame["foresight"].to_numpy(dtype=float)
    carried = Counter(reason for part in frames for reason in part.attrs["carried"])
    return Result(
        candidate=candidate,
        forecast=forecast,
        quantiles=intervals.leave_one_fold_out(errors, levels),
        errors=errors,
        failures=failures,
        seconds=sum(float(part.attrs["seconds"]) for part in frames),
        foresight=foresight if np.isfinite(foresight).any() else None,
        remarks=tuple(f"covariates carried on from the last season: {reason}" for reason, _ in carried.most_common(1)),
    )


def fit_all(
    project: Project, history: History, candidate: Candidate, engine: Engine, folder: Path, prefix: str = ""
) -> list[str]:
    """Fit a candidate on all history and write its parts below `folder/state`; the parts' names, all with `prefix`."""
    parts = _parts(project, history, candidate) or chunks(history.panel)
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


def _parts(project: Project, history: History, candidate: Candidate) -> list[tuple[str, ...] | None]:
    """The series that a model of global scope is fitted on together: all (None), or each segment's; none of local."""
    if project.host.offer("model", candidate.type).spec.capabilities.scope == "local":
        return []
    return [*by_segment(candidate.segments, map(str, history.ids)).values()] if candidate.segments else [None]


def _units(
    project: Project,
    history: History,
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
    return [Unit(ids, json.dumps({**request, "origins": stamped}), barred) for ids in chunks(history.panel)]
