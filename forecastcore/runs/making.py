"""Makes the rows of a vintage for some of the series, or for all of them, and what a run has to know of them.

assumptions for the unknown future → stored parameters applied, nothing re-estimated → table → a look at it

Pure: whoever has the history of some series, this process or a worker of a cluster, makes just what the others would
make of them. What is told of some adds up with what is told of the others.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field

from forecastcore import runtime
from forecastcore.api import quantile_column
from forecastcore.audit import Expected, Look, look, past_of
from forecastcore.errors import DataError
from forecastcore.frames import digest_sum
from forecastcore.messages import AssumptionNote, Message, ModelVersion, SeriesCount, WorstSeries
from forecastcore.runs.leaderboard import worst_first
from forecastcore.runs.standins import LastSeason, marked
from forecastcore.serving import Stored, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    import pandas as pd
    import pyarrow as pa

    from forecastcore.assumptions import Future
    from forecastcore.frames import History
    from forecastcore.ports import Engine, Steps
    from forecastcore.project import Project

__all__ = ["Asked", "Told", "Whole", "assumed", "make", "run_key", "stamped", "summed", "table_schema"]

#: names of series that are told
_NAMES = 2000


class Asked(Message):
    """What is to be made.

    Attributes:
        scenarios: `base` and what-ifs.
        version: who forecasts.
        reason: why it is not the champion; empty where it is.
    """

    scenarios: tuple[str, ...]
    version: ModelVersion
    reason: str = ""


@dataclass(frozen=True)
class Whole:
    """The rows of all series, in this process; a context manager, as `Shards` are.

    Attributes:
        tables: by scenario.
    """

    tables: Mapping[str, pa.Table]

    def __enter__(self) -> Self:
        """Nothing: they are there."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing: they go with the last one who holds them."""

    def table(self, scenario: str) -> pa.Table:
        """The rows of a scenario."""
        return self.tables[scenario]


class Told(Message):
    """What a run has to know of the rows that were made of some series; what is told of others adds to it.

    Attributes:
        names: the first of the series.
        counts: repairs of the quality check.
        cells: rows of the history, laid out on the grid.
        series: how many, by their worst status in any scenario.
        rows: how many were made, by scenario.
        digests: `frames.digest_sum` of history and future, by scenario.
        reasons: series that are not ok by why.
        worst: as `leaderboard.worst_first` has them.
        notes: which assumption filled what.
        looks: what can be seen of the rows, by scenario.
        lacking: why none of the series has all that the source should know ahead; empty where one has.
    """

    names: tuple[str, ...] = ()
    counts: dict[str, int] = Field(default_factory=dict)
    cells: int = 0
    series: SeriesCount = SeriesCount(total=0, ok=0, degraded=0, failed=0)
    rows: dict[str, int] = Field(default_factory=dict)
    digests: dict[str, int] = Field(default_factory=dict)
    reasons: dict[str, int] = Field(default_factory=dict)
    worst: tuple[WorstSeries, ...] = ()
    notes: tuple[AssumptionNote, ...] = ()
    looks: dict[str, Look] = Field(default_factory=dict)
    lacking: str = ""

    def __add__(self, other: Told) -> Told:
        """Of the series of both."""
        if not self.series.total or not other.series.total:
            return self if self.series.total else other
        digests = {name: (digest + other.digests[name]) % 2**256 for name, digest in self.digests.items()}
        return Told(
            names=(*self.names, *other.names)[:_NAMES],
            counts=summed(self.counts, other.counts),
            cells=self.cells + other.cells,
            series=SeriesCount(**summed(self.series.model_dump(), other.series.model_dump())),
            rows=summed(self.rows, other.rows),
            digests=digests,
            reasons=summed(self.reasons, other.reasons),
            worst=worst_first([*self.worst, *other.worst]),
            notes=_noted([*self.notes, *other.notes]),
            looks={scenario: seen + other.looks[scenario] for scenario, seen in self.looks.items()},
            lacking=self.lacking and other.lacking,
        )


