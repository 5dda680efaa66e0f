"""What the families here share: the window, the seasons taken out first, the flat series, normal quantiles.

A family's own part is a `Core`: what it learned of the values in the window, and how to go on from their end.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from forecastcore.errors import HistoryTooShort, PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy.typing as npt

    from forecastcore.api import Series, Task

    Floats = npt.NDArray[np.float64]

__all__ = [
    "Core",
    "Learned",
    "Rows",
    "at_least",
    "band_of",
    "carry_on",
    "decompose",
    "history_rows",
    "learn",
    "library",
    "normal_band",
]

MIN_HISTORY = 8
FLAT = 1e-10  # of the largest value: a series that moves by less never moves
ONE_STEP = 1  # of the library's `nmse`: errors further ahead, which it sums up beside, decide nothing and take its time
LEVEL = 90.0  # of the interval that the library is asked for; normal quantiles follow from its width


@dataclass(frozen=True)
class Rows:
    """Values of a window, with the covariates of its rows and of the rows ahead.

    Attributes:
        y: values, the seasons taken out; shape (rows,).
        x: covariates, treated alike; shape (rows, covariates).
        ahead: covariates of the steps ahead, treated alike; shape (steps, covariates).
        held: whether the window begins where the fit's window began.
    """

    y: Floats
    x: Floats
    ahead: Floats
    held: bool = True


class Core(Protocol):
    """What a family learned: a frozen dataclass of plain values and arrays."""

    @property
    def reach(self) -> int:
        """Rows that a context needs, if it begins later than the fit did."""
        ...

    def ahead(self, rows: Rows, quantiles: Sequence[float], /) -> Floats:
        """Filter the rows and go on from their end; nothing is searched for.

        Returns:
            The point forecast, shape (steps,), or with quantiles beside it, shape (steps, 1 + quantiles).
        """
        ...


@dataclass(frozen=True)
class Learned:
    """What was learned of one series.

    Attributes:
        start: the instant (UTC) of the window's first row.
        periods: seasons that are taken out first, in steps, ascending.
        log: whether values are logarithms from the start.
        core: what the family learned of the rest; None for a series that never moved: its last value is repeated.
    """

    start: str
    periods: tuple[int, ...]
    log: bool
    core: Core | None


def at_least(least: float, **parameters: float | None) -> None:
    """Refuse parameters that are too small; None is a default.

    Raises:
        ValueError: names the parameter.
    """
    for name, value in parameters.items():
        if value is not None and value < least:
            msg = f"{name} must be at least {least}, not {value}"
            raise ValueError(msg)


def library(module: str) -> Any:
    """A module of statsforecast: it says that it is typed, but most of its functions are not."""
    return import_module(f"statsforecast.{module}")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the library says on hard series; its answer is checked."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def history_rows(max_history: int | None, *seasons: int) -> int:
    """Rows that a fit stands on: what was asked, or 10 of the longest season, and at least 1000."""
    return max_history or max(1000, 10 * max(seasons))


def normal_band(mean: Floats, sd: Floats, quantiles: Sequence[float]) -> Floats:
    """Mean and normal quantiles side by side, shape (steps, 1 + quantiles)."""
    from scipy.special import ndtri

    return np.column_stack([mean, mean[:, None] + sd[:, None] * ndtri(np.asarray(quantiles))[None, :]])


def band_of(forecast: dict[str, Floats], quantiles: Sequence[float]) -> Floats:
    """The library's mean and `LEVEL` interval as mean and normal quantiles."""
    from scipy.special import ndtri

    width = forecast[f"hi-{LEVEL}"] - forecast[f"lo-{LEVEL}"]
    return normal_band(forecast["mean"], width / (2 * ndtri(0.5 + LEVEL / 200)), quantiles)


