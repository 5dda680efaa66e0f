"""Many arrays in one npz: all arrays of one dtype end to end, each known by its offset and shape."""

from __future__ import annotations

import io
import re
from math import prod
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np
import numpy.typing as npt

from forecastcore.errors import StateError

__all__ = ["Array", "ArrayReader", "ArrayWriter", "check_npy", "entries_of"]

Array = npt.NDArray[Any]
#: bytes of an entry that are read together
_SOME = 1 << 20
#: bytes within which the header of an array file ends: numpy takes none of more than 10,000
_HEADER = 1 << 16
_DTYPE = re.compile(r"[<>|](b1|[iu][1248]|f[248]|c(8|16)|[mM]8(\[\w+\])?|[SU][1-9]\d*)")


class ArrayWriter:
    """Collects arrays; `buffers` names the dtypes, in the order of the npz's entries."""

    def __init__(self) -> None:
        self._chunks: dict[str, list[Array]] = {}
        self._sizes: dict[str, int] = {}
        self._numbers: dict[str, int] = {}

    def add(self, array: Array) -> tuple[int, int]:
        """Number of the buffer and offset in it.

        Raises:
            ValueError: the dtype is not plain data.
        """
        dtype = array.dtype.str
        if dtype not in self._numbers:
            if not _DTYPE.fullmatch(dtype) or np.dtype(dtype) != array.dtype:
                raise ValueError(f"arrays of {array.dtype} are not plain data; use numbers, times or text")
            self._numbers[dtype], self._chunks[dtype], self._sizes[dtype] = len(self._numbers), [], 0
        at = self._sizes[dtype]
        self._sizes[dtype] = at + array.size
        self._chunks[dtype].append(array.reshape(-1))
        return self._numbers[dtype], at

    @property
    def buffers(self) -> list[str]:
        """The dtype of each buffer."""
        return list(self._numbers)

    def npz(self) -> bytes:
        """All buffers, as `np.load` reads them; the same arrays give the same bytes."""
        flat = {
            _entry(number): np.concatenate(self._chunks[dtype], dtype=np.dtype(dtype))
            for dtype, number in self._numbers.items()
        }
        sink = io.BytesIO()
        np.savez(sink, allow_pickle=False, **flat)
        return sink.getvalue()


class ArrayReader:
    """Gives arrays back from the npz's bytes; nothing in them is executed or allocated on their word alone."""

    def __init__(self, data: bytes, buffers: list[str]) -> None:
        files = entries_of(data, "arrays.npz")
        if sorted(files) != sorted(_entry(n) + ".npy" for n in range(len(buffers))):
            raise StateError("arrays.npz does not hold the arrays that state.json names")
        self._flat = [_flat(files[_entry(n) + ".npy"], dtype) for n, dtype in enumerate(buffers)]

    def get(self, buffer: int, at: int, shape: list[int]) -> Array:
        """One array; writing to it changes no other.

        Raises:
            ValueError: it does not lie within the buffer.
        """
        flat, size = self._flat[buffer], prod(shape)
        if buffer < 0 or at < 0 or min(shape, default=0) < 0 or at + size > flat.size:
            raise ValueError("an array lies outside its buffer")
        return flat[at : at + size].reshape(shape)


def entries_of(data: bytes, name: str) -> dict[str, bytearray]:
    """What a zip file holds, if it was stored without compression: such a file cannot grow when it is read.

    It is the caller's own, so that arrays that may be written to need no further copy.

    Raises:
        StateError: it is no such zip file.
    """
    try:
        with ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            plain = all(info.compress_type == ZIP_STORED and info.file_size == info.compress_size for info in infos)
            if (
                not plain
                or sum(info.file_size for info in infos) > len(data)
                or len(set(archive.NameToInfo)) < len(infos)
            ):
                raise StateError(f"{name} is compressed or overlapping; forecastcore does not write it so")
            return {info.filename: _read(archive, info) for info in infos}
    except (BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError, EOFError) as error:
        raise StateError(f"{name} is not a zip file as forecastcore writes it: {error}") from error


def _read(archive: ZipFile, info: ZipInfo) -> bytearray:
    """An entry, some of it at a time."""
    held = bytearray()
    with archive.open(info) as entry:
        while some := entry.read(_SOME):
            held += some
    return held


def check_npy(data: bytes | bytearray, name: str) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """The dtype, shape and start of the values in an npy file that holds plain values, as many as it says.

    Raises:
        StateError: it does not.
    """
    stream = io.BytesIO(memoryview(data)[:_HEADER])
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except (ValueError, EOFError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise StateError(f"{name} is not an array file: {error}") from error
    if dtype.hasobject:
        raise StateError(f"{name} holds pickled objects; they are never loaded")
    start = stream.tell()
    if prod(shape) * dtype.itemsize != len(data) - start:
        raise StateError(f"{name} says it holds {shape} values of {dtype}, but has {len(data) - start} bytes of them")
    return dtype, shape, start


def _entry(number: int) -> str:
    return f"buffer-{number}"


def _flat(data: bytearray, declared: str) -> Array:
    dtype, shape, start = check_npy(data, "arrays.npz")
    if not _DTYPE.fullmatch(declared) or dtype.str != declared or len(shape) != 1:
        raise StateError(f"arrays.npz holds {dtype} of shape {shape} where state.json names {declared!r}")
    return np.frombuffer(data, dtype, offset=start)