def make(
    project: Project,
    history: History,
    model: Stored | LastSeason,
    asked: Asked,
    engine: Engine,
    steps: Steps,
    *,
    whole: bool = True,
) -> tuple[dict[str, pa.Table], Told]:
    """The rows of each scenario, without what `stamped` adds, and what is to be told of them.

    Args:
        project: whose forecast.
        history: checked history of some series, or of all.
        model: who forecasts.
        asked: what is to be made.
        engine: where stored parameters are applied.
        steps: how to run and watch the stages.
        whole: these are all series; what the source must know ahead for one of them at least is then insisted on.

    Raises:
        DataError: no series has what the source should know.
    """
    told, tables, needed = Told(), {}, model.uses_covariates
    futures: dict[str, Future] = {}
    for scenario in asked.scenarios:
        future, lacking = steps.run(
            f"assume {scenario}", partial(assumed, project, history, scenario, needed=needed, whole=whole)
        )
        work, watch = (
            partial(_served, project, history, model, future, engine),
            partial(steps.progress, f"forecast {scenario}"),
        )
        rows = _marked(steps.run(f"forecast {scenario}", partial(work, watch)), future, asked.reason, needed=needed)
        futures[scenario], tables[scenario] = future, _table(project, history, future, rows, scenario, asked.version)
        told = told.model_copy(update={"lacking": lacking, "notes": _noted([*told.notes, *future.notes])})
    looks = steps.run("audit", lambda: _looks(project, history, asked.version, tables))
    past, names, bad = digest_sum(history.panel), _names(tables.values()), _not_ok(tables.values())
    told = told.model_copy(
        update={
            "names": tuple(map(str, history.ids[:_NAMES])),
            "counts": dict(history.counts),
            "cells": len(history.panel),
            "series": _count(names, bad),
            "rows": {scenario: table.num_rows for scenario, table in tables.items()},
            "digests": {s: (past + digest_sum(future.frame)) % 2**256 for s, future in futures.items()},
            "reasons": _reasons(bad),
            "worst": _worst(names, bad, model),
            "looks": looks,
        }
    )
    return tables, told


def assumed(project: Project, history: History, scenario: str, *, needed: bool, whole: bool) -> tuple[Future, str]:
    """What is assumed, and why no series has what the source should know, where none has."""
    try:
        return runtime.future(project, history, scenario, insist=needed), ""
    except DataError as error:
        if whole:
            raise
        return runtime.future(project, history, scenario, insist=False), str(error)


def _served(
    project: Project,
    history: History,
    model: Stored | LastSeason,
    future: Future,
    engine: Engine,
    progress: Callable[[int, int], None],
) -> pd.DataFrame:
    if isinstance(model, LastSeason):
        return model.forecast(history.panel, future.frame, history.origin)
    return serve(project, model, history, future.frame, engine, progress)


def _marked(rows: pd.DataFrame, future: Future, reason: str, *, needed: bool) -> pd.DataFrame:
    """The rows, none `ok` of a stand-in, nor where a covariate that is needed had to be carried on."""
    rows = marked(rows, reason)
    if needed:
        carried = (rows["status"] == "ok").to_numpy() & (future.reasons != "")
        rows.loc[carried, "status"] = "degraded"
        rows.loc[carried, "reason"] = future.reasons[carried]
    return rows


def run_key(
    project: Project, origin: pd.Timestamp, scenario: str, version: ModelVersion, model_digest: str, data: int
) -> str:
    """The identity of a vintage: the same project, origin, scenario, settings, data and model give the same key.

    Args:
        project: whose.
        origin: of the forecast.
        scenario: which.
        version: who forecasts.
        model_digest: of its files.
        data: `frames.digest_sum` of history and future of all series.
    """
    parts = {
        "project": project.config.name,
        "origin": origin.isoformat(),
        "scenario": scenario,
        "config": project.digest(),
        "data": f"{data:064x}",
        "model": [version.version, model_digest],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


#: columns that are known once all rows are made
_STAMPS = ("run_key", "created_at")


def table_schema(quantiles: Sequence[float]) -> pa.Schema:
    """The forecast table's columns and types (CONTRACT §3)."""
    import pyarrow as pa

    text, number, moment = pa.string(), pa.float64(), pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            ("project", text),
            ("unique_id", text),
            ("scenario", text),
            ("issued_at", moment),
            ("ds", moment),
            ("step", pa.int32()),
            ("forecast", number),
            *((quantile_column(q), number) for q in quantiles),
            ("model", text),
            ("model_version", text),
            ("status", text),
            ("reason", text),
            ("assumed_by", text),
            ("run_key", text),
            ("created_at", moment),
        ]
    )


def _table(
    project: Project, history: History, future: Future, rows: pd.DataFrame, scenario: str, version: ModelVersion
) -> pa.Table:
    import pyarrow as pa

    rows = rows.assign(
        project=project.config.name,
        scenario=scenario,
        issued_at=history.origin,
        model_version=version.version,
        assumed_by=future.assumed_by,
    )
    schema = table_schema(project.config.quantiles)
    for name in _STAMPS:
        schema = schema.remove(schema.get_field_index(name))
    return pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False)


