"""Which past (series, origin, step) a model learns from: spread evenly over history, the same each time."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore.tabular.features import Rows

if TYPE_CHECKING:
    from forecastcore.api import Task
    from forecastcore.tabular.features import Plan
    from forecastcore.tabular.panel import Floats, Ints, Panel

__all__ = ["replayed", "sample", "training_origins"]

_GOLDEN = 0.6180339887498949  # multiples of it, modulo 1, fill an interval evenly
_SQUARE = 0.41421356237309503  # and so do those of the root of two, in an order of their own
_LEAST = 48  # origins, however many series there are: one month says nothing of the year
_REPLAYS = 128  # origins that assumptions are replayed for
_REPLAY_VALUES = 4_000_000


def training_origins(panel: Panel, plan: Plan, horizon: int, max_rows: int, *, replay: bool) -> Ints:
    """Positions of past origins, ascending; every one has at least one known step after it.

    They are counted back from the end, stand at changing times of day, and leave the first season (the first third of a
    short history) to be looked back on. Where there are so many series that each could have but a few of them, they are
    more all the same, and `sample` takes each series at some.
    """
    rows = panel.y.shape[1]
    possible = max(1, rows - 1 - max(1, min(plan.long, rows // 3)))
    size = max(1.0, np.isfinite(panel.y).sum() / max(1, rows))  # series, counted by what they hold
    wanted = max(max_rows / size, _LEAST)
    if replay:
        wanted = min(wanted, max(16, min(_REPLAYS, _REPLAY_VALUES / (len(panel.ids) * horizon))))
    stride = max(1.0, possible / max(1.0, wanted))
    number = np.arange(int(possible / stride))
    back = np.floor(number * stride + (number * _GOLDEN % 1.0) * (stride - 1)).astype(np.int64)
    return np.unique(rows - 2 - back)


def sample(panel: Panel, origins: Ints, horizon: int, max_rows: int, seed: int) -> Rows:
    """Rows whose target is known: for each series and origin some steps, spread over the horizon.

    Where even one step of each would be more than allowed, each series has some of the origins. What is drawn for a
    series depends on its name, the seed and the number of rows allowed, not on the other series.
    """
    length = panel.y.shape[1]
    share = max(1.0, np.isfinite(panel.y).sum() / length * len(origins))
    each = int(np.clip(max_rows / share, 1, horizon))
    hashes = np.array([zlib.crc32(f"{seed}|{name}".encode()) for name in panel.ids])
    begin, start = hashes // 65_536 / 65_536, hashes % 65_536 / 65_536
    far = length - 1 - origins
    seen = np.isfinite(panel.y)
    begun = origins >= np.where(seen.any(axis=1), seen.argmax(axis=1), length)[:, None]
    later = np.arange(len(origins))[::-1]  # counted, not far: origins a stride apart would be taken all or none
    taken = (begin[:, None] + later * _SQUARE) % 1.0 < max_rows / share
    series, place = np.nonzero(begun & taken)
    shift = (start[series] + far[place] * _GOLDEN) % 1.0
    steps = 1 + np.floor((np.arange(each) + shift[:, None]) * horizon / each).astype(np.int64)
    target = origins[place][:, None] + steps
    known = target < length
    known &= seen[series[:, None], np.minimum(target, length - 1)]
    pair, draw = np.nonzero(known)
    return Rows(series[pair], origins[place[pair]], steps[pair, draw])


def replayed(panel: Panel, origins: Ints, task: Task) -> Floats | None:
    """Covariates as they would have been assumed at past origins, shape (covariates, series, origins, horizon)."""
    if task.replay is None or not task.covariates:
        return None
    frame = task.replay([panel.instants[place] for place in origins])
    number = {name: position for position, name in enumerate(panel.ids)}
    series = frame["unique_id"].map(number).to_numpy()
    axis = panel.instants[origins]
    vintage = axis.get_indexer(pd.DatetimeIndex(frame["origin"]))
    step = frame["step"].to_numpy(dtype=np.int64)
    use = np.isfinite(series.astype(float)) & (vintage >= 0) & (step >= 1) & (step <= task.horizon)
    out = np.full((len(task.covariates), len(panel.ids), len(origins), task.horizon), np.nan)
    place = (series[use].astype(np.int64), vintage[use], step[use] - 1)
    for position, name in enumerate(task.covariates):
        out[position][place] = frame[name].to_numpy(dtype=float)[use]
    return out
