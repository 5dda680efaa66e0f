"""Calls plugin objects: check, call, check, name the culprit. One series never stops the others.

What a model raises on some series is narrowed down by halving until the culprits are known; the others get what they
would have got without them. A series without a forecast is served by the seasonal naive, then the naive forecast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from forecastcore.api import quantile_column
from forecastcore.errors import ForecastCoreError, PluginError
from forecastcore.frames import offsets
from forecastcore.naive import fill_gaps, last_value, repeat_season

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from forecastcore.api import Fitted, Model, ModelSpec, Task
    from forecastcore.segments import Segment

    Floats = npt.NDArray[np.float64]

__all__ = [
    "Answer",
    "Offered",
    "Part",
    "answer",
    "asked_of",
    "culprits",
    "fit",
    "predict",
    "prepared",
    "reason_of",
    "screen",
    "with_fallback",
]

_MAX_PROBES = 64
#: a forecast above it cannot be scored: its square is no number
_LARGEST = 1e150


class Offered(Protocol):
    """What the guard needs to know of an offer: the spec, and whom to name."""

    @property
    def spec(self) -> ModelSpec:
        """The model's spec."""
        ...

    @property
    def version(self) -> str:
        """Version of its distribution."""
        ...


@dataclass(frozen=True)
class Answer:
    """Forecasts of the rows of one future frame, in its order.

    Attributes:
        forecast: NaN where the model gave none; shape (rows,).
        quantiles: NaN where it gave none; shape (rows, levels), ascending along the row.
        failures: why a series got none, by `unique_id`.
    """

    forecast: Floats
    quantiles: Floats
    failures: Mapping[str, str]


@dataclass(frozen=True)
class Part:
    """Learned parameters of some of the series.

    Attributes:
        ids: the series that were fitted; None for a model of global scope, which takes any.
        fitted: None where nothing could be fitted.
        failures: why series were left out, by `unique_id`.
        segment: of a model of global scope, the one that it takes series of; None where it takes any.
    """

    ids: tuple[str, ...] | None
    fitted: Fitted | None
    failures: Mapping[str, str]
    segment: Segment | None = None

    def among(self, ids: Iterable[str]) -> list[str]:
        """Those of some series that it takes."""
        if self.ids is not None:
            there = {*ids}
            return [uid for uid in self.ids if uid in there]
        return [uid for uid in ids if self.segment is None or uid in self.segment]

    def answers(self, ids: Collection[str]) -> bool:
        """Whether it forecasts one of some series, or says why it does not."""
        return bool(self.among(ids)) or not self.failures.keys().isdisjoint(ids)


def reason_of(error: BaseException) -> str:
    """The table's reason for what a model raised: a code, or `model-error:` and the words."""
    code = getattr(error, "code", "") if isinstance(error, ForecastCoreError) else ""
    return code if code and code != PluginError.code else f"model-error: {type(error).__name__}: {error}"[:300]


def screen(panel: pd.DataFrame, max_missing: float) -> dict[str, str]:
    """Series that no model is given, and why: `no-history`, `constant-history` or `too-many-missing`.

    They are kept from global models, so that a broken series changes nothing for the others.
    """
    starts = offsets(panel)[:-1]
    y = panel["y"].to_numpy()
    if not len(y):
        return {}
    seen = np.isfinite(y)
    count = np.add.reduceat(seen.astype(np.int64), starts)
    first = np.minimum.reduceat(np.where(seen, np.arange(len(y)), len(y)), starts)
    length = np.r_[starts[1:], len(y)] - first
    low = np.minimum.reduceat(np.where(seen, y, np.inf), starts)
    high = np.maximum.reduceat(np.where(seen, y, -np.inf), starts)
    rules = [
        ("no-history", count == 0),
        ("history-too-short", count == 1),
        ("constant-history", low == high),
        ("too-many-missing", count < (1 - max_missing) * length),
    ]
    ids = panel["unique_id"].to_numpy()[starts]
    reasons: dict[str, str] = {}
    for reason, hit in rules:
        reasons |= {str(uid): reason for uid in ids[hit] if uid not in reasons}
    return reasons


