"""Runs units in this process or in a pool of processes on this machine.

The panel is written once as an Arrow file; workers map it into memory and cut out their series, so no frame is pickled.
Each worker uses one thread, so that processes and a library's own threads don't fight for the cores.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from forecastcore.engines.pool import Pool, wake
from forecastcore.frames import offsets, to_panel_arrow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pandas as pd
    import pyarrow as pa

    from forecastcore.ports import Unit

__all__ = ["LocalEngine", "in_pool", "joined", "spans_by_series", "spans_of"]

# Idle OpenMP threads sleep instead of spinning: on a busy machine spinning costs a hundred times the work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

T = TypeVar("T")
Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LocalEngine:
    """Processes on this machine.

    Attributes:
        workers: how many; 0 works in this process.
        timeout: seconds that a unit may take in a pool.
    """

    workers: int = 0
    timeout: float = 3600.0

    def map(
        self, work: Callable[[pd.DataFrame, str], T], panel: pd.DataFrame, units: Sequence[Unit]
    ) -> Iterator[tuple[int, T]]:
        """See `ports.Engine.map`. In this process nothing can be barred: what ends the work ends the run."""
        if not self.workers:
            spans = spans_by_series(panel)
            for number, unit in enumerate(units):
                chunk = panel if unit.ids is None else _cut(panel, spans_of(unit, spans))
                yield number, work(chunk, unit.order)
            return
        yield from in_pool(work, to_panel_arrow(panel), units, workers=self.workers, timeout=self.timeout)

    def wake(self) -> None:
        """Begin to start a worker, where there are to be any; the first map need not wait for it so long."""
        if self.workers:
            wake()


def in_pool(
    work: Callable[[pd.DataFrame, str], T], panel: pa.Table, units: Sequence[Unit], *, workers: int, timeout: float
) -> Iterator[tuple[int, T]]:
    """Do units of a panel in processes of this machine; see `ports.Engine.map`.

    Args:
        work: see there.
        panel: as `to_panel_arrow` makes it.
        units: what to do.
        workers: most processes.
        timeout: seconds that a unit may take.
    """
    spans = spans_by_series(panel.select(["unique_id"]).to_pandas().astype(object))
    with tempfile.TemporaryDirectory(prefix="forecastcore-") as folder:
        path = Path(folder) / "panel.arrow"
        _write(panel, path)

        def call(unit: Unit) -> tuple[Callable[..., T], *tuple[Any, ...]]:
            return _in_worker, work, str(path), None if unit.ids is None else spans_of(unit, spans), unit.order

        yield from Pool(min(workers, len(units)), timeout, call, tuple(spans), Path(folder)).map(units)


def spans_by_series(panel: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """First row of each series of a sorted panel, and the row after its last."""
    starts = offsets(panel)
    ids = panel["unique_id"].to_numpy()
    return {str(ids[a]): (int(a), int(b)) for a, b in pairwise(starts)}


def spans_of(unit: Unit, spans: Mapping[str, tuple[int, int]]) -> Spans:
    """Row ranges of a unit's series, neighbours joined."""
    return joined(spans[uid] for uid in unit.ids or ())


def joined(spans: Iterable[tuple[int, int]]) -> Spans:
    """Row ranges in order, neighbours joined."""
    found: list[tuple[int, int]] = []
    for a, b in sorted(spans):
        if found and found[-1][1] == a:
            found[-1] = (found[-1][0], b)
        else:
            found.append((a, b))
    return tuple(found)


def _cut(panel: pd.DataFrame, spans: Spans) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([panel.iloc[a:b] for a, b in spans], ignore_index=True)


def _write(panel: pa.Table, path: Path) -> None:
    import pyarrow as pa

    with pa.OSFile(os.fspath(path), "wb") as sink, pa.ipc.new_file(sink, panel.schema) as writer:
        writer.write_table(panel)


@lru_cache(maxsize=1)
def _mapped(path: str) -> pa.Table:
    import pyarrow as pa

    return pa.ipc.open_file(pa.memory_map(path)).read_all()


def _in_worker(work: Callable[[pd.DataFrame, str], T], path: str, spans: Spans | None, request: str) -> T:
    import pyarrow as pa

    table: Any = _mapped(path)
    part = table if spans is None else pa.concat_tables([table.slice(a, b - a) for a, b in spans])
    chunk = part.to_pandas()
    chunk["unique_id"] = chunk["unique_id"].astype(object)
    return work(chunk, request)
