"""From files in memory back to a fitted object. Classes are resolved, and refused, before any value is read."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.errors import StateError
from forecastcore.state import estimators
from forecastcore.state.arrays import Array, ArrayReader
from forecastcore.state.classes import has_own_format, is_core, is_frozen, resolve_all
from forecastcore.state.encode import FORMAT
from forecastcore.state.tables import read_frame
from forecastcore.state.zones import zone_from

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["from_files"]

_UNITS = ("s", "ms", "us", "ns")


def from_files(
    read: Callable[[str], bytes],
    *,
    packages: Sequence[str],
    trusted: Sequence[str],
    aliases: Mapping[str, str],
) -> Any:
    """The object that `to_files` was given.

    Args:
        read: file name → bytes.
        packages: see `load`.
        trusted: see `load`.
        aliases: see `load`.

    Raises:
        StateError: a file is broken, or names a class that must not be loaded.
    """
    text = read("state.json")
    try:
        state = json.loads(text)
        if state["format"] != FORMAT:
            raise StateError(f"the model is stored in format {state['format']}; this forecastcore reads {FORMAT}")
        types = _types(state["types"], packages, aliases)
        arrays = ArrayReader(read("arrays.npz"), state["buffers"]) if state["buffers"] else None
        return _Decoder(read, types, arrays, trusted).decode(state["tree"])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        raise StateError(f"state.json is not as forecastcore writes it: {type(error).__name__}: {error}") from error


def _types(
    stored: list[Any], packages: Sequence[str], aliases: Mapping[str, str]
) -> list[tuple[type, list[str] | None]]:
    classes = resolve_all([entry["class"] for entry in stored], packages, aliases)
    types = [(cls, entry["fields"]) for cls, entry in zip(classes, stored, strict=True)]
    for cls, names in types:
        _check_kind(cls, names)
    return types


def _check_kind(cls: type, names: list[str] | None) -> None:
    if names is None:
        if not has_own_format(cls):
            raise StateError(f"{cls.__module__}:{cls.__qualname__} has no to_state and from_state; it cannot be loaded")
        return
    if not is_dataclass(cls):
        raise StateError(f"{cls.__module__}:{cls.__qualname__} is no dataclass; it cannot be loaded")
    if is_core(cls) and not is_frozen(cls):
        raise StateError(f"{cls.__module__}:{cls.__qualname__} is not frozen; of the core only such are loaded")
    now = [f.name for f in fields(cls)]
    if sorted(now) != sorted(names):
        before, after = ", ".join(names), ", ".join(now)
        raise StateError(
            f"{cls.__module__}:{cls.__qualname__} was stored with fields {before}; it now has {after}",
            hint="install the version of the plugin that made the model, or retrain",
        )


class _Decoder:
    def __init__(
        self,
        read: Callable[[str], bytes],
        types: list[tuple[type, list[str] | None]],
        arrays: ArrayReader | None,
        trusted: Sequence[str],
    ) -> None:
        self._read = read
        self._types = types
        self._arrays = arrays
        self._trusted = trusted
        self._by_kind: dict[str, Callable[[dict[str, Any]], Any]] = {
            "int": lambda node: int(node["hex"], 16),
            "float": lambda node: float(node["text"]),
            "bytes": lambda node: self._flat(node, [node["size"]]).tobytes(),
            "tuple": lambda node: tuple([self.decode(item) for item in node["items"]]),
            "dict": lambda node: {self.decode(key): self.decode(value) for key, value in node["items"]},
            "datetime": _datetime,
            "date": lambda node: date.fromisoformat(node["text"]),
            "timedelta": lambda node: timedelta(*node["parts"]),
            "nat": lambda _: pd.NaT,
            "timestamp": _timestamp,
            "pandas-timedelta": lambda node: pd.Timedelta(np.timedelta64(node["value"], _unit(node))),
            "array": lambda node: self._flat(node, node["shape"]),
            "objects": self._objects,
            "scalar": lambda node: self._flat(node, [1])[0],
            "frame": self._frame,
            "series": lambda node: self._frame(node)["values"].rename(self.decode(node["name"])),
            "index": lambda node: self._frame(node).index,
            "range": lambda node: pd.RangeIndex(*node["parts"]).rename(self.decode(node["name"])),
            "estimator": lambda node: estimators.restore(self._read(node["file"]), node["file"], self._trusted),
            "own": self._own_format,
            "data": self._dataclass,
        }

    def decode(self, node: Any) -> Any:
        if isinstance(node, dict):
            if "$" in node:
                return self._by_kind[node["$"]](node)
            return {key: self.decode(value) for key, value in node.items()}
        return [self.decode(item) for item in node] if isinstance(node, list) else node

    def _flat(self, node: dict[str, Any], shape: list[int]) -> Array:
        if self._arrays is None:
            raise ValueError("an array without a buffer")
        return self._arrays.get(node["buffer"], node["at"], shape)

    def _objects(self, node: dict[str, Any]) -> Array:
        items = [self.decode(item) for item in node["items"]]
        flat = np.empty(len(items), dtype=object)
        for at, item in enumerate(items):
            flat[at] = item
        return flat.reshape(node["shape"])

    def _frame(self, node: dict[str, Any]) -> pd.DataFrame:
        data = self._read(node["file"])
        try:
            return read_frame(data, node["frequency"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StateError(f"{node['file']} is not a frame as forecastcore writes it: {error}") from error

    def _type(self, node: dict[str, Any], *, own: bool) -> tuple[Any, list[str]]:
        if node["type"] < 0:
            raise ValueError("a type without a number")
        cls, names = self._types[node["type"]]
        if (names is None) != own:
            raise ValueError(f"{cls.__qualname__} is stored as another kind of class")
        return cls, names or []

    def _own_format(self, node: dict[str, Any]) -> Any:
        cls, _ = self._type(node, own=True)
        state = self.decode(node["state"])
        try:
            return cls.from_state(state)
        except Exception as error:
            raise StateError(
                f"{cls.__module__}:{cls.__qualname__}.from_state: {type(error).__name__}: {error}"
            ) from error

    def _dataclass(self, node: dict[str, Any]) -> Any:
        cls, names = self._type(node, own=False)
        made = object.__new__(cls)
        for name, value in zip(names, node["values"], strict=True):
            # Not through `__init__`: the object is restored as it was, and none of the author's code runs.
            object.__setattr__(made, name, self.decode(value))
        return made


def _datetime(node: dict[str, Any]) -> datetime:
    value = datetime.fromisoformat(node["text"])
    if "zone" in node:
        return value.replace(tzinfo=UTC).astimezone(zone_from(node["zone"]))
    return value.replace(fold=node["fold"])


def _unit(node: dict[str, Any]) -> Any:
    if node["unit"] not in _UNITS:
        raise ValueError(f"unknown unit {node['unit']!r}")
    return node["unit"]


def _timestamp(node: dict[str, Any]) -> pd.Timestamp:
    value = pd.Timestamp(np.datetime64(node["value"], _unit(node)))
    if node["zone"] is None:
        return value
    zone = zone_from(node["zone"])
    # pandas chooses its own class of zone for a name; the name is known to be good by now.
    return value.tz_localize("UTC").tz_convert(node["zone"] if isinstance(node["zone"], str) else zone)
