"""YAML text → plain data that knows where each key and value stood.

Scalars follow YAML 1.2: only `true` and `false` are truth values (`off`, `NO` and `12:30` are text), dates stay text.
Hostile text (huge, deep, full of aliases, with foreign tags) is refused with a place, and never executed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from forecastcore.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from forecastcore.config.words import Fault

__all__ = ["MAX_BYTES", "Document", "Place", "apply_overrides", "key_of", "parse"]

#: more than any hand-written project needs; the parser reads about 100 kB a second
MAX_BYTES = 64 * 1024
_MAX_DEPTH = 24
_OPENED = re.compile("flow sequence|flow mapping|quoted scalar")
_MAX_NODES = 10_000
_MAX_PROBLEMS = 50

_TAG = "tag:yaml.org,2002:"
_SCALARS = {_TAG + name for name in ("null", "bool", "int", "float", "str")}

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands.

    Attributes:
        file: the file as the user named it, or `--set key`.
        key: line and column of the key, 1-based; None for an entry of a list.
        value: line and column of the value, 1-based; None where it stands in no file.
    """

    file: str
    key: tuple[int, int] | None = None
    value: tuple[int, int] | None = None


@dataclass
class Document:
    """Data of a file, with places.

    Attributes:
        file: the file as the user named it.
        text: what it holds, as written.
        data: mappings, lists, text, numbers, truth values and None.
        places: of every key and entry, by path from the top.
        problems: what was wrong already.
        spoilt: paths whose value could not be read; further faults there are only echoes.
    """

    file: str
    text: str = ""
    data: Any = None
    places: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    spoilt: set[Path] = field(default_factory=set)

    def place(self, path: Path) -> Place:
        """The place of `path`, or of what comes nearest above it."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, Place(self.file))

    def problem(self, fault: Fault) -> Problem:
        """A fault with its place: that of the value, or of the key where the key is what is wrong."""
        place = self.place(fault.path)
        line, column = (place.key if fault.at_key else place.value) or place.value or (None, None)
        key = key_of(fault.path)
        return Problem(message=fault.message, file=place.file, line=line, column=column, key=key, hint=fault.hint)

    def add(self, faults: Iterable[Fault]) -> None:
        """Add faults to the problems: one a key, none that echoes an earlier one, no more than one can read."""
        told = {(problem.file, problem.key) for problem in self.problems}
        for fault in faults:
            problem = self.problem(fault)
            if len(told) >= _MAX_PROBLEMS:
                break
            if not self.is_spoilt(fault.path) and (problem.file, problem.key) not in told:
                told.add((problem.file, problem.key))
                self.problems.append(problem)

    def is_spoilt(self, path: Path) -> bool:
        """Whether `path` lies at or below a value that could not be read."""
        return any(path[:length] in self.spoilt for length in range(len(path) + 1))


def key_of(path: Path) -> str:
    """The dotted key of a path: `models.0.grid`."""
    return ".".join(str(part) for part in path)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars, bounded depth."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's way to say it
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.depth > _MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # the stubs leave it out
            raise yaml.MarkedYAMLError(problem=f"nested more than {_MAX_DEPTH} deep", problem_mark=mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


for _name, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile("^" + _pattern), _first)


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    kind = node.tag.removeprefix(_TAG)
    if kind == "null":
        return None
    if kind == "bool":
        if text.lower() not in {"true", "false"}:
            raise ValueError(text)
        return text.lower() == "true"
    if kind == "int":
        return int(text)
    if kind == "float":
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(text)
        return number
    text.encode()  # half of a surrogate pair is no text
    return text


def _spot(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


class _Reader:
    """Turns nodes into plain data and collects places and problems."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.nodes = 0

    def _fault(self, path: Path, node: yaml.Node, message: str, hint: str | None = None) -> None:
        line, column = _spot(node)
        problem = Problem(
            message=message, file=self.document.file, line=line, column=column, key=key_of(path), hint=hint
        )
        self.document.problems.append(problem)
        self.document.spoilt.add(path)

    def read(self, node: yaml.Node, path: Path, key: yaml.Node | None = None) -> Any:
        self.nodes += 1
        if self.nodes > _MAX_NODES or len(path) > _MAX_DEPTH:  # an alias may reach its own inside
            words = f"more than {_MAX_NODES} values, or too deep, with aliases written out"
            raise yaml.MarkedYAMLError(problem=words, problem_mark=node.start_mark)
        self.document.places[path] = Place(self.document.file, _spot(key) if key else None, _spot(node))
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            return [self.read(child, (*path, position)) for position, child in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            try:
                return _scalar(node)
            except ValueError:
                self._fault(path, node, f"cannot be read as {node.tag.removeprefix(_TAG)}")
                return None
        self._fault(
            path, node, f"the tag {node.tag.replace(_TAG, '!!')} is not allowed", "write plain YAML without tags"
        )
        return None

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TAG + "str":
                words = (
                    f"the key {key.value!r} is not text" if isinstance(key, yaml.ScalarNode) else "a key must be text"
                )
                self._fault((*path, "?"), key, words, "put it in quotes")
            elif key.value in found:
                message = f"the key stands here a second time; the first is on line {first[key.value]}"
                self._fault((*path, key.value), key, message, "keep one of them")
            else:
                first[key.value] = _spot(key)[0]
                found[key.value] = self.read(value, (*path, key.value), key)
        return found


def _syntax(error: Exception, text: str, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark else (None, None)
    if isinstance(error, yaml.reader.ReaderError) and isinstance(error.position, int):
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    words = getattr(error, "problem", None) or getattr(error, "reason", None) or "a number or escape is out of range"
    hint = None
    if "'\\t'" in words:
        hint = "indent with spaces"
    elif "mapping values are not allowed" in words:
        hint = "put text that holds ': ' in quotes, and check the indentation"
    elif "single document" in words or "found another document" in words:
        hint = "keep one project in a file"
    elif _OPENED.search(str(getattr(error, "context", ""))) and (opened := getattr(error, "context_mark", None)):
        hint = f"is what opens at {opened.line + 1}:{opened.column + 1} closed?"
    return Problem(message=f"is not valid YAML: {words}", file=file, line=line, column=column, hint=hint)


def parse(text: str, file: str) -> Document:
    """Read YAML text.

    Args:
        text: at most `MAX_BYTES` of it.
        file: how problems call it.

    Returns:
        The document; where `problems` is not empty, its data is what could be read.
    """
    document = Document(file, text)
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        limit = f"is larger than {MAX_BYTES // 1024} kB"
        document.problems.append(
            Problem(message=limit, file=file, hint="a project file is a page or two; data goes elsewhere")
        )
        document.spoilt.add(())
        return document
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            document.data = _Reader(document).read(node, ())
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        document.problems.append(_syntax(error, text, file))
        document.spoilt.add(())
    return document


def _put(data: Any, keys: Sequence[str], value: Any) -> Path:
    """Set `value` under `keys`, making mappings on the way, and return the path it has.

    Raises:
        ValueError: the way leads through a value that has no keys, or past the end of a list.
    """
    if not isinstance(data, dict):
        raise ValueError("the file has no keys to set")  # noqa: TRY004 - a fault of the text, not of the call
    here: Any = data
    path: Path = ()
    for number, key in enumerate(keys):
        part: str | int = key
        if isinstance(here, list):
            if not (key.isdecimal() and int(key) < len(here)):
                raise ValueError(
                    f"{key_of(path)} is a list of {len(here)} entries, counted from 0; {key!r} is none of them"
                )
            part = int(key)
        elif not isinstance(here, dict):
            raise ValueError(f"{key_of(path)} has no keys to set")  # noqa: TRY004 - a fault of the text, not of the call
        path = (*path, part)
        if number == len(keys) - 1:
            here[part] = value
        else:
            if isinstance(here, dict) and here.get(part) is None:
                here[part] = {}
            here = here[part]
    return path


def apply_overrides(document: Document, overrides: Sequence[str]) -> None:
    """Apply `key.path=value` texts to a document; what is wrong with them joins its problems."""
    for override in overrides:
        key, equals, text = override.partition("=")
        keys = key.strip().split(".")
        label = f"--set {key.strip()}"
        if not equals or "" in keys:
            document.problems.append(Problem(message="expected key.path=value", file=label, hint="such as horizon=24"))
            continue
        value = parse(text, label)
        if value.problems:
            document.problems += [Problem(message=p.message, file=label, hint=p.hint) for p in value.problems]
            continue
        try:
            path = _put(document.data, keys, value.data)
        except ValueError as error:
            document.problems.append(Problem(message=str(error), file=label))
            continue
        mended = key_of(path)
        document.problems = [p for p in document.problems if not f"{p.key}.".startswith(f"{mended}.")]
        for old in [old for old in document.places if old[: len(path)] == path]:
            del document.places[old]
        document.spoilt = {old for old in document.spoilt if old[: len(path)] != path}
        document.places[path] = Place(label)
