"""`${env:NAME}` and `${block:TYPE/NAME}`: references stay references until the object that needs the value is made."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from forecastcore.config.words import Fault, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["REFERENCE", "Resolver", "has_reference", "misplaced", "redact", "resolve"]

#: reads the value that a reference names: the part after the colon in, the value out
Resolver = Callable[[str], str]

KINDS = ("env", "block")
REFERENCE = re.compile(r"\$\{(env|block):([^${}]+)\}")
_ANY = re.compile(r"\$\{([^{}]*)\}?")
_SECTIONS = ("source", "assumptions", "scenarios", "sinks", "engine", "tracking")
_WRITTEN_OUT = {"type", "id", "time", "target", "timezone", "experiment"}


def _texts(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from _texts(child, (*path, key))
    elif isinstance(value, list | tuple):
        for position, child in enumerate(value):
            yield from _texts(child, (*path, position))


def has_reference(value: Any) -> bool:
    """Whether any text in `value` holds a reference."""
    return any(REFERENCE.search(text) for _, text in _texts(value, ()))


def misplaced(data: Any) -> Iterator[Fault]:
    """References that are malformed, or stand where none is read."""
    for path, text in _texts(data, ()):
        for found in _ANY.finditer(text):
            if not REFERENCE.fullmatch(found.group()):
                kind = found.group(1).partition(":")[0]
                near = did_you_mean(kind, KINDS) if ":" in found.group(1) and kind not in KINDS else None
                hint = near or "write ${env:NAME} or ${block:TYPE/NAME}"
                yield Fault(path=path, message=f"{found.group()} is not a reference", hint=hint)
            elif path[0] not in _SECTIONS or path[-1] in _WRITTEN_OUT:
                message = f"{found.group()} is not read here"
                yield Fault(
                    path=path, message=message, hint="write the value out; references are for places and secrets"
                )


def _env(name: str) -> str:
    return os.environ[name]


def _look_up(kind: str, name: str, resolvers: Mapping[str, Resolver]) -> str:
    """The value of one reference.

    Raises:
        LookupError: there is none; its argument says so in words, and a second one what to do.
    """
    resolver = resolvers.get(kind) or (_env if kind == "env" else None)
    if resolver is None:
        raise LookupError("a Prefect block can be read only inside a flow", "run it through flows/, or use ${env:NAME}")
    try:
        value = resolver(name)
    except Exception as error:  # noqa: BLE001 - foreign code; its words may hold the secret, its type does not
        if kind == "env":
            raise LookupError(f"the environment variable {name} is not set", f"export {name}=… first") from None
        message = f"the {kind} {name} cannot be read: {type(error).__name__}"
        raise LookupError(message, "look whether it exists and who may read it") from None
    return str(value)


def resolve(
    value: Any, resolvers: Mapping[str, Resolver] | None = None, path: tuple[str | int, ...] = ()
) -> tuple[Any, dict[str, str], list[Fault]]:
    """Put values in the place of references.

    Args:
        value: text, or mappings and lists of it.
        resolvers: how each kind of reference is read; `env` is there unless given.
        path: of `value` in the file.

    Returns:
        The value without references, what stood for what (`{"${env:X}": secret}`), and what could not be read.
    """
    known: dict[str, str] = {}
    faults: list[Fault] = []

    def replace(text: str, at: tuple[str | int, ...]) -> str:
        def one(match: re.Match[str]) -> str:
            try:
                known[match.group()] = _look_up(match.group(1), match.group(2).strip(), resolvers or {})
            except LookupError as error:
                faults.append(Fault(path=at, message=error.args[0], hint=error.args[1]))
                return match.group()
            return known[match.group()]

        return REFERENCE.sub(one, text)

    def walk(part: Any, at: tuple[str | int, ...]) -> Any:
        if isinstance(part, str):
            return replace(part, at)
        if isinstance(part, dict):
            return {key: walk(child, (*at, key)) for key, child in part.items()}
        if isinstance(part, list | tuple):
            return [walk(child, (*at, position)) for position, child in enumerate(part)]
        return part

    return walk(value, path), known, faults


def redact(text: str, known: Mapping[str, str]) -> str:
    """`text` with each resolved value replaced by its reference."""
    for reference, value in sorted(known.items(), key=lambda item: -len(item[1])):
        if value:
            text = text.replace(value, reference)
    return text
