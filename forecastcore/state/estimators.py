"""scikit-learn estimators through skops, with bytes that depend on the estimator alone."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile, ZipInfo

from forecastcore.errors import StateError
from forecastcore.state.arrays import check_npy, entries_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["dump", "restore"]

_INSTALL = "pip install 'forecastcore[skops]'"


def dump(estimator: Any) -> bytes:
    """The skops file of an estimator.

    Raises:
        ValueError: skops cannot store it.
    """
    skops = _skops()
    try:
        raw = skops.dumps(estimator)
    except Exception as error:
        raise ValueError(f"skops cannot store it: {error}") from error
    return _canonical(raw)


def restore(data: bytes, name: str, trusted: Sequence[str]) -> Any:
    """The estimator of a skops file.

    Args:
        data: the file.
        name: of the file, for messages.
        trusted: full class names allowed beside skops' own list.

    Raises:
        StateError: the file is broken, or names other classes; nothing was constructed.
    """
    skops = _skops()
    for entry, content in entries_of(data, name).items():
        if entry.endswith(".npy"):
            check_npy(content, f"{name}/{entry}")
    try:
        unknown = sorted(set(skops.get_untrusted_types(data=data)) - set(trusted))
        if not unknown:
            return skops.loads(data, trusted=list(trusted))
    except Exception as error:
        raise StateError(f"{name} is not an estimator that can be loaded: {error}") from error
    raise StateError(
        f"{name} holds classes that are not trusted: {', '.join(unknown)}",
        hint="a plugin whose models need them names them in Capabilities(trusted=...)",
    )


def _skops() -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise StateError("scikit-learn estimators are stored through skops, which is missing", hint=_INSTALL) from error
    return skops.io


def _canonical(raw: bytes) -> bytes:
    """Number what skops names by memory address or at random, and drop the time of writing."""
    with ZipFile(io.BytesIO(raw)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files.pop("schema.json"))
    names: dict[str, str] = {}
    _renumber(schema, {}, names, files)
    sink = io.BytesIO()
    with ZipFile(sink, "w") as archive:
        archive.writestr(ZipInfo("schema.json"), json.dumps(schema, separators=(",", ":")))
        for old, new in names.items():
            archive.writestr(ZipInfo(new), files[old])
    return sink.getvalue()


def _renumber(node: Any, ids: dict[int, int], names: dict[str, str], files: dict[str, bytes]) -> None:
    if isinstance(node, list):
        for child in node:
            _renumber(child, ids, names, files)
    if not isinstance(node, dict):
        return
    if node.get("__loader__") == "JsonNode":
        # Two equal literals may or may not be one object in memory; it makes no difference when they are read.
        node.pop("__id__", None)
    elif isinstance(node.get("__id__"), int):
        node["__id__"] = ids.setdefault(node["__id__"], len(ids) + 1)
    file = node.get("file")
    if isinstance(file, str) and file in files:
        node["file"] = names.setdefault(file, f"{len(names)}.{file.rpartition('.')[2]}")
    for child in node.values():
        _renumber(child, ids, names, files)
