"""The plugins that a project file names, checked against those that are there.

Works on the raw data, so that these faults are told together with all others.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from forecastcore import parameters
from forecastcore.config import ENSEMBLE, Fault, did_you_mean, has_reference
from forecastcore.ensemble import Ensemble
from forecastcore.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from forecastcore.host import Host

__all__ = ["numbered", "plugin_faults"]

_Path = tuple[str | int, ...]
_MANY = 1000


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A plugin named in the file.

    Attributes:
        kind, path, type, params: what, where, its name and parameters.
        tried: values that are tried in turn, by parameter, with where each of them stands below `path`.
        own: the keys beside `type` that are not its parameters.
    """

    kind: str
    path: _Path
    type: str
    params: dict[str, Any]
    tried: dict[str, list[tuple[_Path, Any]]]
    own: tuple[str, ...]


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _listed(value: Any) -> list[tuple[int, Any]]:
    return list(enumerate(value)) if isinstance(value, list) else []


def _tried(value: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[_Path, Any]]]]:
    """The values under `grid` and `search`; of a range its ends."""
    for key, values in _items(value.get("grid")):
        yield key, [(("grid", key, n), one) for n, one in _listed(values)]
    search = value.get("search")
    for key, values in _items(search.get("space") if isinstance(search, dict) else None):
        yield key, [(("search", "space", key, place), one) for place, one in _stated(values)]


def _stated(values: Any) -> list[tuple[str | int, Any]]:
    """The values that stand in a space, with their places: those of a list, or the ends of a range."""
    ends = [(end, one) for end, one in _items(values) if end in {"low", "high"} and isinstance(one, int | float)]
    return [*_listed(values), *ends]


def _entry(kind: str, path: _Path, value: Any, own: tuple[str, ...] = ()) -> Iterator[_Entry]:
    if isinstance(value, dict) and isinstance(value.get("type"), str) and value["type"]:
        params = {key: child for key, child in value.items() if key not in ("type", *own)}
        tried = {key: values for key, values in _tried(value) if values and key not in params} if "grid" in own else {}
        yield _Entry(kind=kind, path=path, type=value["type"], params=params, tried=tried, own=own)


def _assumption(host: Host, path: _Path, value: Any) -> Iterator[_Entry]:
    """An assumption, and the model that it lets forecast."""
    for entry in _entry("assumption", path, value):
        yield entry
        if _offered(host, entry, "models"):
            yield from _entry("model", (*path, "model"), entry.params.get("model"))


def _offered(host: Host, entry: _Entry, flag: str) -> bool:
    """Whether the spec of an assumption says so."""
    return any(o.name == entry.type and o.health == "ok" and getattr(o.spec, flag) for o in host.offers("assumption"))


def _entries(host: Host, data: Mapping[str, Any]) -> Iterator[_Entry]:
    """Every plugin that the raw data names; what has a wrong shape is left to the other checks."""
    yield from _entry("source", ("source",), data.get("source"), ("id", "time", "target", "timezone"))
    for name, value in _items(data.get("assumptions")):
        yield from _assumption(host, ("assumptions", name), value)
    for scenario, changes in _items(data.get("scenarios")):
        for name, value in _items(changes):
            yield from _assumption(host, ("scenarios", scenario, name), value)
    for position, value in _listed(data.get("models")):
        yield from _entry("model", ("models", position), value, ("grid", "search", "scope"))
    for position, value in _listed(data.get("sinks")):
        yield from _entry("sink", ("sinks", position), value)


def _at(value: Any, path: _Path) -> Any:
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _check(host: Host, entry: _Entry, params: Mapping[str, Any], root: Path) -> list[Fault]:
    """What is wrong with one set of parameters; an empty path is a fault of the whole."""
    if (entry.kind, entry.type) == ("model", ENSEMBLE):
        return parameters.check(Ensemble, params)
    try:
        faults = host.check(entry.kind, entry.type, params)
        faults = [fault for fault in faults if not has_reference(_at(params, fault.path))]
        if not faults and not has_reference(params):
            host.make(entry.kind, entry.type, params, root=root)
    except PluginError as error:
        return [Fault(path=(), message=error.message, hint=error.hint, at_key=True)]
    return faults


