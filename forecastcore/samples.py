"""Errors off which quantiles are read, step by step: all of them, of very many an even sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

__all__ = ["WANTED", "Cells", "Sample"]

#: errors wanted for the quantiles of one step; steps nearby lend theirs where a step has fewer
WANTED = 200
#: errors of its own that a step needs to count for half of its size among the steps that lend it theirs
_SHRINK = 20
#: errors that tell the quantiles of a step as well as any more
_PLENTY = 10_000
#: steps on which it is looked how far errors of one origin hang together
_LOOKED_AT = 24


def _rank(values: Floats, level: float, count: float) -> float:
    """The finite-sample quantile: that of level (n + 1) / n · level above the median, its mirror below.

    Args:
        values: errors.
        level: of the quantile.
        count: n, the number of errors that would tell as much if they were independent.
    """
    if level < 0.5:  # noqa: PLR2004 - the median
        return -_rank(-values, 1 - level, count)
    if level > 0.5:  # noqa: PLR2004 - the median
        level = min(level * (count + 1) / count, 1.0)
    return float(np.quantile(values, level))


def _design_effect(values: Floats, level: float, fold: Ints) -> float:
    """How many errors of these tell as much as one independent error: those of one origin hang together.

    The share of errors below a quantile differs from origin to origin by more than it would if errors were independent
    (Kish 1965, Survey sampling); NaN where there are no two origins to compare.
    """
    below = values <= np.quantile(values, level)
    count = np.bincount(fold)
    share = np.bincount(fold, below)[count > 0] / count[count > 0]
    expected = level * (1 - level) / len(values)
    return float(share.var(ddof=1) / len(share) / expected) if len(share) > 1 else float("nan")


def _worth(count: int, effect: float) -> float:
    """How many independent errors would ask for the same correction as these, of which `effect` tell as much as one.

    The correction that n independent errors ask for, level / n, has two halves where tails are exponential (delta
    method): one because the quantile lies between n errors, of which there are `count` however they hang together, and
    one because it scatters, as that of `count` / `effect` does. Hence the harmonic mean of both.
    """
    return max(2 * count / (1 + effect), 1.0)


@dataclass(frozen=True)
class Cells:
    """The rows of a part by origin and step.

    Attributes:
        order: their numbers, those of one origin and step together.
        begins: where those of each origin and step begin in it, shape (origins · horizon,).
    """

    order: Ints
    begins: Ints

    @classmethod
    def of(cls, fold: Ints, step: Ints, shape: tuple[int, int]) -> Cells:
        """Those of rows.

        Args:
            fold: number of each row's origin.
            step: 1 … horizon of each row.
            shape: how many origins and steps there are.
        """
        cell, count = fold * shape[1] + step - 1, shape[0] * shape[1]
        # numbers of 16 bits are sorted in proportion to their count
        order = np.argsort(cell.astype(np.int16 if count <= np.iinfo(np.int16).max else np.int64), kind="stable")
        counts = np.bincount(cell, minlength=count)
        return cls(order, np.cumsum(counts) - counts)


class Sample:
    """The errors off which each step's quantiles are read, picked as the parts of a pool come.

    In the order of steps, origins and series; of very many an even sample. A step borrows from the steps around, whose
    errors are brought to its own size first: what the sun does at noon says nothing of how much it does at dusk.

    Args:
        counts: how many errors each part has by origin and step, shape (parts, origins, horizon).
        columns: one for each level, or one for all.
    """

    def __init__(self, counts: Ints, columns: int) -> None:
        self._counts = by_step = counts.transpose(2, 1, 0)
        self._begins = (np.cumsum(by_step) - by_step.ravel()).reshape(by_step.shape)
        edges = np.r_[0, np.cumsum(counts.sum(axis=(0, 1)))]
        self._windows = [_window(edges, step, len(by_step)) for step in range(1, len(by_step) + 1)]
        self._places = np.unique(np.concatenate([_places(window) for window in self._windows]))
        self._step = np.searchsorted(edges, self._places, side="right") - 1
        self._values = np.empty((len(self._places), columns))
        self._fold = np.empty(len(self._places), dtype=np.intp)

    def wanted(self, part: int, cells: Cells) -> tuple[Ints, Ints]:
        """Which rows of a part are picked: their places in the sample, and their numbers.

        Args:
            part: its number.
            cells: its rows; those of origins that have no errors here are passed over.
        """
        begins, count = (each[:, :, part].T.ravel() for each in (self._begins, self._counts))
        low, high = np.searchsorted(self._places, np.stack([begins, begins + count]))
        there = np.repeat(np.arange(len(begins)), high - low)
        at = np.arange(len(there)) + (low - np.cumsum(high - low) + high - low)[there]
        return at, cells.order[(cells.begins - begins)[there] + self._places[at]]

    def put(self, at: Ints, fold: Ints, values: Floats) -> None:
        """Take in rows that are picked.

        Args:
            at: their places.
            fold: number of each one's origin.
            values: their errors, shape (rows, columns).
        """
        self._values[at], self._fold[at] = values, fold

    def shape(self, levels: Sequence[float]) -> Floats:
        """Each level's quantile of its own errors by step, shape (horizon, levels)."""
        horizon = len(self._windows)
        out = np.zeros((horizon, len(levels)))
        if not len(self._places):
            return out
        picked = [np.searchsorted(self._places, _places(window)) for window in self._windows]
        size = self._sizes(picked)
        shapes = self._values / size[self._step, None]
        for number, level in enumerate(levels):
            values = shapes[:, number if shapes.shape[1] > 1 else 0]
            some = picked[:: max(horizon // _LOOKED_AT, 1)]
            effects = [_design_effect(values[rows], level, self._fold[rows]) for rows in some]
            effect = max(float(np.mean(effects)), 1.0) if np.isfinite(effects).all() else 1.0
            out[:, number] = [_rank(values[rows], level, _worth(len(rows), effect)) for rows in picked]
        return out * size[:, None]

    def _sizes(self, picked: Sequence[Ints]) -> Floats:
        """The size of each step's errors beside that of the steps it borrows from; drawn to 1 where it has few."""
        size = np.abs(self._values).mean(axis=1)
        own, count = (np.bincount(self._step, weights, minlength=len(picked)) for weights in (size, None))
        around = np.array([size[rows].mean() if len(rows) else 0.0 for rows in picked])
        beside = np.divide(own, around, out=count.astype(float), where=around > 0)  # a sum of as many as there are
        return np.asarray((beside + _SHRINK) / (count + _SHRINK))


def _window(edges: Ints, step: int, horizon: int) -> slice:
    """Rows of a step and of so many steps around it that there are enough; an even sample where there are very many."""
    width, low, high = 0, edges[step - 1], edges[step]
    while high - low < WANTED and width < horizon:
        width += 1
        low, high = edges[max(step - 1 - width, 0)], edges[min(step + width, horizon)]
    return slice(int(low), int(high), max(int(high - low) // _PLENTY, 1))


def _places(window: slice) -> Ints:
    return np.arange(window.start, window.stop, window.step)
