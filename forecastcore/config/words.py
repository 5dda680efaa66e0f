"""Words for errors: nearest names, values as a reader wrote them, and what pydantic found wrong."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Fault", "custom_error", "did_you_mean", "explain", "is_secret", "nearest", "shown", "without_value"]

_SHOWN = 60
_PERCENT = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What is wrong at one key, before file and line are known.

    Attributes:
        path: keys and list positions from the top.
        message: what is wrong, and what was expected.
        hint: nearest valid name, or what to do next.
        at_key: the key itself is wrong, not its value.
    """

    path: tuple[str | int, ...]
    message: str
    hint: str | None = None
    at_key: bool = False


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name that comes closest to `name`, or None where none is close; case, `_` and `-` count little."""

    def plain(text: str) -> str:
        return text.lower().replace("_", "-")

    names = {plain(other): other for other in sorted(valid, reverse=True)}
    found = difflib.get_close_matches(plain(name[:_SHOWN]), names, n=1, cutoff=0.55)
    return names[found[0]] if found else None


def did_you_mean(name: str, valid: Iterable[str]) -> str | None:
    """The hint `did you mean 'x'?`, or None where no name is close."""
    found = nearest(name, valid)
    return f"did you mean {found!r}?" if found else None


def shown(value: Any) -> str:
    """A value as the reader wrote it, cut to a few words."""
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str) if not isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def without_value(message: str) -> str:
    """The message without the value that it shows."""
    return re.split(r"[,;] got ", message, maxsplit=1)[0]


def is_secret(name: str) -> bool:
    """Whether a parameter of that name is likely to hold what must not be told."""
    return (
        re.search(r"password|passwd|secret|token|credential|connection|dsn|sas|(^|_)(key|pwd)$", name.lower())
        is not None
    )


def custom_error(message: str, hint: str | None = None) -> PydanticCustomError:
    """What a validator raises to say its own words; braces in them are text."""
    return PydanticCustomError("forecastcore", "{message}", {"message": message, "hint": hint})


def _wanted(words: str) -> Any:
    return lambda value, _: (f"expected {words}, got {shown(value)}", None)


def _whole(value: Any, _: Mapping[str, Any]) -> tuple[str, str | None]:
    digits = isinstance(value, str) and value.strip().lstrip("+-").isdigit()
    return f"expected a whole number, got {shown(value)}", f"write {value.strip()} without quotes" if digits else None


def _text(value: Any, _: Mapping[str, Any]) -> tuple[str, str | None]:
    scalar = isinstance(value, int | float)
    return f"expected text, got {shown(value)}", f'put it in quotes: "{shown(value)}"' if scalar else None


def _truth(value: Any, _: Mapping[str, Any]) -> tuple[str, str | None]:
    word = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}.get(
        str(value).lower()
    )
    return f"expected true or false, got {shown(value)}", f"did you mean {word}?" if word else None


def _choice(value: Any, context: Mapping[str, Any]) -> tuple[str, str | None]:
    names = [name.strip().strip("'") for name in str(context["expected"]).replace(" or ", ", ").split(",")]
    hint = did_you_mean(value, names) if isinstance(value, str) else None
    return f"expected one of {', '.join(names)}; got {shown(value)}", hint


def _mapping(value: Any, _: Mapping[str, Any]) -> tuple[str, str | None]:
    hint = "leave the key out to get the defaults" if value is None else None
    return f"expected keys with values, got {shown(value)}", hint


def _listed(value: Any, _: Mapping[str, Any]) -> tuple[str, str | None]:
    hint = f"write [{value}]" if isinstance(value, str | int | float) and len(str(value)) <= _SHOWN else None
    return f"expected a list, got {shown(value)}", "begin each entry with a dash" if isinstance(value, dict) else hint


def _bound(words: str, name: str) -> Any:
    def said(value: Any, context: Mapping[str, Any]) -> tuple[str, str | None]:
        share = context[name] == 1 and name in {"le", "lt"} and 1 < value < _PERCENT
        hint = f"did you mean {value / _PERCENT:g}?" if share else None
        return f"must be {words} {context[name]:g}, got {shown(value)}", hint

    return said


_BY_TYPE: dict[str, Any] = {
    "missing": lambda *_: ("is required", None),
    "int_type": _whole,
    "int_from_float": _whole,
    "int_parsing": _whole,
    "float_type": _wanted("a number"),
    "float_parsing": _wanted("a number"),
    "finite_number": _wanted("a finite number"),
    "bool_type": _truth,
    "bool_parsing": _truth,
    "string_type": _text,
    "literal_error": _choice,
    "enum": _choice,
    "greater_than_equal": _bound("at least", "ge"),
    "greater_than": _bound("above", "gt"),
    "less_than_equal": _bound("at most", "le"),
    "less_than": _bound("below", "lt"),
    "tuple_type": _listed,
    "list_type": _listed,
    "set_type": _listed,
    "dict_type": _mapping,
    "model_type": _mapping,
    "model_attributes_type": _mapping,
    "too_short": lambda *_: ("needs at least one entry", None),
    "string_too_short": lambda *_: ("must not be empty", None),
    "path_type": _wanted("a path"),
}


def explain(error: Mapping[str, Any]) -> tuple[str, str | None]:
    """Message and hint for one of `ValidationError.errors()`."""
    context = error.get("ctx") or {}
    if error["type"] == "forecastcore":
        return context["message"], context["hint"]
    if error["type"] in _BY_TYPE:
        message, hint = _BY_TYPE[error["type"]](error["input"], context)
        return message, hint
    words = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    got = error["input"]
    return (words if isinstance(got, dict | list) else f"{words[:1].lower()}{words[1:]}, got {shown(got)}"), None
