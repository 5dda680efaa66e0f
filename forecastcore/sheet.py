"""Numbers of the rows of a backtest: in memory where they are few, else in a file, of which some series are read."""

from __future__ import annotations

import math
import tempfile
import weakref
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

__all__ = ["ROWS", "Sheet", "spans"]

#: rows that are handled together
ROWS = 25_000


def spans(series: int, rows: int, most: int = 0) -> list[tuple[int, int]]:
    """Numbers of neighbouring series with about `ROWS` rows together: the first, and the one after the last.

    Args:
        series: how many there are.
        rows: of each.
        most: rows to handle together, if not `ROWS`.
    """
    step = max((most or ROWS) // max(rows, 1), 1)
    return [(begin, min(begin + step, series)) for begin in range(0, series, step)]


class Sheet:
    """Numbers by series, origin, step and column; NaN where nothing was written.

    Few lie in memory. Many lie in a file without a name, which is gone with the sheet or its process.

    Args:
        series: how many.
        origins: how many.
        horizon: steps.
        columns: how many.
    """

    def __init__(self, series: int, origins: int, horizon: int, columns: int) -> None:
        self._shape = origins, horizon, columns
        self._bytes = math.prod(self._shape) * np.dtype(np.float64).itemsize
        parts = spans(series, origins * horizon)
        self._values = np.full((series, *self._shape), np.nan) if len(parts) <= 1 else None
        if self._values is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it is closed when the sheet is gone
            weakref.finalize(self, self._file.close)
            for begin, end in parts:
                self.write(begin, np.full((end - begin, *self._shape), np.nan))

    def read(self, begin: int, end: int) -> Floats:
        """Those of neighbouring series, shape (series, origins, horizon, columns); to change them, write them."""
        if self._values is not None:
            return self._values[begin:end]
        values = np.empty((end - begin, *self._shape))
        view = values.data.cast("B")
        self._file.seek(begin * self._bytes)
        done = 0
        while done < len(view):
            got = self._file.readinto(view[done:])
            if not got:
                raise OSError("the file of a backtest's rows is shorter than what was written to it")
            done += got
        return values

    def write(self, begin: int, values: Floats) -> None:
        """Put in the numbers of neighbouring series, from one on."""
        if self._values is not None:
            self._values[begin : begin + len(values)] = values
            return
        view = np.ascontiguousarray(values).data.cast("B")
        self._file.seek(begin * self._bytes)
        done = 0
        while done < len(view):
            done += self._file.write(view[done:])
