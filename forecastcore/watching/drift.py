"""Whether inputs are distributed as they were in training.

Windows of the training data differ from the whole of it too: a winter's temperatures are not a year's. So it is kept
with the model how much they did, and only what goes beyond that is drift.

Sources: the population stability index as in Siddiqi (2006), Credit risk scorecards, whose 0.25 is the usual alarm; the
distance of Kolmogorov and Smirnov.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore.frames import together
from forecastcore.metrics import group_mean
from forecastcore.profile import Panel, window_length, write_arrays
from forecastcore.watching.messages import Drift

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from forecastcore.api import Task
    from forecastcore.frames import Answer, History
    from forecastcore.ports import Past

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.intp]

__all__ = ["ALARM", "INPUTS", "Inputs", "drift", "inputs_of", "psi"]

#: file of a packed model that holds the distribution of its inputs
INPUTS = "inputs.npz"
#: index above which a distribution has moved, where training data itself was steady
ALARM = 0.25
_TENTHS = 10
_PERCENT = 100
#: rows whose values tell a distribution as well as any more
_PLENTY = 500_000


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The distribution of target and covariates in training.

    Attributes:
        ids: series.
        centre, spread: mean and standard deviation of each series' target.
        names: `y` and the covariates.
        grid: values at 0, 1 … 100 % of each, shape (names, 101).
        psi, ks: the largest that a window of the training data had against the whole of it; NaN with a single window.
        length: steps in a window.
    """

    ids: npt.NDArray[np.str_]
    centre: Floats
    spread: Floats
    names: npt.NDArray[np.str_]
    grid: Floats
    psi: Floats
    ks: Floats
    length: int

    def write(self, path: Path) -> None:
        """As npz."""
        write_arrays(self, path)

    @classmethod
    def from_bytes(cls, data: bytes) -> Inputs:
        """From npz; nothing in it is run."""
        with np.load(io.BytesIO(data), allow_pickle=False) as kept:
            plain = {name: kept[name] for name in kept.files}
        return cls(**{**plain, "length": int(plain["length"])})


def inputs_of(history: Past, task: Task) -> Inputs:
    """The distribution of a checked history; of a very long one that of rows drawn by lot.

    Args:
        history: what a model is trained on.
        task: whose horizon and seasons set the window's length.
    """
    length, share = window_length(task), _PLENTY / max(int(history.sizes.sum()), 1)
    seen = [*history.ask(partial(_drawn, length=length, share=share))]
    names, window = seen[0]["names"], together(seen, "window")
    full = window < len(history.grid.between(history.first, history.origin)) // length  # the oldest is cut short
    grids, indices, distances = [], [], []
    for one in together(seen, "values", 1):
        fine = np.isfinite(one)
        grid = np.quantile(one[fine], np.linspace(0, 1, _PERCENT + 1)) if fine.any() else np.full(_PERCENT + 1, np.nan)
        parts = [one[fine & (window == number)] for number in np.unique(window[full & fine])]
        grids.append(grid)
        indices.append(max((psi(grid, part) for part in parts), default=np.nan) if len(parts) > 1 else np.nan)
        distances.append(max((_distance(grid, part) for part in parts), default=np.nan) if len(parts) > 1 else np.nan)
    return Inputs(
        ids=np.asarray(history.ids, dtype=np.str_),
        centre=together(seen, "centre"),
        spread=together(seen, "spread"),
        names=names,
        grid=np.stack(grids),
        psi=np.asarray(indices, dtype=float),
        ks=np.asarray(distances, dtype=float),
        length=length,
    )


