"""A history that stays on a Spark cluster: how its source is cut, and a predict that is made there, from read to write.

Workers look at the source, and the driver learns how far it reaches and where to cut it. Of a predict each worker makes
the rows of a shard, all series between two names, by the functions that make them on one machine (`making`), and tells
what a run has to know of them; what a retrain asks of its history is in `history`. Shards follow the order of names, as
chunks of a training do: each needs few of the model's parts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial, reduce
from itertools import pairwise
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore import runtime
from forecastcore.api import PartedSource, SparkSource
from forecastcore.engines.local import LocalEngine
from forecastcore.engines.wire import stream_of
from forecastcore.errors import DataError, ForecastCoreError, QualityError
from forecastcore.frames import Extent, check_span, extent_of, placed
from forecastcore.package import OUTLINE, Package
from forecastcore.parcel import wrap, wrap_files
from forecastcore.ports import Steps
from forecastcore.runs.looking import Question, Seen, see
from forecastcore.runs.making import Asked, Told, make
from forecastcore.runs.standins import LastSeason
from forecastcore.serving import SERVED_POINTS, Stored
from forecastcore.state.digests import LISTING
from forecastcore.units import grid_of, project_of, request_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    import pyarrow as pa

    from forecastcore.api import Source
    from forecastcore.engines.spark.spread import Shards, Spread
    from forecastcore.frames import History
    from forecastcore.project import Project
    from forecastcore.timegrid import TimeGrid

__all__ = [
    "BringHereError",
    "Sharded",
    "fault_of",
    "find",
    "passes_through",
    "raise_faults",
    "shard_of",
    "why_no_future",
    "why_no_predict",
    "why_not_checked",
]

#: rows that are counted together when a source is cut
_GRAIN = 1000
#: rows below which a shard is not made smaller so that all workers have one
_SMALL = 20_000
#: rows of a message
_MESSAGE = 20_000


@dataclass(frozen=True, kw_only=True)
class Sharded:
    """A source that stays on the cluster, looked at.

    Attributes:
        project: whose.
        spread: the source as workers have it.
        notes: what a reader of the forecasts should know of it.
        where: it in words.
        grid: its grid.
        origin: of the forecast.
        rows: how many it has.
        marks: names of series in order, each with the rows from there to the next.
    """

    project: Project
    spread: Spread
    notes: tuple[str, ...]
    where: str
    grid: TimeGrid
    origin: pd.Timestamp
    rows: int
    marks: tuple[tuple[str, int], ...]

    @property
    def cuts(self) -> list[str]:
        """Names of series with which shards begin, the first left out."""
        return _cuts(self.marks, self.rows, self.spread.engine.tasks)

    def checked(self, shards: Shards) -> list[dict[str, Any]]:
        """What is told of each shard, in order, where nothing holds the run.

        Raises:
            BringHereError: workers cannot do what was asked.
            DataError: the quality check holds the run, or the source is another than it was.
        """
        answers = [json.loads(answer) for answer in shards.told]
        raise_faults([answer["fault"] for answer in answers])
        if (read := sum(answer["rows"] for answer in answers)) != self.rows:
            words = f"{self.where} was changed while it was read: {self.rows} rows, then {read}"
            raise DataError(words, hint="run again once nobody writes to it")
        return answers

    def made(self, model: Stored | LastSeason, asked: Asked) -> tuple[Shards, Told]:
        """The rows of all series, on the workers that made them, and what is told of them.

        Args:
            model: who forecasts.
            asked: what is to be made.

        Raises:
            BringHereError: the rows of a series follow from other series too.
            DataError: the quality check holds the run, or no series has what the source should know.
        """
        if isinstance(model, LastSeason):
            raise BringHereError("the last season serves, and how far it is off is learned from all series")
        cuts, spans = self.cuts, _spans(model)
        request = self.request(asked=asked.model_dump_json(), digest=model.digest, timeout=self.spread.engine.timeout)
        shards = self.spread.shards(
            partial(_make_shard, request),
            column=self.project.config.source.id,
            cuts=cuts,
            files=_parcels(model, spans),
            needs=_needs(spans, cuts),
        )
        try:
            return shards, self._told(shards)
        except BaseException:
            shards.let_go()
            raise

    def seen(self, question: Question) -> Seen:
        """What workers see of all series; nothing is kept of them.

        Args:
            question: what else they look at.

        Raises:
            BringHereError: what is assumed for a series follows from other series too.
            DataError: the quality check holds the run, or no series has what the source should know.
        """
        work = partial(_see_shard, self.request(question=question.model_dump_json()))
        with self.spread.shards(work, column=self.project.config.source.id, cuts=self.cuts) as shards:
            parts = [Seen.model_validate(answer["seen"]) for answer in self.checked(shards)]
        seen = reduce(add, parts, Seen())
        check_span(seen.rows, self.rows, self.grid.frequency)
        if seen.lacking:
            raise DataError(seen.lacking)
        return seen

    def request(self, **more: Any) -> str:
        """What the work on every shard has to know, as JSON text."""
        told = request_of(self.project, self.grid, where=self.where, origin=self.origin.isoformat(), **more)
        return json.dumps(told)

    def _told(self, shards: Shards) -> Told:
        told = Told()
        for answer in self.checked(shards):
            told += Told.model_validate(answer["told"])
        check_span(told.cells, self.rows, self.grid.frequency)
        if told.lacking:
            raise DataError(told.lacking)
        return told


class BringHereError(Exception):
    """Workers cannot do it: the history has to come to the driver, for the reason that is told."""


def passes_through(why: str) -> str:
    """That a history is not left on the cluster, in words."""
    return f"the history passes through the driver: {why}"


def why_not_checked(project: Project) -> str:
    """Why the history cannot be checked shard by shard, in words; empty where it can."""
    assumed, config = runtime.assumptions(project), project.config
    together = {config.covariates[name].assume for name in assumed.generated} & {*assumed.asked_together}
    return f"the assumption {min(map(str, together))} is asked for all series at once" if together else ""


def why_no_predict(project: Project) -> str:
    """Why a predict cannot leave its history on the cluster, wherever that is, in words; empty where it can."""
    if project.config.report is not None:
        return "report: draws a page of all series"
    return why_no_future(project)


def why_no_future(project: Project) -> str:
    """Why workers cannot be asked for the future of the series that they have, in words; empty where they can."""
    if together := runtime.assumptions(project).asked_together:
        return f"the assumption {together[0]} is asked for all series at once"
    return ""


def _why_not(project: Project, source: Source) -> str:
    """Why a source cannot stay on the cluster, or which column shows only in the whole of it what it means."""
    import pyarrow.types as kinds

    if not isinstance(source, PartedSource | SparkSource):
        return f"the source {project.config.source.type} cannot be read in parts"
    config, schema = project.config.source, source.schema()
    if not {config.id, config.time} <= set(schema.names):
        return ""  # reading it says so
    kind = schema.field(config.id).type
    if not (kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_integer(kind)):
        return f"column {config.id!r} is neither text nor of whole numbers"
    kind = schema.field(config.time).type
    if not (kinds.is_timestamp(kind) or kinds.is_date(kind)):
        return f"column {config.time!r} holds no timestamps"
    naive = kinds.is_date(kind) or kind.tz is None
    return "quality.ambiguous: infer looks at all rows" if naive and project.config.quality.ambiguous == "infer" else ""


def find(
    project: Project, engine: Any, as_of: str | datetime | None, why: str = "", state: datetime | None = None
) -> Sharded:
    """Look at the source on the cluster.

    Args:
        project: whose.
        engine: a Spark engine.
        as_of: the origin; default: the newest value.
        why: the history cannot stay there, whatever the source is; empty where it can.
        state: see `runtime.source_at`.

    Raises:
        BringHereError: it cannot stay there.
        MissingColumnsError: the source lacks a column.
        DataError: the quality check holds the run.
    """
    source = runtime.source_at(project, state)
    if why := why or _why_not(project, source):
        raise BringHereError(why)
    columns, where = runtime.columns(project), runtime.where(project, source)
    notes, spread = runtime.check_columns(project, source), _spread(project, engine, source, state)
    until = runtime.instant(project, as_of)
    look = partial(_look, project.recipe(), where, None if until is None else until.isoformat())
    seen = [json.loads(answer) for answer in spread.look(look)]
    raise_faults([one["fault"] for one in seen])
    extent, rows = Extent(), sum(one["rows"] for one in seen)
    for one in seen:
        earliest, first, last = (end and pd.Timestamp(end) for end in one["ends"])
        extent |= Extent(earliest=earliest, first=first, last=last, finite=one["finite"])
    if not rows:
        raise DataError(f"{where} has no rows", hint="check source.path and that the export has finished")
    grid, origin = placed(extent, columns, project.config.frequency, until, where)
    marks = tuple(sorted((name, count) for one in seen for name, count in one["marks"]))
    return Sharded(
        project=project, spread=spread, notes=notes, where=where, grid=grid, origin=origin, rows=rows, marks=marks
    )


def _spread(project: Project, engine: Any, source: Any, state: datetime | None) -> Spread:
    """The source as workers have it.

    Raises:
        BringHereError: it is another Spark session's.
    """
    from forecastcore.engines.spark.spread import spread_frame, spread_parts

    wanted = runtime.columns(project).wanted
    if isinstance(source, PartedSource):
        return spread_parts(engine, source.parts(), partial(_read_part, project.recipe(), state, wanted))
    spread = spread_frame(engine, source.frame(wanted))
    if spread is None:
        raise BringHereError("the source is read by another Spark session than the engine's")
    return spread


def _cuts(marks: Sequence[tuple[str, int]], rows: int, tasks: int) -> list[str]:
    """Names with which shards of about as many rows each begin, the first left out.

    They are as many as it takes for none to be large, or as tasks go together where none becomes small by that.
    """
    count = max(-(-rows // SERVED_POINTS), min(tasks, rows // _SMALL))
    names, before = [name for name, _ in marks], np.cumsum([0, *(n for _, n in marks)])[:-1]
    wanted = np.searchsorted(before, np.arange(1, count) * rows / max(count, 1))
    return sorted({names[place] for place in wanted if place < len(names)} - {names[0]})


def _spans(stored: Stored) -> dict[str, tuple[str, str] | None]:
    """The first and the last series of each part of the model; None where it takes any."""
    found: dict[str, tuple[str, str] | None] = {}
    for name, part in stored.package.series_of(stored.folder).items():
        if part.ids is None:
            found[name] = None
        elif ids := (*part.ids, *part.failures):
            found[name] = (min(ids), max(ids))
    return found


def _parcels(stored: Stored, parts: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The model's files, one parcel at a time, each with the folder that it fills."""
    outline = [path for path in sorted(stored.folder.iterdir()) if path.name in {*OUTLINE, LISTING}]
    yield ".", wrap_files(stored.folder, outline, dense=True)
    for name in parts:
        yield f"state/{name}", wrap(stored.folder / "state" / name, dense=True)


