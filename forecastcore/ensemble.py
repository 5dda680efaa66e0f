"""Several models put together as one forecast: mean, median, greedy weights, or for each series the best of them.

What is learned is learned from out-of-fold forecasts: those that the members gave in the backtest for rows that they
were not fitted on. So the forecasts of one fold are put together by what the other folds teach.

Sources: greedy selection with replacement, Caruana, Niculescu-Mizil, Crew & Ksikes (2004), Ensemble selection from
libraries of models; why a plain mean is hard to beat, Claeskens et al. (2016), The forecast combination puzzle.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - read at run time, with the types of the parameters
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from forecastcore.guard import Answer
from forecastcore.metrics import group_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]
    #: rows of some series at a time; gives them again whenever it is called
    Parts = Callable[[], Iterator["Evidence"]]

__all__ = ["Blend", "Ensemble", "Evidence", "learn", "merge", "out_of_fold"]

Method = Literal["mean", "median", "greedy", "per-series"]

#: members that greedy selection draws, with replacement; a weight is a multiple of one over it
ROUNDS = 25
#: folds that a series must have been better in for its own evidence to count for half
_SHRINK = 2.0


@dataclass(frozen=True)
class Ensemble:
    """What the project file may say of an ensemble.

    Attributes:
        method: mean, median, greedy (weights that would have been best), or per-series (each series by its best
            member).
        members: candidates it is made of, by name or by type; all others where it is left out.
    """

    method: Method = "greedy"
    members: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Blend:
    """How members are put together; all weights are at least zero.

    Attributes:
        method: see `Ensemble`.
        weights: of each member, summing to one; a member without weight is not used.
        choices: per-series only: number of the member that serves a series, by `unique_id`; others have `weights`.
    """

    method: Method
    weights: Floats
    choices: Mapping[str, int] = field(default_factory=dict)

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """Members that count for at least one series, shape (members,)."""
        used = self.weights > 0
        used[list(set(self.choices.values()))] = True
        return np.asarray(used)

    @property
    def shares(self) -> Floats:
        """Weight of each member over all series, summing to one; shape (members,)."""
        if not self.choices:
            return self.weights
        return np.bincount(list(self.choices.values()), minlength=len(self.weights)) / len(self.choices)

    def combine(self, ids: Sequence[str], values: Floats) -> Floats:
        """Put the members' rows together.

        A member that gave no forecast is left out of that row, and the others' weights are scaled up. Where all that
        have weight gave none, the others that are used count alike.

        Args:
            ids: series of each row.
            values: shape (members, rows, columns), the point forecast in the first column and then the quantiles. No
                point forecast (NaN) means that the member made none.

        Returns:
            Shape (rows, columns); NaN where no member gave a forecast, or one that counts gave no quantile.
        """
        made = np.isfinite(values[:, :, 0]) & self.used[:, None]
        weights = np.where(made, self._weights(ids), 0.0)
        lost = ~weights.any(axis=0)
        weights[:, lost] = made[:, lost]
        if self.method == "median":
            return _median(values, made)
        total = weights.sum(axis=0)
        weights = np.divide(weights, total, out=np.full(weights.shape, np.nan), where=total > 0)
        parts = np.where(weights[:, :, None] == 0, 0.0, values) * weights[:, :, None]
        return np.asarray(parts.sum(axis=0))

    def _weights(self, ids: Sequence[str]) -> Floats:
        """Weight of each member in each row, shape (members, rows)."""
        if not self.choices:
            return np.repeat(self.weights[:, None], len(ids), axis=1)
        table = np.vstack([np.eye(len(self.weights)), self.weights])
        chosen = np.fromiter((self.choices.get(uid, -1) for uid in ids), dtype=np.intp, count=len(ids))
        return np.asarray(table[chosen].T)

    def widened(self, places: Sequence[int], members: int) -> Blend:
        """The same among more members: those that it has at `places`, the others without weight."""
        weights = np.zeros(members)
        weights[list(places)] = self.weights
        return replace(self, weights=weights, choices={uid: places[number] for uid, number in self.choices.items()})

    def only(self, kept: npt.NDArray[np.bool_]) -> Blend:
        """The same for some of the members, all that are used among them."""
        place = np.cumsum(kept) - 1
        choices = {uid: int(place[number]) for uid, number in self.choices.items()}
        return replace(self, weights=self.weights[kept], choices=choices)


def _median(values: Floats, made: npt.NDArray[np.bool_]) -> Floats:
    """Median of the members that made a row; NaN where none did, or where one of them gave no quantile."""
    out = np.full(values.shape[1:], np.nan)
    some = made.any(axis=0)
    there, known = made[:, some, None], np.isfinite(values[:, some])
    middle = np.nanmedian(np.where(there, np.where(known, values[:, some], 0.0), np.nan), axis=0) if some.any() else 0.0
    out[some] = np.where((there & ~known).any(axis=0), np.nan, middle)
    return out


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Out-of-fold rows to learn from.

    Attributes:
        y: actuals, NaN where missing; shape (rows,).
        forecasts: the members', shape (members, rows). Where a member failed, what served instead of it: a failure
            counts against a member.
        fold, series: numbers of each row's origin and series.
        ids: series.
        group: number of each row's (origin, series) pair.
        scale: by which an error of a group is divided; NaN where there is none. Shape (groups,).
        power: 1 to learn from absolute errors, 2 from squared ones.
    """

    y: Floats
    forecasts: Floats
    fold: Ints
    series: Ints
    ids: Sequence[str]
    group: Ints
    scale: Floats
    power: int = 1

    def take(self, rows: npt.NDArray[np.bool_]) -> Evidence:
        """Some of the rows."""
        return replace(
            self,
            y=self.y[rows],
            forecasts=self.forecasts[:, rows],
            fold=self.fold[rows],
            series=self.series[rows],
            group=self.group[rows],
        )

    def scored(self) -> Evidence:
        """The rows that can be scored, those of all members alike."""
        fine = np.isfinite(self.y) & np.isfinite(self.scale[self.group]) & np.isfinite(self.forecasts).all(axis=0)
        return self.take(fine)