def _part(frame: pd.DataFrame, ids: Sequence[str]) -> pd.DataFrame:
    return frame[frame["unique_id"].isin(ids)].reset_index(drop=True)


def culprits(attempt: Callable[[Sequence[str]], Any], ids: Sequence[str]) -> dict[str, BaseException]:
    """The series on which `attempt` raises, found by halving; the rest too where many attempts and none succeeded.

    Args:
        attempt: tries some of the series; what it returns is not looked at.
        ids: all of them.

    Returns:
        What was raised, by `unique_id`.
    """
    found: dict[str, BaseException] = {}
    waiting = [list(ids)]
    probes, fine = 0, False
    while waiting:
        part = waiting.pop()
        probes += 1
        try:
            attempt(part)
            fine = True
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises becomes a reason
            if len(part) == 1 or (probes > _MAX_PROBES and not fine):
                found |= dict.fromkeys(part, error)
            else:
                waiting += [part[: len(part) // 2], part[len(part) // 2 :]]
    return found


def prepared(frame: pd.DataFrame, task: Task, offered: Offered) -> pd.DataFrame:
    """What the model may see: its own copy, only the columns it can use, gaps filled unless it can handle them."""
    can = offered.spec.capabilities
    columns = [c for c in frame.columns if c not in task.covariates or can.covariates]
    own = frame[columns].copy()
    if can.missing or "y" not in own:
        return own
    for column in own.columns.drop(["unique_id", "ds"]):
        values = own[column].to_numpy(dtype=float, copy=True)
        if np.isfinite(values).all():
            continue
        for a, b in pairwise(offsets(own)):
            values[a:b] = fill_gaps(values[a:b], task.season)
        own[column] = values
    return own


def asked_of(task: Task, offered: Offered) -> Task:
    """What the model is asked: without covariates where it cannot use them."""
    if offered.spec.capabilities.covariates:
        return task
    return replace(task, covariates=(), replay=None)


def _short(history: pd.DataFrame, needed: int) -> dict[str, str]:
    starts = offsets(history)
    seen = np.add.reduceat(history["y"].notna().to_numpy(dtype=np.int64), starts[:-1]) if len(history) else np.empty(0)
    names = history["unique_id"].to_numpy()[starts[:-1]] if len(history) else np.empty(0)
    return {str(uid): "history-too-short" for uid in names[seen < needed]}


def fit(offered: Offered, model: Model, history: pd.DataFrame, task: Task) -> tuple[Fitted | None, dict[str, str]]:
    """Fit, leaving out the series that the model cannot take.

    Args:
        offered: the model's offer.
        model: the model, its parameters set.
        history: the frame contract, none later than `task.origin`.
        task: what will be asked.

    Returns:
        The fitted model (None where no series could be fitted), and why series were left out.
    """
    failures = _short(history, offered.spec.capabilities.min_history)
    own = prepared(history, task, offered)
    asked = asked_of(task, offered)
    ids = [uid for uid in own["unique_id"].unique() if uid not in failures]
    if not ids:
        return None, failures

    def attempt(some: Sequence[str]) -> Fitted:
        return model.fit(_part(own, some), asked)

    try:
        return _checked_fitted(attempt(ids), offered), failures
    except (Exception, SystemExit) as first:  # noqa: BLE001 - whatever a plugin raises becomes a reason
        found = culprits(attempt, ids) if len(ids) > 1 else {ids[0]: first}
        failures |= {uid: reason_of(error) for uid, error in found.items()}
        left = [uid for uid in ids if uid not in found]
        if not left:
            return None, failures
    try:
        return _checked_fitted(attempt(left), offered), failures
    except (Exception, SystemExit) as again:  # noqa: BLE001 - it fails on no series alone, but on all together
        return None, failures | dict.fromkeys(left, reason_of(again))


def _checked_fitted(fitted: Any, offered: Offered) -> Fitted:
    if not callable(getattr(fitted, "predict", None)):
        message = f"fit returned {type(fitted).__name__}, which has no predict(context, future, task)"
        raise PluginError(message, plugin=offered.spec.name, version=offered.version, hook="fit")
    return fitted  # type: ignore[no-any-return]  # checked just above


def predict(offered: Offered, fitted: Fitted, context: pd.DataFrame, future: pd.DataFrame, task: Task) -> Answer:
    """Apply a fitted model, and check what it answers.

    Args:
        offered: the model's offer.
        fitted: what `fit` returned.
        context: the frame contract, none later than `task.origin`.
        future: `unique_id, ds, step, <covariates>`, sorted.
        task: what is asked.
    """
    own_context, own_future = prepared(context, task, offered), prepared(future, task, offered)
    asked = asked_of(task, offered)
    rows = {str(uid): (a, b) for uid, a, b in _spans(future)}
    forecast = np.full(len(future), np.nan)
    quantiles = np.full((len(future), len(task.quantiles)), np.nan)
    failures: dict[str, str] = {}

    def attempt(some: Sequence[str]) -> None:
        whole = len(some) == len(rows)
        past, ahead = (own_context, own_future) if whole else (_part(own_context, some), _part(own_future, some))
        got = fitted.predict(past.copy(), ahead.copy(), asked)
        values, levels = _aligned(got, ahead, asked, offered)
        failures.update({str(k): _worded(str(v)) for k, v in got.attrs.get("failures", {}).items() if k in rows})
        place = slice(None) if whole else np.concatenate([np.arange(*rows[uid]) for uid in some])
        forecast[place], quantiles[place] = values, levels

    ids = list(rows)
    try:
        attempt(ids)
    except (Exception, SystemExit) as first:  # noqa: BLE001 - whatever a plugin raises becomes a reason
        found = culprits(attempt, ids) if len(ids) > 1 else dict.fromkeys(ids, first)
        failures |= {uid: reason_of(error) for uid, error in found.items()}
    for uid, (a, b) in rows.items():
        if not (np.abs(forecast[a:b]) < _LARGEST).all():
            forecast[a:b], quantiles[a:b] = np.nan, np.nan
            failures.setdefault(uid, "model-error: no finite forecast for every step")
        else:
            failures.pop(uid, None)
    quantiles[~(np.abs(quantiles) < _LARGEST).all(axis=1)] = np.nan
    return Answer(forecast, np.sort(quantiles, axis=1), failures)


def answer(
    offered: Offered,
    parts: Sequence[Part],
    context: pd.DataFrame,
    future: pd.DataFrame,
    task: Task,
    screened: Mapping[str, str],
) -> Answer:
    """The parts' answers put together; every series without a forecast has a reason.

    Args:
        offered: the model's offer.
        parts: of one fitted model.
        context: the frame contract, none later than `task.origin`.
        future: `unique_id, ds, step, <covariates>`, sorted.
        task: what is asked.
        screened: series that no model is given, and why.
    """
    forecast = np.full(len(future), np.nan)
    quantiles = np.full((len(future), len(task.quantiles)), np.nan)
    pasts, asked = _ranges(context), _ranges(future)
    failures: dict[str, str] = {}
    for part in parts:
        failures |= part.failures
        ids = [uid for uid in part.among(asked) if uid not in screened]
        if part.fitted is None or not ids:
            continue
        mine = np.sort(np.concatenate([asked[uid] for uid in ids]))
        own = np.sort(np.concatenate([pasts[uid] for uid in ids if uid in pasts] or [mine[:0]]))
        got = predict(
            offered,
            part.fitted,
            context.take(own).reset_index(drop=True),
            future.take(mine).reset_index(drop=True),
            task,
        )
        forecast[mine], quantiles[mine] = got.forecast, got.quantiles
        failures = {**got.failures, **failures}
    without = dict.fromkeys(future["unique_id"].to_numpy()[~np.isfinite(forecast)].tolist(), "new-series")
    return Answer(forecast, quantiles, without | {k: v for k, v in {**failures, **screened}.items() if k in without})


def _worded(reason: str) -> str:
    plain = reason.replace("-", "")
    return reason if plain.isalpha() and plain.islower() else f"model-error: {reason}"[:300]


def _same_keys(one: pd.DataFrame, two: pd.DataFrame) -> bool:
    if len(one) != len(two) or not np.array_equal(one["unique_id"].to_numpy(), two["unique_id"].to_numpy()):
        return False
    return bool(np.array_equal(one["ds"].to_numpy(dtype="datetime64[ns]"), two["ds"].to_numpy(dtype="datetime64[ns]")))


def _ranges(frame: pd.DataFrame) -> dict[str, npt.NDArray[np.intp]]:
    """Row numbers of each series."""
    return {uid: np.arange(a, b, dtype=np.intp) for uid, a, b in _spans(frame)}


def _spans(frame: pd.DataFrame) -> list[tuple[str, int, int]]:
    starts = offsets(frame)
    ids = frame["unique_id"].to_numpy()
    return [(ids[a], int(a), int(b)) for a, b in pairwise(starts)]


def _aligned(got: Any, future: pd.DataFrame, task: Task, offered: Offered) -> tuple[Floats, Floats]:
    """The answer's numbers in the order of `future`; a breach of the contract is an error that says which."""

    def breach(message: str) -> PluginError:
        return PluginError(message, plugin=offered.spec.name, version=offered.version, hook="predict")

    if not isinstance(got, pd.DataFrame):
        raise breach(f"returned {type(got).__name__}, not a frame")
    lacking = [c for c in ("unique_id", "ds", "forecast") if c not in got.columns]
    if lacking:
        raise breach(f"returned columns {list(got.columns)}, lacks {lacking}")
    names = [quantile_column(q) for q in task.quantiles]
    wanted = got.reindex(columns=["unique_id", "ds", "forecast", *names])
    if str(got["ds"].dtype) != str(future["ds"].dtype):
        raise breach(f"returned ds as {got['ds'].dtype}, not {future['ds'].dtype}")
    if not _same_keys(got, future):
        if got.duplicated(["unique_id", "ds"]).any():
            raise breach("returned a row twice")
        merged = future[["unique_id", "ds"]].merge(wanted, on=["unique_id", "ds"], how="left", indicator=True)
        if int((merged["_merge"] == "both").sum()) != len(got):
            raise breach("returned rows that were not asked for")
        wanted = merged
    numbers = wanted[["forecast", *names]].to_numpy(dtype=float)
    return numbers[:, 0], numbers[:, 1:]


def with_fallback(
    answer: Answer, context: pd.DataFrame, future: pd.DataFrame, task: Task, *, model: str, spread: Floats | None = None
) -> pd.DataFrame:
    """Every row of `future` with a forecast where one is possible, and a status.

    Args:
        answer: the model's answer to `future`.
        context: the frame contract; may lack series.
        future: `unique_id, ds, step`.
        task: what is asked.
        model: family name for the rows that the model made.
        spread: offsets of the quantiles for a fallback's rows, relative to the size of the forecast; shape (levels,).

    Returns:
        `unique_id, ds, step, forecast, q10 …, model, status, reason`, in the order of `future`.
    """
    forecast, quantiles = answer.forecast.copy(), answer.quantiles.copy()
    made_by = np.full(len(future), model, dtype=object)
    status = np.full(len(future), "ok", dtype=object)
    reason = np.full(len(future), "", dtype=object)
    pasts = {uid: context["y"].to_numpy()[a:b] for uid, a, b in _spans(context)}
    for uid, a, b in _spans(future):
        if uid not in answer.failures:
            continue
        y = pasts.get(uid, np.empty(0))
        season = task.season if np.isfinite(y).sum() > task.season else 1
        values = repeat_season(y, season, b - a)
        forecast[a:b] = values
        size = np.abs(values)[:, None] if np.abs(values).any() else 0.0
        quantiles[a:b] = values[:, None] + size * (0.0 if spread is None else spread)
        made_by[a:b] = "seasonal-naive" if season > 1 else "naive"
        status[a:b] = "degraded" if np.isfinite(last_value(y)) else "failed"
        reason[a:b] = answer.failures[uid]
    made_by[status == "failed"] = ""
    columns = {quantile_column(q): quantiles[:, i] for i, q in enumerate(task.quantiles)}
    keys = {
        c: future[c].to_numpy() if c != "ds" else future[c].reset_index(drop=True) for c in ("unique_id", "ds", "step")
    }
    return pd.DataFrame({**keys, "forecast": forecast, **columns, "model": made_by, "status": status, "reason": reason})
