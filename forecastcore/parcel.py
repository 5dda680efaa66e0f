"""A folder of files as bytes, and back: what crosses to workers that share no disk."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["unwrap", "wrap", "wrap_files"]


def wrap(folder: Path, only: Sequence[str] | None = None, *, dense: bool = False) -> bytes:
    """Files of a folder; equal files give equal bytes.

    Args:
        folder: what to wrap.
        only: folders below it that are taken along, beside the files that lie in it; default: all.
        dense: deflate them; arrays and Parquet files are compact already, JSON is not.
    """
    inside = [folder.rglob("*")] if only is None else [folder.glob("*"), *((folder / name).rglob("*") for name in only)]
    return wrap_files(folder, sorted({path for paths in inside for path in paths if path.is_file()}), dense=dense)


def wrap_files(folder: Path, files: Sequence[Path], *, dense: bool = False) -> bytes:
    """Some files below a folder; see `wrap`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as parcel:
        for path in files:
            about = zipfile.ZipInfo(path.relative_to(folder).as_posix())
            parcel.writestr(about, path.read_bytes(), zipfile.ZIP_DEFLATED if dense else zipfile.ZIP_STORED)
    return out.getvalue()


def unwrap(data: bytes, folder: Path) -> None:
    """Write the files of a parcel below `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(io.BytesIO(data)) as parcel:
        parcel.extractall(folder)