def _needs(spans: Mapping[str, tuple[str, str] | None], cuts: Sequence[str]) -> list[list[str]]:
    """Which parcels each shard needs: parts of series between its names."""
    needs = []
    for begin, end in pairwise([None, *cuts, None]):
        mine = [
            f"state/{name}"
            for name, span in spans.items()
            if span is None or ((end is None or span[0] < end) and (begin is None or begin <= span[1]))
        ]
        needs.append([".", *mine])
    return needs


# -- what workers do


def _read_part(recipe: str, state: datetime | None, columns: Sequence[str], part: str) -> Iterator[pa.RecordBatch]:
    """The rows of a part.

    Raises:
        BringHereError: it is out of this worker's reach, or spoilt: the driver sees which.
    """
    project = project_of(recipe)
    try:
        source: Any = runtime.source_at(project, state)
        yield from source.read_part(part, columns)
    except (ForecastCoreError, OSError) as error:
        raise BringHereError(f"a worker cannot read the source: {error}") from error


def _look(recipe: str, where: str, until: str | None, tables: Iterator[pa.Table]) -> bytes:
    """How far some rows reach, and where their series lie; or what is wrong with them."""
    project = project_of(recipe)
    columns, policy = runtime.columns(project), runtime.policy(project)
    as_of = None if until is None else pd.Timestamp(until)
    extent, rows = Extent(), 0
    marks: list[tuple[str, int]] = []
    fault: dict[str, Any] | None = None
    try:
        for table in tables:
            extent |= extent_of(table, columns=columns, policy=policy, as_of=as_of, where=where)
            rows += table.num_rows
            marks += _marks(table[columns.id])
    except (BringHereError, DataError) as error:
        fault = fault_of(error)
    ends = [end and end.isoformat() for end in (extent.earliest, extent.first, extent.last)]
    return json.dumps({"ends": ends, "finite": extent.finite, "rows": rows, "marks": marks, "fault": fault}).encode()


