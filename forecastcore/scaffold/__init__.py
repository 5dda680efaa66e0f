"""Writes a new distribution with a plugin that works, for its author to fill."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template

from forecastcore import __version__
from forecastcore.errors import UsageError
from forecastcore.hookspecs import KINDS

__all__ = ["rendered", "write"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_USAGE = {
    "model": "models: [{type: seasonal-naive}, {type: $name}]",
    "assumption": "assumptions: {weather: {type: $name}}",
    "sink": "sinks: [{type: $name, path: out/forecasts}]",
    "source": "source: {type: $name, path: data/history.arrow}",
}


def write(kind: str, name: str, folder: Path | None = None) -> Path:
    """Write `forecastcore-NAME/`: pyproject, package, a conformance test, a README.

    Args:
        kind: `model`, `assumption`, `sink` or `source`.
        name: what `type:` will say, lowercase words joined by dashes.
        folder: that the new one is made in; default: here.

    Returns:
        The new folder.

    Raises:
        UsageError: the name will not do, or the folder is there.
    """
    if kind not in KINDS:
        raise UsageError(f"{kind!r} is no kind of plugin", hint=f"there are {', '.join(KINDS)}")
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a type's name", hint="lowercase words joined by dashes, like my-model")
    distribution = f"forecastcore-{name}"
    root = (folder or Path()).absolute() / distribution
    if root.exists():
        raise UsageError(f"{root} is there already", hint="choose another name, or another folder with --into")
    package = distribution.replace("-", "_")
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{kind}.py": f"{package}/__init__.py",
        "test_conformance.py": "tests/test_conformance.py",
    }
    for template, place in files.items():
        target = root / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(rendered(template, kind, name), encoding="utf-8")
    return root


def rendered(template: str, kind: str, name: str) -> str:
    """One file of a new plugin: the template's text with the plugin's kind and names in it."""
    distribution = f"forecastcore-{name}"
    words = {
        "kind": kind,
        "name": name,
        "distribution": distribution,
        "package": distribution.replace("-", "_"),
        "cls": "".join(part.capitalize() for part in name.split("-")),
        "hook": KINDS[kind],
        "bounds": _bounds(),
        "usage": Template(_USAGE[kind]).substitute(name=name),
    }
    return Template(_text(template)).substitute(words)


def _text(template: str) -> str:
    return resources.files(__name__).joinpath("templates", f"{template}.template").read_text(encoding="utf-8")


def _bounds() -> str:
    """This minor version, and no later one: the interface may change before 1.0."""
    major, minor = __version__.split(".")[:2]
    return f">={major}.{minor},<{major}.{int(minor) + 1}"
