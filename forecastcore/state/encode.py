"""From a fitted object to files in memory: the tree as JSON, what is bulky beside it.

JSON's own values stand for themselves, a list for a list, an object for a dict with text keys. Everything else is an
object whose key `$` names its kind; `decode` has one function for each.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.errors import StateError
from forecastcore.state import estimators
from forecastcore.state.arrays import ArrayWriter
from forecastcore.state.classes import has_own_format, named
from forecastcore.state.tables import write_frame
from forecastcore.state.zones import zone_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["FORMAT", "to_files"]

FORMAT = 1
_HINT = (
    "allowed are plain values, lists, tuples, dicts, times, numpy arrays of numbers, times or text, pandas frames, "
    "dataclasses, scikit-learn estimators, and classes with to_state and from_state"
)
# Where a value stands: (where its holder stands, what to write after it). Written out only if it cannot be stored.
Where = tuple[Any, ...]


def to_files(obj: Any) -> dict[str, bytes]:
    """File name → bytes; the same object gives the same bytes.

    Raises:
        StateError: the object holds something that is not data; says where it is, its type, and what is allowed.
    """
    encoder = _Encoder()
    try:
        tree = encoder.encode(obj, ())
        state = {"format": FORMAT, "types": encoder.types, "buffers": encoder.arrays.buffers, "tree": tree}
        text = json.dumps(state, allow_nan=False, separators=(",", ":"))
    except RecursionError as error:
        raise StateError("the fitted object holds itself, or is nested too deeply to be stored") from error
    files = {"state.json": text.encode(), **encoder.files}
    if encoder.arrays.buffers:
        files["arrays.npz"] = encoder.arrays.npz()
    return files


class _Encoder:
    def __init__(self) -> None:
        self.arrays = ArrayWriter()
        self.files: dict[str, bytes] = {}
        self.types: list[dict[str, Any]] = []
        self._numbers: dict[type, int] = {}
        self._frames = 0
        self._estimators = 0
        self._by_type: dict[type, Callable[[Any, Where], Any]] = {
            type(None): _itself,
            bool: _itself,
            str: _itself,
            int: _int,
            float: _float,
            bytes: self._bytes,
            list: self._list,
            tuple: self._tuple,
            dict: self._dict,
            datetime: _datetime,
            date: _date,
            timedelta: _timedelta,
            type(pd.NaT): _nat,
            pd.Timestamp: _timestamp,
            pd.Timedelta: _pandas_timedelta,
            np.ndarray: self._array,
            pd.DataFrame: self._frame,
            pd.Series: self._series,
            pd.RangeIndex: self._range,
        }

    def encode(self, value: Any, where: Where) -> Any:
        kind = type(value)
        if kind not in self._by_type:
            self._by_type[kind] = self._choose(kind, where)
        try:
            return self._by_type[kind](value, where)
        except (ValueError, TypeError, AttributeError, OverflowError, ArithmeticError, ImportError) as error:
            raise _unstorable(kind, where, str(error)) from error

    def _choose(self, kind: type, where: Where) -> Callable[[Any, Where], Any]:
        if issubclass(kind, np.generic):
            return self._scalar
        if issubclass(kind, pd.Index):
            return self._index
        if has_own_format(kind):
            return self._own_format
        if _is_estimator(kind):
            return self._estimator
        if is_dataclass(kind):
            return self._dataclass
        raise _unstorable(kind, where, "it is not data")

    def _bytes(self, value: bytes, _where: Where) -> Any:
        buffer, at = self.arrays.add(np.frombuffer(value, np.uint8))
        return {"$": "bytes", "buffer": buffer, "at": at, "size": len(value)}

    def _list(self, value: list[Any], where: Where) -> Any:
        return [self.encode(item, (where, "[%r]", at)) for at, item in enumerate(value)]

    def _tuple(self, value: tuple[Any, ...], where: Where) -> Any:
        return {"$": "tuple", "items": self._list(list(value), where)}

    def _dict(self, value: dict[Any, Any], where: Where) -> Any:
        if "$" not in value and all(type(key) is str for key in value):
            return {key: self.encode(item, (where, "[%r]", key)) for key, item in value.items()}
        items = [[self.encode(k, (where, " key %r", k)), self.encode(v, (where, "[%r]", k))] for k, v in value.items()]
        return {"$": "dict", "items": items}

    def _array(self, value: np.ndarray[Any, Any], where: Where) -> Any:
        if value.dtype.kind == "O":
            items = self._list(value.reshape(-1).tolist(), where)
            return {"$": "objects", "shape": list(value.shape), "items": items}
        buffer, at = self.arrays.add(value)
        return {"$": "array", "buffer": buffer, "at": at, "shape": list(value.shape)}

    def _scalar(self, value: np.generic, _where: Where) -> Any:
        buffer, at = self.arrays.add(np.asarray(value))
        return {"$": "scalar", "buffer": buffer, "at": at}

    def _frame(self, value: pd.DataFrame, _where: Where) -> Any:
        return {"$": "frame", **self._parquet(value)}

    def _series(self, value: pd.Series[Any], where: Where) -> Any:
        frame = pd.DataFrame({"values": value.array}, index=value.index)
        return {"$": "series", "name": self.encode(value.name, (where, ".name")), **self._parquet(frame)}

    def _index(self, value: pd.Index[Any], _where: Where) -> Any:
        return {"$": "index", **self._parquet(pd.DataFrame(index=value))}

    def _range(self, value: pd.RangeIndex, where: Where) -> Any:
        parts = [value.start, value.stop, value.step]
        return {"$": "range", "parts": parts, "name": self.encode(value.name, (where, ".name"))}

    def _parquet(self, frame: pd.DataFrame) -> dict[str, Any]:
        data, frequency = write_frame(frame)
        name = f"frame-{self._frames}.parquet"
        self._frames += 1
        self.files[name] = data
        return {"file": name, "frequency": frequency}

    def _estimator(self, value: Any, _where: Where) -> Any:
        name = f"estimator-{self._estimators}.skops"
        self._estimators += 1
        self.files[name] = estimators.dump(value)
        return {"$": "estimator", "file": name}

    def _own_format(self, value: Any, where: Where) -> Any:
        try:
            state = value.to_state()
        except Exception as error:
            raise ValueError(f"to_state: {type(error).__name__}: {error}") from error
        number = self._number(type(value), None)
        return {"$": "own", "type": number, "state": self.encode(state, (where, ".to_state()"))}

    def _dataclass(self, value: Any, where: Where) -> Any:
        number = self._number(type(value), (f.name for f in fields(value)))
        names = self.types[number]["fields"]
        unsaved = vars(value).keys() - set(names) if hasattr(value, "__dict__") else set()
        lost = [name for name in unsaved if not isinstance(getattr(type(value), name, None), cached_property)]
        if lost:
            raise ValueError(f"its attribute {lost[0]!r} is no field and would be lost; declare it `field(init=False)`")
        items = [self.encode(getattr(value, name), (where, ".%s", name)) for name in names]
        return {"$": "data", "type": number, "values": items}

    def _number(self, kind: type, names: Iterable[str] | None) -> int:
        if kind not in self._numbers:
            name = named(kind)
            if name is None:
                raise ValueError("the class cannot be found by its name; define it at the top level of a module")
            self._numbers[kind] = len(self.types)
            self.types.append({"class": name, "fields": None if names is None else list(names)})
        return self._numbers[kind]


def _is_estimator(kind: type) -> bool:
    sklearn = sys.modules.get("sklearn.base")
    return sklearn is not None and issubclass(kind, sklearn.BaseEstimator)


def _unstorable(kind: type, where: Where, why: str) -> StateError:
    parts: list[str] = []
    while where:
        where, template, *given = where
        parts.append(template % tuple(given) if given else template)
    place = "fitted" + "".join(reversed(parts))
    return StateError(f"{place} is a {kind.__module__}.{kind.__qualname__} and cannot be stored: {why}", hint=_HINT)


def _itself(value: Any, _where: Where) -> Any:
    return value


def _int(value: int, _where: Where) -> Any:
    # JSON readers differ on long numbers, and Python refuses to read very long decimal ones.
    return value if -(2**63) <= value < 2**63 else {"$": "int", "hex": hex(value)}


def _float(value: float, _where: Where) -> Any:
    return value if math.isfinite(value) else {"$": "float", "text": repr(value)}


def _datetime(value: datetime, _where: Where) -> Any:
    if value.tzinfo is None:
        return {"$": "datetime", "text": value.isoformat(), "fold": value.fold}
    instant = value.astimezone(UTC).replace(tzinfo=None)
    return {"$": "datetime", "text": instant.isoformat(), "zone": zone_of(value.tzinfo)}


def _date(value: date, _where: Where) -> Any:
    return {"$": "date", "text": value.isoformat()}


def _timedelta(value: timedelta, _where: Where) -> Any:
    return {"$": "timedelta", "parts": [value.days, value.seconds, value.microseconds]}


def _nat(_value: Any, _where: Where) -> Any:
    return {"$": "nat"}


def _timestamp(value: pd.Timestamp, _where: Where) -> Any:
    zone = None if value.tzinfo is None else zone_of(value.tzinfo)
    return {"$": "timestamp", "value": int(value.asm8.view("i8")), "unit": value.unit, "zone": zone}


def _pandas_timedelta(value: pd.Timedelta, _where: Where) -> Any:
    return {"$": "pandas-timedelta", "value": int(value.asm8.view("i8")), "unit": value.unit}
