"""A plugin in a process of its own: `python -m forecastcore.testing.child FOLDER ACTION`.

The folder holds `job.json` (which class, with which parameters) and the frames as Parquet; the answer and a report are
written into it. Nothing is pickled.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from forecastcore import parameters, state
from forecastcore.api import Task
from forecastcore.testing.suite import Fault, Skip, said
from forecastcore.testing.watch import Watch, watched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Report", "answer_of", "run_child", "start_child", "write_job"]

_WATCH = Watch()
_SECONDS = 120
#: libraries that take a second or more, or much memory; a plugin imports them where it uses them
_HEAVY = (
    *(
        "catboost",
        "darts",
        "databricks",
        "jax",
        "lightgbm",
        "matplotlib",
        "mlflow",
        "neuralforecast",
        "numba",
        "prefect",
    ),
    *(
        "prophet",
        "pyspark",
        "scipy",
        "sklearn",
        "sktime",
        "statsforecast",
        "statsmodels",
        "tensorflow",
        "torch",
        "xgboost",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a child process noticed.

    Attributes:
        error: what was raised, in words; empty where nothing was.
        load_error: the same of loading a stored model.
        stdout: what was printed.
        changed: settings of the process that were left changed, and threads left running.
        writes: files that were written.
        connections: addresses that were asked for.
        starts: programs that were started.
        heavy: libraries that were imported with the plugin, before it was used.
        megabytes: how far the process grew over what it was before the plugin was used.
        result: of the call, as plain data.
    """

    error: str = ""
    load_error: str = ""
    stdout: str = ""
    changed: list[str]
    writes: list[str]
    connections: list[str]
    starts: list[str]
    heavy: list[str]
    megabytes: float
    result: Any = None


def write_job(folder: Path, kind: str, factory: Callable[..., Any], params: Mapping[str, Any], **more: Any) -> None:
    """Write which plugin to make.

    Raises:
        Skip: another process could not find its class.
    """
    name = getattr(factory, "__qualname__", "<locals>")
    module = sys.modules.get(factory.__module__)
    file = getattr(module, "__file__", None)
    if "<locals>" in name or not file or factory.__module__ == "__main__":
        raise Skip(f"{name} is not in a module that another process could import")
    job = {
        "kind": kind,
        "module": factory.__module__,
        "file": file,
        "qualname": name,
        "params": dict(params),
        **more,
    }
    (folder / "job.json").write_text(json.dumps(job, default=str), encoding="utf-8")


def start_child(folder: Path, action: str = "use") -> subprocess.Popen[str]:
    """Start a process that works on the job in `folder`."""
    return subprocess.Popen(  # noqa: S603 - our own interpreter, our own module
        [sys.executable, "-m", "forecastcore.testing.child", str(folder), action],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )


def run_child(folder: Path, action: str = "use") -> Report:
    """Work on the job in `folder` in a fresh process.

    Raises:
        Fault: the process died or took too long.
    """
    child = start_child(folder, action)
    try:
        printed, noise = child.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        child.kill()
        child.communicate()
        raise Fault(f"in a fresh process it was not done after {_SECONDS} s") from error
    written = folder / f"{action}.json"
    if not written.exists():
        raise Fault(f"a fresh process died with {child.returncode}: {noise.strip().splitlines()[-1:] or ''}")
    return Report(**{**json.loads(written.read_text(encoding="utf-8")), "stdout": printed})


def _factory(job: Mapping[str, Any]) -> Any:
    name = job["module"]
    try:
        found: Any = importlib.import_module(name)
    except ImportError:
        spec = importlib.util.spec_from_file_location(name, job["file"])
        if spec is None or spec.loader is None:
            raise
        found = importlib.util.module_from_spec(spec)
        sys.modules[name] = found
        spec.loader.exec_module(found)
    for part in job["qualname"].split("."):
        found = getattr(found, part)
    return found


def _made(job: Mapping[str, Any], folder: Path) -> Any:
    factory = _factory(job)
    return factory(**parameters.values(factory, job["params"], root=folder))


def last_value(history: pd.DataFrame, future: pd.DataFrame) -> pd.DataFrame:
    """The model that is lent to an assumption on trial."""
    last = history.groupby("unique_id")["y"].last()
    return future[["unique_id", "ds"]].assign(forecast=future["unique_id"].map(last))


def task_text(task: Task) -> dict[str, Any]:
    """A task as plain data; what can be called stays behind."""
    return {k: v for k, v in asdict(task).items() if k not in {"replay", "forecast"}} | {
        "origin": task.origin.isoformat()
    }


