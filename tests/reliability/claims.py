"""Which tests claim which row: `@pytest.mark.row(20, trials=100, seed=7)`, and what a run of them tells.

A case counts one trial unless the mark says more: a number, or the name of the parameter that holds it; a test that
only knows in the end says so with `record_property("trials", n)`. Whatever fails is a violation.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Claim:
    """A test, as `file::name`, and the rows that it claims."""

    test: str
    rows: tuple[int, ...]


def claims(root: Path = ROOT) -> list[Claim]:
    """All claims of the tests, read without importing one."""
    files = [*root.glob("tests/**/test_*.py"), *root.glob("plugins/*/tests/test_*.py")]
    return [claim for file in sorted(files) if "node_modules" not in file.parts for claim in _of_file(file, root)]


def _of_file(file: Path, root: Path) -> Iterator[Claim]:
    text = file.read_text(encoding="utf-8")
    if "mark.row(" not in text:
        return
    tree = ast.parse(text)
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        owner = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        for one in inner:
            if isinstance(one, ast.FunctionDef) and (rows := _rows(one)):
                yield Claim(f"{file.relative_to(root)}::{owner}{one.name}", rows)


def _rows(function: ast.FunctionDef) -> tuple[int, ...]:
    calls = [d for d in function.decorator_list if isinstance(d, ast.Call) and ast.unparse(d.func) == "pytest.mark.row"]
    return tuple(sorted({int(ast.literal_eval(argument)) for call in calls for argument in call.args}))


def tell(items: list[pytest.Item]) -> None:
    """Say with each claiming test what it claims, for the report of the run."""
    for item in items:
        params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        for mark in item.iter_markers("row"):
            said = {name: params.get(value, value) for name, value in mark.kwargs.items()}
            item.user_properties.append(("test", item.nodeid.partition("[")[0]))
            item.user_properties += [("trials", said.get("trials", 1)), ("seed", said.get("seed", ""))]


def only(items: list[pytest.Item], rows: set[int]) -> tuple[list[pytest.Item], list[pytest.Item]]:
    """Those that claim one of the rows (0: any), and the others."""
    wanted, others = [], []
    for item in items:
        claimed = {row for mark in item.iter_markers("row") for row in mark.args}
        (wanted if claimed & rows or (0 in rows and claimed) else others).append(item)
    return wanted, others
