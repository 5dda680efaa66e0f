"""What the families here share: the window a fit stands on, normal quantiles, quiet optimisers."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.errors import HistoryTooShort

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from forecastcore.api import Series

    Floats = npt.NDArray[np.float64]

__all__ = ["at_least", "is_flat", "lean", "newest", "normal_band", "position_of", "quiet", "scale_of"]

FLAT = 1e-10


def at_least(least: int, **parameters: int | None) -> None:
    """Refuse parameters that are too small; None is a default.

    Raises:
        ValueError: names the parameter.
    """
    for name, value in parameters.items():
        if value is not None and value < least:
            msg = f"{name} must be at least {least}, not {value}"
            raise ValueError(msg)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what an optimiser says on hard series: stopping at `maxiter` is no fault, and the answer is checked."""
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"statsmodels|numpy|scipy")
        warnings.filterwarnings("ignore", message="Non-(stationary|invertible) starting", category=UserWarning)
        warnings.filterwarnings("ignore", message="Too few observations to estimate starting")
        yield


def lean() -> int:
    """What the filter need not remember for a forecast with its variance (`low_memory` drops the variance too)."""
    from statsmodels.tsa.statespace import kalman_filter as kf

    return int(
        kf.MEMORY_NO_PREDICTED
        | kf.MEMORY_NO_FILTERED
        | kf.MEMORY_NO_SMOOTHING
        | kf.MEMORY_NO_GAIN
        | kf.MEMORY_NO_STD_FORECAST
    )


def newest(series: Series, rows: int, needed: int) -> Series:
    """The last `rows` rows, begun at an observed one.

    Raises:
        HistoryTooShort: fewer than `needed` observations are in them.
    """
    seen = np.flatnonzero(np.isfinite(series.y[-rows:]))
    if len(seen) < needed:
        raise HistoryTooShort(needed, len(seen))
    first = max(len(series.y) - rows, 0) + int(seen[0])
    return type(series)(series.unique_id, series.ds[first:], series.y[first:], series.x[first:])


def position_of(start: str, series: Series) -> int | None:
    """The row where `series` reaches the instant a fit began at; None where it does not hold that instant."""
    position = int(np.searchsorted(series.ds, np.datetime64(start)))
    held = position < len(series.ds) and series.ds[position] == np.datetime64(start)
    return position if held else None


def scale_of(y: Floats) -> float:
    """The mean size of a series, or 1: divided by it, values of 1e12 and of 1e-12 look alike to an optimiser."""
    size = float(np.mean(np.abs(y)))
    return size if size > 0 else 1.0


def is_flat(y: Floats) -> bool:
    """Whether a series of size 1 never moves."""
    return bool(np.max(y) - np.min(y) <= FLAT)


def normal_band(mean: Floats, sd: Floats, quantiles: Sequence[float]) -> Floats:
    """Mean and normal quantiles side by side, shape (steps, 1 + quantiles)."""
    from scipy.special import ndtri

    return np.column_stack([mean, mean[:, None] + sd[:, None] * ndtri(np.asarray(quantiles))[None, :]])
