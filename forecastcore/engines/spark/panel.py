"""A checked panel that workers hold, in pieces of whole series; the driver knows which series each has."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    import pyarrow as pa

    from forecastcore.engines.spark.spread import Shards

__all__ = ["SpreadPanel"]


class _Spans(Mapping[str, tuple[int, int]]):
    """Rows of each series, looked up among names that are sorted."""

    def __init__(self, ids: list[str], ends: npt.NDArray[np.intp]) -> None:
        self._ids, self._ends = ids, ends

    def __getitem__(self, uid: str) -> tuple[int, int]:
        place = bisect_left(self._ids, uid)
        if place == len(self._ids) or self._ids[place] != uid:
            raise KeyError(uid)
        return int(self._ends[place]), int(self._ends[place + 1])

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


@dataclass(frozen=True, kw_only=True)
class SpreadPanel:
    """A panel on the workers of a cluster.

    Attributes:
        shards: where its pieces were made; each is of a kind of its own, with the digest of its bytes in the name. So a
            piece that was made again of a source that has changed is not taken for the one that was lost.
        pieces: their kinds, in the order of series.
        begins: the first row of each, and the number of rows at the end.
        ids: all series, sorted.
        sizes: rows of each.
        columns: how many there are.
        digest: of all rows; see `frames.data_digest`.
    """

    shards: Shards
    pieces: Sequence[str]
    begins: Sequence[int]
    ids: list[str]
    sizes: npt.NDArray[np.intp]
    columns: int
    digest: str

    @cached_property
    def spans(self) -> Mapping[str, tuple[int, int]]:
        """First row of each series, and the row after its last."""
        return _Spans(self.ids, np.concatenate([[0], np.cumsum(self.sizes)]))

    def __len__(self) -> int:
        """Rows."""
        return self.begins[-1]

    def cut(self, begin: int, end: int) -> Iterator[tuple[str, int, int]]:
        """Some rows, as pieces, and which rows of each."""
        begins = self.begins
        for number in range(bisect_right(begins, begin) - 1, bisect_left(begins, end)):
            first = begins[number]
            yield self.pieces[number], max(begin, first) - first, min(end, begins[number + 1]) - first

    def ask(self, work: Callable[[pa.Table], bytes], ids: Sequence[str] | None = None) -> list[bytes]:
        """What is said of each piece, in the order of series.

        Args:
            work: importable function of the rows of a piece.
            ids: only pieces that have one of these series.

        Raises:
            EngineError: also where the work raises.
        """
        kinds = self.pieces
        if ids is not None:
            kinds = list(dict.fromkeys(kind for uid in ids for kind, _, _ in self.cut(*self.spans[uid])))
        answers = self.shards.answered(work, kinds)
        return [answers[kind] for kind in self.pieces if kind in answers]
