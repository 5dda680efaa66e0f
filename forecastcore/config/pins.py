"""Entries of `plugins.allow`: a distribution by name, by version, and by the hash of its code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Pin", "pin_of", "refusal"]

_ENTRY: Final = re.compile(
    r"(?P<name>[A-Za-z0-9_]([\w.-]*\w)?)(\s*==\s*(?P<version>[\w.+!-]+))?(\s+--hash=sha256:(?P<hash>[0-9a-f]{64}))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Pin:
    """What may be loaded.

    Attributes:
        name: a distribution, as packaging tools compare names; or a file.
        version: only this one; any where empty.
        hash: SHA-256 of its code, as `plugins list --json` tells it; any where empty.
    """

    name: str
    version: str = ""
    hash: str = ""


def pin_of(text: str) -> Pin | None:
    """The pin of an entry such as `acme==1.2 --hash=sha256:…`; None where it is none."""
    found = _ENTRY.fullmatch(text.strip())
    if found is None:
        return None
    return Pin(re.sub(r"[-_.]+", "-", found["name"]).lower(), found["version"] or "", found["hash"] or "")


def refusal(pins: Iterable[Pin], *, version: str, digest: str) -> str:
    """Why none of the pins of its name allows a plugin; empty where one does."""
    same = [pin for pin in pins if pin.version in ("", version)]
    if not same:
        return f"plugins.allow allows other versions only, here is {version or 'none'}"
    if any(pin.hash in ("", digest) for pin in same):
        return ""
    return f"its code is not what plugins.allow names: here its hash is sha256:{digest or 'none'}"