def _unknown(host: Host, entry: _Entry) -> Iterator[Fault]:
    """That nobody offers what an entry names."""
    if (entry.kind, entry.type) == ("model", ENSEMBLE):
        return
    try:
        host.offer(entry.kind, entry.type)
    except PluginError as error:
        meant = did_you_mean(entry.type, [ENSEMBLE]) if entry.kind == "model" else None
        yield Fault(path=(*entry.path, "type"), message=error.message, hint=meant or error.hint)


def _entry_faults(host: Host, entry: _Entry, root: Path) -> Iterator[Fault]:
    """What is wrong with one plugin entry: its name, its parameters, what it tries, what its constructor says."""
    unknown = list(_unknown(host, entry))
    if unknown:
        yield from unknown
        return
    first = {**entry.params, **{key: values[0][1] for key, values in entry.tried.items()}}
    faults = _check(host, entry, first, root)
    for fault in faults:
        if not fault.path or fault.path[0] not in entry.tried:
            keys = ("type", *entry.own)
            hint = fault.hint or (did_you_mean(str(fault.path[0]), keys) if fault.at_key and fault.path else None)
            yield replace(fault, path=(*entry.path, *fault.path), hint=hint)
    whole = any(not fault.path for fault in faults)
    for key, values in entry.tried.items():
        for place, value in values:
            for fault in _check(host, entry, {**first, key: value}, root):
                where = place[:-1] if fault.at_key and fault.path else (*place, *fault.path[1:])
                if fault.path[:1] == (key,) or (not fault.path and not whole):
                    yield replace(fault, path=(*entry.path, *where))


def _member_faults(entries: Sequence[_Entry]) -> Iterator[Fault]:
    """Members of ensembles that are no candidates."""
    kinds = [e.type for e in entries if e.type != ENSEMBLE for _ in range(_combinations(e))]
    valid = {*kinds, *numbered(kinds)}
    for entry in entries:
        if entry.type != ENSEMBLE:
            continue
        if not valid:
            hint = "name other models beside it"
            yield Fault(path=entry.path, message="there is no candidate it could be made of", hint=hint)
            continue
        given = [(("members",), entry.params.get("members")), *entry.tried.get("members", ())]
        for place, members in given:
            for position, name in _listed(members):
                if isinstance(name, str) and name not in valid:
                    message = f"{name!r} is no candidate of this file; there are {', '.join(dict.fromkeys(kinds))}"
                    if name == ENSEMBLE:
                        message = "an ensemble is not made of ensembles"
                    meant = did_you_mean(name, valid)
                    yield Fault(path=(*entry.path, *place, position), message=message, hint=meant)
            if members == []:
                yield Fault(path=(*entry.path, *place), message="needs at least one entry")


def _scope_faults(host: Host, data: Mapping[str, Any]) -> Iterator[Fault]:
    """Models that are to be fitted segment by segment, and cannot be."""
    alone = {o.name for o in host.offers("model") if o.health == "ok" and o.spec.capabilities.scope == "local"}
    for position, value in _listed(data.get("models")):
        if not isinstance(value, dict) or value.get("scope") != "segment":
            continue
        message, hint = "", None
        if value.get("type") == ENSEMBLE:
            message, hint = "an ensemble is not fitted", "say it of its members"
        elif value.get("type") in alone:
            message, hint = f"{value['type']} learns each series by itself", "leave it out"
        elif data.get("segments") is None:
            message = "the project names no segments"
            hint = "write segments: ^([^/]+)/ for names such as region/store: what is in brackets is the segment"
        if message:
            yield Fault(path=("models", position, "scope"), message=message, hint=hint)


