"""A partially pooled ridge regression on the features: one model of all rows, corrected per hour of day and per series.

Closed form throughout: a Gram matrix once, and one small solve for each penalty tried on what was held out.
Answers are summed column by column, so that a row's answer never depends on the rows beside it, nor on threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.tabular.features import Features, Plan
    from forecastcore.tabular.lesson import Lesson
    from forecastcore.tabular.panel import Floats, Ints

__all__ = ["Linear", "fit_linear"]

_CLIP = 10.0
_CONSTANT = 1e-9
_HUBER = 1.345
_BEYOND = 100  # targets that must lie beyond a knot
_TRUSTS = (0.1, 0.3, 0.5, 0.7, 0.9)
_FIRST = 1e-2  # penalty of the first fit
_ALPHAS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_KNOTS = (0.05, 0.25, 0.5, 0.75, 0.95)
_PER_SERIES = 500  # training rows of a series, on average, that make a correction of its own worth while


@dataclass(frozen=True)
class Linear:
    """Learned coefficients.

    Attributes:
        knots: of each covariate, shape (covariates, 5); NaN where there is none.
        middle: value that stands for a missing covariate.
        ladder: knots of the step.
        mean: of the columns.
        spread: of the columns; 1 where a column is constant.
        low: least value that each column had in training, -inf where it is a covariate's; shape (columns,).
        high: greatest value, likewise. What a longer history brings is read as the nearest that was seen.
        core: columns that the corrections use.
        coef: shape (1 + columns,), the intercept first.
        by_hour: corrections, shape (24, 1 + core).
        by_series: corrections, shape (series, 1 + core); the last row is 0 and serves new series.
        trust: weight of the training rows with assumed covariates, 0 … 1; 0 where there were none.
    """

    knots: Floats
    middle: Floats
    ladder: Floats
    mean: Floats
    spread: Floats
    low: Floats
    high: Floats
    core: Ints
    coef: Floats
    by_hour: Floats
    by_series: Floats
    trust: float

    def predict(self, features: Features, series: Ints) -> Floats:
        """Answer in units of scale above level, shape (rows,)."""
        columns = [*_own(features, self.ladder), *_covariates(features, self.knots, self.middle)]
        hour = features.columns["hour"].astype(np.int64)
        position = {int(column): number for number, column in enumerate(self.core, 1)}
        out: Floats = self.coef[0] + self.by_hour[hour, 0] + self.by_series[series, 0]
        for number, (_, column) in enumerate(columns):
            weight = np.full(len(out), self.coef[number + 1])
            if number in position:
                weight = weight + self.by_hour[hour, position[number]] + self.by_series[series, position[number]]
            seen = np.clip(column, self.low[number], self.high[number])
            out = out + weight * ((seen - self.mean[number]) / self.spread[number])
        return out


class _Design(NamedTuple):
    x: Floats
    knots: Floats
    middle: Floats
    ladder: Floats
    mean: Floats
    spread: Floats
    low: Floats
    high: Floats
    core: Ints


def _hats(x: Floats, knots: Floats) -> list[Floats]:
    """Piecewise linear basis that sums to 1."""
    eye = np.eye(len(knots))
    return [np.asarray(np.interp(x, knots, row)) for row in eye]


def _own(features: Features, ladder: Floats) -> list[tuple[bool, Floats]]:
    """The columns of the series itself and of the calendar: (whether corrections use it, column)."""
    out: list[tuple[bool, Floats]] = []
    hats = _hats(np.log(features.columns["step"]), ladder)
    for lag in _lags(features):
        out.append((True, lag))
        out += [(False, lag * hat) for hat in hats] if len(hats) > 1 else []
    out += [(False, hat) for hat in hats[1:]]
    return out + _calendar(features)


def _covariates(features: Features, knots: Floats, middle: Floats) -> list[tuple[bool, Floats]]:
    """The columns of covariates, likewise."""
    return [
        (True, column)
        for number in range(len(knots))
        for column in _covariate(features.columns, number, knots[number], middle[number])
    ]


def _lags(features: Features) -> list[Floats]:
    """Lag and level columns, a missing one read as the mean of its phase, else as the level."""
    values = features.columns
    names = ("last_", "mean_", "surprise", "drift", "lag_", "phase_", "season_", "year_")
    out = []
    for name, column in values.items():
        if name.startswith(names):
            season = name.split("_")[1] if name.startswith("lag_") else ""
            filled = np.where(np.isfinite(column), column, values[f"phase_{season}"]) if season else column
            out.append(np.clip(np.nan_to_num(filled, nan=0.0), -_CLIP, _CLIP))
    return out


def _calendar(features: Features) -> list[tuple[bool, Floats]]:
    hour, weekday = features.columns["hour"], features.columns["weekday"]
    half = np.floor(2 * hour)
    out = [(False, (half == slot).astype(float)) for slot in range(48)]
    out += [(True, (weekday == day).astype(float)) for day in range(7)]
    if "yearday" in features.columns:
        turn = 2 * np.pi * features.columns["yearday"]
        out += [(wave == 1, part(wave * turn)) for wave in (1, 2, 3, 4, 5, 6) for part in (np.sin, np.cos)]
    return out


def _bend(column: Floats, knots: Floats) -> list[Floats]:
    return [column, *(np.maximum(column - knot, 0.0) for knot in knots[np.isfinite(knots)])]


def _covariate(values: dict[str, Floats], number: int, knots: Floats, middle: float) -> list[Floats]:
    """A covariate now and around now, bent at knots, and how it differs from where the lags were taken."""
    out: list[Floats] = []
    now = np.where(np.isfinite(values[f"x{number}"]), values[f"x{number}"], middle)
    for name in (n for n in values if n.split("_", 1)[0] == f"x{number}"):
        column = values[name]
        filled = np.where(np.isfinite(column), column, now)
        out += _bend(filled, knots)
    return out


def _ladder(plan: Plan, horizon: int) -> Floats:
    steps = {1, plan.short // 4, plan.short, 2 * plan.short, 4 * plan.short, horizon}
    return np.asarray(np.log(sorted(step for step in steps if 1 <= step <= horizon)))


def _knots(values: dict[str, Floats], plan: Plan, targets: int) -> tuple[Floats, Floats]:
    """Where covariates bend: only where enough lies beyond, since the slope there is what a what-if goes on with."""
    places = np.array([place for place in _KNOTS if min(place, 1 - place) * targets >= _BEYOND])
    knots, middle = np.full((plan.covariates, len(_KNOTS)), np.nan), np.zeros(plan.covariates)
    for number in range(plan.covariates):
        seen = values[f"x{number}"]
        seen = seen[np.isfinite(seen)]
        if len(seen):
            middle[number] = np.median(seen)
            found = np.quantile(seen, places)
            if len(np.unique(found)) == len(places):
                knots[number, : len(places)] = found
    return knots, middle


def fit_linear(lesson: Lesson, alpha: float | None = None) -> Linear:
    """Learn coefficients.

    Args:
        lesson: rows to learn from.
        alpha: penalty per row of the standardised columns; None chooses on the rows held out.
    """
    features, series, held, count = lesson.features, lesson.series, lesson.held, len(lesson.ids)
    design = _design(lesson)
    x, core = design.x, design.core
    alphas = _ALPHAS if alpha is None else (alpha,)
    trust = _trust(x, lesson) if lesson.assumed.any() else 0.0
    weight = lesson.weight(trust) * _weights(x, lesson.target)
    coef = _ridge(x, lesson.target, weight, held, alphas)
    rest = lesson.target - coef[0] - x @ coef[1:]
    hour = features.columns["hour"].astype(np.int64)
    by_hour, by_series = np.zeros((24, 1 + len(core))), np.zeros((count + 1, 1 + len(core)))
    x = x[:, core]
    if len(np.unique(hour)) > 1:
        by_hour = _grouped(x, rest, weight, held, hour, 24, alphas)
        rest = rest - by_hour[hour, 0] - (by_hour[hour, 1:] * x).sum(axis=1)
    if 1 < count <= len(x) / _PER_SERIES:
        by_series[:count] = _grouped(x, rest, weight, held, series, count, alphas)
    # Digits beyond these hang on the order in which a library adds up; trees that follow must not.
    coef, by_hour, by_series = (np.round(part, 6) for part in (coef, by_hour, by_series))
    return Linear(
        knots=design.knots,
        middle=design.middle,
        ladder=design.ladder,
        mean=design.mean,
        spread=design.spread,
        low=design.low,
        high=design.high,
        core=core,
        coef=coef,
        by_hour=by_hour,
        by_series=by_series,
        trust=trust,
    )


def _design(lesson: Lesson) -> _Design:
    """The standardised columns of the rows, and what makes them."""
    knots, middle = _knots(lesson.features.columns, lesson.plan, lesson.targets)
    ladder = _ladder(lesson.plan, lesson.horizon)
    own = _own(lesson.features, ladder)
    columns = [*own, *_covariates(lesson.features, knots, middle)]
    core = np.flatnonzero([used for used, _ in columns]).astype(np.int64)
    x = np.stack([column for _, column in columns], axis=1)
    mean, low, high = x.mean(axis=0), x.min(axis=0), x.max(axis=0)
    spread = x.std(axis=0)
    spread = np.where(spread > _CONSTANT, spread, 1.0)
    low[len(own) :], high[len(own) :] = -np.inf, np.inf
    return _Design((x - mean) / spread, knots, middle, ladder, mean, spread, low, high, core)


def _trust(x: Floats, lesson: Lesson) -> float:
    """The weight of rows with assumed covariates that forecasts held-out rows of their kind best.

    Actual covariates are many and tell what the target does; assumed ones are few and tell how far to go along.
    """
    held, assumed, y = lesson.held, lesson.assumed, lesson.target
    everywhere = np.ones(len(y))

    def moments(rows: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
        return _moments(x[rows], y[rows], everywhere[rows])

    actual, replayed = moments(~held & ~assumed), moments(~held & assumed)

    def loss(share: float) -> float:
        gram, right = ((1 - share) * a + share * b for a, b in zip(actual, replayed, strict=True))
        coef = _solve(gram, right, _FIRST)
        rest = y[judged] - coef[0] - x[judged] @ coef[1:]
        return float(np.abs(rest).mean())

    judged = held & assumed
    return min(_TRUSTS, key=loss) if judged.any() else 0.5


def _weights(x: Floats, y: Floats) -> Floats:
    """Huber's weights of a first fit: rows far off count less, so that a few outages do not bend the rest."""
    everywhere = np.ones(len(y))
    coef = _solve(*_moments(x, y, everywhere), _FIRST)
    rest = np.abs(y - coef[0] - x @ coef[1:])
    bound = _HUBER * float(np.median(rest)) / 0.6745
    return np.asarray(np.round(np.minimum(1.0, bound / np.maximum(rest, 1e-9)), 4)) if bound > 0 else everywhere