def learn(method: Method, parts: Parts) -> Blend:
    """Learn how to put members together; where no row can be scored, all members count alike."""
    members = len(next(parts()).forecasts)

    def scored() -> Iterator[Evidence]:
        return (one.scored() for one in parts())

    if method in {"mean", "median"} or members == 1 or not any(len(one.y) for one in scored()):
        return Blend(method, np.full(members, 1 / members))
    return Blend(method, _greedy(members, scored)) if method == "greedy" else _per_series(scored)


def out_of_fold(method: Method, parts: Parts, values: Callable[[], Iterator[Floats]]) -> tuple[Iterator[Floats], Blend]:
    """Put the members' backtest rows together, those of each fold by what the other folds teach.

    With a single fold there are no others, and all members count alike.

    Args:
        method: see `Ensemble`.
        parts: all rows.
        values: those of each part; see `Blend.combine`.

    Returns:
        The rows of each part, shape (rows, columns), and what all folds together teach.
    """
    folds = sorted({int(number) for one in parts() for number in np.unique(one.fold)})

    def without(number: int) -> Blend:
        return learn(method, lambda: (one.take(one.fold != number) for one in parts()))

    blends = {number: without(number) for number in folds}

    def rows() -> Iterator[Floats]:
        for one, mine in zip(parts(), values(), strict=True):
            out = np.full(mine.shape[1:], np.nan)
            names = np.asarray(one.ids, dtype=object)[one.series]
            for number in np.unique(one.fold).tolist():
                here = one.fold == number
                out[here] = blends[number].combine(names[here].tolist(), mine[:, here])
            yield out

    return rows(), learn(method, parts) if len(folds) > 1 else blends[folds[0]]


@dataclass(frozen=True)
class _Weighed:
    """Errors of some rows, and what each counts for: all groups alike.

    Attributes:
        error: shape (members, rows).
        group: number of each row's group among those of these rows.
        share: of each row in its group.
        weight: of each group.
        power: see `Evidence`.
    """

    error: Floats
    group: Ints
    share: Floats
    weight: Floats
    power: int

    @classmethod
    def of(cls, evidence: Evidence) -> _Weighed:
        groups, group = np.unique(evidence.group, return_inverse=True)
        share = 1 / np.bincount(group)[group] if len(group) else np.zeros(0)
        return cls(evidence.forecasts - evidence.y, group, share, 1 / evidence.scale[groups], evidence.power)

    def loss(self, errors: Floats) -> float:
        """Sum over the groups."""
        if self.power == 1:
            return float(np.abs(errors) @ (self.share * self.weight[self.group]))
        return float(np.sqrt(np.bincount(self.group, errors**2 * self.share, len(self.weight))) @ self.weight)


