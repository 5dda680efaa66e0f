"""A checked panel that workers hold, in pieces of whole series; the driver knows which series each has."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.engines.local import joined
from forecastcore.processes import give_back

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    import numpy.typing as npt
    import pyarrow as pa

    from forecastcore.engines.spark.spread import Shards

__all__ = ["Spans", "SpreadPanel"]

#: pieces whose answers are here at the same time
_TOGETHER = 32


class Spans(Mapping[str, tuple[int, int]]):
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
    """A panel on the workers of a cluster, or some of its series.

    Attributes:
        shards: where its pieces were made; each is of a kind of its own, with the digest of its bytes in the name. So a
            piece that was made again of a source that has changed is not taken for the one that was lost.
        pieces: their kinds, in the order of series.
        begins: the first row of each, and the number of rows at the end.
        spans: the first row of each series that they have, and the row after its last.
        ids: the series that are meant, sorted.
        columns: how many there are.
        digest: of all rows; see `frames.data_digest`.
    """

    shards: Shards
    pieces: Sequence[str]
    begins: Sequence[int]
    spans: Spans
    ids: list[str]
    columns: int
    digest: str

    @cached_property
    def sizes(self) -> npt.NDArray[np.intp]:
        """Rows of each series."""
        return np.array([end - begin for begin, end in map(self.spans.__getitem__, self.ids)], dtype=np.intp)

    def of(self, ids: Collection[str]) -> SpreadPanel:
        """Some of the series."""
        chosen = sorted(ids)
        digest = hashlib.sha256(json.dumps([self.digest, chosen]).encode()).hexdigest()
        return replace(self, ids=chosen, digest=digest)

    def rows(self, ids: Sequence[str] | None = None) -> dict[str, list[tuple[int, int]]]:
        """The rows of some series, or of all that are meant: which of each piece, in the order of series."""
        found: dict[str, list[tuple[int, int]]] = {}
        whole = ids is None and len(self.ids) == len(self.spans)
        wanted = self.ids if ids is None else ids
        for begin, end in [(0, self.begins[-1])] if whole else joined(map(self.spans.__getitem__, wanted)):
            for number in range(bisect_right(self.begins, begin) - 1, bisect_left(self.begins, end)):
                first, after = self.begins[number], self.begins[number + 1]
                mine = max(begin, first) - first, min(end, after) - first
                found.setdefault(self.pieces[number], []).append(mine)
        return found

    def ask(self, work: Callable[[pa.Table], bytes]) -> Iterator[bytes]:
        """What is said of the rows of each piece, in the order of series; of some pieces at a time.

        Args:
            work: importable function of such rows.

        Raises:
            EngineError: also where the work raises.
        """
        rows = self.rows()
        for kinds in _batched([*rows], _TOGETHER):
            answers = self.shards.answered(work, {kind: rows[kind] for kind in kinds})
            yield from (answers.pop(kind) for kind in kinds)
            give_back()


def _batched(kinds: Sequence[str], count: int) -> Iterator[Sequence[str]]:
    return (kinds[begin : begin + count] for begin in range(0, len(kinds), count))
