"""Calibrated quantiles: conformal on backtest errors, by step.

A point forecast is the base, or a model's own quantiles; each level is moved so far from its base as the errors of that
level say. Where a model gives both, the band is the mean of both: two that are calibrated are sharper together. Errors
of every series are divided by the size of that series' own errors, so that series of any level share one shape; for
each step the shape is read off the errors of that step and, where these are few, of the steps around it. The errors
come from backtest folds in which covariates were assumed, so the assumption's error is inside the band.

Origins mostly stand at one place in the season, such as midnight, so that a step is always the same time of day: at an
origin that stands elsewhere, a step takes the offsets of the nearest step that is at its time of day.

A series that has become restless is harder to forecast: each error is measured against the noise before its origin,
the mean absolute change from season to season. A band around a point forecast follows the noise before the origin that
it is for, and the level of its forecasts; a model's own quantiles follow them by themselves.

Source: Vovk, Gammerman & Shafer (2005); finite-sample rank as in Angelopoulos & Bates (2023), A gentle introduction;
moving a model's own quantiles, Romano, Patterson & Candès (2019); errors over a local scale, Lei et al. (2018); the
mean of quantiles, Lichtendahl, Grushka-Cockayne & Winkler (2013).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from forecastcore.metrics import group_mean, naive_scale
from forecastcore.samples import Cells, Sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

__all__ = [
    "BELOW_ZERO",
    "Conformal",
    "Errors",
    "Pool",
    "calibrate",
    "down_to_zero",
    "least",
    "noise",
    "up_to_zero",
    "without_each",
]

#: how far below zero a forecast may stray where history never was, as a share of the history's highest level
BELOW_ZERO = 0.1
#: errors of its own that a series needs to count for half of its size
_SHRINK = 20
#: horizons, and at least so many seasons, before an origin in which noise is looked at
_LOOKED_BACK = 2
#: factor by which a band is widened or narrowed at most because the series has changed
_AT_MOST = 3.0
#: origins of a backtest whose bands are learned while the rows are gone through once
_AT_ONCE = 4


def _none() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True)
class Conformal:
    """How far quantiles lie from their base.

    Attributes:
        levels: quantile levels, ascending.
        offsets: in units of a series' size, shape (horizon, levels); from a model's own quantiles.
        plain: the same, from the point forecast.
        relative: mean absolute error over mean absolute value, for a series that has no size of its own.
        ids: series of the backtest.
        sizes: mean absolute backtest error of each; NaN where it had none.
        scales: mean absolute forecast of each in the backtest.
        noise: the typical noise of each before the backtest's origins.
        season: steps.
        place: where in the season most of the backtest's origins stood; None where they had no place in common.
    """

    levels: tuple[float, ...]
    offsets: Floats
    plain: Floats
    relative: float
    ids: Sequence[str] = ()
    sizes: Floats = field(default_factory=_none)
    scales: Floats = field(default_factory=_none)
    noise: Floats = field(default_factory=_none)
    season: int = 1
    place: int | None = None

    def quantiles(
        self,
        ids: Sequence[str],
        steps: Ints,
        forecast: Floats,
        own: Floats,
        noise: Mapping[str, float] | None = None,
        place: int | None = None,
    ) -> Floats:
        """Quantiles of rows, shape (rows, levels), never crossing.

        Args:
            ids: series of each row.
            steps: 1 … horizon.
            forecast: point forecasts.
            own: the model's quantiles, shape (rows, levels); NaN in rows that have none.
            noise: before the origin, by `unique_id` (see `noise`).
            place: where in the season the origin stands.
        """
        import pandas as pd

        series, names = pd.factorize(np.asarray(ids, dtype=object))
        now = np.array([(noise or {}).get(uid, np.nan) for uid in names])
        known = pd.Index(np.array(self.ids, dtype=object)).get_indexer(pd.Index(names))
        return self.of_series(known, series, steps, forecast, own, now, place)

    def of_series(
        self,
        known: Ints,
        series: Ints,
        steps: Ints,
        forecast: Floats,
        own: Floats,
        noise: Floats,
        place: int | None,
    ) -> Floats:
        """The same for rows of one origin.

        Args:
            known: number in `ids` of each series asked for; -1 for one that is not there.
            series: number in `known` of each row's series.
            steps: 1 … horizon.
            forecast: point forecasts.
            own: the model's quantiles, shape (rows, levels); NaN in rows that have none.
            noise: before the origin, of each series asked for.
            place: where in the season the origin stands.
        """
        sizes, scales, usual = (np.append(kept, np.nan)[known] for kept in (self.sizes, self.scales, self.noise))
        growth = _change(group_mean(np.abs(forecast), series, len(known)), scales)
        sized = np.isfinite(sizes)
        size = np.where(sized[series], sizes[series], self.relative * np.abs(forecast))[:, None]
        change = np.where(sized, np.sqrt(growth * _change(noise, usual, growth)), 1.0)[series, None]
        rows = self._alike(np.minimum(np.asarray(steps), len(self.offsets)), place) - 1
        native = np.isfinite(own).all(axis=1)
        band = forecast[:, None] + size * change * self.plain[rows]
        moved = np.sort(own[native] + size[native] * self.offsets[rows[native]], axis=1)
        unknown = np.isnan(band[native])  # where nothing is known of errors around the point; see `runs.recalibrate`
        band[native] = np.where(unknown, moved, (band[native] + moved) / 2)
        return np.asarray(np.sort(band, axis=1))

    def of_errors(self, known: Ints, errors: Errors, fold: int) -> Floats:
        """The same for backtest rows of one origin.

        Args:
            known: see `of_series`.
            errors: the rows.
            fold: number of the origin.
        """
        now, place = errors.noise[fold], int(errors.place[fold])
        return self.of_series(known, errors.series, errors.step, errors.forecast, errors.own, now, place)

    def _alike(self, steps: Ints, place: int | None) -> Ints:
        """For each step the nearest one that was at its time of the season in the backtest; itself where none was."""
        if place is None or self.place is None or place == self.place:
            return steps
        late = (place - self.place) % self.season
        found = [steps + shift for shift in sorted((late, late - self.season), key=abs)]
        return np.select([(step >= 1) & (step <= len(self.offsets)) for step in found], found, steps)


def noise(y: Floats, starts: Ints, ends: Ints, seasons: Sequence[int], horizon: int) -> Floats:
    """Mean absolute change from one (longest) season to the next in the newest rows, shape (series, ends).

    Args:
        y: histories one after the other, NaN where missing.
        starts: first row of each series, and the number of rows at the end.
        ends: row after the last one that may be seen, shape (series, ends).
        seasons: steps, ascending.
        horizon: steps.

    Returns:
        NaN where a series shows no change, or is too short.
    """
    window = _LOOKED_BACK * max(horizon, seasons[-1])
    return naive_scale(y, starts, seasons[-1], ends, window=window)


def least(y: Floats, starts: Ints, ends: Ints) -> Floats:
    """The smallest positive value of a series that is zero at times and never less, shape (series, ends); else 0.

    Args:
        y: see `noise`.
        starts: see `noise`.
        ends: see `noise`.
    """
    out = np.zeros(ends.shape)
    if not (y == 0).any():
        return out
    lengths, row = np.diff(starts), np.arange(len(y))
    positive, zero, below = np.where(y > 0, y, np.inf), y == 0, y < 0
    for number, end in enumerate(ends.T):
        seen = row < np.repeat(end, lengths)
        smallest = np.minimum.reduceat(np.where(seen, positive, np.inf), starts[:-1])
        now_and_then = np.logical_or.reduceat(seen & zero, starts[:-1])
        never = ~np.logical_or.reduceat(seen & below, starts[:-1])
        out[:, number] = np.where(now_and_then & never & np.isfinite(smallest), smallest, 0.0)
    return out


def down_to_zero(quantiles: Floats, levels: Sequence[float], smallest: Floats) -> Floats:
    """Quantiles of a series that is zero at times and never less, shape (rows, levels): none is less than nothing.

    Lower ends between nothing and half of the least that there is become nothing too: what is sold once in a while is
    mostly not sold, and a lower end of a hundredth of a piece would have all of this outside its band.

    Args:
        quantiles: of rows.
        levels: of the quantiles.
        smallest: of each row's series, see `least`.
    """
    lower = np.asarray(levels) < 0.5  # noqa: PLR2004 - the median
    nothing = np.where(lower, quantiles < smallest[:, None] / 2, quantiles < 0) & (smallest[:, None] > 0)
    return np.where(nothing, 0.0, quantiles)


def up_to_zero(forecast: Floats, smallest: Floats, largest: Floats) -> Floats:
    """Point forecasts of a series that is zero at times and never less: what is a little below zero becomes zero.

    What is further below stays as it is: a model that has turned bad is the audit's matter.

    Args:
        forecast: of rows.
        smallest: of each row's series, see `least`.
        largest: value of each row's series.
    """
    return np.where((smallest > 0) & (forecast < 0) & (forecast >= -BELOW_ZERO * largest), 0.0, forecast)


def _change(now: Floats, usual: Floats, unknown: Floats | float = 1.0) -> Floats:
    """What a band's size is multiplied by when what it goes with has changed; `unknown` where one of both is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        factor = now / usual
    return np.clip(np.where(np.isfinite(factor), factor, unknown), 1 / _AT_MOST, _AT_MOST)


