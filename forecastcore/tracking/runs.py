"""One tracked run: entered, written to, and ended as what it was."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import logging
import math
import os
import re
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Self

from forecastcore import __version__
from forecastcore.errors import TrackingError, UsageError
from forecastcore.processes import gone, here
from forecastcore.tracking.connect import Connection, mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pandas as pd
    from mlflow.entities import DatasetInput

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
#: Rows looked at for a dataset's digest; sums over all rows are part of it too.
DIGEST_ROWS: Final = 100_000
_CUT: Final = " … (cut)"
_HOST, _PROCESS, _JOB = "forecastcore_host", "forecastcore_process", "forecastcore_job"
#: what `cluster_main` names its run on the cluster by, for the MLflow runs that it makes
JOB_VARIABLE: Final = "FORECASTCORE_JOB"
_log = logging.getLogger(__name__)


class TrackedRun:
    """An MLflow run as `forecastcore.ports.Run`; it exists from `with` on.

    Attributes:
        logged: the last value of every metric recorded so far.
    """

    def __init__(
        self,
        connection: Connection,
        experiment: Callable[[], str],
        name: str,
        *,
        tags: Mapping[str, str],
        parent: str | None = None,
    ) -> None:
        self._connection = connection
        self._experiment = experiment
        self._name = name
        self._tags = dict(tags)
        self._parent = parent
        self._run_id: str | None = None
        self.logged: dict[str, float] = {}

    @property
    def run_id(self) -> str:
        """MLflow's id.

        Raises:
            UsageError: the run has not been entered.
        """
        if self._run_id is None:
            raise UsageError(f"run {self._name!r} has not begun", hint="enter it with `with` first")
        return self._run_id

    def __enter__(self) -> Self:
        """Start the run."""
        experiment = self._experiment()
        tags = {**_origin(), **self._tags} | ({"mlflow.parentRunId": self._parent} if self._parent else {})
        run = self._connection.call(
            f"start run {self._name!r}",
            lambda client: client.create_run(experiment, start_time=_now(), tags=_cut_tags(tags), run_name=self._name),
        )
        self._run_id = run.info.run_id
        return self

    def __exit__(self, *exc: object) -> None:
        """End it truthfully; a store that is gone by now does not hide the error on its way."""
        error = next((part for part in exc if isinstance(part, BaseException)), None)
        status = "FINISHED" if error is None else "FAILED" if isinstance(error, Exception) else "KILLED"
        words = "" if error is None else f"{type(error).__name__}: {error}"
        try:
            _end(self._connection, self.run_id, status, error=words)
        except TrackingError as failure:
            _log.warning("run %s ended as %s, but MLflow was not told: %s", self._name, status, failure)

    def child(self, name: str) -> TrackedRun:
        """A run under this one."""
        return TrackedRun(self._connection, self._experiment, name, tags=self._tags, parent=self.run_id)

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters as text; one that is longer than MLflow takes is cut, and says so."""
        from mlflow.entities import Param

        params = [Param(_key(key), _cut(_text(value), PARAM_CHARS)) for key, value in values.items()]
        for part in _parts(params, PARAMS_A_CALL):
            self._batch("record parameters", params=part)

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Record metrics; values that are not finite are left out."""
        from mlflow.entities import Metric

        finite = {
            _key(key): float(value) for key, value in values.items() if value is not None and math.isfinite(value)
        }
        metrics = [Metric(key, value, _now(), step) for key, value in finite.items()]
        for part in _parts(metrics, METRICS_A_CALL):
            self._batch("record metrics", metrics=part)
        self.logged |= finite

    def tags(self, values: Mapping[str, str]) -> None:
        """Record tags."""
        from mlflow.entities import RunTag

        tags = [RunTag(key, value) for key, value in _cut_tags(values).items()]
        for part in _parts(tags, PARAMS_A_CALL):
            self._batch("record tags", tags=part)

    def json(self, name: str, value: Any) -> None:
        """Store a JSON document as an artifact; numbers that are not finite become null."""
        with self._artifact(name, ".json") as path:
            path.write_text(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False, default=str))

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Store a frame as a Parquet artifact."""
        with self._artifact(name, ".parquet") as path:
            frame.to_parquet(path, index=False)

    def file(self, path: Path, *, folder: str = "") -> None:
        """Store a file as an artifact."""
        self._upload(path, PurePosixPath(folder))

    def dataset(self, frame: pd.DataFrame, *, name: str, source: str, context: str) -> None:
        """Record which data was used; the frame's digest and schema, not its rows."""
        entry = _dataset(frame, name, mask(source), context)
        self._connection.call("record the data set", lambda client: client.log_inputs(self.run_id, datasets=[entry]))

    def _batch(self, what: str, **entities: Any) -> None:
        self._connection.call(what, lambda client: client.log_batch(self.run_id, **entities))

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
        self._connection.call(
            f"store {path.name}", lambda client: client.log_artifact(self.run_id, str(path), artifact_path=inside)
        )


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
    _end(connection, run_id, "KILLED", error=why)
    return True


def _end(connection: Connection, run_id: str, status: str, *, error: str = "") -> None:
    if error:
        tag = mask(error)[:TAG_CHARS]
        connection.call("say why the run ended", lambda client: client.set_tag(run_id, "forecastcore_error", tag))
    connection.call("end the run", lambda client: client.set_terminated(run_id, status, end_time=_now()))


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


def _dataset(frame: pd.DataFrame, name: str, source: str, context: str) -> DatasetInput:
    """MLflow's entry for a frame; its schema is inferred from the first rows, its digest from a sample and sums."""
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.entities import Dataset, DatasetInput, InputTag

    with warnings.catch_warnings():
        # advice about integer columns and about sources that MLflow has no word for
        warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")
        shown = from_pandas(frame.head(100), name=name, digest=_digest(frame))
        schema = json.dumps({"mlflow_colspec": shown.schema.to_dict()}) if shown.schema is not None else None
    entity = Dataset(
        name=name[:500],
        digest=shown.digest,
        source_type="local",
        source=json.dumps({"uri": source}),
        schema=schema,
        profile=json.dumps({"num_rows": len(frame), "num_elements": int(frame.size)}),
    )
    return DatasetInput(dataset=entity, tags=[InputTag("mlflow.data.context", context)])


def _digest(frame: pd.DataFrame) -> str:
    """Sixteen hex characters that change with the frame's shape, types, sums, or any row of an even sample."""
    import pandas as pd

    sample = frame.iloc[:: max(1, len(frame) // DIGEST_ROWS)]
    seen = hashlib.sha256(repr((frame.shape, [(str(c), str(t)) for c, t in frame.dtypes.items()])).encode())
    seen.update(pd.util.hash_pandas_object(sample, index=False).to_numpy().tobytes())
    seen.update(frame.select_dtypes("number").sum().to_numpy(dtype="float64").tobytes())
    return seen.hexdigest()[:16]
