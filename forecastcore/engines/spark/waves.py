"""Cuts a panel into pieces, and units into waves of what goes to Spark together."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

from forecastcore.engines.local import spans_by_series, spans_of
from forecastcore.engines.spark.panel import SpreadPanel
from forecastcore.engines.wire import parts_of, stream_of
from forecastcore.frames import to_panel_arrow
from forecastcore.parcel import wrap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pandas as pd

    from forecastcore.ports import Unit

__all__ = ["Wave", "waves"]

#: rows of a piece of the panel, unless one series alone has more
_PIECE_ROWS = 40_000
#: bytes that the units of a wave need, unless one unit alone needs more
_WAVE_BYTES = 32_000_000
#: bytes of a number
_CELL = 8


@dataclass
class Wave:
    """Units that go together.

    Attributes:
        orders: what to do as JSON, by number of the unit.
        needs: names of the pieces that each unit needs from here, in their order.
        pieces: their bytes; several units may need one.
        takes: of pieces that workers hold what goes where: the unit, a name for these rows, and which they are.
        size: bytes of all pieces, about.
    """

    orders: dict[int, str] = field(default_factory=dict)
    needs: dict[int, list[str]] = field(default_factory=dict)
    pieces: dict[str, bytes] = field(default_factory=dict)
    takes: dict[str, list[tuple[int, str, list[tuple[int, int]]]]] = field(default_factory=dict)
    size: int = 0

    def add(self, pieces: dict[str, bytes]) -> None:
        """Take pieces along."""
        self.size += sum(len(data) for name, data in pieces.items() if name not in self.pieces)
        self.pieces |= pieces


@dataclass(frozen=True)
class _Here:
    """A panel in this process, cut where units begin and end."""

    panel: pd.DataFrame
    spans: dict[str, tuple[int, int]]
    cuts: list[int]

    @classmethod
    def of(cls, panel: pd.DataFrame, units: Sequence[Unit]) -> _Here:
        spans = spans_by_series(panel)
        edges = [row for unit in units for span in spans_of(unit, spans) for row in span]
        return cls(panel, spans, _cuts([a for a, _ in spans.values()], [0, len(panel), *edges]))

    def given(self, wave: Wave, number: int, unit: Unit) -> list[str]:
        """Let a unit have its rows; the names under which they come."""
        cuts = self.cuts
        mine = {
            f"rows {a}": (a, b)
            for begin, end in ([(0, len(self.panel))] if unit.ids is None else spans_of(unit, self.spans))
            for a, b in pairwise(cuts[bisect_left(cuts, begin) : bisect_right(cuts, end)])
        }
        for name, (a, b) in mine.items():
            if name not in wave.pieces:
                wave.add({name: stream_of(to_panel_arrow(self.panel.iloc[a:b].reset_index(drop=True)))})
        wave.needs[number] = [*mine]
        return [*mine]


@dataclass(frozen=True)
class _There:
    """A panel that workers hold."""

    panel: SpreadPanel

    def given(self, wave: Wave, number: int, unit: Unit) -> list[str]:
        """Let a unit have its rows; the names under which they come."""
        rows = self.panel.rows(unit.ids)
        names = [f"rows {number} {place}" for place in range(len(rows))]
        for name, (kind, spans) in zip(names, rows.items(), strict=True):
            wave.takes.setdefault(kind, []).append((number, name, spans))
            wave.size += _CELL * self.panel.columns * sum(end - begin for begin, end in spans)
        wave.needs[number] = []
        return names


def waves(panel: pd.DataFrame | SpreadPanel, units: Sequence[Unit], tasks: int) -> Iterator[Wave]:
    """Units in their order, in waves of at most `tasks` units and little weight.

    Args:
        panel: sorted by series and time.
        units: what to do.
        tasks: most units of a wave.
    """
    rows = _There(panel) if isinstance(panel, SpreadPanel) else _Here.of(panel, units)
    wave = Wave()
    for number, unit in enumerate(units):
        if len(wave.orders) == tasks or wave.size > _WAVE_BYTES:
            yield wave
            wave = Wave()
        names = rows.given(wave, number, unit)
        files = _parcel(unit.folder, unit.reads) if unit.folder is not None else {}
        wave.add(files)
        wave.needs[number] += files
        about = {"unit": number, "ids": unit.ids, "request": unit.request, "barred": dict(unit.barred)}
        wave.orders[number] = json.dumps({**about, "panel": names, "folder": list(files)})
    if wave.orders:
        yield wave


def _cuts(starts: Sequence[int], edges: Sequence[int]) -> list[int]:
    """Rows at which to cut a panel: at the edges of units, and at a series' start where a piece would grow large."""
    edge = {*edges}
    cuts: list[int] = []
    for row in sorted({*starts, *edges}):
        if row in edge or not cuts or row - cuts[-1] >= _PIECE_ROWS:
            cuts.append(row)
    return cuts


@lru_cache(maxsize=1)
def _parcel(folder: Path, reads: tuple[str, ...]) -> dict[str, bytes]:
    data = wrap(folder, reads or None)
    digest = hashlib.sha256(data).hexdigest()
    return {f"files {digest} {n}": part for n, part in enumerate(parts_of(data))}
