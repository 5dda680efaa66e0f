"""The seal of a folder: one digest for all its files, and reading that checks before it hands out.

`digests.json` lists each file's SHA-256 and size; its own SHA-256 is the folder's digest, which belongs somewhere else
(the promotion ledger): whoever can change the folder can change the listing too.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from forecastcore.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["LISTING", "Verified", "make_private_folder", "open_verified", "seal", "verify", "write_private"]

LISTING = "digests.json"
#: bytes of a file that are read together where no more than its digest is wanted
_SOME = 1 << 20
_MEND = "fetch the model again, or retrain"
# Absent on Windows, where opening a link or a pipe cannot be refused in one step; the digest still decides.
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NEW_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Verified:
    """The bytes of a sealed folder, read once and checked; what happens on disk afterwards does not matter.

    Attributes:
        digest: of the whole folder, also in a part taken by `sub`.
        files: relative path, with `/`, → bytes.
    """

    digest: str
    files: Mapping[str, bytes] = field(repr=False)

    def names(self) -> tuple[str, ...]:
        """Relative paths of the files, sorted."""
        return tuple(sorted(self.files))

    def read(self, name: str) -> bytes:
        """The bytes of one file.

        Raises:
            StateError: there is none of that name.
        """
        if name not in self.files:
            raise StateError(f"the stored model has no file {name!r}; it has {', '.join(self.names()) or 'none'}")
        return self.files[name]

    def sub(self, prefix: str) -> Verified:
        """The files below a folder, named relative to it."""
        start = prefix.rstrip("/") + "/"
        return Verified(self.digest, {n.removeprefix(start): d for n, d in self.files.items() if n.startswith(start)})


def seal(folder: Path) -> str:
    """Write `digests.json` for every file below a folder.

    Returns:
        The folder's digest, 64 hexadecimal digits. Keep it elsewhere, and give it to `open_verified`.

    Raises:
        StateError: the folder holds a link, or something that is neither file nor folder.
    """
    listing: dict[str, dict[str, Any]] = {}
    for name in _walk(folder):
        if name != LISTING:
            found, size = _digest(folder, name)
            listing[name] = {"sha256": found, "size": size}
    text = _canonical(listing)
    draft = folder / f".{LISTING}.{os.getpid()}"
    write_private(draft, text)
    draft.replace(folder / LISTING)
    return sha256(text).hexdigest()


def verify(folder: Path, digest: str | None = None) -> str:
    """Check that a folder holds what was sealed: no file missing, none more, none changed, no links.

    Args:
        folder: a sealed folder.
        digest: what `seal` said; None checks the folder against its own listing only.

    Returns:
        The folder's digest.

    Raises:
        StateError: it is not; names the file.
    """
    found, listing = _listing(folder, digest)
    _no_more_than(folder, listing)
    for name, sealed in listing.items():
        _compare(folder, name, _digest(folder, name), sealed)
    return found


def open_verified(
    folder: Path, digest: str | None = None, wanted: Callable[[str], bool] = lambda _name: True
) -> Verified:
    """Read files of a sealed folder once, and check exactly the bytes that were read, so that none can be swapped.

    Args:
        folder: a sealed folder.
        digest: what `seal` said; None checks the folder against its own listing only.
        wanted: of which files to read, by relative path; default: all.

    Raises:
        StateError: the folder is not what was sealed; names the file.
    """
    found, listing = _listing(folder, digest)
    _no_more_than(folder, listing)
    return Verified(found, dict(_checked(folder, {name: seal for name, seal in listing.items() if wanted(name)})))


def make_private_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for this user only (0700), whatever the umask."""
    if not folder.is_dir():
        make_private_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700)