def _marks(column: pa.ChunkedArray) -> list[tuple[str, int]]:
    """Some of the names of series, in order, each with the number of rows from there to the next."""
    import pyarrow as pa

    counts = column.cast(pa.string()).value_counts()
    order = np.asarray(counts.field("values").to_pylist(), dtype=object).argsort(kind="stable")
    names, sizes = counts.field("values").take(pa.array(order)).to_pylist(), np.asarray(counts.field("counts"))[order]
    group = (np.cumsum(sizes) - sizes) // _GRAIN
    first = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    return [(names[at], int(n)) for at, n in zip(first, np.add.reduceat(sizes, first), strict=True)]


def _make_shard(request_text: str, table: pa.Table, folder: Path) -> Iterator[tuple[str, bytes]]:
    """The rows of all scenarios for the series of a shard, and what is told of them; or what is wrong with them."""
    from forecastcore.engines.spark.shards import TOLD

    request = json.loads(request_text)
    project = project_of(request["recipe"])
    asked, told, fault = Asked.model_validate_json(request["asked"]), Told(), None
    try:
        history = shard_of(request, project, table)
        if history is not None:
            _check_seen(project, history.panel)
            parts = tuple(path.name for path in (folder / "state").iterdir()) if (folder / "state").is_dir() else ()
            stored = Stored(Package.outline(folder, project.host, request["digest"]), folder, parts)
            engine = LocalEngine(1, request["timeout"])
            tables, told = make(project, history, stored, asked, engine, Steps(), whole=False)
            for scenario, rows in tables.items():
                for batch in rows.to_batches(max_chunksize=_MESSAGE):
                    yield scenario, stream_of(rows.from_batches([batch]))
    except (BringHereError, DataError) as error:
        fault = fault_of(error)
    answer = {"rows": table.num_rows, "told": told.model_dump(mode="json"), "fault": fault}
    yield TOLD, json.dumps(answer).encode()


