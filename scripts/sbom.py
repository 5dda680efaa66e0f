"""What forecastcore is made of: `python scripts/sbom.py [FILE]` writes a CycloneDX 1.6 bill of materials of the lock.

A component for each line of requirements/runtime.txt, with version, hashes and licence. The licences are what each
distribution says of itself, in the words of SPDX; docs/reference/licences.md is the same as a table.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ALLOWED", "UNSAID", "Locked", "allowed", "bill", "licence", "locked", "page"]

ROOT = Path(__file__).resolve().parents[1]
#: licences under which something may be installed beside forecastcore; none asks anything of those who only use it
ALLOWED = frozenset(
    {
        *("0BSD", "Apache-2.0", "Artistic-1.0-Perl", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "CNRI-Python", "ISC"),
        *("LGPL-3.0-only", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "ZPL-2.1", "Zlib"),
    }
)
#: those that say nothing, or are installed on other systems only; looked up in their repositories
UNSAID = {
    "appnope": "BSD-2-Clause",
    "async-timeout": "Apache-2.0",
    "atheris": "Apache-2.0",
    "huey": "MIT",
    "pywin32": "PSF-2.0",
    "skops": "MIT",
    "waitress": "ZPL-2.1",
    "whenever": "MIT",
}
#: what distributions write instead of SPDX's words, the most telling first
_WORDS = {
    "2-clause": "BSD-2-Clause",
    "bsd-2": "BSD-2-Clause",
    "bsd 2": "BSD-2-Clause",
    "artistic": "Artistic-1.0-Perl OR GPL-2.0-or-later",
    "bsd": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "mozilla": "MPL-2.0",
    "isc": "ISC",
    "python software foundation": "PSF-2.0",
    "matplotlib": "PSF-2.0",
    "mit": "MIT",
}
_LINE = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)[^\n]*((?:\n +--hash=sha256:[0-9a-f]+[^\n]*)*)", re.MULTILINE)
_PAGE = """\
# Licences

What the locks install, and under which licence, as each distribution says of itself. A test fails on a licence that is
not on the list in `scripts/sbom.py`; `make sbom` writes the same as a CycloneDX bill of materials, with hashes. What is
marked *for development* is in no installation of forecastcore."""


class Locked(NamedTuple):
    """A line of a lock file."""

    name: str
    version: str
    hashes: tuple[str, ...]


def locked(lock: str) -> list[Locked]:
    """All lines of a lock file."""
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    return [Locked(m[1], m[2], tuple(re.findall(r"sha256:([0-9a-f]+)", m[3]))) for m in _LINE.finditer(text)]


def licence(name: str) -> str:
    """An SPDX expression; empty where nothing is said."""
    if name in UNSAID:
        return UNSAID[name]
    try:
        told: Any = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
    return str(told.get("License-Expression") or _expression(told))


def _expression(told: Any) -> str:
    text = (told.get("License") or "").strip().split("\n")[0]
    if re.fullmatch(r"[A-Za-z0-9.-]+-[0-9.]+(-[A-Za-z]+)?( (AND|OR) [A-Za-z0-9.-]+)*|MIT( OR Apache-2.0)?|ISC", text):
        return text
    classifiers = [c.rpartition(" :: ")[2] for c in told.get_all("Classifier", []) if c.startswith("License ::")]
    if text == "Dual License":
        return " OR ".join(sorted({_spdx(one) for one in classifiers}))
    return next((found for one in (text, *classifiers) if (found := _spdx(one))), "")


def _spdx(words: str) -> str:
    return next((spdx for said, spdx in _WORDS.items() if re.search(rf"\b{said}\b", words.lower())), "")


def allowed(expression: str) -> bool:
    """Whether an expression can be kept to with licences of the list: all of `AND`, one of `OR`."""
    parts = re.split(r" AND (?![^(]*\))", expression)
    return bool(expression) and all(any(one in ALLOWED for one in part.strip("()").split(" OR ")) for part in parts)


def bill() -> str:
    """The bill of materials as JSON."""
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL

    version = importlib.metadata.version("forecastcore")
    core = Component(name="forecastcore", version=version, type=ComponentType.APPLICATION, bom_ref="forecastcore")
    licences = LicenseFactory()
    made = Bom()
    made.metadata.component = core
    core.licenses.add(licences.make_from_string("Apache-2.0"))
    for one in locked("runtime.txt"):
        part = Component(
            name=one.name,
            version=one.version,
            type=ComponentType.LIBRARY,
            bom_ref=f"{one.name}=={one.version}",
            purl=PackageURL("pypi", name=one.name, version=one.version),
            licenses=[licences.make_from_string(licence(one.name))],
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in one.hashes],
        )
        made.components.add(part)
        made.register_dependency(core, [part])
    text: str = JsonV1Dot6(made).output_as_string(indent=1)
    return text


def _rows() -> Iterator[str]:
    runtime = {one.name for one in locked("runtime.txt")}
    for one in sorted({one.name: one for lock in ("dev.txt", "runtime.txt") for one in locked(lock)}.items()):
        name, line = one
        yield f"| `{name}` | {line.version} | {licence(name)} | {'' if name in runtime else 'for development'} |"


def page() -> str:
    """The licences as a page."""
    return "\n".join([_PAGE, "", "| distribution | version | licence | |", "|---|---|---|---|", *_rows()])


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "dist/sbom.cdx.json")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(bill() + "\n", encoding="utf-8")
    print(f"{len(locked('runtime.txt'))} components in {target}")
