"""A folder of vintages, one file each, and `forecast_latest` beside it.

```
out/forecasts/20240101T000000Z_base_<run key>.parquet   never changes
out/forecasts/.staging/                                 work in progress; no reader looks here
out/forecast_latest.parquet                             newest vintage per series, scenario and ds; replaced whole
out/.forecast_latest.parquet.json                       which vintages it was made of
```

A vintage is written aside, flushed and hashed, and appears under its name in one step, under a lock that all processes
of a machine share. The second step, `forecast_latest`, is done again by the next run if the first was killed before it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import IO, TYPE_CHECKING, Any, ClassVar, Protocol

import pyarrow as pa

from forecastcore.api import Published
from forecastcore.errors import SinkError
from forecastcore.vintages import check_run_key, check_vintage, dictionary, empty_vintage, newest
from forecastcore_files.locks import locked
from forecastcore_files.staging import abandoned, appear, replace, staged, sweep

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from forecastcore.vintages import VintageRef

__all__ = ["Format", "VintageFolder"]

_NAME = re.compile(r"\d{8}T\d{6}(\.\d{6})?Z_[a-z0-9-]*_[0-9a-f]{8,64}\.[a-z]+")


class Format(Protocol):
    """How a vintage stands in a file."""

    suffix: ClassVar[str]

    def write(self, table: pa.Table, handle: IO[bytes]) -> None:
        """Write the table."""

    def read(self, path: Path) -> pa.Table:
        """The table that was written, value for value."""
        ...

    def rows(self, path: Path) -> int:
        """How many rows it has."""
        ...

    def ref(self, path: Path) -> VintageRef:
        """The vintage, without its rows."""
        ...


@dataclass(frozen=True)
class VintageFolder:
    """A folder of vintages.

    Attributes:
        path: the folder; made when the first vintage is published.
        format: of its files.
    """

    path: Path
    format: Format

    @property
    def latest(self) -> Path:
        """The file `forecast_latest`."""
        return self.path.parent / f"forecast_latest{self.format.suffix}"

    def publish(self, vintage: pa.Table, run_key: str) -> Published:
        """Let the vintage appear, once, and bring `forecast_latest` up to it.

        Raises:
            SinkError: the table is no vintage, or the disk failed; the message says whether the vintage is visible.
        """
        table = check_vintage(vintage, run_key)
        try:
            return self._publish(table, run_key)
        except (OSError, pa.ArrowException) as error:
            raise SinkError(f"cannot publish to {self.path}: {error}", hint=self._after_failure(run_key)) from error

    def read(self, issued_at: datetime | None = None) -> pa.Table:
        """All vintages, or those of one origin (UTC); an empty table where there are none."""
        start = "" if issued_at is None else f"{_stamp(issued_at)}_"
        tables = [self.format.read(self.path / name) for name in self._names() if name.startswith(start)]
        return pa.concat_tables(tables, promote_options="default") if tables else empty_vintage()

    def vintages(self) -> list[VintageRef]:
        """The visible vintages, oldest first."""
        return sorted(self.format.ref(self.path / name) for name in self._names())

    def withdraw(self, run_keys: Sequence[str]) -> int:
        """Take vintages out of what readers see, each at once; their run keys stay used up. How many were visible."""
        if not self.path.is_dir():
            return 0
        wanted = [
            name for name in self._names() if any(name.endswith(f"_{check_run_key(k)}{self._suffix}") for k in run_keys)
        ]
        with locked(self._state("lock")):
            self._withdrawn.mkdir(exist_ok=True)
            for name in wanted:  # the same file under a name that no reader looks at remembers the key
                (self.path / name).replace(self._withdrawn / name)
                (self._withdrawn / name).write_bytes(b"")
            self._refresh({})
        return len(wanted)

    def leftovers(self, *, remove: bool = False) -> list[str]:
        """Files that deliveries which were broken off more than an hour ago left behind, and no reader looks at."""
        found = abandoned(self._staging) if not self._staging.is_symlink() else []
        for file in found if remove else ():
            file.unlink(missing_ok=True)
        return [str(file) for file in found]

    def _publish(self, table: pa.Table, run_key: str) -> Published:
        self._prepare()
        if any(self._withdrawn.glob(f"*_{run_key}{self._suffix}")):
            return Published(location=str(self.path), rows=0, already=True)
        name = self._found(run_key)
        if name is None:
            with staged(self._staging, run_key, lambda handle: self.format.write(table, handle)) as aside:
                if (rows := self.format.rows(aside)) != table.num_rows:
                    raise SinkError(f"{rows} of {table.num_rows} rows were written to {aside}", hint="check the disk")
                with locked(self._state("lock")):
                    return self._appear(aside, table, run_key)
        with locked(self._state("lock")):
            self._refresh({})
        return self._published(name, already=True)

    def _appear(self, aside: Path, table: pa.Table, run_key: str) -> Published:
        """Under the lock: the vintage first, then what is made of it."""
        name, fresh = self._found(run_key), {}
        already = name is not None
        if name is None:
            name = self._name(table, run_key)
            appear(aside, self.path / name)
            fresh = {name: table}
        sweep(self._staging)
        self._refresh(fresh)
        return self._published(name, already=already)

    def _published(self, name: str, *, already: bool) -> Published:
        path = self.path / name
        return Published(location=str(path), rows=self.format.rows(path), already=already)

    def _prepare(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if self._staging.is_symlink():
            raise SinkError(f"{self._staging} leads elsewhere", hint="remove this link")
        owner = self._remembered().get("of", self.path.name)
        if owner != self.path.name and (self.path.parent / str(owner)).is_dir():
            raise SinkError(
                f"{self.latest} belongs to the folder {owner!r} beside {self.path.name!r}",
                hint=f"give this sink a parent of its own, such as path: {self.path / 'forecasts'}",
            )

    def _refresh(self, fresh: dict[str, pa.Table]) -> None:
        """Bring `forecast_latest` up to the vintages that are there; `fresh` are at hand already."""
        self._explain()
        names, state, stat = self._names(), self._remembered(), self._stat()
        known = set(state.get("vintages", ()))
        intact = stat is not None and state.get("stat") == stat and known <= set(names)
        missing = [name for name in names if not intact or name not in known]
        if not missing and (intact or stat is None):
            return
        base = [self.format.read(self.latest)] if intact else []
        tables = (fresh[name] if name in fresh else self.format.read(self.path / name) for name in missing)
        latest = newest(chain(base, tables))
        if not latest.num_rows:  # the last vintage was withdrawn
            latest = self.format.read(self.latest).slice(0, 0)
        with staged(self._staging, "latest", lambda handle: self.format.write(latest, handle)) as aside:
            replace(aside, self.latest)
        memory = {"of": self.path.name, "stat": self._stat(), "vintages": names}
        with staged(self._staging, "state", lambda handle: _dump(memory, handle)) as aside:
            replace(aside, self._state("json"))

    def _explain(self) -> None:
        """A data dictionary beside the table, made with its first vintage."""
        path = self.path.parent / f"{self.path.name}.columns.json"
        if not path.exists() and (names := self._names()):
            told = dictionary(self.format.read(self.path / names[-1]).schema)
            with staged(self._staging, "columns", lambda handle: _dump(told, handle)) as aside:
                replace(aside, path)

    def _names(self) -> list[str]:
        """Names of the vintages, in order of their origins."""
        files = self.path.glob(f"*{self.format.suffix}")
        return sorted(file.name for file in files if _NAME.fullmatch(file.name))

    def _found(self, run_key: str) -> str | None:
        return next((name for name in self._names() if name.endswith(f"_{run_key}{self.format.suffix}")), None)

    def _name(self, table: pa.Table, run_key: str) -> str:
        scenario = re.sub(r"[^a-z0-9]+", "-", table["scenario"][0].as_py().lower())[:40]
        return f"{_stamp(table['issued_at'][0].as_py())}_{scenario}_{run_key}{self.format.suffix}"

    @property
    def _suffix(self) -> str:
        return self.format.suffix

    @property
    def _withdrawn(self) -> Path:
        return self.path / ".withdrawn"

    @property
    def _staging(self) -> Path:
        return self.path / ".staging"

    def _state(self, suffix: str) -> Path:
        return self.path.parent / f".{self.latest.name}.{suffix}"

    def _remembered(self) -> dict[str, Any]:
        """What was written when `forecast_latest` was; nothing where it cannot be read."""
        try:
            state = json.loads(self._state("json").read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def _stat(self) -> list[int] | None:
        """Size and time of `forecast_latest`: another's hand on it shows."""
        try:
            stat = self.latest.stat()
        except FileNotFoundError:
            return None
        return [stat.st_size, stat.st_mtime_ns]

    def _after_failure(self, run_key: str) -> str:
        if self._found(run_key) is None:
            return "nothing of this vintage is visible; what was published before is still served"
        return f"the vintage is visible, but {self.latest.name} may lack it; run again to mend it"


def _dump(value: Any, handle: IO[bytes]) -> None:
    handle.write(json.dumps(value).encode())


def _stamp(instant: datetime) -> str:
    """An instant as part of a file name; naive ones are in UTC."""
    utc = instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    return utc.strftime("%Y%m%dT%H%M%S") + (f".{utc.microsecond:06d}" if utc.microsecond else "") + "Z"
