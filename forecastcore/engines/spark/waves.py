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


@dataclass
class Wave:
    """Units that go together.

    Attributes:
        orders: what to do as JSON, by number of the unit.
        needs: names of the pieces that each unit needs, in their order.
        pieces: their bytes; several units may need one.
    """

    orders: dict[int, str] = field(default_factory=dict)
    needs: dict[int, list[str]] = field(default_factory=dict)
    pieces: dict[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all pieces."""
        return sum(map(len, self.pieces.values()))


def waves(panel: pd.DataFrame, units: Sequence[Unit], tasks: int) -> Iterator[Wave]:
    """Units in their order, in waves of at most `tasks` units and little weight.

    Args:
        panel: sorted by series and time.
        units: what to do.
        tasks: most units of a wave.
    """
    spans = spans_by_series(panel)
    wanted = [((0, len(panel)),) if unit.ids is None else spans_of(unit, spans) for unit in units]
    cuts = _cuts([a for a, _ in spans.values()], [row for ranges in wanted for span in ranges for row in span])
    wave = Wave()
    for number, (unit, ranges) in enumerate(zip(units, wanted, strict=True)):
        mine = [
            piece
            for begin, end in ranges
            for piece in pairwise(cuts[bisect_left(cuts, begin) : bisect_right(cuts, end)])
        ]
        if len(wave.orders) == tasks or wave.size > _WAVE_BYTES:
            yield wave
            wave = Wave()
        names = {f"rows {a}": (a, b) for a, b in mine}
        for name, (a, b) in names.items():
            if name not in wave.pieces:
                wave.pieces[name] = stream_of(to_panel_arrow(panel.iloc[a:b].reset_index(drop=True)))
        files = _parcel(unit.folder, unit.reads) if unit.folder is not None else {}
        wave.pieces |= files
        wave.needs[number] = [*names, *files]
        about = {"unit": number, "ids": unit.ids, "request": unit.request, "barred": dict(unit.barred)}
        wave.orders[number] = json.dumps({**about, "panel": list(names), "folder": list(files)})
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
