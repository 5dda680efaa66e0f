"""One tracked run: entered, written to, and ended as what it was."""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import math
import os
import re
import tempfile
import time
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Self

from forecastcore import __version__
from forecastcore.errors import TrackingAway, TrackingError, UsageError
from forecastcore.processes import give_back, gone, here
from forecastcore.tracking.connect import Connection, mask
from forecastcore.tracking.spool import TICKET, begin, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pandas as pd

    from forecastcore.tracking.spool import Entry, Journal

__all__ = [
    "JOB_VARIABLE",
    "LeftRunning",
    "TrackedRun",
    "close_orphan",
    "close_orphans",
    "left_running",
    "project_filter",
]

PARAM_CHARS: Final = 6000
TAG_CHARS: Final = 5000
METRICS_A_CALL: Final = 1000
PARAMS_A_CALL: Final = 100
#: rows of a table that are encoded together
_ROWS: Final = 10_000
#: letters of a data set's digest that MLflow keeps
_DIGEST: Final = 16
_CUT: Final = " … (cut)"
_HOST, _PROCESS, _JOB = "forecastcore_host", "forecastcore_process", "forecastcore_job"
#: what `cluster_main` names its run on the cluster by, for the MLflow runs that it makes
JOB_VARIABLE: Final = "FORECASTCORE_JOB"
_log = logging.getLogger(__name__)


