"""The history that a run learns from: in this process, or on the workers of a Spark cluster.

Where the engine is Spark and the source can be read in parts, each worker checks a shard of it, all series between two
names, as one machine would check all of it, and holds the rows; the driver learns which series there are. Either way
the run is given a `ports.Past`.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore import runtime
from forecastcore.engines.wire import stream_of, table_of
from forecastcore.errors import DataError
from forecastcore.frames import History, check_span, digest_sum, offsets, to_panel_arrow
from forecastcore.runs.sharded import (
    BringHereError,
    Sharded,
    fault_of,
    find,
    passes_through,
    shard_of,
    why_not_checked,
)
from forecastcore.units import project_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    import numpy.typing as npt
    import pyarrow as pa

    from forecastcore.engines.spark.panel import SpreadPanel
    from forecastcore.engines.spark.spread import Shards
    from forecastcore.frames import Answer
    from forecastcore.ports import Past, Steps
    from forecastcore.project import Project
    from forecastcore.timegrid import TimeGrid

__all__ = ["SpreadHistory", "opened"]

_log = logging.getLogger(__name__)
#: rows of a piece, unless one series alone has more
_PIECE = 40_000


@contextmanager
def opened(project: Project, engine: Any, as_of: str | datetime | None, steps: Steps) -> Iterator[Past]:
    """The checked history of a project, for as long as it is needed.

    Args:
        project: whose source and quality rules.
        engine: of the project; where it is Spark the history stays on its workers, if it can.
        as_of: see `runtime.history`, as for errors.
        steps: how to run and watch the two stages, `load` and `check quality`.
    """
    notes: tuple[str, ...] = ()
    if project.config.engine.type == "spark":
        try:
            there = steps.run("load", lambda: find(project, engine, as_of, why_not_checked(project)))
            shards, history = steps.run("check quality", partial(_spread, there))
        except BringHereError as error:
            notes = (passes_through(str(error)),)
            _log.info("%s", notes[0])
        else:
            with shards:
                yield history
            return
    here = runtime.history(project, as_of, steps)
    yield replace(here, notes=(*here.notes, *notes)) if notes else here


@dataclass(frozen=True, kw_only=True)
class SpreadHistory:
    """Checked history on the workers of a cluster; see `ports.Past`, whose attributes these are.

    Attributes:
        grid: see there.
        origin: see there.
        first: see there.
        newest: see there.
        counts: see there.
        notes: see there.
        panel: its rows, as Spark's workers hold them.
    """

    grid: TimeGrid
    origin: pd.Timestamp
    first: pd.Timestamp
    newest: pd.Timestamp | None
    counts: Mapping[str, int]
    notes: tuple[str, ...]
    panel: SpreadPanel

    @property
    def ids(self) -> list[str]:
        """All series, sorted."""
        return self.panel.ids

    @property
    def sizes(self) -> npt.NDArray[np.intp]:
        """Rows of each series."""
        return self.panel.sizes

    @property
    def digest(self) -> str:
        """Of all rows."""
        return self.panel.digest

    def ask(self, question: Callable[[History], Answer]) -> Iterator[Answer]:
        """What workers answer, each of the series that it holds; see `ports.Past.ask`."""
        work = partial(_answer, self.grid, self.origin, self.first, question)
        return map(_arrays_of, self.panel.ask(work))

    def of(self, ids: Collection[str]) -> SpreadHistory:
        """That of some of the series, where it is."""
        return replace(self, panel=self.panel.of(ids))

    @property
    def here(self) -> History:
        """The rows, in this process."""
        frames = [_frame_of(table_of(answer)) for answer in self.panel.ask(stream_of)]
        return _history(pd.concat(frames, ignore_index=True), self.grid, self.origin, self.first)


def _spread(there: Sharded) -> tuple[Shards, SpreadHistory]:
    """Have workers check the history and hold it.

    Raises:
        BringHereError: they cannot.
        DataError: the quality check holds the run.
    """
    work = partial(_check_shard, there.request())
    shards = there.spread.shards(work, column=there.project.config.source.id, cuts=there.cuts)
    try:
        return shards, _known(there, shards)
    except BaseException:
        shards.let_go()
        raise


def _known(there: Sharded, shards: Shards) -> SpreadHistory:
    """What the driver knows of a history that workers hold."""
    from forecastcore.engines.spark.panel import Spans, SpreadPanel

    if not shards.held:
        raise BringHereError("this cluster holds nothing from one step to the next")
    told = [answer for answer in there.checked(shards) if answer["pieces"]]
    pieces = [piece for answer in told for piece in answer["pieces"]]
    ids = [uid for piece in pieces for uid in piece["ids"]]
    sizes = np.array([size for piece in pieces for size in piece["sizes"]], dtype=np.intp)
    check_span(float(sizes.sum()), there.rows, there.grid.frequency)
    counts: dict[str, int] = {}
    for answer in told:
        for kind, count in answer["counts"].items():
            counts[kind] = counts.get(kind, 0) + count
    panel = SpreadPanel(
        shards=shards,
        pieces=[piece["name"] for piece in pieces],
        begins=np.cumsum([0, *(sum(piece["sizes"]) for piece in pieces)]).tolist(),
        spans=Spans(ids, np.concatenate([[0], np.cumsum(sizes)])),
        ids=ids,
        columns=told[0]["columns"],
        digest=f"{sum(int(answer['digest'], 16) for answer in told) % 2**256:064x}",
    )
    newest = [pd.Timestamp(answer["newest"]) for answer in told if answer["newest"]]
    return SpreadHistory(
        grid=there.grid,
        origin=there.origin,
        first=min(pd.Timestamp(answer["first"]) for answer in told),
        newest=max(newest, default=None),
        counts=counts,
        notes=there.notes,
        panel=panel,
    )


# -- what workers do


def _check_shard(request_text: str, table: pa.Table, folder: Path) -> Iterator[tuple[str, bytes]]:  # noqa: ARG001 - none is needed
    """The checked history of a shard, in pieces, and what is told of it; or what is wrong with it."""
    from forecastcore.engines.spark.shards import TOLD

    request = json.loads(request_text)
    project = project_of(request["recipe"])
    told: dict[str, Any] = {"rows": table.num_rows, "pieces": [], "fault": None}
    try:
        history = shard_of(request, project, table)
        if history is not None:
            for part in _pieces(history.panel):
                data = stream_of(to_panel_arrow(part))
                name, starts = f"panel {hashlib.sha256(data).hexdigest()}", offsets(part)
                ids = part["unique_id"].to_numpy()[starts[:-1]].tolist()
                told["pieces"].append({"name": name, "ids": ids, "sizes": np.diff(starts).tolist()})
                yield name, data
            told |= {
                "columns": history.panel.shape[1],
                "counts": dict(history.counts),
                "digest": f"{digest_sum(history.panel):x}",
                "first": history.first.isoformat(),
                "newest": history.newest.isoformat() if history.newest is not None else None,
            }
    except (BringHereError, DataError) as error:
        told["fault"] = fault_of(error)
    yield TOLD, json.dumps(told).encode()


def _pieces(panel: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """A panel cut at some of its series' starts."""
    begin, end = 0, len(panel)
    for start in [*offsets(panel)[1:-1].tolist(), end]:
        if start - begin >= _PIECE or start == end:
            yield panel.iloc[begin:start].reset_index(drop=True)
            begin = start


def _answer(
    grid: TimeGrid,
    origin: pd.Timestamp,
    first: pd.Timestamp,
    question: Callable[[History], Answer],
    table: pa.Table,
) -> bytes:
    """The answer to a question about the series of a piece, as npz."""
    out = io.BytesIO()
    arrays: dict[str, Any] = {**question(_history(_frame_of(table), grid, origin, first))}
    np.savez(out, **arrays)
    return out.getvalue()


def _arrays_of(data: bytes) -> Answer:
    """The answer; nothing in it is run."""
    with np.load(io.BytesIO(data), allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}


def _history(panel: pd.DataFrame, grid: TimeGrid, origin: pd.Timestamp, first: pd.Timestamp) -> History:
    return History(panel=panel, known=panel.iloc[:0].drop(columns="y"), grid=grid, origin=origin, since=first)


def _frame_of(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame.assign(unique_id=frame["unique_id"].astype(object))
