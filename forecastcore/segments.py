"""Groups of series that share a model of their own: the segment of a series is a part of its name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Segment", "by_segment", "segment_of"]


@lru_cache(maxsize=100_000)
def segment_of(pattern: str, unique_id: str) -> str:
    """What the pattern's first group matches in a name, or all that it matches; empty where it matches nothing.

    Args:
        pattern: a regular expression, such as `^([^/]+)/`.
        unique_id: the series.
    """
    found = re.search(pattern, unique_id)
    return (found[1] if found.re.groups else found[0]) or "" if found else ""


def by_segment(pattern: str, ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The series of each segment, in their order; segments by name."""
    found: dict[str, list[str]] = {}
    for uid in ids:
        found.setdefault(segment_of(pattern, uid), []).append(uid)
    return {name: tuple(found[name]) for name in sorted(found)}


@dataclass(frozen=True)
class Segment:
    """One segment.

    Attributes:
        pattern: what tells segments apart.
        name: of this one.
    """

    pattern: str
    name: str

    def __contains__(self, unique_id: str) -> bool:
        return segment_of(self.pattern, unique_id) == self.name
