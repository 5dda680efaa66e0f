"""What a model was trained on, in a few numbers per series; kept with the model.

`continuity` compares it with the history of a later retrain.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from forecastcore.frames import Gathered, offsets
from forecastcore.timegrid import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    import pandas as pd

    from forecastcore.api import Task
    from forecastcore.frames import Answer, History
    from forecastcore.ports import Past

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]
    Bools = npt.NDArray[np.bool_]

__all__ = ["PROFILE", "Panel", "Profile", "Windows", "extreme", "profile", "repeated", "window_length", "write_arrays"]

#: file of a packed model that holds its profile
PROFILE = "profile.npz"
#: values of each series that are remembered as they were
_REMEMBERED = 32
#: seasons in a window whose level is looked at
_SEASONS = 4
#: different values that a season must hold before its repetition is no accident
_DISTINCT = 4


def write_arrays(one: object, path: Path) -> None:
    """Write the fields of a dataclass as the arrays of an npz file."""
    plain: dict[str, Any] = {name: np.asarray(value) for name, value in vars(one).items()}
    with path.open("wb") as out:
        np.savez(out, **plain)


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Training data in a few numbers per series.

    Attributes:
        origin: last instant, nanoseconds since 1970.
        ids: series.
        count: values of each.
        last: instant of each series' last value.
        low, high: least and largest mean absolute value of a window of some seasons.
        jump: largest change of that from window to window, as a logarithm.
        zeros: largest share of zeros in a window.
        memory: correlation with the value before, or a season before, in a window; the lowest tenth.
        twice: whether a season has come twice the same.
        at: instants at which values are remembered.
        known: those values, shape (series, instants).
        covariates: their names.
        likeness: correlation of each with the target, the largest of some leads.
        duplicates: share of rows that stood twice in the source.
    """

    origin: int
    ids: npt.NDArray[np.str_]
    count: Ints
    last: npt.NDArray[np.int64]
    low: Floats
    high: Floats
    jump: Floats
    zeros: Floats
    memory: Floats
    twice: Bools
    at: npt.NDArray[np.int64]
    known: npt.NDArray[np.float32]
    covariates: npt.NDArray[np.str_]
    likeness: Floats
    duplicates: float

    def write(self, path: Path) -> None:
        """As npz."""
        write_arrays(self, path)

    @classmethod
    def from_bytes(cls, data: bytes) -> Profile:
        """From npz; nothing in it is run."""
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            plain: dict[str, Any] = {name: kept[name] for name in kept.files}
        return cls(**{**plain, "origin": int(plain["origin"]), "duplicates": float(plain["duplicates"])})


@dataclass(frozen=True)
class Panel:
    """A checked panel as arrays; every series ends at the origin.

    Attributes:
        y: values, series after series.
        starts: row at which each series starts, and the number of rows at the end.
        instants: from the first of any series to the origin.
    """

    y: Floats
    starts: Ints
    instants: pd.DatetimeIndex

    @classmethod
    def of(cls, history: History) -> Panel:
        """The arrays of a history."""
        panel = history.panel
        return cls(panel["y"].to_numpy(), offsets(panel), history.grid.between(history.first, history.origin))

    @property
    def series(self) -> Ints:
        """Number of each row's series."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    @property
    def age(self) -> Ints:
        """Steps from each row to the end."""
        return np.asarray(np.repeat(self.starts[1:], np.diff(self.starts)) - 1 - np.arange(len(self.y)))

    def before(self, values: Floats, lag: int) -> Floats:
        """Each row's value of `lag` rows before in the same series; NaN where there is none."""
        out = np.full(len(values), np.nan)
        out[lag:] = values[:-lag] if lag else values
        first = np.repeat(self.starts[:-1], np.diff(self.starts))
        out[np.arange(len(values)) - first < lag] = np.nan
        return out

    def at(self, places: Ints) -> Floats:
        """Values at places of `instants`, shape (series, places); NaN where a series has none."""
        row = self.starts[1:, None] - (len(self.instants) - places[None, :])
        there = (row >= self.starts[:-1, None]) & (places >= 0) & (places < len(self.instants))
        return np.where(there, self.y[np.where(there, row, 0)], np.nan)


