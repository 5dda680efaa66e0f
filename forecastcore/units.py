"""The work of one unit: some series, some origins, one candidate; a pure function of a panel and a request in JSON.

What is here runs in whatever process an engine chooses: this one, a pool's, a cluster's.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore import guard, runtime
from forecastcore.api import quantile_column
from forecastcore.assumptions import Assumptions, blank_future, replayer
from forecastcore.guard import Part
from forecastcore.package import Package, pack_part
from forecastcore.project import Candidate, Project
from forecastcore.segments import Segment, segment_of
from forecastcore.sheet import ROWS
from forecastcore.timegrid import TimeGrid

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from forecastcore.ports import Past

__all__ = [
    "assumption_unit",
    "backtest_unit",
    "chunks",
    "fit_unit",
    "grid_of",
    "package_unit",
    "project_of",
    "request_of",
    "rows_answered",
    "serve_unit",
]

#: where the schema of a unit's rows holds what else is said of them
_ABOUT = b"forecastcore"

#: points in a chunk that is fitted, about: a twelfth of the panel, so that workers end together, but no fewer than make
#: handing it over cost nothing beside the work on it, and no more than these
_PARTS, _FEW, CHUNK_POINTS = 12, 1_500, 40_000


def request_of(project: Project, grid: TimeGrid, **more: Any) -> dict[str, Any]:
    """What every unit's request holds: the project, the grid, and what else it needs."""
    return {
        "recipe": project.recipe(),
        "frequency": grid.frequency,
        "timezone": grid.timezone,
        "phase_ns": grid.phase.value,
        "threads": 1,
        **more,
    }


