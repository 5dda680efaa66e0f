"""A folder of files as bytes, and back: what crosses to workers that share no disk."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["unwrap", "wrap"]


def wrap(folder: Path) -> bytes:
    """All files of a folder; equal folders give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as parcel:  # stored, not deflated: arrays and Parquet files are compact already
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            parcel.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes())
    return out.getvalue()


def unwrap(data: bytes, folder: Path) -> None:
    """Write the files of a parcel below `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(data)) as parcel:
        parcel.extractall(folder)