def stamped(table: pa.Table, key: str, created_at: datetime) -> pa.Table:
    """The rows with what all of them have in common once they are made.

    Args:
        table: as `make` leaves it.
        key: of the vintage.
        created_at: UTC.
    """
    import pyarrow as pa

    moment = pa.timestamp("us", tz="UTC")
    keys, moments = pa.repeat(pa.scalar(key), len(table)), pa.repeat(pa.scalar(created_at, moment), len(table))
    return table.append_column("run_key", keys).append_column(pa.field("created_at", moment), moments)


def _looks(
    project: Project, history: History, version: ModelVersion, tables: Mapping[str, pa.Table]
) -> dict[str, Look]:
    config, season = project.config, runtime.task(project, history.grid, history.origin).season
    past = past_of(history.panel, config.horizon, season)
    expected = Expected(
        ids=history.ids,
        origin=history.origin,
        instants=history.grid.ahead(history.origin, config.horizon),
        quantiles=[quantile_column(q) for q in config.quantiles],
        season=season,
        skilled=(version.metrics.get("skill") or 0.0) > 0,
    )
    return {scenario: look(table.to_pandas(), past, expected, config.audit) for scenario, table in tables.items()}


def _names(tables: Iterable[pa.Table]) -> pa.Array:
    """All series, each once."""
    import pyarrow as pa

    return pa.chunked_array([chunk for table in tables for chunk in table["unique_id"].chunks], pa.string()).unique()


def _not_ok(tables: Iterable[pa.Table]) -> pd.DataFrame:
    """`unique_id, status, reason` of the rows that are not ok."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = ["unique_id", "status", "reason"]
    found = [table.select(columns).filter(pc.not_equal(table["status"], "ok")) for table in tables]
    rows: pd.DataFrame = pa.concat_tables(found).to_pandas()
    return rows


def _count(names: pa.Array, bad: pd.DataFrame) -> SeriesCount:
    """Series by their worst status in any scenario."""
    of = {status: set(bad.loc[bad["status"] == status, "unique_id"]) for status in ("degraded", "failed")}
    failed, degraded = len(of["failed"]), len(of["degraded"] - of["failed"])
    return SeriesCount(total=len(names), ok=len(names) - degraded - failed, degraded=degraded, failed=failed)


def _reasons(bad: pd.DataFrame) -> dict[str, int]:
    """Series that are not ok by why."""
    counts = bad.drop_duplicates(["unique_id", "reason"])["reason"].value_counts()
    return {str(reason): int(count) for reason, count in counts.items()}


def _worst(names: pa.Array, bad: pd.DataFrame, model: Stored | LastSeason) -> tuple[WorstSeries, ...]:
    """Series that are not ok, with their error in the backtest where it is known; then the model's worst."""
    import pyarrow as pa
    import pyarrow.compute as pc

    promised = () if isinstance(model, LastSeason) else model.package.manifest.worst
    known = {one.unique_id: one for one in promised}
    first = bad.drop_duplicates("unique_id")
    reasons = dict(zip(first["unique_id"], first["reason"], strict=True))
    now = [known.get(uid, WorstSeries(unique_id=uid)).model_copy(update={"reason": r}) for uid, r in reasons.items()]
    here = pc.is_in(pa.array([*known], pa.string()), value_set=names).to_pylist()
    there = [one for one, is_here in zip(known.values(), here, strict=True) if is_here]
    rest = [one.model_copy(update={"reason": ""}) for one in there if one.unique_id not in reasons]
    return worst_first([*now, *rest])


def summed(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of both by name."""
    return {key: one.get(key, 0) + other.get(key, 0) for key in [*one, *(other.keys() - one.keys())]}


def _noted(notes: Sequence[AssumptionNote]) -> tuple[AssumptionNote, ...]:
    """Notes of the same covariate and assumption as one, those of most rows first; of reasons the longest."""
    found: dict[tuple[str, str, str], AssumptionNote] = {}
    for one in notes:
        key = (one.scenario, one.covariate, one.assumption)
        if key in found:
            told = {"rows": found[key].rows + one.rows, "reason": max(found[key].reason, one.reason, key=len)}
            found[key] = one.model_copy(update=told)
        else:
            found[key] = one
    scenarios = list(dict.fromkeys(one.scenario for one in notes))
    covariates = list(dict.fromkeys(one.covariate for one in notes))

    def rank(one: AssumptionNote) -> tuple[int, int, int, str]:
        return scenarios.index(one.scenario), covariates.index(one.covariate), -one.rows, one.assumption

    return tuple(sorted(found.values(), key=rank))
