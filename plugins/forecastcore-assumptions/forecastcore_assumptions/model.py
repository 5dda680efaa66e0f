"""A covariate forecast like any other series."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.errors import AssumptionUnavailable
from forecastcore.frames import offsets

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.api import Task

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

__all__ = ["Model"]


@dataclass(frozen=True)
class Model:
    """What a model forecasts, fitted at each origin on the covariate's own past.

    Each covariate is forecast by itself; series with the same past, such as the weather of one place, once.

    Attributes:
        model: the model and its parameters, as under `models:`: `{type: ets}`. Any model that is installed.
    """

    model: dict[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.model.get("type"), str):
            msg = "model names a model: {type: ets}"
            raise ValueError(msg)  # noqa: TRY004 - a wrong parameter, whatever is wrong with it

    def assume(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:
        """The model's forecasts; NaN for a series that it cannot do.

        Raises:
            AssumptionUnavailable: it can do none of them.
        """
        if task.forecast is None:
            raise AssumptionUnavailable("no model was lent to it")
        answer = future[["unique_id", "ds"]].copy()
        for covariate in task.covariates:
            past, twin = _distinct(history, covariate)
            ahead = _rows_of(future, twin)
            got = task.forecast(past, ahead).set_index(["unique_id", "ds"])["forecast"]
            wanted = pd.MultiIndex.from_arrays([future["unique_id"].map(twin), future["ds"]])
            answer[covariate] = got.reindex(wanted).to_numpy(dtype=float)
        return answer


def _distinct(history: pd.DataFrame, covariate: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """`unique_id, ds, y` of each different past, under neutral names, and which of them is whose."""
    starts = offsets(history)
    ds, y = history["ds"].to_numpy(dtype="datetime64[ns]"), history[covariate].to_numpy(dtype=float)
    seen: dict[tuple[bytes, bytes], str] = {}
    twin: dict[str, str] = {}
    kept: list[Ints] = []
    for a, b in pairwise(starts):
        same = ds[a:b].tobytes(), y[a:b].tobytes()
        if same not in seen:
            seen[same] = f"past-{len(seen):06d}"
            kept.append(np.arange(a, b))
        twin[str(history["unique_id"].iloc[a])] = seen[same]
    rows = history.iloc[np.concatenate(kept)] if kept else history
    names = np.repeat(np.array(list(seen.values()), dtype=object), [len(part) for part in kept])
    past = pd.DataFrame({"unique_id": names, "ds": rows["ds"].array, "y": rows[covariate].to_numpy(dtype=float)})
    return past, twin


def _rows_of(future: pd.DataFrame, twin: dict[str, str]) -> pd.DataFrame:
    """`unique_id, ds, step` of every different past, each row once."""
    ahead = future[["unique_id", "ds", "step"]].assign(unique_id=future["unique_id"].map(twin))
    told = ahead.dropna(subset="unique_id").drop_duplicates(["unique_id", "ds"])
    return told.sort_values(["unique_id", "ds"], ignore_index=True)