@dataclass(frozen=True)
class Windows:
    """Figures of each series' windows, the newest first; shape (series, windows), NaN where a window is too empty."""

    level: Floats
    zeros: Floats
    memory: Floats

    @classmethod
    def of(cls, panel: Panel, length: int, season: int) -> Windows:
        """The figures of windows of some steps; `season` is a distance at which a value may be remembered."""
        count = max(len(panel.instants) // length, 1)
        window = panel.age // length
        inside = window < count
        shape = (len(panel.starts) - 1, count)
        group = np.where(inside, panel.series * count + window, 0)

        def total(values: Floats, fine: Bools) -> Floats:
            kept = fine & inside
            added = np.bincount(group[kept], values[kept], minlength=shape[0] * shape[1])
            return np.asarray(added.reshape(shape), dtype=float)

        fine = np.isfinite(panel.y)
        n = total(np.ones(len(panel.y)), fine)
        full = 4 * n >= length

        def mean(values: Floats) -> Floats:
            return np.asarray(np.divide(total(values, fine), n, out=np.full(shape, np.nan), where=full))

        def correlation(lag: int) -> Floats:
            x, y = panel.before(panel.y, lag), panel.y
            both = np.isfinite(x) & fine
            m = total(np.ones(len(y)), both)
            with np.errstate(invalid="ignore", divide="ignore"):
                sx, sy = total(x, both) / m, total(y, both) / m
                dx, dy = (v - s.ravel()[group] for v, s in ((x, sx), (y, sy)))
                got = total(dx * dy, both) / np.sqrt(total(dx**2, both) * total(dy**2, both))
            return np.asarray(np.where(4 * m >= length, got, np.nan))

        near, far = correlation(1), correlation(season)
        return cls(mean(np.abs(panel.y)), mean((panel.y == 0).astype(float)), np.fmax(near, far))

    @property
    def jump(self) -> Floats:
        """Change of the level from each window to the next newer one, as a logarithm."""
        with np.errstate(invalid="ignore", divide="ignore"):
            log = np.where(self.level > 0, np.log(self.level), np.nan)
        return np.abs(np.diff(log, axis=1))


def window_length(task: Task) -> int:
    """Steps in a window: a horizon, and some seasons at least."""
    return max(task.horizon, _SEASONS * task.season)


def extreme(values: Floats, way: Any) -> Floats:
    """Largest, least … along the windows; NaN for a series without any."""
    known = np.isfinite(values).any(axis=1)
    out = np.full(len(values), np.nan)
    if known.any():
        out[known] = way(values[known], axis=1)
    return out


def repeated(panel: Panel, seasons: Sequence[int], since: int) -> Bools:
    """Series in which, within the newest `since` steps, a season has come twice exactly the same."""
    found = np.zeros(len(panel.starts) - 1, dtype=bool)
    row = np.arange(len(panel.y))
    for season in seasons:
        if season < _DISTINCT:
            continue
        same = panel.y == panel.before(panel.y, season)
        run = row - np.maximum.accumulate(np.where(same, -1, row))
        # A change of value within the run, not merely a flat line or a night without sun.
        moved = np.cumsum(same & (panel.y != panel.before(panel.y, 1)) & (panel.y != 0))
        moves = moved - np.where(row >= season, moved[np.maximum(row - season, 0)], 0)
        hit = (run >= season) & (moves >= _DISTINCT) & (panel.age < since)
        found |= np.bincount(panel.series[hit], minlength=len(found)) > 0
    return found


def _moments(history: History, panel: Panel, leads: Sequence[int]) -> Floats:
    """What the correlation of each covariate with the target is made of, shape (3, covariates, leads).

    The covariate stands as it was some steps before; the series' means are taken out.
    """
    names = history.panel.columns.drop(["unique_id", "ds", "y"])
    found = np.zeros((3, len(names), len(leads)))
    for row, name in enumerate(names):
        x = history.panel[name].to_numpy(dtype=float)
        for column, lead in enumerate(leads):
            past = panel.before(x, lead)
            both = np.isfinite(past) & np.isfinite(panel.y)
            centred = []
            for values in (past, panel.y):
                n = np.bincount(panel.series[both], minlength=len(panel.starts) - 1)
                mean = np.bincount(panel.series[both], values[both], minlength=len(n)) / np.maximum(n, 1)
                centred.append((values - mean[panel.series])[both])
            one, other = centred
            found[:, row, column] = one @ other, one @ one, other @ other
    return found


def _likeness(moments: Floats) -> Floats:
    """Correlation of each covariate with the target, the largest of the leads; shape (covariates,)."""
    product, one, other = moments
    size = np.sqrt(one * other)
    return np.asarray(np.divide(np.abs(product), size, out=np.zeros(size.shape), where=size > 0).max(axis=1, initial=0))


def profile(history: Past, task: Task) -> Profile:
    """The profile of a checked history.

    Args:
        history: what a model is trained on.
        task: whose horizon and seasons set the window's length.
    """
    instants = history.grid.between(history.first, history.origin)
    places = np.sort(
        np.random.default_rng(0).choice(len(instants), min(_REMEMBERED, len(instants)), replace=False)
    ).astype(np.intp)
    ids, moments, covariates = history.ids, np.zeros(()), np.zeros(0, dtype=np.str_)
    each = Gathered(len(ids))
    for seen in history.ask(partial(_seen, task=task, places=places)):
        each.add({name: seen[name] for name in _EACH})
        moments, covariates = moments + seen["moments"], seen["covariates"]
    duplicates = sum(count for name, count in history.counts.items() if name.startswith("duplicates_"))
    return Profile(
        **each.arrays,
        origin=history.origin.value,
        ids=np.asarray(ids, dtype=np.str_),
        at=nanoseconds(instants)[places],
        covariates=covariates,
        likeness=_likeness(moments),
        duplicates=duplicates / max(int(history.sizes.sum()), 1),
    )


#: what a profile has of each series
_EACH = ("count", "last", "low", "high", "jump", "zeros", "memory", "twice", "known")


def _seen(history: History, *, task: Task, places: Ints) -> Answer:
    """What `profile` asks of some series."""
    panel = Panel.of(history)
    windows = Windows.of(panel, window_length(task), task.season)
    finite = np.isfinite(panel.y)
    since = np.where(finite, -panel.age, np.iinfo(np.intp).min)
    newest = -np.maximum.reduceat(since, panel.starts[:-1])
    end = nanoseconds(panel.instants)
    return {
        "count": np.add.reduceat(finite.astype(np.intp), panel.starts[:-1]),
        "last": np.where(newest < len(end), end[np.clip(len(end) - 1 - newest, 0, len(end) - 1)], 0),
        "low": extreme(windows.level, np.nanmin),
        "high": extreme(windows.level, np.nanmax),
        "jump": extreme(windows.jump, np.nanmax),
        "zeros": extreme(windows.zeros, np.nanmax),
        "memory": extreme(windows.memory, lambda values, axis: np.nanquantile(values, 0.1, axis=axis)),
        "twice": repeated(panel, task.seasons, len(panel.y)),
        "known": panel.at(places).astype(np.float32),
        "covariates": np.asarray(history.panel.columns.drop(["unique_id", "ds", "y"]), dtype=np.str_),
        "moments": _moments(history, panel, sorted({0, 1, task.season, task.horizon})),
    }
