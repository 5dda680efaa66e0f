"""One archive as one zip file, with a listing of every file's SHA-256 that is checked whole before anything is used.

The listing's own SHA-256 is the archive's digest, which belongs somewhere else: whoever can change the file can change
the listing too.
"""

from __future__ import annotations

import json
import os
import zipfile
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from forecastcore.errors import BackupError, UsageError
from forecastcore.state import write_private
from forecastcore.state.digests import make_private_folder

__all__ = ["pack", "unpack"]

LISTING: Final = "manifest.json"
#: what a listing may weigh, in bytes; a million files stay below it
_LISTING_BYTES: Final = 200_000_000
_CHUNK: Final = 1 << 20
_NAME_CHARS: Final = 200


def pack(folder: Path, target: Path, head: dict[str, Any]) -> str:
    """Write every file below a folder into one archive that appears whole or not at all, for this user only.

    Args:
        folder: what to keep.
        target: the archive; it must not be there.
        head: what the listing says beside its files.

    Returns:
        The archive's digest.
    """
    if target.exists():
        raise UsageError(f"{target} is there already", hint="name another file; a backup is never written over one")
    make_private_folder(target.parent)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    files: dict[str, dict[str, Any]] = {}
    write_private(draft, b"")
    try:
        with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                name = path.relative_to(folder).as_posix()
                archive.write(path, name)
                files[name] = {"sha256": _hash(path), "size": path.stat().st_size}
            listing = json.dumps({**head, "files": files}, sort_keys=True, indent=1).encode()
            archive.writestr(LISTING, listing)
        with draft.open("rb+") as written:
            os.fsync(written.fileno())
        os.link(draft, target)  # unlike a rename, it never replaces what somebody else has put there
    except FileExistsError as error:
        raise UsageError(f"{target} is there already", hint="name another file") from error
    finally:
        draft.unlink(missing_ok=True)
    return sha256(listing).hexdigest()


def unpack(source: Path, into: Path, digest: str | None = None) -> dict[str, Any]:
    """Check an archive whole, and put its files into an empty folder of this user's.

    Nothing is parsed but the listing, and no byte more is read than it says.

    Args:
        source: the archive.
        into: an empty folder.
        digest: what `pack` said; None checks the archive against its own listing only.

    Returns:
        The listing.

    Raises:
        BackupError: the archive is not what was packed; names the file.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            return _unpacked(archive, source, into, digest)
    except FileNotFoundError as error:
        raise UsageError(f"there is no archive {source}") from error
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise BackupError(f"{source} cannot be read: {error}") from error
    except Exception as error:
        if type(error).__module__ in {"zlib", "lzma", "_lzma"}:
            raise BackupError(f"{source} is damaged: {error}") from error
        raise


def _unpacked(archive: zipfile.ZipFile, source: Path, into: Path, digest: str | None) -> dict[str, Any]:
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if len(set(names)) != len(names):
        raise BackupError(f"{source} holds a file twice")
    if LISTING not in names:
        raise BackupError(f"{source} has no {LISTING}; it is no backup")
    if archive.getinfo(LISTING).file_size > _LISTING_BYTES:
        raise BackupError(f"{source}: its {LISTING} is too large to be one")
    text = archive.read(LISTING)
    found = sha256(text).hexdigest()
    if digest is not None and found != digest:
        raise BackupError(f"{source} has digest {found}, {digest} was asked for")
    listing = _listing(text, source)
    files: dict[str, Any] = listing["files"]
    odd = sorted({*files, LISTING} ^ set(names))
    if odd:
        where = "is missing" if odd[0] in files else "is not in its listing"
        raise BackupError(f"{source}: {odd[0]!r} {where}")
    for name, entry in files.items():
        _extract(archive, name, into / _safe(name), entry["sha256"], entry["size"])
    return listing


def _listing(text: bytes, source: Path) -> dict[str, Any]:
    try:
        listing: dict[str, Any] = json.loads(text)
        for name, entry in listing["files"].items():
            _safe(name)
            entry["sha256"], entry["size"] = str(entry["sha256"]), int(entry["size"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BackupError(f"{source}: its {LISTING} is not as backup writes it") from error
    return listing


def _safe(name: str) -> str:
    """The name, if it stays below its folder and means the same on every system."""
    parts = PurePosixPath(name).parts
    plain = name.isprintable() and not {"\\", ":"} & set(name) and max(map(len, parts), default=0) < _NAME_CHARS
    if not plain or not parts or ".." in parts or name.startswith("/") or "/".join(parts) != name:
        raise BackupError(f"{name[:200]!r} is not a plain path below the archive")
    return name


def _extract(archive: zipfile.ZipFile, name: str, path: Path, digest: str, size: int) -> None:
    make_private_folder(path.parent)
    write_private(path, b"")
    seen, left = sha256(), size
    with archive.open(name) as packed, path.open("wb") as file:
        while left >= 0 and (part := packed.read(min(_CHUNK, left + 1))):
            left -= len(part)
            seen.update(part)
            file.write(part)
    if left != 0 or seen.hexdigest() != digest:
        raise BackupError(f"{name!r} is not what was packed: its digest differs")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return _digest(file)


def _digest(file: IO[bytes]) -> str:
    seen = sha256()
    while part := file.read(_CHUNK):
        seen.update(part)
    return seen.hexdigest()