def _sizes(own: Floats, n: Floats, level_of: Floats) -> tuple[Floats, float]:
    """The size of each series' errors, and the typical share of it in a series' level.

    A series with few errors is drawn towards the typical share of its own level, in logarithms: levels differ by
    orders of magnitude.

    Args:
        own: mean absolute error of each series.
        n: how many errors each has.
        level_of: mean absolute actual of each.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.asarray(own / level_of)
    told = share[np.isfinite(share) & (share > 0)]
    typical = float(np.median(told)) if len(told) else 0.1
    expected = np.where(np.isfinite(level_of) & (level_of > 0), typical * level_of, np.nan)
    weight = n / (n + _SHRINK)
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.exp(weight * np.log(own) + (1 - weight) * np.log(expected))
    size = np.where(np.isfinite(drawn) & (drawn > 0), drawn, np.where(own > 0, own, expected))
    return np.where(np.isfinite(size) & (size > 0), size, 1.0), typical


@dataclass(frozen=True, kw_only=True)
class Errors:
    """Backtest rows to learn from.

    Attributes:
        y: actuals, NaN where missing; shape (rows,).
        forecast: point forecasts.
        own: the model's quantiles, shape (rows, levels); NaN in rows that have none.
        made: rows that the model made; a fallback's errors teach nothing about it.
        step: 1 … horizon.
        series: number of each row's series in `ids`.
        ids: series.
        fold: number of each row's origin.
        noise: before each origin, by series (see `noise`); shape (origins, series).
        season: steps.
        place: where in the season each origin stands; shape (origins,).
    """

    y: Floats
    forecast: Floats
    own: Floats
    made: npt.NDArray[np.bool_]
    step: Ints
    series: Ints
    ids: Sequence[str]
    fold: Ints
    noise: Floats
    season: int
    place: Ints

    def take(self, rows: npt.NDArray[np.bool_]) -> Errors:
        """Some of the rows; not copied where they are neighbours, as those of an origin are."""
        first, count = int(rows.argmax()) if len(rows) else 0, int(rows.sum())
        hit = slice(first, first + count) if rows[first : first + count].all() else rows
        return replace(
            self,
            y=self.y[hit],
            forecast=self.forecast[hit],
            own=self.own[hit],
            made=self.made[hit],
            step=self.step[hit],
            series=self.series[hit],
            fold=self.fold[hit],
        )

    @property
    def error(self) -> Floats:
        """Actual minus forecast."""
        return self.y - self.forecast

    @property
    def native(self) -> Errors:
        """The rows with quantiles of the model's own."""
        return self.take(np.asarray(np.isfinite(self.own).all(axis=1)))

    def fine(self, folds: npt.NDArray[np.bool_]) -> Errors:
        """The rows of some origins that teach something: those with an actual, and no fallback's."""
        return self.take(self.made & np.isfinite(self.y) & np.isfinite(self.forecast) & folds[self.fold])


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Errors of the rows of a backtest, or of several, some at a time.

    Attributes:
        ids: series of all of them.
        noise: before each origin, by series (see `noise`); shape (origins, series).
        season: steps.
        place: where in the season each origin stands; shape (origins,).
        there: which origins have rows; shape (origins,).
        parts: gives them all, and again whenever it is called: the number in `ids` of each series of a part, and
            the part's errors, whose origins are numbered as those of all.
    """

    ids: Sequence[str]
    noise: Floats
    season: int
    place: Ints
    there: npt.NDArray[np.bool_]
    parts: Callable[[], Iterator[tuple[Ints, Errors]]]

    @classmethod
    def of(cls, errors: Errors) -> Pool:
        """That of rows which are at hand."""
        known = np.arange(len(errors.ids))
        return cls(
            ids=errors.ids,
            noise=errors.noise,
            season=errors.season,
            place=errors.place,
            there=np.bincount(errors.fold, minlength=len(errors.place)) > 0,
            parts=lambda: iter([(known, errors)]),
        )

    def joined(self, more: Pool) -> Pool:
        """These errors and those of other origins, of some of the same series."""
        import pandas as pd

        number = pd.Index(np.array(self.ids, dtype=object)).get_indexer(pd.Index(np.array(more.ids, dtype=object)))
        noise = np.full((len(more.noise), len(self.ids)), np.nan)
        noise[:, number] = more.noise

        def parts() -> Iterator[tuple[Ints, Errors]]:
            yield from self.parts()
            for known, errors in more.parts():
                yield number[known], replace(errors, fold=errors.fold + len(self.noise))

        noises, places = np.concatenate([self.noise, noise]), np.concatenate([self.place, more.place])
        return replace(self, noise=noises, place=places, there=np.concatenate([self.there, more.there]), parts=parts)


def calibrate(
    errors: Errors | Pool, horizon: int, levels: Sequence[float], folds: npt.NDArray[np.bool_] | None = None
) -> Conformal:
    """Learn how far quantiles lie from their base.

    Args:
        errors: backtest rows; those without an actual, and those of a fallback, are left out.
        horizon: steps.
        levels: quantile levels, ascending.
        folds: which origins to learn from, shape (origins,); all where it is left out.
    """
    pool = Pool.of(errors) if isinstance(errors, Errors) else errors
    used = pool.there if folds is None else folds & pool.there
    return _learned(pool, horizon, levels, used[None])[0]


def without_each(errors: Errors | Pool, horizon: int, levels: Sequence[float]) -> Iterator[dict[int, Conformal]]:
    """For each origin what the others teach, some origins at a time; a single one teaches itself."""
    pool = Pool.of(errors) if isinstance(errors, Errors) else errors
    numbers = np.flatnonzero(pool.there)
    others = pool.there & (np.arange(len(pool.there)) != numbers[:, None])
    others[~others.any(axis=1)] = pool.there
    for first in range(0, len(numbers), _AT_ONCE):
        some = slice(first, first + _AT_ONCE)
        yield dict(zip(numbers[some].tolist(), _learned(pool, horizon, levels, others[some]), strict=True))


def _learned(pool: Pool, horizon: int, levels: Sequence[float], sets: npt.NDArray[np.bool_]) -> list[Conformal]:
    """What each of some sets of origins teaches; see `calibrate`.

    The pool is gone through twice: for each series' level and the size of its errors, and for the shape of these; the
    rows of a pool of one part are picked once.

    Args:
        pool: errors.
        horizon: steps.
        levels: of the quantiles.
        sets: shape (sets, origins).
    """
    lessons, used = [_Lesson(pool, origins) for origins in sets], np.asarray(sets.any(axis=0))
    shape = len(used), horizon
    plain, native = [], []  # how many rows there are, and how many with quantiles of the model's own
    kept: list[tuple[Ints, Errors]] = []  # the rows that teach something, where there is a single part
    for number, (known, part) in enumerate(pool.parts()):
        fine = part.fine(used)
        summed = (part.y, part), (fine.forecast, fine), (fine.error, fine)
        totals = [_totals(values, rows, (len(used), len(known))) for values, rows in summed]
        for lesson in lessons:
            lesson.add(known, *totals)
        plain.append(_cells(fine, shape))
        native.append(_cells(fine.native, shape))
        kept = [] if number else [(known, fine)]
    for lesson in lessons:
        lesson.sample(np.stack(plain), np.stack(native), len(levels))
    for number, (known, fine) in enumerate(kept or ((known, part.fine(used)) for known, part in pool.parts())):
        own = fine.native
        cells = [Cells.of(rows.fold, rows.step, shape) for rows in (fine, own)]
        for lesson in lessons:
            lesson.put(lesson.plain, number, cells[0], fine, known, fine.forecast[:, None])
            lesson.put(lesson.moved, number, cells[1], own, known, own.own[:, : len(levels)])
    return [lesson.learned(levels) for lesson in lessons]


class _Lesson:
    """What a set of origins teaches, as the parts of a pool come.

    Args:
        pool: errors.
        origins: of the set, shape (origins,).
    """

    def __init__(self, pool: Pool, origins: npt.NDArray[np.bool_]) -> None:
        self._pool, self._origins = pool, origins
        series = np.tile(np.arange(len(pool.ids)), int(origins.sum()))
        #: the typical noise of each series (geometric mean)
        self._usual = np.exp(group_mean(np.log(pool.noise[origins]).ravel(), series, len(pool.ids)))
        self._level, self._scale, self._size = np.zeros((3, 2, len(pool.ids)))

    def add(self, known: Ints, y: Floats, forecast: Floats, error: Floats) -> None:
        """Take in the sums of a part (see `_totals`): of its actuals, and of what teaches something."""
        calm = self._unrest(np.flatnonzero(self._origins)[:, None], known)
        self._level[:, known] += y[:, self._origins].sum(axis=1)
        self._scale[:, known] += forecast[:, self._origins].sum(axis=1)
        self._size[0, known] += (error[0, self._origins] / calm).sum(axis=0)
        self._size[1, known] += error[1, self._origins].sum(axis=0)

    def sample(self, plain: Ints, native: Ints, columns: int) -> None:
        """Know all series, and how many errors each part has by origin and step: in all, and of quantiles."""
        self._sizes, self._typical = _sizes(_mean(self._size), self._size[1], _mean(self._level))
        self.plain = Sample(np.where(self._origins[:, None], plain, 0), 1)
        self.moved = Sample(np.where(self._origins[:, None], native, 0), columns)

    def put(self, sample: Sample, part: int, cells: Cells, rows: Errors, known: Ints, base: Floats) -> None:
        """Take in the errors of a part that are picked, in units of their series' size; plain ones of unrest too."""
        at, picked = sample.wanted(part, cells)
        fold, series = rows.fold[picked], known[rows.series[picked]]
        unit = self._sizes[series] * (self._unrest(fold, series) if sample is self.plain else 1.0)
        sample.put(at, fold, (rows.y[picked, None] - base[picked]) / unit[:, None])

    def learned(self, levels: Sequence[float]) -> Conformal:
        """All that was learned."""
        places = np.bincount(self._pool.place[self._origins])
        return Conformal(
            levels=tuple(levels),
            offsets=self.moved.shape(levels),
            plain=self.plain.shape(levels),
            relative=self._typical,
            ids=self._pool.ids,
            # A series without an error of its own has no size: the level of its forecasts says how wide its band is.
            sizes=np.where(self._scale[1] > 0, self._sizes, np.nan),
            scales=_mean(self._scale),
            noise=self._usual,
            season=self._pool.season,
            place=int(places.argmax()) if 2 * places.max(initial=0) > places.sum() else None,
        )

    def _unrest(self, fold: Ints, series: Ints) -> Floats:
        """How restless series were before origins: what their errors are divided by."""
        return np.sqrt(_change(self._pool.noise[fold, series], self._usual[series]))


def _totals(values: Floats, rows: Errors, shape: tuple[int, int]) -> Floats:
    """Sum of the absolute finite values, and their number, shape (2, origins, series)."""
    fine, pairs = np.isfinite(values), shape[0] * shape[1]
    pair = (rows.fold * shape[1] + rows.series)[fine]
    totals = np.bincount(pair, np.abs(values[fine]), minlength=pairs), np.bincount(pair, minlength=pairs)
    return np.stack(totals, dtype=float).reshape(2, *shape)


def _mean(totals: Floats) -> Floats:
    found = np.full(totals.shape[1], np.nan)
    return np.asarray(np.divide(totals[0], totals[1], out=found, where=totals[1] > 0))


def _cells(rows: Errors, shape: tuple[int, int]) -> Ints:
    """How many rows there are, shape (origins, horizon)."""
    return np.bincount(rows.fold * shape[1] + rows.step - 1, minlength=shape[0] * shape[1]).reshape(shape)
