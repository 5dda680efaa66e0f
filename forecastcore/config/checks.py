"""Faults that lie between keys: names that nobody defines, two keys that exclude each other.

They look at the raw data, so that they speak even when other keys are wrong.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from forecastcore.config.engines import ENGINES
from forecastcore.config.models import ENSEMBLE, RangeConfig
from forecastcore.config.references import has_reference, misplaced
from forecastcore.config.words import Fault, did_you_mean, explain, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic import BaseModel

__all__ = ["cross_check", "no_identity"]

#: names that frames use for something else
_TAKEN = {"unique_id", "ds", "y", "step", "origin", "assumed_by"}
_MAX_COMBINATIONS = 1000


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _covariates(data: Mapping[str, Any]) -> Iterator[Fault]:
    assumptions = _mapping(data.get("assumptions"))
    columns = {str(_mapping(data.get("source")).get(key)) for key in ("id", "time", "target")}
    for name, covariate in _mapping(data.get("covariates")).items():
        path = ("covariates", name)
        if name in _TAKEN | columns:
            yield Fault(path=path, message=f"the name {name!r} is taken", hint="rename the column", at_key=True)
        if not isinstance(covariate, dict):
            continue
        assume, known = covariate.get("assume"), covariate.get("known")
        if assume is not None and known is True:
            message = "its future is known or assumed, not both"
            yield Fault(path=(*path, "known"), message=message, hint="keep `known` or `assume`", at_key=True)
        elif assume is None and known in (None, False):
            hint = "write {assume: <an assumption's name>} or {known: true}"
            yield Fault(path=path, message="says nothing of its future", hint=hint, at_key=True)
        if isinstance(assume, str) and assume not in assumptions:
            hint = did_you_mean(assume, assumptions) or f"define it: assumptions: {{{assume}: {{type: climatology}}}}"
            yield Fault(path=(*path, "assume"), message=_undefined(assume, assumptions), hint=hint)
        if covariate.get("issued") is not None and assume is None:
            yield Fault(path=(*path, "issued"), message="is read only where the covariate is assumed", at_key=True)


def _undefined(name: str, assumptions: Mapping[str, Any]) -> str:
    there = f"there are {', '.join(assumptions)}" if assumptions else "there is none"
    return f"no assumption is called {name!r}; {there}"


def _scenarios(data: Mapping[str, Any]) -> Iterator[Fault]:
    assumptions = _mapping(data.get("assumptions"))
    for scenario, changes in _mapping(data.get("scenarios")).items():
        path = ("scenarios", scenario)
        if scenario == "base":
            yield Fault(
                path=path, message="'base' always exists and is what `assumptions` says", hint="rename it", at_key=True
            )
        elif not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", scenario):
            better = re.sub(r"[^A-Za-z0-9_]+", "-", scenario[:100]).strip("-")
            hint = f"did you mean {better!r}?" if better else None
            words = "expected letters, digits, dashes and underscores in the name"
            yield Fault(path=path, message=words, hint=hint, at_key=True)
        for name in _mapping(changes):
            if name not in assumptions:
                hint = did_you_mean(name, assumptions)
                yield Fault(path=(*path, name), message=_undefined(name, assumptions), hint=hint, at_key=True)


def _grids(data: Mapping[str, Any]) -> Iterator[Fault]:
    models = data.get("models")
    for position, model in enumerate(models if isinstance(models, list) else ()):
        grid = {
            key: values for key, values in _mapping(_mapping(model).get("grid")).items() if isinstance(values, list)
        }
        for key in grid:
            if key in model:
                path = ("models", position, "grid", key)
                yield Fault(
                    path=path, message=f"{key!r} is set beside the grid too", hint="keep one of them", at_key=True
                )
        combinations = math.prod(len(values) for values in grid.values())
        if combinations > _MAX_COMBINATIONS:
            message = f"makes {combinations} candidates; at most {_MAX_COMBINATIONS} are fitted"
            yield Fault(path=("models", position, "grid"), message=message, hint="list fewer values", at_key=True)


def _twice(data: Mapping[str, Any]) -> Iterator[Fault]:
    """Candidates and sinks that stand in the file more than once."""
    for section in ("models", "sinks"):
        entries = data.get(section)
        listed = entries if isinstance(entries, list) else []
        for position, entry in enumerate(listed[:_MAX_COMBINATIONS]):
            first = listed.index(entry)
            if first < position and isinstance(entry, dict):
                yield Fault(
                    path=(section, position), message=f"is the same as {section}.{first}", hint="keep one of them"
                )


def _searches(data: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with the spaces that are searched, whatever the parameters are."""
    models = data.get("models")
    searched = False
    for position, model in enumerate(models if isinstance(models, list) else ()):
        entry, path = _mapping(model), ("models", position, "search")
        searched |= "search" in entry
        if "search" in entry and entry.get("type") == ENSEMBLE:
            hint = "list its methods under `grid`, and search the parameters of its members"
            yield Fault(path=path, message="an ensemble has no parameters to search", hint=hint, at_key=True)
            continue
        for key, values in _mapping(_mapping(entry.get("search")).get("space")).items():
            if key in {**_mapping(entry.get("grid")), **entry}:
                message = f"{key!r} is set outside of the search too"
                yield Fault(path=(*path, "space", key), message=message, hint="keep one of them", at_key=True)
            yield from _values(values, (*path, "space", key))
    if "search" in data and not searched:
        message = "is a budget, and no model is searched"
        yield Fault(path=("search",), message=message, hint="give a model `search: {space: …}`", at_key=True)


