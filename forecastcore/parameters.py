"""The parameters of a plugin's factory: the typed arguments of its constructor, checked, converted, as JSON Schema."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import re
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NotRequired, Union, cast, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from typing_extensions import TypedDict  # pydantic wants this one before Python 3.12

from forecastcore.config.words import Fault, did_you_mean, explain, is_secret, without_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["check", "json_schema", "names", "unreadable", "values"]


@dataclass(frozen=True)
class _Parameter:
    annotation: Any
    default: Any

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    @property
    def is_path(self) -> bool:
        return _holds_path(self.annotation)


def _holds_path(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _holds_path(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return any(_holds_path(part) for part in get_args(annotation))
    return annotation is Path


@functools.lru_cache(maxsize=512)
def _parameters(factory: Callable[..., Any]) -> dict[str, _Parameter]:
    hints = get_type_hints(factory, include_extras=True)
    found = {}
    for name, parameter in inspect.signature(factory).parameters.items():
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            hint = hints.get(name, Any)
            found[name] = _Parameter(hint.type if isinstance(hint, dataclasses.InitVar) else hint, parameter.default)
    return found


@functools.lru_cache(maxsize=512)
def _adapter(factory: Callable[..., Any]) -> TypeAdapter[dict[str, Any]]:
    # A typed dictionary, not the dataclass itself: its own constructor then makes the object, and a parameter may have
    # any name (a pydantic model has methods called `schema` and `copy`).
    hints = {
        name: p.annotation if p.required else NotRequired[p.annotation] for name, p in _parameters(factory).items()
    }
    shape = cast(Any, TypedDict)(getattr(factory, "__name__", "Parameters"), hints)
    shape.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return TypeAdapter(shape)


def names(factory: Callable[..., Any]) -> tuple[str, ...]:
    """What a factory takes, in its order."""
    return tuple(_parameters(factory))


def unreadable(factory: Callable[..., Any]) -> str:
    """Why a factory's types cannot be read, in words; empty where they can."""
    try:
        _parameters(factory)
    except NameError as error:
        return f"a type of {factory.__name__} is not there at run time ({error}); import it outside of TYPE_CHECKING"
    return ""


def _urls(factory: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, str]:
    """Parameters of type `Path` that are no paths of this machine but URLs, which a `Path` would spoil."""
    paths = {name for name, parameter in _parameters(factory).items() if parameter.is_path}
    return {
        name: value for name, value in params.items() if name in paths and isinstance(value, str) and "://" in value
    }


def _validated(factory: Callable[..., Any], params: Mapping[str, Any], *, lax: bool) -> dict[str, Any]:
    urls = _urls(factory, params)
    # JSON, because its strict mode takes "12" for no number, but a list for a tuple and text for a path or a date.
    text = json.dumps({**params, **dict.fromkeys(urls, ".")}, default=str)
    return {**_adapter(factory).validate_json(text, strict=not lax), **urls}


def _fault(factory: Callable[..., Any], error: Mapping[str, Any]) -> Fault:
    path = error["loc"]
    if error["type"] == "extra_forbidden" and len(path) == 1:
        valid = names(factory)
        message = f"is no parameter; there are {', '.join(valid)}" if valid else "is no parameter; there is none"
        return Fault(path=path, message=message, hint=did_you_mean(str(path[0]), valid), at_key=True)
    message, hint = explain(error)
    if any(is_secret(str(part)) for part in path):
        message, hint = without_value(message), None
    return Fault(path=path, message=message, hint=hint, at_key=error["type"] == "missing" and len(path) == 1)


def check(factory: Callable[..., Any], params: Mapping[str, Any], *, lax: bool = False) -> list[Fault]:
    """What is wrong with `params`: unknown, missing, of a wrong type.

    Args:
        factory: dataclass whose constructor takes them.
        params: plain data, as YAML gives it.
        lax: whether text stands for numbers.
    """
    try:
        _validated(factory, params, lax=lax)
    except ValidationError as error:
        return [_fault(factory, fault) for fault in error.errors(include_url=False)]
    return []


def values(
    factory: Callable[..., Any], params: Mapping[str, Any], *, root: Path | None = None, lax: bool = False
) -> dict[str, Any]:
    """The constructor's arguments: converted to their types, paths absolute where `root` is given.

    A URL (`abfss://…`) given to a parameter of type `Path` stays the text it is.
    """
    converted = _validated(factory, params, lax=lax)
    if root is not None:
        paths = {name for name, value in converted.items() if isinstance(value, Path)}
        converted |= {name: root / converted[name] for name in paths}
    return converted


def _descriptions(factory: Callable[..., Any]) -> dict[str, str]:
    """What the factory's docstring says under `Attributes:` (Google style), by name."""
    section = re.search(r"^Attributes:\n((?:[ ]+.*\n?|\n)+)", inspect.getdoc(factory) or "", re.MULTILINE)
    if not section:
        return {}
    found = re.findall(r"^ {4}(\w+)(?: \(.*?\))?: (.*(?:\n {5,}.*)*)", section.group(1), re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


def json_schema(factory: Callable[..., Any]) -> dict[str, Any]:
    """JSON Schema of the parameters as an object, closed, with defaults and the words of the factory's docstring."""
    try:
        schema = _adapter(factory).json_schema()
    except PydanticInvalidForJsonSchema:  # a type that JSON has no words for; the host still checks it
        schema = {"type": "object", "properties": {name: {} for name in names(factory)}, "additionalProperties": False}
    schema.pop("title", None)
    words = _descriptions(factory)
    for name, parameter in _parameters(factory).items():
        entry = schema.setdefault("properties", {}).setdefault(name, {})
        entry.pop("title", None)
        entry["description"] = words.get(name) or entry.get("description") or f"Parameter {name}."
        if isinstance(parameter.default, str | int | float | bool | None):
            entry["default"] = parameter.default
    return schema
