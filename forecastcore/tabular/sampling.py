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
_REPLAYS = 128  # origins that assumptions are replayed for
_REPLAY_VALUES = 4_000_000


def training_origins(panel: Panel, plan: Plan, horizon: int, max_rows: int, *, replay: bool) -> Ints:
    """Positions of past origins, ascending; every one has at least one known step after it.

    They are counted back from the end, stand at changing times of day, and leave the first season (the first third of a
    short history) to be looked back on.
    """
    rows = panel.y.shape[1]
    possible = max(1, rows - 1 - max(1, min(plan.long, rows // 3)))
    size = max(1.0, np.isfinite(panel.y).sum() / max(1, rows))  # series, counted by what they hold
    wanted = max_rows / size
    if replay:
        wanted = min(wanted, max(16, min(_REPLAYS, _REPLAY_VALUES / (len(panel.ids) * horizon))))
    stride = max(1.0, possible / max(1.0, wanted))
    number = np.arange(int(possible / stride))
    back = np.floor(number * stride + (number * _GOLDEN % 1.0) * (stride - 1)).astype(np.int64)
    return np.unique(rows - 2 - back)


def sample(panel: Panel, origins: Ints, horizon: int, max_rows: int, seed: int) -> Rows:
    """Rows whose target is known: for each series and origin some steps, spread over the horizon.

    What is drawn for a series depends on its name, the seed and the number of rows allowed, not on the other series.
    """
    share = np.isfinite(panel.y).sum() / panel.y.shape[1] * len(origins)
    each = int(np.clip(max_rows / max(1.0, share), 1, horizon))
    draws = np.arange(each)
    series, origin, step = [], [], []
    far = panel.y.shape[1] - 1 - origins
    for number, name in enumerate(panel.ids):
        start = (zlib.crc32(f"{seed}|{name}".encode()) % 65_536) / 65_536
        shift = (start + far * _GOLDEN) % 1.0
        steps = 1 + np.floor((draws[None, :] + shift[:, None]) * horizon / each).astype(np.int64)
        target = origins[:, None] + steps
        known = target < panel.y.shape[1]
        known &= np.isfinite(panel.y[number, np.minimum(target, panel.y.shape[1] - 1)])
        seen = np.flatnonzero(np.isfinite(panel.y[number]))
        known &= (origins >= (seen[0] if len(seen) else panel.y.shape[1]))[:, None]
        chosen = np.nonzero(known)
        series.append(np.full(len(chosen[0]), number, dtype=np.int64))
        origin.append(origins[chosen[0]])
        step.append(steps[chosen])
    return Rows(np.concatenate(series), np.concatenate(origin), np.concatenate(step))


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
