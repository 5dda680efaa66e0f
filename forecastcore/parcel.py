"""A folder of files as bytes, and back: what crosses to workers that share no disk."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["unwrap", "wrap"]


def wrap(folder: Path, only: Sequence[str] | None = None) -> bytes:
    """Files of a folder; equal files give equal bytes.

    Args:
        folder: what to wrap.
        only: folders below it that are taken along, beside the files that lie in it; default: all.
    """
    inside = (
        [folder.glob("*"), *((folder / name).rglob("*") for name in only)] if only is not None else [folder.rglob("*")]
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as parcel:  # stored, not deflated: arrays and Parquet files are compact already
        for path in sorted({path for paths in inside for path in paths if path.is_file()}):
            parcel.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes())
    return out.getvalue()


def unwrap(data: bytes, folder: Path) -> None:
    """Write the files of a parcel below `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(data)) as parcel:
        parcel.extractall(folder)