def _values(values: Any, path: tuple[str | int, ...]) -> Iterator[Fault]:
    if isinstance(values, dict):
        yield from _section(RangeConfig, values, path, "a range")
    elif not isinstance(values, list) or not values:
        hint = "such as [1, 2, 3] or {low: 0.01, high: 0.3, log: true}"
        yield Fault(path=path, message=f"expected a list of values or a range, got {shown(values)}", hint=hint)


def _fields(model: type[BaseModel], inside: Sequence[str]) -> list[str]:
    """The settings of a section, or of one that is nested in it."""
    for part in inside:
        annotation = model.model_fields[part].annotation
        model = next(kind for kind in (*get_args(annotation), annotation) if hasattr(kind, "model_fields"))
    return list(model.model_fields)


def _section(
    model: type[BaseModel], data: Mapping[str, Any], path: tuple[str | int, ...], what: str
) -> Iterator[Fault]:
    """What is wrong with a section that pydantic is not led to by the type of its parent."""
    try:
        model.model_validate(data)
    except ValidationError as error:
        for fault in error.errors(include_url=False):
            place = (*path, *fault["loc"])
            if fault["type"] == "extra_forbidden":
                *inside, name = (str(part) for part in fault["loc"])
                there = _fields(model, inside)
                message = f"{'.'.join(inside) or what} has no such setting; it has {', '.join(there)}"
                yield Fault(path=place, message=message, hint=did_you_mean(name, there), at_key=True)
            elif not has_reference(fault["input"]):
                message, hint = explain(fault)
                yield Fault(path=place, message=message, hint=hint, at_key=fault["type"] == "missing")


def _engine(data: Mapping[str, Any]) -> Iterator[Fault]:
    engine = _mapping(data.get("engine"))
    kind = engine.get("type", "local")
    params = {key: value for key, value in engine.items() if key != "type"}
    if not isinstance(kind, str) or kind not in ENGINES:
        return
    yield from _section(ENGINES[kind], params, ("engine",), f"the engine {kind!r}")
    if kind == "databricks":
        ways = [key for key in ("cluster", "existing_cluster", "serverless") if params.get(key)]
        if len(ways) != 1:
            message = (
                f"expected exactly one of cluster, existing_cluster and serverless, got {' and '.join(ways) or 'none'}"
            )
            yield Fault(path=("engine",), message=message, at_key=True)

    if kind == "spark" and {"master", "remote"} <= params.keys():
        message = "a session is made here or by a Spark Connect server"
        yield Fault(path=("engine", "remote"), message=message, hint="keep one of master and remote", at_key=True)


def no_identity(credential: Any, path: tuple[str | int, ...]) -> Iterator[Fault]:
    """A credential that is an account's key, which `profile: prod` does not take.

    Args:
        credential: as the file has it, or, where it was a reference to a Prefect block, its JSON.
        path: where it stands in the file.
    """
    if isinstance(credential, str) and "connection_string" in credential:
        try:
            credential = json.loads(credential)
        except ValueError:
            return
    if _mapping(credential).get("connection_string"):
        message = "is an account's key; under profile: prod only an identity may ask"
        hint = "write {managed_identity: CLIENT_ID} or {tenant_id: …, client_id: …, client_secret: ${env:NAME}}"
        yield Fault(path=path, message=message, hint=hint, at_key=True)


def _identities(data: Mapping[str, Any]) -> Iterator[Fault]:
    """Under `profile: prod`, who asks has to stand in the file."""
    if data.get("profile") != "prod":
        return
    sinks = data.get("sinks")
    places = [(("sinks", n), sink) for n, sink in enumerate(sinks if isinstance(sinks, list) else ())]
    for path, place in [(("source",), data.get("source")), *places]:
        yield from no_identity(_mapping(place).get("credential"), (*path, "credential"))
    engine = _mapping(data.get("engine"))
    if engine.get("type") == "databricks" and not engine.get("profile"):
        message = "names no identity, and under profile: prod the environment is not asked for one"
        hint = "write profile: NAME, of a Databricks configuration with a service principal or managed identity"
        yield Fault(path=("engine",), message=message, hint=hint, at_key=True)


def cross_check(data: Mapping[str, Any]) -> Iterator[Fault]:
    """All faults between keys of a project file's data."""
    yield from misplaced(data)
    yield from _covariates(data)
    yield from _scenarios(data)
    yield from _grids(data)
    yield from _searches(data)
    yield from _twice(data)
    yield from _engine(data)
    yield from _identities(data)