def _task(told: Mapping[str, Any]) -> Task:
    tuples = {k: tuple(v) for k, v in told.items() if isinstance(v, list)}
    return Task(**{**told, **tuples, "origin": pd.Timestamp(told["origin"])})


def answer_of(folder: Path) -> Any:
    """What the job in `folder` answers; runs in whatever process calls it."""
    return _use(json.loads((folder / "job.json").read_text(encoding="utf-8")), folder)


def _use(job: Mapping[str, Any], folder: Path) -> Any:
    """One use of a plugin, as the host would use it."""
    made = _made(job, folder)
    if job["kind"] == "sink":
        vintage = pq.read_table(folder / "vintage.parquet")
        told = made.publish(vintage, job["run_key"])
        return {"already": told.already, "rows": told.rows, "read": made.read().num_rows}
    if job["kind"] == "source":
        return made.read(job["columns"]).to_pandas()
    task = _task(job["task"])
    history, future = (pd.read_parquet(folder / f"{name}.parquet") for name in ("history", "future"))
    if job["kind"] == "assumption":
        return made.assume(history, future, replace(task, forecast=last_value))
    return made.fit(history, task).predict(pd.read_parquet(folder / "context.parquet"), future, task)


def in_a_spark_worker(_: pd.DataFrame, request: str) -> Any:
    """What the job answers whose folder the request names."""
    return answer_of(Path(json.loads(request)["job"]))


def _on_spark(folder: Path) -> Any:
    """What a worker of a local Spark answers."""
    from forecastcore.engines.spark import SparkEngine
    from forecastcore.ports import Unit
    from forecastcore.testing.child import in_a_spark_worker as work  # by a name that the worker can import

    panel, unit = pd.read_parquet(folder / "history.parquet"), Unit(None, json.dumps({"job": str(folder)}))
    ((_, answer),) = SparkEngine(master="local[1]").map(work, panel, [unit])
    return answer


def _load(job: Mapping[str, Any], folder: Path) -> str:
    """Load a stored model before any is fitted here, apply it, and write `loaded.parquet`; what it raised, in words."""
    try:
        _write(_loaded(job, folder), folder / "loaded.parquet")
    except Exception as error:  # noqa: BLE001 - told to the suite in words
        return said(error)
    return ""


def _write(answer: Any, path: Path) -> None:
    pq.write_table(pa.Table.from_pandas(answer, preserve_index=False), path)


def _loaded(job: Mapping[str, Any], folder: Path) -> Any:
    fitted = state.load(folder / "state", packages=(job["module"].split(".")[0],), trusted=job["trusted"])
    context, future = (pd.read_parquet(folder / f"{name}.parquet") for name in ("context", "future"))
    return fitted.predict(context, future, _task(job["task"]))


def _die_at(number: int) -> Callable[[int], None]:
    def check(count: int) -> None:
        if count == number:
            os._exit(9)

    return check


def _peak() -> float:
    """Megabytes that this process has held at most, where the system says so."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return max((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), default=0.0)


def main(folder: Path, action: str) -> None:
    """Do the work and write `ACTION.json`, and what the plugin answered as `ACTION.parquet`."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    sys.addaudithook(_WATCH.hook)
    error, answer, changed, before = "", None, list[str](), set(sys.modules)
    load_error = ""
    try:
        _factory(job)
        heavy = sorted({name.partition(".")[0] for name in set(sys.modules) - before} & set(_HEAVY))
        grown = _peak()
        if action == "use" and (folder / "state").exists():
            load_error = _load(job, folder)
        if action == "spark":
            answer = _on_spark(folder)
        elif action == "use":
            answer, changed = watched(lambda: _use(job, folder), _WATCH)
        else:  # "die-N": the process ends at its Nth write
            if action.startswith("die-"):
                _WATCH.after_write = _die_at(int(action.removeprefix("die-")))
            _WATCH.on = True
            answer = _use(job, folder)
    except (Exception, SystemExit) as raised:  # noqa: BLE001 - told to the suite in words
        error, heavy, grown = said(raised), [], _peak()
    _WATCH.on = False
    if isinstance(answer, pd.DataFrame):
        _write(answer, folder / f"{action}.parquet")
    report = Report(
        error=error,
        load_error=load_error,
        changed=changed,
        writes=_WATCH.writes,
        connections=_WATCH.connections,
        starts=_WATCH.starts,
        heavy=heavy,
        megabytes=_peak() - grown,
        result=answer if isinstance(answer, dict) else None,
    )
    (folder / f"{action}.json").write_text(json.dumps(asdict(report)), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
