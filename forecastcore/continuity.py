"""Does a history continue what the champion was trained on?

A retrain on spoilt data can look splendid: its candidates are scored on the same spoilt data. So the champion keeps a
profile of its training data, and a challenger is held where its history is not a continuation of that. Each fault has
a code, which is the name of the guard that fails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.frames import Gathered
from forecastcore.messages import Guard
from forecastcore.profile import Panel, Profile, Windows, extreme, profile, repeated, window_length
from forecastcore.timegrid import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from forecastcore.api import Task
    from forecastcore.frames import Answer, History
    from forecastcore.ports import Past

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]
    Bools = npt.NDArray[np.bool_]

__all__ = ["Limits", "compare"]

#: series whose remembered values are compared together
_TOGETHER = 2_000
#: correlation with the target above which a covariate is the target
_SAME = 0.9995


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far today's history may be from the champion's training data.

    Attributes:
        gone: share of its series that may be missing.
        cut: share of a series' values that may be missing.
        level: factor by which a series' level may leave the range it has had.
        rewritten: share of remembered values that may have changed.
        series: share of the series that may break one of the limits above, or be all zeros, repeated or stale.
    """

    gone: float = 0.1
    cut: float = 0.3
    level: float = 4.0
    rewritten: float = 0.2
    series: float = 0.25


def compare(old: Profile, history: Past, task: Task, limits: Limits) -> list[Guard]:
    """Guards that say whether a history continues the one of a profile: one that holds, or those that fail.

    Args:
        old: of the champion's training data.
        history: the challenger's.
        task: of the challenger.
        limits: how far they may be apart.
    """
    new = profile(history, task)
    new = replace(new, known=new.known[:, :0])  # nobody asks what it remembers
    place = {uid: number for number, uid in enumerate(new.ids.tolist())}
    shared = np.array([place.get(uid, -1) for uid in old.ids.tolist()], dtype=np.intp)
    mine, theirs = np.flatnonzero(shared >= 0), shared[shared >= 0]
    instants, faults = history.grid.between(history.first, history.origin), {}
    gone = 1 - float((new.count[theirs] > 0).sum()) / max(len(old.ids), 1)
    if gone > limits.gone:
        names = [str(uid) for uid, there in zip(old.ids, shared, strict=True) if there < 0]
        example = f", such as {names[0]!r}" if names else ""
        faults["data-series-gone"] = f"{gone:.0%} of the champion's series are not there{example}"
    if len(mine):
        known, now = _rows(old, mine), _rows(new, theirs)
        asked = partial(_since, task=task, trained=old.origin, places=_places(instants, old.at))
        seen = Gathered(len(history.ids))
        for one in history.ask(asked):
            seen.add(one)
        recent = {name: _of(values, theirs) for name, values in seen.arrays.items()}
        faults |= _amount(known, now, instants, task, limits)
        faults |= _rewritten(known, recent["values"], partial(_moved, history, known, instants, task), limits)
        faults |= _shape(known, recent, int((nanoseconds(instants) > old.origin).sum()), limits)
    faults |= _columns(old, new)
    if faults:
        return [Guard(name=code, passed=False, detail=words) for code, words in faults.items()]
    return [Guard(name="data", passed=True, detail="the history continues what the champion was trained on")]


def _of(values: npt.NDArray[Any], rows: Ints) -> npt.NDArray[Any]:
    """Those of some series; not copied where they are all, in their order."""
    return values if np.array_equal(rows, np.arange(len(values))) else values[rows]


def _rows(whole: Profile, rows: Ints) -> Profile:
    """The profile of some of the series."""
    kept: dict[str, Any] = {
        name: _of(value, rows)
        if name not in {"at", "covariates", "likeness"} and isinstance(value, np.ndarray)
        else value
        for name, value in vars(whole).items()
    }
    return Profile(**kept)


def _share(hit: Bools, known: Bools) -> float:
    return float((hit & known).sum() / known.sum()) if known.any() else 0.0


def _when(instant: int) -> str:
    return f"{pd.Timestamp(instant, tz='UTC'):%Y-%m-%d %H:%M}"


def _places(instants: pd.DatetimeIndex, at: npt.NDArray[np.int64]) -> Ints:
    """Where remembered instants stand among today's; -1 for one that is not there."""
    end = nanoseconds(instants)
    places = np.searchsorted(end, at).astype(np.intp)
    return np.where((places < len(end)) & (end[np.minimum(places, len(end) - 1)] == at), places, -1)