def decompose(values: Floats, periods: Sequence[int], horizon: int) -> tuple[Floats, Floats]:
    """Values without their seasons, and the seasons of the steps ahead: the last ones again (MSTL).

    Bandara, Hyndman & Bergmeir (2021), MSTL: a seasonal-trend decomposition algorithm for time series with multiple
    seasonal patterns. It is linear in the values, so that covariates can be treated alike.
    """
    if not periods:
        return values, np.zeros(horizon)
    jump = max(1, max(periods) // 12)  # every row for months; for longer seasons rows between are interpolated, as in R
    parts = library("mstl").mstl(values, list(periods), stl_kwargs={"trend_jump": jump, "low_pass_jump": jump})
    names = ["seasonal"] if len(periods) == 1 else [f"seasonal{period}" for period in periods]
    ahead = sum(
        np.resize(parts[name].to_numpy()[-period:], horizon) for name, period in zip(names, periods, strict=True)
    )
    return np.asarray(parts["trend"] + parts["remainder"], dtype=float), np.asarray(ahead)


def learn(
    series: Series,
    *,
    rows: int,
    periods: Sequence[int] = (),
    fit: Callable[[Rows], Core],
    log: bool | Literal["auto"] = False,
    least: int = MIN_HISTORY,
) -> Learned:
    """Cut the window, take the seasons out and let the family learn the rest.

    Args:
        series: one series without gaps.
        rows: of the window, at most.
        periods: seasons to take out, in steps; those that the window does not hold twice stay.
        fit: the family's own part.
        log: learn logarithms, where all values are positive; `auto`: where they are the likelier scale too.
        least: observations needed.

    Raises:
        HistoryTooShort: fewer than `least` observations.
    """
    y, x = series.y[-rows:], series.x[-rows:]
    if len(y) < least:
        raise HistoryTooShort(least, len(y))
    start = str(series.ds[-len(y)])
    if np.ptp(y) <= FLAT * np.max(np.abs(y)):
        return Learned(start, (), False, None)  # noqa: FBT003 - in the order of the fields
    held = tuple(sorted({period for period in periods if 1 < period < len(y) / 2}))
    scales = [False] if y.min() <= 0 else [False, True] if log == "auto" else [log]
    with quiet():
        plains = {scale: decompose(np.log(y) if scale else y, held, 0)[0] for scale in scales}
        logged = min(scales, key=lambda scale: _unlikely(plains[scale], float(np.log(y).mean()) if scale else 0.0))
        plain = plains[logged]
        lone = [decompose(column, held, 0)[0] for column in x.T]
        return Learned(start, held, logged, fit(Rows(plain, _table(lone, len(y)), np.empty((0, x.shape[1])))))


def carry_on(learned: Learned, series: Series, future: Series, task: Task) -> Floats:
    """Apply what was learned to the context, from the first row of the fit's window on, and look ahead.

    Raises:
        HistoryTooShort: the context does not reach back to that row, and is too short to begin anew.
    """
    steps = len(future.ds)
    position = int(np.searchsorted(series.ds, np.datetime64(learned.start)))
    held = position < len(series.ds) and series.ds[position] == np.datetime64(learned.start)
    y, x = (series.y[position:], series.x[position:]) if held else (series.y, series.x)
    if learned.core is None:
        return np.repeat(np.full((steps, 1), y[-1]), 1 + len(task.quantiles), axis=1)
    needed = max(learned.core.reach, 2 * max(learned.periods, default=0) + 1)
    if len(y) < needed:
        raise HistoryTooShort(needed, len(y))
    if learned.log and (y <= 0).any():
        msg = "logarithms need positive values, and the newest history holds others"
        raise PluginError(msg, plugin="statsforecast", series=series.unique_id, hint="retrain, or set log to false")
    with quiet():
        plain, season = decompose(np.log(y) if learned.log else y, learned.periods, steps)
        covariates = [decompose(column, learned.periods, steps) for column in x.T]
        past = _table([column for column, _ in covariates], len(y))
        ahead = future.x - _table([own for _, own in covariates], steps)
        answer = learned.core.ahead(Rows(plain, past, ahead, bool(held)), task.quantiles)
        answer = answer + (season if answer.ndim == 1 else season[:, None])
        return np.exp(answer) if learned.log else answer


def _unlikely(values: Floats, jacobian: float) -> float:
    """Minus twice the log-likelihood per row of a random walk, on the scale of the data (Box & Cox, 1964)."""
    error = float(np.mean(np.diff(values) ** 2))
    return float(np.log(max(error, np.finfo(float).tiny))) + 2 * jacobian


def _table(columns: Sequence[Floats], rows: int) -> Floats:
    return np.column_stack(columns) if columns else np.empty((rows, 0))