class TrackedRun:
    """An MLflow run as `forecastcore.ports.Run`; it exists from `with` on.

    Attributes:
        logged: the last value of every metric recorded so far.
        ticket: what the run is known by before MLflow has given it an id.
        journal: what MLflow could not be told while it was away, if that may be kept.
    """

    def __init__(
        self,
        connection: Connection,
        experiment: Callable[[], str],
        name: str,
        *,
        tags: Mapping[str, str],
        journal: Journal,
        parent: TrackedRun | None = None,
    ) -> None:
        self._connection = connection
        self._experiment = experiment
        self._name = name
        self._tags = dict(tags)
        self._parent = parent
        self.ticket: str = uuid.uuid4().hex
        self._entered = False
        self._run_id: str | None = None
        self.journal: Journal = journal
        self.logged: dict[str, float] = {}

    @property
    def run_id(self) -> str:
        """MLflow's id; empty where the run began while MLflow was away.

        Raises:
            UsageError: the run has not been entered.
        """
        if not self._entered:
            raise UsageError(f"run {self._name!r} has not begun", hint="enter it with `with` first")
        return self._run_id or ""

    @property
    def waiting(self) -> str:
        """Folder of what MLflow has not been told of this run; empty where it knows all."""
        return str(self.journal.folder or "")

    def __enter__(self) -> Self:
        """Start the run."""
        tags = {**_origin(), **self._tags, TICKET: self.ticket}
        parent = self._parent.ticket if self._parent else None
        entry = {"do": "start", "name": self._name, "tags": _cut_tags(tags), "parent": parent, "at": _now()}
        self._tell(f"start run {self._name!r}", entry)
        self._entered = True
        return self

    def __exit__(self, *exc: object) -> None:
        """End it truthfully; a store that is gone by now does not hide the error on its way."""
        error = next((part for part in exc if isinstance(part, BaseException)), None)
        status = "FINISHED" if error is None else "FAILED" if isinstance(error, Exception) else "KILLED"
        words = "" if error is None else f"{type(error).__name__}: {error}"
        try:
            self._tell("end the run", _end(status, words))
        except TrackingError as failure:
            _log.warning("run %s ended as %s, but MLflow was not told: %s", self._name, status, failure)
        if self._parent is None:
            self.journal.close()

    def child(self, name: str) -> TrackedRun:
        """A run under this one."""
        return TrackedRun(self._connection, self._experiment, name, tags=self._tags, journal=self.journal, parent=self)

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters as text; one that is longer than MLflow takes is cut, and says so."""
        params = [(_key(key), _cut(_text(value), PARAM_CHARS)) for key, value in values.items()]
        for part in _parts(params, PARAMS_A_CALL):
            self._tell("record parameters", {"do": "batch", "params": part})

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Record metrics; values that are not finite are left out."""
        finite = {
            _key(key): float(value) for key, value in values.items() if value is not None and math.isfinite(value)
        }
        metrics = [(key, value, _now(), step) for key, value in finite.items()]
        for part in _parts(metrics, METRICS_A_CALL):
            self._tell("record metrics", {"do": "batch", "metrics": part})
        self.logged |= finite

    def tags(self, values: Mapping[str, str]) -> None:
        """Record tags."""
        for part in _parts(list(_cut_tags(values).items()), PARAMS_A_CALL):
            self._tell("record tags", {"do": "batch", "tags": part})

    def json(self, name: str, value: Any) -> None:
        """Store a JSON document as an artifact; numbers that are not finite become null."""
        with self._artifact(name, ".json") as path:
            path.write_text(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False, default=str))

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Store a frame as a Parquet artifact."""
        with self._artifact(name, ".parquet") as path:
            frame.to_parquet(path, index=False, row_group_size=_ROWS)
        give_back()

    def file(self, path: Path, *, folder: str = "") -> None:
        """Store a file as an artifact."""
        self._upload(path, PurePosixPath(folder))

    def dataset(self, shown: pd.DataFrame, *, rows: int, digest: str, name: str, source: str, context: str) -> None:
        """Record which data was used: how many rows, their digest, and the schema that some of them show."""
        told = _dataset(shown, rows, digest, name, mask(source))
        entry = {"do": "dataset", "context": context, "dataset": told}
        self._tell("record the data set", entry)

    def keep(self, entry: Entry, *files: Path) -> None:
        """Keep for later what MLflow could not be told; all that follows is kept too."""
        self.journal.keep({**entry, "ticket": self.ticket}, *files)

    def _tell(self, what: str, entry: Entry, *files: Path) -> None:
        if not self.journal.begun:
            try:
                self._told(what, {**entry, "ticket": self.ticket, "files": files})
            except TrackingAway as error:
                if self.journal.home is None:
                    raise
                _log.warning("what MLflow cannot be told now is kept in %s: %s", self.journal.home, error)
            else:
                return
        self.keep(entry, *files)

    def _told(self, what: str, entry: Entry) -> None:
        if entry["do"] == "start":
            experiment, parent = self._experiment(), self._parent.run_id if self._parent else None
            self._run_id = self._connection.call(what, lambda client: begin(client, experiment, entry, parent))
        else:
            self._connection.call(what, lambda client: tell(client, self.run_id, entry))

    @contextlib.contextmanager
    def _artifact(self, name: str, suffix: str) -> Iterator[Path]:
        target = PurePosixPath(name if name.endswith(suffix) else name + suffix)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, target.name)
            yield path
            self._upload(path, target.parent)

    def _upload(self, path: Path, folder: PurePosixPath) -> None:
        if folder.is_absolute() or ".." in folder.parts:
            raise UsageError(f"an artifact's folder lies inside its run, {str(folder)!r} does not")
        inside = None if folder == PurePosixPath() else str(folder)
        self._tell(f"store {path.name}", {"do": "file", "folder": inside}, path)


def project_filter(project: str) -> str:
    """MLflow search filter for the runs of one project."""
    return f"tags.forecastcore_project = '{project}'"


@dataclass(frozen=True, kw_only=True)
class LeftRunning:
    """A run that MLflow takes to go on.

    Attributes:
        run_id: MLflow's id.
        name: of the run.
        job: the run on a cluster that made it, as `cluster_main` names it; empty where it was made elsewhere.
        died: whether its process was one of this machine and is no more.
        started: seconds since 1970.
    """

    run_id: str
    name: str
    job: str
    died: bool
    started: float


def left_running(connection: Connection, experiment: str, project: str) -> list[LeftRunning]:
    """What goes on, as far as MLflow knows."""
    running = connection.call(
        "look for runs left behind",
        lambda client: client.search_runs(
            [experiment], filter_string=f"{project_filter(project)} and attributes.status = 'RUNNING'", max_results=1000
        ),
    )
    return [
        LeftRunning(
            run_id=run.info.run_id,
            name=str(run.info.run_name),
            job=run.data.tags.get(_JOB, ""),
            died=gone(run.data.tags.get(_HOST), run.data.tags.get(_PROCESS)),
            started=(run.info.start_time or 0) / 1000,
        )
        for run in running
    ]


def close_orphans(connection: Connection, experiment: str, project: str) -> list[str]:
    """End as KILLED the runs whose process on this machine is gone without a word, such as after `kill -9`.

    Returns:
        ids of the runs that were ended.
    """
    died = [run.run_id for run in left_running(connection, experiment, project) if run.died]
    why = "its process ended without a word; closed by a later run"
    return [run_id for run_id in died if close_orphan(connection, run_id, why)]


def close_orphan(connection: Connection, run_id: str, why: str) -> bool:
    """End as KILLED a run that nobody else has ended meanwhile; whether it was one."""
    run = connection.call("look at a run left behind", lambda client: client.get_run(run_id))
    if run.info.status != "RUNNING":
        return False
    connection.call("end the run", lambda client: tell(client, run_id, _end("KILLED", why)))
    return True


def _end(status: str, error: str) -> Entry:
    return {"do": "end", "status": status, "error": mask(error)[:TAG_CHARS], "at": _now()}


def _process() -> dict[str, str]:
    host, process = here()
    job = os.environ.get(JOB_VARIABLE)
    return {_HOST: host, _PROCESS: process, **({_JOB: job} if job else {})}


def _origin() -> dict[str, str]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user may have no name
        user = "unknown"
    return {
        "mlflow.user": user,
        "mlflow.source.name": "forecastcore",
        "mlflow.source.type": "LOCAL",
        "forecastcore_version": __version__,
        **_process(),
    }


def _now() -> int:
    return int(time.time() * 1000)


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _key(name: str) -> str:
    """`name` with only characters that every backend takes."""
    return re.sub(r"[^\w.\- :/]", "_", name, flags=re.ASCII)[:250]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(_finite(value), ensure_ascii=False, default=str)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - len(_CUT)] + _CUT


def _cut_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: _cut(str(value), TAG_CHARS) for key, value in tags.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:  # a NumPy scalar
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _dataset(shown: pd.DataFrame, rows: int, digest: str, name: str, source: str) -> dict[str, str | None]:
    """MLflow's entry for a table; its schema is inferred from the rows that are shown."""
    from mlflow.data.pandas_dataset import from_pandas

    with warnings.catch_warnings():
        # advice about integer columns and about sources that MLflow has no word for
        warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")
        made = from_pandas(shown, name=name, digest=digest[:_DIGEST])
        schema = json.dumps({"mlflow_colspec": made.schema.to_dict()}) if made.schema is not None else None
    return {
        "name": name[:500],
        "digest": made.digest,
        "source_type": "local",
        "source": json.dumps({"uri": source}),
        "schema": schema,
        "profile": json.dumps({"num_rows": rows, "num_elements": rows * shown.shape[1]}),
    }