def _since(history: History, *, task: Task, trained: int, places: Ints) -> Answer:
    """What `compare` asks of some series: values at some instants, and what came after an instant of training."""
    panel, length = Panel.of(history), window_length(task)
    fresh = int((nanoseconds(panel.instants) > trained).sum())
    count = max(fresh // length, 1)
    windows = Windows.of(panel, length, task.season)
    level, zeros, memory = (values[:, :count] for values in (windows.level, windows.zeros, windows.memory))
    return {
        "values": panel.at(places).astype(np.float32),  # as it is remembered
        "largest": extreme(level, np.nanmax),
        "least": extreme(np.where(level > 0, level, np.nan), np.nanmin),
        "newest": level[:, 0],
        "jump": extreme(windows.jump[:, : count + 1], np.nanmax),
        "zeros": extreme(zeros, np.nanmax),
        "memory": extreme(memory, np.nanmin),
        "again": repeated(panel, task.seasons, fresh + length),
    }


def _amount(old: Profile, new: Profile, instants: pd.DatetimeIndex, task: Task, limits: Limits) -> dict[str, str]:
    """Less than there was: rows cut off, or nothing new."""
    faults = {}
    cut = _share(new.count < (1 - limits.cut) * old.count, old.count > 0)
    if cut > limits.series:
        kept = float(np.median(new.count / np.maximum(old.count, 1)))
        faults["data-cut"] = (
            f"{cut:.0%} of the series have lost more than {limits.cut:.0%} of their values (kept {kept:.0%})"
        )
    end = nanoseconds(instants)
    recent = int(end[max(len(end) - 1 - task.horizon, 0)])
    if new.last.max() < old.last.max():
        faults["data-stale"] = (
            f"ends at {_when(new.last.max())}, the champion knew values until {_when(old.last.max())}"
        )
    elif (late := float(np.mean((new.last < recent) & (old.last == old.last.max())))) > limits.series:
        faults["data-stale"] = f"{late:.0%} of the series have had no value since {_when(recent)}"
    return faults


def _differs(values: Floats, then: Floats) -> tuple[Bools, Bools]:
    """Which remembered values can be compared with those of today, and which of them are others."""
    known = np.isfinite(values) & np.isfinite(then) & ((values != 0) | (then != 0))
    return known, known & (np.abs(values - then) > 1e-5 * np.maximum(np.abs(values), np.abs(then)))


def _rewritten(old: Profile, today: Floats, moved: Callable[[], dict[int, float]], limits: Limits) -> dict[str, str]:
    """Remembered values that are others now: what kind of change is it?

    Args:
        old: of the series that there were.
        today: their values at the remembered instants.
        moved: shares of values that are others where all stood some steps from where they stood, by the steps.
        limits: how many may be.
    """
    parts = [slice(begin, begin + _TOGETHER) for begin in range(0, len(today), _TOGETHER)]
    both = [[hit.sum() for hit in _differs(today[part].astype(float), old.known[part].astype(float))] for part in parts]
    comparable, others = np.sum(both, axis=0).tolist()
    share = others / comparable if comparable else 0.0
    if share <= limits.rewritten:
        return {}
    today, then = today.astype(float), old.known.astype(float)
    known, changed = _differs(today, then)
    words = f"{share:.0%} of the values that the champion was trained on have changed since"
    factor = today[changed & (then != 0)] / then[changed & (then != 0)]
    if len(factor):
        middle = float(np.median(factor))
        if middle != 0 and np.mean(np.abs(factor / middle - 1) < 1e-3) > 0.9:  # noqa: PLR2004 - nearly all by one factor
            return {"data-unit-change": f"{words}: they are multiplied by {middle:.4g}"}
        if middle == 0:
            return {"data-zeros": f"{words}: they are zero now"}
    for shift, others in moved().items():
        if others < share / 4:
            return {"data-zone": f"{words}: they stand {shift:+d} steps from where they stood, as in another time zone"}
    centred = [
        values - np.nanmean(values, axis=1, keepdims=True)
        for values in (np.where(known, v, np.nan) for v in (then, today))
    ]
    like = float(np.nansum(centred[0] * centred[1]) / np.sqrt(np.nansum(centred[0] ** 2) * np.nansum(centred[1] ** 2)))
    if not like > 0.5:  # noqa: PLR2004 - hardly related
        return {"data-shuffled": f"{words}: they are as if in another order (correlation {like:.2f})"}
    return {"data-rewritten": words}


def _moved(history: Past, old: Profile, instants: pd.DatetimeIndex, task: Task) -> dict[int, float]:
    """The shares that `_rewritten` asks for, the nearest shifts first; those that leave nothing to compare left out."""
    reach = task.season + 2 if task.season > 1 else 2
    shifts = sorted((s for s in range(-reach, reach + 1) if s), key=abs)
    asked = partial(_shifted, ids=old.ids, then=old.known, places=_places(instants, old.at), shifts=shifts)
    known, other = np.sum([one["counts"] for one in history.ask(asked)], axis=0)
    return {shift: o / k for shift, k, o in zip(shifts, known.tolist(), other.tolist(), strict=True) if k}


def _shifted(
    history: History, *, ids: npt.NDArray[np.str_], then: npt.NDArray[np.float32], places: Ints, shifts: Sequence[int]
) -> Answer:
    """How many remembered values of some series can be compared with those some steps away, and how many are others."""
    number = {uid: row for row, uid in enumerate(ids.tolist())}
    rows = np.array([number.get(uid, -1) for uid in history.ids], dtype=np.intp)
    panel, known = Panel.of(history), then[rows[rows >= 0]].astype(float)
    counts = np.zeros((2, len(shifts)), dtype=np.int64)
    for place, shift in enumerate(shifts):
        values = panel.at(np.where(places >= 0, places + shift, -1))[rows >= 0]
        counts[:, place] = [hit.sum() for hit in _differs(values, known)]
    return {"counts": counts}


def _shape(old: Profile, recent: Answer, fresh: int, limits: Limits) -> dict[str, str]:
    """What came after the champion's training: other levels, zeros, repetition, disorder.

    Args:
        old: of the series that there were.
        recent: as `_since` has them, of the same series.
        fresh: steps since the training.
        limits: how far they may be apart.
    """
    faults = {}
    largest, least, jump = recent["largest"], recent["least"], recent["jump"]
    with np.errstate(invalid="ignore", divide="ignore"):
        away = (largest > limits.level * old.high) | (least < old.low / limits.level)
        usual = np.nan_to_num(old.jump)
        # Growth over years leaves the range too, but not at once.
        away &= jump > np.maximum(np.log(2), usual)
        leap = jump > np.maximum(np.log(limits.level), 1.5 * usual)
    if (moved := _share(away | leap, (old.high > 0) & (largest > 0))) > limits.series:
        middle = float(np.nanmedian(recent["newest"] / old.high))
        faults["data-level-shift"] = (
            f"{moved:.0%} of the series have left their range by more than a factor of {limits.level:g}"
            f" (newest level {middle:.3g} times the highest so far)"
        )
    empty = _share(recent["zeros"] > 0.9, old.zeros < 0.5)  # noqa: PLR2004 - nearly all against under half
    if empty > limits.series:
        faults["data-zeros"] = f"{empty:.0%} of the series have become zero"
    again = _share(recent["again"], ~old.twice)
    if fresh and again > limits.series:
        faults["data-repeated"] = f"in {again:.0%} of the series a whole season has come twice exactly the same"
    lost = _share(recent["memory"] < 0.2, old.memory > 0.5)  # noqa: PLR2004 - none against a good deal
    if lost > max(limits.series, 0.5):
        faults["data-shuffled"] = f"{lost:.0%} of the series have lost their order: no value tells of the next"
    return faults


def _columns(old: Profile, new: Profile) -> dict[str, str]:
    """Covariates that are the target in disguise, and rows that stand twice."""
    faults = {}
    before: Mapping[str, float] = dict(zip(old.covariates.tolist(), old.likeness.tolist(), strict=True))
    leaks = [
        str(name)
        for name, like in zip(new.covariates.tolist(), new.likeness.tolist(), strict=True)
        if like > _SAME and before.get(str(name), 0.0) <= _SAME
    ]
    if leaks:
        faults["data-leak"] = f"covariate {', '.join(leaks)} is the target itself, now or some steps ahead"
    if new.duplicates > old.duplicates + 0.05:
        faults["data-duplicates"] = (
            f"{new.duplicates:.0%} of the rows stood twice ({old.duplicates:.0%} in the champion's)"
        )
    return faults