def _drawn(history: History, *, length: int, share: float) -> Answer:
    """What `inputs_of` asks of some series: centre and spread of each, and the values of a share of their rows."""
    panel, count = Panel.of(history), len(history.ids)
    centre = group_mean(panel.y, panel.series, count)
    spread = np.sqrt(group_mean((panel.y - centre[panel.series]) ** 2, panel.series, count))
    values = _values(history, panel, centre, spread)
    drawn = _lots(history.panel, share)
    return {
        "names": np.asarray(list(values), dtype=np.str_),
        "centre": centre,
        "spread": spread,
        "window": (panel.age // length)[drawn],
        "values": np.stack([one[drawn] for one in values.values()]),
    }


def _lots(panel: pd.DataFrame, share: float) -> Bools:
    """Which rows are drawn, so many of all; the same whatever rows there are beside them."""
    if share >= 1:
        return np.ones(len(panel), dtype=bool)
    hashes = pd.util.hash_pandas_object(panel[["unique_id", "ds"]], index=False)
    return np.asarray(hashes.to_numpy(dtype=np.uint64) / np.float64(2**64) < share)


def drift(trained: Inputs, history: Past) -> list[Drift]:
    """How the newest window of a history is distributed, against training; of very many rows those drawn by lot.

    Args:
        trained: of the model that serves.
        history: checked; series that the model does not know are left out.
    """
    share = _PLENTY / max(int(np.minimum(history.sizes, trained.length).sum()), 1)
    seen = [*history.ask(partial(_newest, length=trained.length, share=share))]
    names, values = seen[0]["names"].tolist(), together(seen, "values", 1)
    place = {uid: number for number, uid in enumerate(trained.ids.tolist())}
    places = np.array([place.get(uid, -1) for uid in history.ids], dtype=np.intp)
    begins = np.cumsum([0, *(int(one["count"]) for one in seen)])
    known = places[np.concatenate([one["series"] + begin for one, begin in zip(seen, begins, strict=False)])]
    centre, spread = (np.where(known >= 0, kept[known], np.nan) for kept in (trained.centre, trained.spread))
    with np.errstate(invalid="ignore", divide="ignore"):
        values[names.index("y")] = (values[names.index("y")] - centre) / spread
    found = []
    for number, name in enumerate(trained.names.tolist()):
        if name not in names:
            continue
        part = values[names.index(name)]
        part = part[np.isfinite(part)]
        index, usual = psi(trained.grid[number], part), float(trained.psi[number])
        found.append(
            Drift(
                column=name,
                rows=len(part),
                psi=index,
                usual_psi=usual,
                ks=_distance(trained.grid[number], part),
                usual_ks=float(trained.ks[number]),
                drifted=bool(index > max(ALARM, np.nan_to_num(usual))),
            )
        )
    return found


def _newest(history: History, *, length: int, share: float) -> Answer:
    """What `drift` asks of some series: the values of a share of their newest rows, and whose they are."""
    panel, count = Panel.of(history), len(history.ids)
    values = _values(history, panel, np.zeros(count), np.ones(count))
    drawn = (panel.age < length) & _lots(history.panel, share)
    return {
        "names": np.asarray(list(values), dtype=np.str_),
        "count": np.asarray(count),
        "series": panel.series[drawn],
        "values": np.stack([one[drawn] for one in values.values()]),
    }


def psi(grid: Floats, values: Floats) -> float:
    """Population stability index of values, over tenths of a distribution that is given at 0, 1 … 100 %.

    Half a value is added to each tenth on both sides, so that an empty one is not infinite. NaN without values.
    """
    if not len(values) or not np.isfinite(grid).all():
        return float("nan")
    edges = grid[_TENTHS:_PERCENT:_TENTHS]
    expected = np.bincount(np.searchsorted(edges, grid[1:], side="left"), minlength=_TENTHS) / _PERCENT
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=_TENTHS)
    p, q = ((share * len(values) + 0.5) / (len(values) + 0.5 * _TENTHS) for share in (expected, counts / len(values)))
    return float(((q - p) * np.log(q / p)).sum())


def _distance(grid: Floats, values: Floats) -> float:
    """Kolmogorov and Smirnov's, to a percent."""
    if not len(values) or not np.isfinite(grid).all():
        return float("nan")
    theirs = (np.searchsorted(grid, grid, side="right") - 1) / _PERCENT
    mine = np.searchsorted(np.sort(values), grid, side="right") / len(values)
    return float(np.abs(mine - theirs).max())


def _values(history: History, panel: Panel, centre: Floats, spread: Floats) -> dict[str, Floats]:
    with np.errstate(invalid="ignore", divide="ignore"):
        y = (panel.y - centre[panel.series]) / spread[panel.series]
    covariates = history.panel.columns.drop(["unique_id", "ds", "y"])
    return {"y": y, **{str(name): history.panel[name].to_numpy(dtype=float) for name in covariates}}