def _see_shard(request_text: str, table: pa.Table, folder: Path) -> Iterator[tuple[str, bytes]]:  # noqa: ARG001 - none is needed
    """What is seen of a shard; or what is wrong with it."""
    from forecastcore.engines.spark.shards import TOLD

    request = json.loads(request_text)
    project, question = project_of(request["recipe"]), Question.model_validate_json(request["question"])
    seen, fault = Seen(), None
    try:
        history = shard_of(request, project, table)
        if history is not None:
            if question.scenarios:
                _check_seen(project, history.panel)
            seen = see(project, history, question, whole=False)
    except (BringHereError, DataError) as error:
        fault = fault_of(error)
    answer = {"rows": table.num_rows, "seen": seen.model_dump(mode="json"), "fault": fault}
    yield TOLD, json.dumps(answer).encode()


def shard_of(request: Mapping[str, Any], project: Project, table: pa.Table) -> History | None:
    """The checked history of a shard; None where no row of it is of the origin or before."""
    origin = pd.Timestamp(request["origin"])
    return runtime.history_at(project, table, grid_of(request), origin, request["where"])


def _check_seen(project: Project, panel: pd.DataFrame) -> None:
    """A covariate that was never seen in a series is assumed from the other series.

    Raises:
        BringHereError: there is such a series.
    """
    names = list(runtime.assumptions(project).guessed)
    if not names:
        return
    seen = panel[names].notna().groupby(panel["unique_id"].to_numpy(), sort=False).any()
    blind = seen[~seen.all(axis=1)]
    if len(blind):
        raise BringHereError(f"series {blind.index[0]!r} has never had a value of {names}")


def fault_of(error: DataError | BringHereError) -> dict[str, Any]:
    """What a worker tells of what holds the run; see `raise_faults`."""
    if isinstance(error, BringHereError):
        return {"bring_here": str(error)}
    if isinstance(error, QualityError):
        told = {"check": error.check, "words": error.words, "rows": error.rows, "examples": error.examples}
        return {**told, "hint": error.hint}
    return {"check": None, "words": error.message, "rows": 0, "examples": (), "hint": error.hint}


def raise_faults(faults: Sequence[dict[str, Any] | None]) -> None:
    """Raise what holds the run: the fault found first, with how many rows in all have it.

    Raises:
        BringHereError: it is none, but workers cannot do what was asked.
        DataError: there is one.
    """
    found = [fault for fault in faults if fault]
    if not found:
        return
    for fault in found:
        if "bring_here" in fault:
            raise BringHereError(fault["bring_here"])
    first = found[0]
    if first["check"] is None:
        raise DataError(first["words"], hint=first["hint"])
    same = [fault for fault in found if fault["check"] == first["check"]]
    rows = sum(fault["rows"] for fault in same)
    count, _, rest = first["words"].partition(" ")
    words = f"{rows} {rest}" if count == str(first["rows"]) else first["words"]
    raise QualityError(first["check"], words, rows=rows, examples=first["examples"], hint=first["hint"])
