"""A wheel made of a few lines of code, for tests that need some program to run on a cluster."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["make_wheel"]

_TAGS = "Wheel-Version: 1.0\nGenerator: forecastcore\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def make_wheel(
    folder: Path, name: str, files: Mapping[str, str], scripts: Mapping[str, str], *, version: str = "1.0"
) -> Path:
    """Write a pure Python wheel that installers accept.

    Args:
        folder: where to.
        name: of the distribution.
        files: text of each file, by path in the wheel.
        scripts: `module:function` of each console script.
        version: of the distribution.

    Returns:
        The wheel.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    lines = "".join(f"{script} = {target}\n" for script, target in scripts.items())
    contents = {
        **files,
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{stem}.dist-info/WHEEL": _TAGS,
        f"{stem}.dist-info/entry_points.txt": f"[console_scripts]\n{lines}",
    }
    record = "".join(f"{path},{_hash(text)},{len(text.encode())}\n" for path, text in contents.items())
    contents[f"{stem}.dist-info/RECORD"] = f"{record}{stem}.dist-info/RECORD,,\n"
    wheel = folder / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in contents.items():
            archive.writestr(zipfile.ZipInfo(path), text)  # without today's date: the same text, the same bytes
    return wheel


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"
