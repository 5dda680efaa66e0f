"""How good the assumptions were: their errors at the origins of the backtest, by covariate and step."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore import runtime
from forecastcore.messages import AssumptionError
from forecastcore.ports import Unit
from forecastcore.units import assumption_unit, chunks, request_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forecastcore.frames import Answer, History
    from forecastcore.ports import Engine, Past
    from forecastcore.project import Project

__all__ = ["assumption_errors", "error_table"]


def assumption_errors(
    project: Project, history: Past, engine: Engine, origins: Sequence[pd.Timestamp]
) -> tuple[AssumptionError, ...]:
    """Error of every covariate that is assumed, over the backtest's origins, in the order of the project file.

    Args:
        project: whose assumptions.
        history: checked history; what came is taken from it.
        engine: where to run.
        origins: oldest first.
    """
    guessed = runtime.assumptions(project).guessed
    if not guessed:
        return ()
    stamped = [(number, origin.isoformat()) for number, origin in enumerate(origins)]
    request = json.dumps(request_of(project, history.grid, origins=stamped))
    units = [Unit(ids, request) for ids in chunks(history)]
    parts = [part for _, part in engine.map(assumption_unit, history.panel, units)]
    summed = pd.concat(parts).groupby(["covariate", "step"])[["rows", "error", "absolute"]].sum()
    spreads = _spreads([*history.ask(partial(_moments, names=guessed, until=origins[0]))])
    return tuple(
        _error_of(name, str(project.config.covariates[name].assume), summed, spread, project)
        for name, spread in zip(guessed, spreads, strict=True)
    )


def _moments(history: History, *, names: Sequence[str], until: pd.Timestamp) -> Answer:
    """Of some series and each covariate, up to an instant: how many values, their mean, and their squares about it."""
    values = history.panel.loc[history.panel["ds"] <= until, list(names)]
    mean = values.mean()
    squares = ((values - mean) ** 2).sum()
    return {"count": values.count().to_numpy(), "mean": mean.to_numpy(), "squares": squares.to_numpy(dtype=float)}


def _spreads(parts: Sequence[Answer]) -> list[float]:
    """The standard deviation of each covariate over all series; NaN where there are no two values."""
    count, mean, squares = (np.stack([part[name] for part in parts]) for name in ("count", "mean", "squares"))
    mean, total = np.where(count > 0, mean, 0.0), count.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (count * mean).sum(axis=0) / total
        within = squares.sum(axis=0) + (count * (mean - middle) ** 2).sum(axis=0)
        return [float(spread) for spread in np.sqrt(within / np.where(total > 1, total - 1, np.nan))]


def _error_of(name: str, assumption: str, summed: pd.DataFrame, spread: float, project: Project) -> AssumptionError:
    steps = pd.MultiIndex.from_product([[name], range(1, project.config.horizon + 1)])
    mine = summed.reindex(steps)
    scale = spread if spread > 0 else float("nan")
    bias, mae = (mine[column] / mine["rows"] for column in ("error", "absolute"))
    total = mine.sum()
    rows = int(total["rows"])
    mean_bias, mean_mae = (float(total[column]) / rows if rows else float("nan") for column in ("error", "absolute"))
    return AssumptionError(
        covariate=name,
        assumption=assumption,
        rows=rows,
        spread=spread,
        bias=mean_bias,
        mae=mean_mae,
        scaled=mean_mae / scale,
        bias_by_step=tuple(bias.tolist()),
        mae_by_step=tuple(mae.tolist()),
        scaled_by_step=tuple((mae / scale).tolist()),
    )


def error_table(errors: Sequence[AssumptionError]) -> pd.DataFrame:
    """`covariate, assumption, step, bias, mae, scaled`: one row for each covariate and step."""
    blocks = [
        pd.DataFrame(
            {
                "covariate": error.covariate,
                "assumption": error.assumption,
                "step": np.arange(1, len(error.mae_by_step) + 1),
                "bias": np.array(error.bias_by_step, dtype=float),
                "mae": np.array(error.mae_by_step, dtype=float),
                "scaled": np.array(error.scaled_by_step, dtype=float),
            }
        )
        for error in errors
    ]
    return pd.concat(blocks, ignore_index=True)