def _combinations(entry: _Entry) -> int:
    """How many candidates an entry makes; one that makes too many is told elsewhere."""
    grid = [values for values in entry.tried.values() if values[0][0][0] == "grid"]
    return min(math.prod(len(values) for values in grid), _MANY)


def numbered(kinds: Sequence[str]) -> list[str]:
    """Names of candidates of these types: the type, numbered where there are several."""
    totals, numbers = Counter(kinds), Counter[str]()
    names = []
    for kind in kinds:
        numbers[kind] += 1
        names.append(kind if totals[kind] == 1 else f"{kind}-{numbers[kind]}")
    return names


def _targets(host: Host, entry: _Entry) -> dict[_Path, str]:
    """The assumptions that an assumption stands on, by place: its parameter `of` or `links`, where its spec `wraps`."""
    if entry.kind != "assumption" or not _offered(host, entry, "wraps"):
        return {}
    found: dict[_Path, Any] = {("of",): entry.params.get("of")}
    for number, link in _listed(entry.params.get("links")):
        inner = isinstance(link, dict)
        found[("links", number, "of") if inner else ("links", number)] = link.get("of") if inner else link
    return {path: name for path, name in found.items() if isinstance(name, str)}


def _circle(name: str, of: Mapping[str, Sequence[str]]) -> list[str]:
    """The way from an assumption back to itself; empty where there is none."""
    ways = [[name, target] for target in of[name]]
    seen = set()
    while ways:
        way = ways.pop()
        if way[-1] == name:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            ways += [[*way, target] for target in of.get(way[-1], ())]
    return []


def _wrapped_faults(host: Host, data: Mapping[str, Any], entries: Sequence[_Entry]) -> Iterator[Fault]:
    """Assumptions that stand on others: those exist, and none stands on itself."""
    known = dict(_items(data.get("assumptions")))
    of: dict[str, list[str]] = {}
    key: dict[str, str | int] = {}
    for entry in entries:
        targets = _targets(host, entry)
        for path, target in targets.items():
            if target not in known:
                hint = did_you_mean(target, known)
                message = f"no assumption is called {target!r}; there are {', '.join(known)}"
                yield Fault(path=(*entry.path, *path), message=message, hint=hint)
        if entry.kind == "assumption" and entry.path[0] == "assumptions":
            of[str(entry.path[-1])] = list(targets.values())
            key[str(entry.path[-1])] = next(iter(targets), ("of",))[0]
    for name in of:
        way = _circle(name, of)
        if way:
            yield Fault(path=("assumptions", name, key[name]), message=f"goes round in a circle: {' → '.join(way)}")


def _file_faults(host: Host, data: Mapping[str, Any], root: Path) -> Iterator[Fault]:
    """Files under `plugins.load` that cannot be loaded; unlike an installed plugin, somebody asked for them."""
    section = data.get("plugins")
    for position, file in _listed(section.get("load") if isinstance(section, dict) else None):
        for offer in host.offers("plugin"):
            if isinstance(file, str) and offer.health == "broken" and offer.location == str((root / file).absolute()):
                yield Fault(path=("plugins", "load", position), message=offer.reason)


def plugin_faults(host: Host, data: Any, root: Path) -> Iterator[Fault]:
    """What is wrong with the plugins that the data names: names, parameters, grids, who stands on whom.

    Args:
        host: the plugins that are there.
        data: the project file's data, however wrong.
        root: folder of the file.
    """
    if not isinstance(data, dict):
        return
    yield from _file_faults(host, data, root)
    entries = list(_entries(host, data))
    for entry in entries:
        yield from _entry_faults(host, entry, root)
    yield from _wrapped_faults(host, data, entries)
    yield from _member_faults([entry for entry in entries if entry.kind == "model"])
    yield from _scope_faults(host, data)