def write_private(path: Path, data: bytes) -> None:
    """Write a new file for this user only (0600), whatever the umask.

    Raises:
        StateError: there is a file already, or it cannot be written.
    """
    try:
        descriptor = os.open(path, _NEW_FLAGS, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor, so that mode and newness are one step
            path.chmod(0o600)
            file.write(data)
    except OSError as error:
        raise StateError(f"{path} cannot be written: {error.strerror}") from error


def _canonical(listing: Mapping[str, Any]) -> bytes:
    return json.dumps(listing, sort_keys=True, separators=(",", ":")).encode()


def _walk(folder: Path, prefix: str = "") -> Iterator[str]:
    """Relative paths of all files, sorted within each folder."""
    try:
        entries = sorted(os.scandir(folder / prefix), key=lambda entry: entry.name)
    except OSError as error:
        raise StateError(f"{folder / prefix} cannot be read: {error.strerror}", hint=_MEND) from error
    for entry in entries:
        name = _safe(prefix + entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(folder, name + "/")
        elif entry.is_file(follow_symlinks=False):
            yield name
        else:
            kind = "a link" if entry.is_symlink() else "neither a file nor a folder"
            raise StateError(f"{name!r} in {folder} is {kind}", hint="a stored model holds plain files only")


def _safe(name: str) -> str:
    """The name, if it stays below its folder and means the same on every system."""
    parts = PurePosixPath(name).parts
    printable = name.isprintable() and "\\" not in name and ":" not in name
    if not printable or not parts or ".." in parts or name.startswith("/") or "/".join(parts) != name:
        raise StateError(f"{name!r} is not a plain path below the model's folder", hint=_MEND)
    return name


def _read(folder: Path, name: str) -> bytes:
    with _opened(folder, name) as file:
        return file.read()


def _digest(folder: Path, name: str) -> tuple[str, int]:
    """Digest and size of a file, of which some is read at a time."""
    found, size = sha256(), 0
    with _opened(folder, name) as file:
        while some := file.read(_SOME):
            found.update(some)
            size += len(some)
    return found.hexdigest(), size


@contextmanager
def _opened(folder: Path, name: str) -> Iterator[IO[bytes]]:
    try:
        with open(os.open(folder / name, _READ_FLAGS), "rb") as file:  # noqa: PTH123 - flags that Path.open lacks
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise StateError(f"{name!r} in {folder} is not a plain file", hint=_MEND)
            yield file
    except FileNotFoundError as error:
        missing = "is not sealed: it has no" if name == LISTING else "is missing the file"
        raise StateError(f"{folder} {missing} {name!r}", hint=_MEND) from error
    except OSError as error:
        why = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise StateError(f"{name!r} in {folder} cannot be read: {why}", hint=_MEND) from error


def _listing(folder: Path, digest: str | None) -> tuple[str, dict[str, tuple[str, int]]]:
    data = _read(folder, LISTING)
    found = sha256(data).hexdigest()
    if digest is not None and found != digest:
        raise StateError(f"{folder / LISTING} has digest {found}, {digest} was registered", hint=_MEND)
    try:
        raw = json.loads(data)
        listing = {_safe(name): (str(entry["sha256"]), int(entry["size"])) for name, entry in raw.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StateError(f"{folder / LISTING} is not a listing of digests", hint=_MEND) from error
    if _canonical(raw) != data:
        raise StateError(f"{folder / LISTING} is not written as `seal` writes it", hint=_MEND)
    return found, listing


def _no_more_than(folder: Path, listing: Mapping[str, tuple[str, int]]) -> None:
    extra = sorted(set(_walk(folder)) - set(listing) - {LISTING})
    if extra:
        raise StateError(f"{folder} holds {extra[0]!r}, which was not there when it was sealed", hint=_MEND)


def _checked(folder: Path, listing: Mapping[str, tuple[str, int]]) -> Iterator[tuple[str, bytes]]:
    for name, sealed in listing.items():
        data = _read(folder, name)
        _compare(folder, name, (sha256(data).hexdigest(), len(data)), sealed)
        yield name, data


def _compare(folder: Path, name: str, found: tuple[str, int], sealed: tuple[str, int]) -> None:
    if found[1] != sealed[1]:
        raise StateError(f"{name!r} in {folder} has {found[1]} bytes, {sealed[1]} were sealed", hint=_MEND)
    if found[0] != sealed[0]:
        raise StateError(f"{name!r} in {folder} is not what was sealed: its digest differs", hint=_MEND)