def chunks(history: Past, points: int = 0) -> list[tuple[str, ...]]:
    """Whole series in groups of about as many points each, the fewest groups of no more than `points` on average.

    Args:
        history: whose series.
        points: 0 for as many as are fitted together.
    """
    ids, ends = np.asarray(history.ids, dtype=object), np.cumsum(history.sizes)
    rows = int(ends[-1]) if len(ends) else 0
    points = points or min(max(rows // _PARTS, _FEW), CHUNK_POINTS)
    number = (ends - 1) * -(-rows // points) // max(rows, 1)
    edges = np.flatnonzero(np.r_[True, number[1:] != number[:-1], True])
    return [tuple(ids[a:b]) for a, b in pairwise(edges)] if rows else []


@dataclass(frozen=True)
class _Setup:
    project: Project
    assumptions: Assumptions


def _setup(recipe: str) -> _Setup:
    project = project_of(recipe)
    return _Setup(project, _assumptions(recipe, runtime.archive_stamps(project)))


@lru_cache(maxsize=8)
def project_of(recipe: str) -> Project:
    """The project of a recipe, made once for a process."""
    return Project.from_recipe(recipe)


@lru_cache(maxsize=8)
def _assumptions(recipe: str, stamps: tuple[int, ...]) -> Assumptions:  # noqa: ARG001 - a changed archive is another key
    return runtime.assumptions(project_of(recipe))


def grid_of(request: Mapping[str, Any]) -> TimeGrid:
    """The grid of a request."""
    return TimeGrid(request["frequency"], request["timezone"], pd.Timedelta(request["phase_ns"], "ns"))


def _known_part(panel: pd.DataFrame, origin: pd.Timestamp) -> pd.DataFrame:
    return panel[panel["ds"] > origin]


def _barred(request: Mapping[str, Any]) -> dict[str, str]:
    """Series that an engine could not get past this model, and why."""
    return dict(request.get("barred", {}))


def fit_part(
    setup: Project,
    assumptions: Assumptions,
    candidate: Candidate,
    past: pd.DataFrame,
    grid: TimeGrid,
    origin: pd.Timestamp,
    request: Mapping[str, Any],
) -> Part:
    """Fit a candidate on the rows up to an origin, leaving out series that no model, or not this one, is given."""
    offer = setup.host.offer("model", candidate.type)
    task = runtime.task(setup, grid, origin, request["threads"])
    if offer.spec.capabilities.covariates:
        task = replace(task, replay=replayer(assumptions, past, grid, task))
    screened = guard.screen(past, setup.config.quality.max_missing)
    left_out = {uid: f"not-trained: {reason}" for uid, reason in screened.items()} | _barred(request)
    fitting = past[~past["unique_id"].isin(list(left_out))].reset_index(drop=True) if left_out else past
    if fitting.empty:
        return Part((), None, left_out)
    model = setup.host.make("model", candidate.type, dict(candidate.params), root=setup.root)
    fitted, failures = guard.fit(offer, model, fitting, task)
    if offer.spec.capabilities.scope == "local":
        ids = tuple(uid for uid in fitting["unique_id"].unique() if uid not in failures)
        return Part(ids, fitted, {**left_out, **failures})
    return Part(None, fitted, {**left_out, **failures}, _segment(candidate, past))


def _segment(candidate: Candidate, panel: pd.DataFrame) -> Segment | None:
    """The segment whose series a panel holds; None where the candidate has none."""
    pattern = candidate.segments
    return Segment(pattern, segment_of(pattern, str(panel["unique_id"].iloc[0]))) if pattern else None


def backtest_unit(panel: pd.DataFrame, request_text: str) -> bytes:
    """Fit and forecast one candidate on some series at some origins.

    It is fitted at each origin, or where the request names an instant in `fitted_at` once there for all of them.

    Returns:
        What `rows_answered` reads: `fold, series, step, forecast, q10 …, made`, numbers only, for there are many rows.
        `series` counts those of the panel, the quantiles are the model's own, left out where it has none, and `made`
        is false where the fallback was asked. `foresight` is there where covariates are assumed: what the same fitted
        model forecasts of the actual ones. Beside them are the `seconds` taken, why covariates were `carried` on, and
        `failed`: origin, series and reason.
    """
    request = json.loads(request_text)
    setup = _setup(request["recipe"])
    candidate = Candidate(**request["candidate"])
    grid = grid_of(request)
    started = time.perf_counter()
    stored = _fit_at(setup, candidate, panel, grid, request) if "fitted_at" in request else None
    blocks = []
    for number, text in request["origins"]:
        origin = pd.Timestamp(text)
        past = panel[panel["ds"] <= origin].reset_index(drop=True)
        if not past.empty:
            part = stored or fit_part(setup.project, setup.assumptions, candidate, past, grid, origin, request)
            block = _fold(setup, candidate, part, panel, past, origin, request)
            block.insert(0, "fold", number)
            blocks.append(block)
    about = {"carried": [reason for block in blocks for reason in block.attrs["carried"]], "failed": []}
    rows = pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame()
    if blocks:
        failed = rows.loc[(rows["reason"] != "") & (rows["step"] == 1), ["fold", "unique_id", "reason"]]
        about["failed"] = [[int(fold), str(uid), str(why)] for fold, uid, why in failed.itertuples(index=False)]
        rows = _in_numbers(rows, panel)
    return _packed(rows, {**about, "seconds": time.perf_counter() - started})


def _in_numbers(rows: pd.DataFrame, panel: pd.DataFrame) -> pd.DataFrame:
    series = pd.Index(panel["unique_id"].unique()).get_indexer(pd.Index(rows["unique_id"]))
    out = rows.drop(columns=["unique_id", "reason"]).assign(series=series, made=rows["reason"] == "")
    out = out.drop(columns=[name for name in out.columns if out[name].isna().all()])
    return out.astype({"fold": np.int16, "series": np.int32, "step": np.int32})


def _packed(rows: pd.DataFrame, about: Mapping[str, Any]) -> bytes:
    """Rows, some at a time, as a stream of Arrow that is packed tightly: the driver may get those of all series."""
    import pyarrow as pa

    table = pa.Table.from_pandas(rows, preserve_index=False).replace_schema_metadata({_ABOUT: json.dumps(about)})
    out, options = pa.BufferOutputStream(), pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(out, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=ROWS)
    return out.getvalue().to_pybytes()  # type: ignore[no-any-return]  # pyarrow has no types


def rows_answered(answer: bytes) -> tuple[dict[str, Any], Iterator[dict[str, npt.NDArray[Any]]]]:
    """What is said of the rows that `backtest_unit` gave, and their columns, some rows at a time."""
    import pyarrow as pa

    stream = pa.ipc.open_stream(answer)
    blocks = (
        {name: batch.column(name).to_numpy(zero_copy_only=False) for name in batch.schema.names} for batch in stream
    )
    return json.loads(stream.schema.metadata[_ABOUT]), blocks


def _fit_at(
    setup: _Setup, candidate: Candidate, panel: pd.DataFrame, grid: TimeGrid, request: Mapping[str, Any]
) -> Part:
    origin = pd.Timestamp(request["fitted_at"])
    past = panel[panel["ds"] <= origin].reset_index(drop=True)
    if past.empty:  # all of its series are younger
        return Part((), None, {})
    return fit_part(setup.project, setup.assumptions, candidate, past, grid, origin, request)


def _fold(
    setup: _Setup,
    candidate: Candidate,
    part: Part,
    panel: pd.DataFrame,
    past: pd.DataFrame,
    origin: pd.Timestamp,
    request: Mapping[str, Any],
) -> pd.DataFrame:
    project, assumptions, grid = setup.project, setup.assumptions, grid_of(request)
    task = runtime.task(project, grid, origin, request["threads"])
    offer = project.host.offer("model", candidate.type)
    future = blank_future(list(past["unique_id"].unique()), grid, origin, task.horizon)
    screened = guard.screen(past, project.config.quality.max_missing)
    carried: set[str] = set()
    if offer.spec.capabilities.covariates:
        assumed = assumptions.ahead(past, _known_part(panel, origin), future, task)
        future, carried = assumed.frame, set(assumed.reasons[~future["unique_id"].isin(list(screened))])
    answer = guard.answer(offer, [part], past, future, task, {**_barred(request), **screened})
    rows = guard.with_fallback(answer, past, future, task, model=candidate.type)
    rows["foresight"] = np.nan
    if offer.spec.capabilities.covariates and assumptions.guessed:
        actual = guard.answer(offer, [part], past, assumptions.actual(future, panel), task, screened)
        # The fallback's forecast stays what it is: it knows no covariates.
        knew = np.isfinite(answer.forecast) & np.isfinite(actual.forecast)
        rows["foresight"] = np.where(knew, actual.forecast, rows["forecast"])
    rows[[quantile_column(q) for q in task.quantiles]] = answer.quantiles
    rows = rows.drop(columns=["ds", "model", "status"])
    rows.loc[rows["unique_id"].isin(list(screened)), "reason"] = ""  # no model is given them, so none fails on them
    rows.attrs["carried"] = sorted(carried - {""})
    return rows


def assumption_unit(panel: pd.DataFrame, request_text: str) -> pd.DataFrame:
    """How far what was assumed at some origins lay from what came, for some series.

    Returns:
        `covariate, step, rows, error, absolute`: how many rows could be compared, and sums over them of the error
        (assumed minus actual) and of its absolute value.
    """
    request = json.loads(request_text)
    setup, grid = _setup(request["recipe"]), grid_of(request)
    assumed = setup.assumptions.only(setup.assumptions.guessed)
    blocks = []
    for _, text in request["origins"]:
        origin = pd.Timestamp(text)
        past = panel[panel["ds"] <= origin].reset_index(drop=True)
        task = runtime.task(setup.project, grid, origin)
        blank = blank_future(list(past["unique_id"].unique()), grid, origin, task.horizon)
        told = assumed.ahead(past, _known_part(panel, origin), blank, task).frame
        came = blank.merge(panel.drop(columns="y"), on=["unique_id", "ds"], how="left")
        blocks += [
            pd.DataFrame({"covariate": name, "step": blank["step"], "error": told[name] - came[name]})
            for name in assumed.names
        ]
    errors = pd.concat(blocks, ignore_index=True).dropna()
    summed = errors.assign(absolute=errors["error"].abs()).groupby(["covariate", "step"], as_index=False, sort=False)
    return summed.agg(rows=("error", "size"), error=("error", "sum"), absolute=("absolute", "sum"))


def fit_unit(panel: pd.DataFrame, request_text: str) -> bytes:
    """Fit a candidate on everything it is given; the part as a parcel of files."""
    request = json.loads(request_text)
    setup = _setup(request["recipe"])
    candidate = Candidate(**request["candidate"])
    origin = pd.Timestamp(request["origin"])
    part = fit_part(setup.project, setup.assumptions, candidate, panel, grid_of(request), origin, request)
    return pack_part(part)


def package_unit(panel: pd.DataFrame, request_text: str) -> pd.DataFrame:
    """Forecast with a stored model at some origins, assuming what would have been assumed there.

    Where the request says so under `actual`, with the covariates that came, as far as they are known.

    Returns:
        `fold, unique_id, step, forecast, q10 …` and the rest of what `Package.forecast` gives.
    """
    request = json.loads(request_text)
    setup, grid = _setup(request["recipe"]), grid_of(request)
    package = _package(request)
    blocks = []
    for number, text in request["origins"]:
        origin = pd.Timestamp(text)
        past = panel[panel["ds"] <= origin].reset_index(drop=True)
        if past.empty:
            continue
        task = runtime.task(setup.project, grid, origin)
        blank = blank_future(list(past["unique_id"].unique()), grid, origin, task.horizon)
        future = setup.assumptions.ahead(past, _known_part(panel, origin), blank, task).frame
        if request.get("actual"):
            future = setup.assumptions.actual(future, panel)
        rows = package.forecast(past, future, origin, _barred(request), as_made=True)
        rows.insert(0, "fold", number)
        blocks.append(rows)
    return pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame()


def serve_unit(panel: pd.DataFrame, request_text: str) -> pd.DataFrame:
    """Forecast with a stored model the rows of the panel after its origin, covariates as they stand there.

    Returns:
        What `Package.forecast` gives, without `unique_id, ds, step`.
    """
    request = json.loads(request_text)
    package, origin = _package(request), pd.Timestamp(request["origin"])
    ahead = panel["ds"] > origin
    future = panel[ahead].drop(columns="y").reset_index(drop=True)
    horizon = package.manifest.horizon
    steps = np.arange(1, horizon + 1, dtype=np.int32)
    future.insert(2, "step", np.tile(steps, len(future) // horizon))
    rows = package.forecast(panel[~ahead].reset_index(drop=True), future, origin, _barred(request))
    return rows.drop(columns=["unique_id", "ds", "step"])


def _package(request: Mapping[str, Any]) -> Package:
    """A stored model with the parts that are needed; a worker reads the same ones once."""
    return _stored(request["recipe"], request["folder"], request["digest"], tuple(request["parts"]))


@lru_cache(maxsize=1)
def _stored(recipe: str, folder: str, digest: str, parts: tuple[str, ...]) -> Package:
    return _outline(recipe, folder, digest).with_parts(Path(folder), parts)


@lru_cache(maxsize=2)
def _outline(recipe: str, folder: str, digest: str) -> Package:
    return Package.outline(Path(folder), project_of(recipe).host, digest)