def _greedy(members: int, parts: Parts) -> Floats:
    """Weights by greedy selection with replacement: again and again the member that helps the mean most.

    Of all the steps on the way the best is kept; the first is the best member alone, so none on these rows is better.
    """
    first = [_Weighed.of(one) for one in islice(parts(), 2)]

    def weighed() -> Iterable[_Weighed]:
        return first if len(first) == 1 else map(_Weighed.of, parts())

    counts = np.zeros(members)
    best, lowest = counts, np.inf
    for drawn in range(1, ROUNDS + 1):
        losses = np.zeros(members)
        for one in weighed():
            total = counts @ one.error
            losses += [one.loss(total + error) / drawn for error in one.error]
        member = int(np.argmin(losses))
        counts = counts + np.eye(members)[member]
        if losses[member] < lowest - 1e-12 * losses[member]:
            best, lowest = counts, losses[member]
    return np.asarray(best / best.sum())


def _per_series(parts: Parts) -> Blend:
    """For each series the member with the least loss on it, unless the evidence is thin.

    A member's gain over the overall best is drawn towards its mean gain over all series, the more so the fewer folds a
    series has; a tie, and a series that was never scored, go to the overall best.
    """
    ids: list[str] = []
    total, number, losses, scored = 0.0, 0, [], []
    for one in parts():
        loss = np.stack([_group_losses(one, forecast) for forecast in one.forecasts])
        first = np.full(len(one.scale), -1)
        first[one.group] = one.series
        hit = np.flatnonzero(np.isfinite(loss[0]))
        series, count = first[hit], len(one.ids)
        total, number = total + loss[:, hit].sum(axis=1), number + len(hit)
        losses.append(np.stack([group_mean(each[hit], series, count) for each in loss]))
        scored.append(np.bincount(series, minlength=count))
        ids += one.ids
    best = int(np.argmin(total / number))
    by_series, folds = np.concatenate(losses, axis=1), np.concatenate(scored)
    there = folds > 0
    ours = by_series[best, there]
    gain = np.divide(ours - by_series[:, there], ours, out=np.zeros((len(by_series), len(ours))), where=ours > 0)
    gain = np.where((ours == 0) & (by_series[:, there] > 0), -1.0, np.clip(gain, -1.0, 1.0))
    usual = np.minimum(gain.mean(axis=1, keepdims=True), 0.0)
    drawn = (folds[there] * gain + _SHRINK * usual) / (folds[there] + _SHRINK)
    chosen = np.where(drawn.max(axis=0) > drawn[best], drawn.argmax(axis=0), best)
    names = np.asarray(ids, dtype=object)[there]
    weights = np.eye(len(by_series))[best]
    return Blend("per-series", weights, {str(uid): int(n) for uid, n in zip(names, chosen, strict=True)})


def _group_losses(evidence: Evidence, forecast: Floats) -> Floats:
    mean = group_mean(np.abs(forecast - evidence.y) ** evidence.power, evidence.group, len(evidence.scale))
    return np.asarray(mean ** (1 / evidence.power) / evidence.scale)


def merge(blend: Blend, answers: Sequence[Answer], ids: Sequence[str]) -> Answer:
    """The members' answers to one future frame, put together.

    Args:
        blend: with a weight for each answer.
        answers: of the members.
        ids: series of each row.

    Returns:
        A series that no member could do has the reason of the first.
    """
    values = np.stack([np.column_stack([answer.forecast, answer.quantiles]) for answer in answers])
    combined = blend.combine(ids, values)
    forecast, quantiles = combined[:, 0], np.sort(combined[:, 1:], axis=1)
    without = set(np.asarray(ids, dtype=object)[~np.isfinite(forecast)].tolist())
    reasons: dict[str, str] = {}
    for answer in reversed(answers):
        reasons |= {uid: reason for uid, reason in answer.failures.items() if uid in without}
    return Answer(forecast, quantiles, reasons)
