"""What a model learns from: sampled rows with their features and targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from forecastcore.errors import HistoryTooShort
from forecastcore.tabular.features import Features, Plan, Rows, features_of, plan_of
from forecastcore.tabular.panel import Panel, panel_of
from forecastcore.tabular.sampling import replayed, sample, training_origins

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from forecastcore.api import Task
    from forecastcore.tabular.panel import Floats, Ints

__all__ = ["CLIP", "Covariates", "Lesson", "Strategy", "lesson_of"]

CLIP = 10.0  # a target further from its level, in units of scale, is learned as this far
_MIN_ROWS = 20
_FOLD = 5  # every fifth block of history is held out while penalties are chosen

Strategy = Literal["direct", "recursive"]
Covariates = Literal["assumed", "actual"]


@dataclass(frozen=True)
class Lesson:
    """Training rows.

    Attributes:
        ids: series learned from.
        plan: lags and windows.
        features: of the rows.
        series: position in `ids` of each row.
        target: in units of scale above level.
        held: rows held out while penalties are chosen.
        assumed: rows whose covariates are as they would have been assumed.
        horizon: longest step.
        targets: how many different instants of series the rows aim at.
    """

    ids: tuple[str, ...]
    plan: Plan
    features: Features
    series: Ints
    target: Floats
    held: npt.NDArray[np.bool_]
    assumed: npt.NDArray[np.bool_]
    horizon: int
    targets: int

    def weight(self, trust: float) -> Floats:
        """Weights of the rows that give those with assumed covariates the share `trust`, and 1 on average."""
        share = float(self.assumed.mean())
        if share in {0.0, 1.0}:
            return np.ones(len(self.target))
        return np.where(self.assumed, trust / share, (1 - trust) / (1 - share))


def lesson_of(history: pd.DataFrame, task: Task, strategy: Strategy, covariates: Covariates, max_rows: int) -> Lesson:
    """Rows to learn from: actual covariates, and as many rows again with covariates as they would have been assumed.

    Raises:
        HistoryTooShort: no series is longer than the horizon.
    """
    panel = panel_of(history, task)
    panel = panel.only(_varies(panel.y))
    horizon = 1 if strategy == "recursive" else task.horizon
    longest = int(np.isfinite(panel.y).sum(axis=1).max(initial=0))
    if longest < task.horizon + _MIN_ROWS // 2:
        raise HistoryTooShort(task.horizon + _MIN_ROWS // 2, longest)
    plan = plan_of(panel, task.seasons, horizon)
    replay = task.replay is not None and bool(task.covariates) and covariates == "assumed" and strategy == "direct"
    kinds = (False, True) if replay else (False,)
    parts = [_part(panel, plan, task, horizon, max_rows // len(kinds), replay=kind) for kind in kinds]
    rows = [part[0] for part in parts]
    features = _joined([part[1] for part in parts])
    assumed = np.concatenate([np.full(len(part.step), kind) for part, kind in zip(rows, kinds, strict=True)])
    series, place = (np.concatenate([get(r) for r in rows]) for get in (_series, _target))
    with np.errstate(divide="ignore", invalid="ignore"):
        target = (panel.y[series, place] - features.level) / features.scale
    use = np.isfinite(target)
    if use.sum() < _MIN_ROWS:
        raise HistoryTooShort(task.horizon + _MIN_ROWS, longest)
    features, series, place = _kept(features, use), series[use], place[use]
    held = _held_out(panel.y.shape[1] - 1 - place, max(horizon, plan.long))
    targets = len(np.unique(series * panel.y.shape[1] + place))
    return Lesson(
        panel.ids, plan, features, series, np.clip(target[use], -CLIP, CLIP), held, assumed[use], horizon, targets
    )


def _varies(y: Floats) -> npt.NDArray[np.bool_]:
    """Which series have something to learn from; the others must not change what is sampled of these."""
    seen = np.isfinite(y)
    return np.asarray(np.where(seen, y, -np.inf).max(axis=1) > np.where(seen, y, np.inf).min(axis=1))


def _held_out(back: Ints, width: int) -> npt.NDArray[np.bool_]:
    """Every fifth block of history, the latest among them: all times of the year are on both sides."""
    block = back // min(width, max(1, int(back.max()) // _FOLD))
    return np.asarray(block % _FOLD == 0)


def _series(rows: Rows) -> Ints:
    return rows.series


def _target(rows: Rows) -> Ints:
    return rows.origin + rows.step


def _part(panel: Panel, plan: Plan, task: Task, horizon: int, max_rows: int, *, replay: bool) -> tuple[Rows, Features]:
    origins = training_origins(panel, plan, horizon, max_rows, replay=replay)
    rows = sample(panel, origins, horizon, max_rows, task.seed)
    if replay:
        vintage = np.searchsorted(origins, rows.origin)
        rows = Rows(rows.series, rows.origin, rows.step, replayed(panel, origins, task), vintage)
    return rows, features_of(panel, rows, plan)


def _joined(parts: list[Features]) -> Features:
    if len(parts) == 1:
        return parts[0]
    return Features(
        {name: np.concatenate([part.columns[name] for part in parts]) for name in parts[0].columns},
        np.concatenate([part.level for part in parts]),
        np.concatenate([part.scale for part in parts]),
    )


def _kept(features: Features, use: npt.NDArray[np.bool_]) -> Features:
    if use.all():
        return features
    values = {name: column[use] for name, column in features.columns.items()}
    return Features(values, features.level[use], features.scale[use])
