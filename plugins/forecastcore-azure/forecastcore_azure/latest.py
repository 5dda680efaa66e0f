"""`forecast_latest`: a blob with the newest rows, and the pointer that names it.

What the pointer may not show yet is marked in `pending/`, before it is done: `RUN_KEY` of a vintage that is to appear,
`RUN_KEY.withdrawn` of one that is to go. Whoever brings `forecast_latest` up looks there, and takes a mark away once
the pointer says the same; so what a killed run left undone is made good by the next one, and it costs no more with
many vintages than with few. Writers take turns, as a lease on a blob says. It saves work, no more: what keeps the
pointer right is that it is swapped only as it was read. So a writer whose turn does not come goes on without.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from forecastcore.errors import SinkError
from forecastcore.vintages import dictionary, newest
from forecastcore_azure.manifests import as_json, manifest_of, rows_of, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forecastcore_azure.blobs import Blobs

__all__ = ["announce", "refresh"]

_POINTER, _TURN = "forecast_latest.json", "forecast_latest.turn"
_SCHEMA = "forecastcore/latest/2"
_GONE = ".withdrawn"
_ATTEMPTS = 50
#: seconds that the turn of a writer lasts at most, and seconds without any progress that the others wait for it
_LEASE, _PATIENCE = 15, 3.0
_GRACE = timedelta(days=1)
_SWEEP_EVERY = 20


def announce(blobs: Blobs, run_key: str, *, gone: bool = False) -> None:
    """Mark that a vintage is about to appear, or to be withdrawn."""
    blobs.put(f"pending/{run_key}{_GONE if gone else ''}", b"")


def refresh(blobs: Blobs, wanted: set[str], unwanted: set[str], fresh: Mapping[str, pa.Table]) -> None:
    """Bring `forecast_latest` up to the vintages that are visible.

    Of several writers one works at a time, and takes with it what the others have published by then.

    Args:
        blobs: of the sink.
        wanted: run keys of vintages that must be in it.
        unwanted: run keys of vintages that must not.
        fresh: rows that are at hand already, by run key.

    Raises:
        SinkError: other writers were faster, again and again.
    """
    attempts, etag, waiting = 0, "", time.monotonic()
    while attempts < _ATTEMPTS:
        with blobs.turn(_TURN, _LEASE) as mine:
            pointer = _Pointer.read(blobs)
            if wanted <= pointer.vintages and not unwanted & pointer.vintages:
                return
            if pointer.etag != etag:
                etag, waiting = pointer.etag, time.monotonic()
            if mine or time.monotonic() - waiting > _PATIENCE:
                if _brought_up(blobs, pointer, fresh):
                    return
                attempts += 1
        time.sleep(random.uniform(0.1, 0.4))  # noqa: S311 - only to draw two writers apart
    raise SinkError("other writers were faster, again and again", hint="run again; the vintage itself is visible")


@dataclass(frozen=True)
class _Pointer:
    """What `forecast_latest.json` said.

    Attributes:
        etag: of this state of it; empty where there is none.
        blob: the blob that it names.
        vintages: run keys of those that the blob was made of.
        by_marks: whether all that is not among them is marked; an older forecastcore marked nothing.
    """

    etag: str
    blob: str
    vintages: frozenset[str]
    by_marks: bool

    @classmethod
    def read(cls, blobs: Blobs) -> _Pointer:
        """As it is now."""
        content = blobs.get(_POINTER)
        if content is None:
            return cls("", "", frozenset(), by_marks=False)
        said = json.loads(content.data)
        return cls(content.etag, said["blob"], frozenset(said["vintages"]), said["schema"] == _SCHEMA)


def _brought_up(blobs: Blobs, pointer: _Pointer, fresh: Mapping[str, pa.Table]) -> bool:
    """Swap the pointer to what is visible now; False where somebody else was faster."""
    marks = blobs.names("pending")
    marked = {mark.removesuffix(_GONE) for mark in marks}
    gone = {key for key in marked & pointer.vintages if f"{key}{_GONE}" in marks and _is_gone(blobs, key)}
    listed = None if pointer.by_marks and not gone else {ref.run_key for ref in visible(blobs)}
    usable = not gone and (listed is None or pointer.vintages <= listed)
    base = blobs.get(pointer.blob) if pointer.blob and usable else None
    if base is None:  # not from what was, but from all there is
        missing = {ref.run_key for ref in visible(blobs)} if listed is None else listed
        held, before = [], frozenset[str]()
    else:
        held, before = [pq.read_table(pa.BufferReader(base.data))], pointer.vintages
        missing = (marked if listed is None else listed) - before
    rows = {key: table for key, table in fresh.items() if key in missing and f"{key}{_GONE}" not in marks}
    rows |= rows_of(blobs, sorted(missing - set(rows)))
    shown = before.union(rows)
    if not _swapped(blobs, pointer, newest([*held, *rows.values()]), shown):
        return False
    blobs.remove([f"pending/{mark}" for mark in marks if _is_done(blobs, mark, shown)])
    if random.random() * _SWEEP_EVERY < 1:  # noqa: S311 - only now and then
        _sweep(blobs)
    return True


def _is_gone(blobs: Blobs, run_key: str) -> bool:
    return bool((manifest_of(blobs, run_key) or {}).get("withdrawn"))


def _is_done(blobs: Blobs, mark: str, shown: frozenset[str]) -> bool:
    """Whether the pointer says now what a mark foretold."""
    run_key = mark.removesuffix(_GONE)
    if run_key in shown:
        return mark == run_key
    return _is_gone(blobs, run_key)


def _swapped(blobs: Blobs, pointer: _Pointer, latest: pa.Table, shown: frozenset[str]) -> bool:
    buffer = pa.BufferOutputStream()
    pq.write_table(latest, buffer)
    name, data = f"latest/{uuid.uuid4().hex}.parquet", buffer.getvalue().to_pybytes()
    said = {
        "schema": _SCHEMA,
        "blob": name,
        "size": len(data),
        "sha256": blobs.put_checked(name, data),
        "rows": latest.num_rows,
        "vintages": sorted(shown),
    }
    if not pointer.etag:
        blobs.create("columns.json", as_json(dictionary(latest.schema)))
    swapped = (
        blobs.swap(_POINTER, as_json(said), pointer.etag) if pointer.etag else blobs.create(_POINTER, as_json(said))
    )
    # a lost answer makes the client ask twice, and the second time is refused: the pointer says whose it is
    if swapped or _Pointer.read(blobs).blob == name:
        return True
    blobs.remove([name])
    return False


def _sweep(blobs: Blobs) -> None:
    """Remove older states of `forecast_latest`, and marks of what never came, once nobody can need them any more."""
    old = datetime.now(UTC) - _GRACE
    found = [*blobs.listed("latest"), *blobs.listed("pending")]
    stale = {blob.name.removeprefix(f"{blobs.path}/") for blob in found if blob.last_modified < old}
    blobs.remove(sorted(stale - {_Pointer.read(blobs).blob}))
