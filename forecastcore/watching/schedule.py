"""Whether vintages came in the rhythm of those before."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.watching.messages import Schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

__all__ = ["rhythm", "schedule"]

#: origins that are needed to know a rhythm
_ENOUGH = 3
#: missing origins that are named, the newest
_NAMED = 50


def rhythm(origins: Sequence[datetime]) -> float | None:
    """Usual distance of two origins in seconds; None where fewer than three are there."""
    at = np.array(sorted({origin.timestamp() for origin in origins}))
    return float(np.median(np.diff(at))) if len(at) >= _ENOUGH else None


def schedule(origins: Sequence[pd.Timestamp], created: Sequence[pd.Timestamp], now: pd.Timestamp) -> Schedule:
    """Origins that the rhythm asks for and nobody made, and vintages made late.

    A vintage is late when it was made after the one before it by half a cycle more than their origins lie apart. So a
    backfill, which makes many at once, is not late.

    Args:
        origins: of the vintages there are, oldest first.
        created: when each was made.
        now: newest instant that history knows; an origin is missing when its data has been there for half a cycle.
    """
    every = rhythm([origin.to_pydatetime() for origin in origins])
    if not every:
        return Schedule()
    at, made = (np.array([moment.timestamp() for moment in moments]) for moments in (origins, created))
    edges = np.append(at, now.timestamp() + every / 2)
    missing = [
        start + number * every
        for start, gap in zip(edges[:-1], np.diff(edges), strict=True)
        for number in range(1, int(np.ceil(gap / every - 0.5)))
    ][-_NAMED:]
    late = np.r_[False, np.diff(made) - np.diff(at) > every / 2]
    return Schedule(
        every=every,
        missing=tuple(datetime.fromtimestamp(moment, tz=UTC) for moment in missing),
        late=tuple(origin.to_pydatetime() for origin, is_late in zip(origins, late, strict=True) if is_late),
    )