def _moments(x: Floats, y: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Weighted Gram matrix and right side, the intercept first."""
    wide = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    heavy = wide * weight[:, None]
    return heavy.T @ wide, heavy.T @ y


def _solve(gram: Floats, right: Floats, alpha: float) -> Floats:
    size = max(1.0, float(gram[0, 0]))
    penalty = np.full(len(gram), alpha * size)
    penalty[0] = 1e-9 * size
    return np.asarray(np.linalg.solve(gram + np.diag(penalty), right))


def _ridge(x: Floats, y: Floats, weight: Floats, held: npt.NDArray[np.bool_], alphas: tuple[float, ...]) -> Floats:
    gram, right = _moments(x[~held], y[~held], weight[~held])
    gram_held, right_held = _moments(x[held], y[held], weight[held])
    if len(alphas) == 1 or not held.any() or held.all():
        return _solve(gram + gram_held, right + right_held, alphas[-1])

    def loss(alpha: float) -> float:
        coef = _solve(gram, right, alpha)
        return float(coef @ gram_held @ coef - 2 * coef @ right_held)

    best = min(alphas, key=loss)
    return _solve(gram + gram_held, right + right_held, best)


def _grouped(
    x: Floats,
    y: Floats,
    weight: Floats,
    held: npt.NDArray[np.bool_],
    group: Ints,
    count: int,
    alphas: tuple[float, ...],
) -> Floats:
    """Corrections per group; one penalty for all groups, which may be so strong that nothing is corrected."""
    order = np.argsort(group, kind="stable")
    ends = np.searchsorted(group[order], np.arange(count + 1))
    parts = [order[a:b] for a, b in pairwise(ends)]

    def moments(part: Ints) -> tuple[Floats, Floats]:
        return _moments(x[part], y[part], weight[part])

    early = [moments(part[~held[part]]) for part in parts]
    last = [moments(part[held[part]]) for part in parts]

    def solve(gram: Floats, right: Floats, alpha: float) -> Floats:
        penalty = np.full(len(gram), alpha * max(1.0, float(gram[0, 0])) + 50.0)
        return np.asarray(np.linalg.solve(gram + np.diag(penalty), right))

    def loss(alpha: float) -> float:
        total = 0.0
        for (gram, right), (gram_held, right_held) in zip(early, last, strict=True):
            coef = solve(gram, right, alpha)
            total += float(coef @ gram_held @ coef - 2 * coef @ right_held)
        return total

    losses = {alpha: loss(alpha) for alpha in (*alphas, 10.0)}
    best = min(losses, key=losses.__getitem__)
    if losses[best] >= 0:
        return np.zeros((count, 1 + x.shape[1]))
    return np.stack([solve(a[0] + b[0], a[1] + b[1], best) for a, b in zip(early, last, strict=True)])
