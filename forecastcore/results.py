"""What candidates answered in a backtest, and how good it was; of many rows some are in memory at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from forecastcore import intervals, metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from forecastcore.backtest import Backtest
    from forecastcore.ensemble import Blend
    from forecastcore.project import Candidate
    from forecastcore.sheet import Sheet

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

__all__ = ["FORECAST", "FORESIGHT", "MADE", "OWN", "Result", "bands_of", "losses_served"]

#: columns of what a model answers; its own quantiles are the last
FORECAST, MADE, FORESIGHT, OWN = range(4)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One candidate's forecasts of all backtest rows, or of those of some series, aligned with the rows.

    Attributes:
        candidate: what was fitted.
        rows: of the backtest.
        answers: of each row the point forecast, whether the model made it, the forecast that the same fitted model
            makes of the actual covariates, and the model's own quantiles. A series that the model could not do has its
            fallback's forecast.
        bands: quantiles, calibrated on the errors of the other folds.
        failures: why series were served by the fallback, with the number of folds, screened series not counted.
        seconds: work time over all units.
        foresees: whether covariates are assumed, so that there is a forecast of the actual ones.
        remarks: what else is to be said of it.
        blend: of an ensemble, how its members are put together; learned from all folds.
    """

    candidate: Candidate
    rows: Backtest
    answers: Sheet
    bands: Sheet
    failures: Mapping[str, str]
    seconds: float
    foresees: bool = False
    remarks: tuple[str, ...] = ()
    blend: Blend | None = None

    @cached_property
    def _answers(self) -> Floats:
        return self.rows.taken(self.answers)

    @property
    def forecast(self) -> Floats:
        """Point forecasts."""
        return self._answers[:, FORECAST]

    @property
    def foresight(self) -> Floats | None:
        """Forecasts of the actual covariates; None where none are assumed."""
        return self._answers[:, FORESIGHT] if self.foresees else None

    @cached_property
    def quantiles(self) -> Floats:
        """Calibrated quantiles, shape (rows, levels)."""
        return self.rows.taken(self.bands)

    @property
    def errors(self) -> intervals.Errors:
        """What its quantiles are calibrated on."""
        return self.rows.errors(self.forecast, self._answers[:, OWN:], self._answers[:, MADE] == 1)

    @property
    def pool(self) -> intervals.Pool:
        """The errors, some series at a time."""
        return pool_of(self.rows, self.answers)

    def parts(self) -> Iterator[Result]:
        """The same of some series at a time, in their order; itself where it has few rows."""
        return map(self.among, self.rows.parts())

    def among(self, rows: Backtest) -> Result:
        """Its forecasts of a part of the rows."""
        return self if rows is self.rows else replace(self, rows=rows)

    def losses(self, metric: str, levels: Sequence[float]) -> Floats:
        """The loss by origin and series of which a leaderboard metric is made; see `Backtest.losses_by`."""
        parts = [part.rows.losses_by(metric, part.forecast, part.quantiles, levels) for part in self.parts()]
        return np.concatenate(parts, axis=1)

    def origin_losses(self) -> Floats:
        """Mean absolute scaled error by origin, over the series that were scored; shape (origins,)."""
        losses = self.losses("mase", ())
        return metrics.group_mean(losses.ravel(), np.repeat(np.arange(len(losses)), losses.shape[1]), len(losses))

    def slices(self, levels: Sequence[float]) -> dict[str, dict[str, float]]:
        """All errors: in all, by quarter of the horizon, by size of the series (see `metrics.by_slice`)."""
        return metrics.summed(
            metrics.tally(part.rows.scored, part.forecast, part.quantiles, levels) for part in self.parts()
        )

    def failed(self, rows: Backtest) -> bool:
        """Whether the fallback served every series that a model was given."""
        return bool(self.failures) and len(self.failures) >= len(rows.ids) - len(rows.screened)


def pool_of(rows: Backtest, answers: Sheet) -> intervals.Pool:
    """The errors of what was answered, some series at a time.

    Args:
        rows: of the backtest.
        answers: see `Result`.
    """

    def parts() -> Iterator[tuple[Ints, intervals.Errors]]:
        for part in rows.parts():
            values = part.taken(answers)
            known = np.arange(part.first, part.first + len(part.ids))
            yield known, part.errors(values[:, FORECAST], values[:, OWN:], values[:, MADE] == 1)

    there = np.asarray(rows.there.any(axis=1))
    return intervals.Pool(
        ids=rows.ids, noise=rows.noise, season=rows.season, place=rows.place, there=there, parts=parts
    )


def bands_of(rows: Backtest, answers: Sheet, levels: Sequence[float]) -> Sheet:
    """Quantiles of all rows, those of each origin calibrated on the errors of the others.

    Args:
        rows: of the backtest.
        answers: see `Result`.
        levels: of the quantiles.
    """
    pool, bands = pool_of(rows, answers), rows.sheet(len(levels))
    for some in intervals.without_each(pool, rows.horizon, levels):
        for part, (known, errors) in zip(rows.parts(), pool.parts(), strict=True):
            quantiles = part.taken(bands)
            for number, one in some.items():
                here = errors.fold == number
                if here.any():
                    found = one.of_errors(known, errors.take(here), number)
                    quantiles[here] = intervals.down_to_zero(found, levels, part.least[number, errors.series[here]])
            part.put(bands, quantiles)
    return bands


def losses_served(rows: Backtest, served: Sheet, metric: str, levels: Sequence[float]) -> Floats:
    """The loss by origin and series of what a stored model gave; see `Backtest.losses_by` and `race.run_package`."""
    parts = []
    for part in rows.parts():
        values = part.taken(served)
        parts.append(part.losses_by(metric, values[:, 0], values[:, 1:], levels))
    return np.concatenate(parts, axis=1)
