"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from contextlib import contextmanager, suppress
from io import RawIOBase
from typing import IO, TYPE_CHECKING

from forecastcore.errors import SinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["abandoned", "appear", "replace", "staged", "sweep"]

_HOUR = 3600.0
_DAY = 24 * _HOUR


@contextmanager
def staged(folder: Path, name: str, write: Callable[[IO[bytes]], None]) -> Iterator[Path]:
    """A file of its own in `folder`, written, flushed to the disk, and seen to hold what was written.

    Whoever does not move it away leaves nothing behind: it is removed at the end.

    Args:
        folder: made if it does not exist; on the same file system as where the file is to appear.
        name: start of the file's name; the rest is random.
        write: writes the content.

    Raises:
        SinkError: what is on the disk is not what was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.{uuid.uuid4().hex}"
    try:
        with path.open("xb") as raw:
            hashing = _Hashing(raw)
            write(hashing)  # type: ignore[arg-type]  # a raw stream that pyarrow writes to
            raw.flush()
            os.fsync(raw.fileno())
        with path.open("rb") as raw:
            if hashlib.file_digest(raw, "sha256").digest() != hashing.digest():
                raise SinkError(f"what is on the disk at {path} is not what was written", hint="check the disk")
        yield path
    finally:
        path.unlink(missing_ok=True)


def appear(path: Path, target: Path) -> None:
    """Let a staged file appear at `target` in one step.

    Raises:
        FileExistsError: something is there; it is left as it is.
    """
    try:
        os.link(path, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links; the caller holds the lock
        if target.exists():
            raise FileExistsError(target) from None
        path.rename(target)
    _flush_folder(target.parent)


def replace(path: Path, target: Path) -> None:
    """Let a staged file take the place of `target` in one step."""
    os.replace(path, target)  # noqa: PTH105 - the very call that is atomic
    _flush_folder(target.parent)


def sweep(folder: Path) -> None:
    """Remove what runs that were killed more than a day ago left in a staging folder."""
    for file in folder.glob("*"):
        with suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > _DAY:
                file.unlink()


def abandoned(folder: Path) -> list[Path]:
    """What runs that were killed left in a staging folder: nobody has written to it for an hour."""
    found = []
    for file in sorted(folder.glob("*")):
        with suppress(FileNotFoundError):
            if time.time() - file.stat().st_mtime > _HOUR:
                found.append(file)
    return found


def _flush_folder(folder: Path) -> None:
    """Make a new name outlive a power cut, where the system lets a folder be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class _Hashing(RawIOBase):
    """Passes bytes on and hashes them on their way."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._hash = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # pyarrow hands over bytes
        self._hash.update(data)
        return self._raw.write(data)

    def tell(self) -> int:
        return self._raw.tell()

    def digest(self) -> bytes:
        return self._hash.digest()
