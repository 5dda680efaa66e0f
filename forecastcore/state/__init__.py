"""Fitted objects as data on disk: JSON, npz, Parquet and skops; never a pickle.

`save` writes a folder and seals it; `load` checks every byte against the seal before it parses any, and looks classes
up only in the packages it is told of. What a fitted object may be made of, without a line of its author's:

- None, bool, int, float, str, bytes, list, tuple, dict, datetime, date, timedelta;
- numpy scalars and arrays (numbers, datetime64, timedelta64, text; object arrays of anything in this list);
- pandas DataFrame, Series, Index, Timestamp, Timedelta;
- dataclasses, frozen or not, of anything in this list;
- scikit-learn estimators, through skops;
- an object with a format of its own: a class with `to_state(self)`, which returns anything in this list, and a
  classmethod `from_state(cls, state)`, which takes it back. A LightGBM booster is its model text, for example.

A folder holds `state.json` (the tree), `arrays.npz` (all arrays of one dtype end to end, so that thousands of small
ones are one read), `frame-N.parquet`, `estimator-N.skops` and `digests.json` (the seal). The same object gives the same
bytes. Frames and estimators are a file each: a model of thousands of series keeps its parameters in arrays.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecastcore.errors import StateError
from forecastcore.state.decode import from_files
from forecastcore.state.digests import Verified, make_private_folder, open_verified, seal, verify, write_private
from forecastcore.state.encode import to_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Verified", "load", "open_verified", "save", "seal", "verify", "write_private"]


def save(obj: Any, folder: Path) -> None:
    """Write a fitted object into a folder and seal it.

    Nothing is written unless all of the object can be, and the seal comes last: a folder half written cannot be loaded.

    Args:
        obj: see the module's list of what it may be made of.
        folder: made if missing (mode 0700); other files in it stay, and are sealed too.

    Raises:
        StateError: the object holds something that is not data (the message says where), or the folder holds a state.
    """
    files = to_files(obj)
    make_private_folder(folder)
    if (folder / "state.json").exists():
        raise StateError(f"{folder} already holds a state", hint="save into a new folder")
    for name, data in files.items():
        write_private(folder / name, data)
    seal(folder)


def load(
    source: Path | Verified,
    *,
    packages: Sequence[str],
    trusted: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
) -> Any:
    """Read back what `save` wrote.

    Args:
        source: the folder, or its checked contents (see `open_verified`) where the digest is known from elsewhere.
        packages: modules, with all below them, that classes may come from, besides the core's own
            (frozen dataclasses of `forecastcore.api` and `forecastcore.tabular`). Nothing else is imported.
        trusted: full names of classes that scikit-learn objects may hold beside skops' own list.
        aliases: module prefix as saved → as it is called now, for a plugin file whose module name has changed.

    Raises:
        StateError: the folder is not what was sealed, or names a class that must not be loaded; nothing was run.
    """
    verified = open_verified(source) if isinstance(source, Path) else source
    return from_files(verified.read, packages=packages, trusted=trusted, aliases=aliases or {})
