"""`forecastcore-run`, what a cluster runs: reads a request, runs the use case there, writes a report.

Both are JSON. The engine is the Spark session that a Databricks runtime brings, else processes of the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from forecastcore import __version__
from forecastcore.errors import ConfigError, ForecastCoreError, UsageError
from forecastcore.messages import RunFailure, RunReport, RunRequest
from forecastcore.ports import Steps
from forecastcore.privacy import keep_others_out
from forecastcore.tracking.runs import JOB_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from forecastcore.messages import Message
    from forecastcore.project import Project

__all__ = ["main"]

T = TypeVar("T")
#: seconds between two words about progress
_PATIENCE = 2.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out one request.

    Args:
        arguments: `--request FILE --report FILE --home FOLDER`; default: those of the process.

    Raises:
        ForecastCoreError: what the use case raises, after it was written into the report.
    """
    parser = argparse.ArgumentParser(prog="forecastcore-run", description="Carry out a request on a cluster.")
    parser.add_argument("--request", type=Path, required=True, metavar="FILE", help="JSON: what to do")
    parser.add_argument("--report", type=Path, required=True, metavar="FILE", help="JSON: where to say what was done")
    parser.add_argument(
        "--home",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="where relative paths start, if need be",
    )
    asked = parser.parse_args(arguments)
    keep_others_out()
    with _speaking():
        _answer(asked)


def _answer(asked: argparse.Namespace) -> None:
    """Carry a request out, and leave a report whatever comes of it."""
    started = time.perf_counter()
    asked.report.parent.mkdir(parents=True, exist_ok=True)  # a job of a bundle has a new folder for each run
    engine = _engine()

    def tell(**outcome: Any) -> None:
        report = RunReport(
            command=request.command,
            engine=engine,
            python=platform.python_version(),
            version=__version__,
            seconds=time.perf_counter() - started,
            **outcome,
        )
        asked.report.write_text(json.dumps(report.to_json(), allow_nan=False), encoding="utf-8")

    request = _read(asked.request)
    os.environ[JOB_VARIABLE] = asked.report.parent.name  # so that `reconcile` knows whose MLflow runs these are
    try:
        steps = _Told(asked.report.with_name("progress.json"))
        done = _carry_out(request, _project(request, engine, asked.home), steps)
    except ForecastCoreError as error:
        tell(
            failure=RunFailure(
                code=error.code,
                message=error.message if not isinstance(error, ConfigError) else str(error),
                hint=error.hint,
                exit_code=error.exit_code,
            )
        )
        raise
    except Exception as error:
        tell(
            failure=RunFailure(
                code="unexpected", message=f"{type(error).__name__}: {error}", hint="the run's log shows where"
            )
        )
        raise
    finally:
        os.environ.pop(JOB_VARIABLE, None)
    tell(report=done)


@contextlib.contextmanager
def _speaking() -> Iterator[None]:
    """Say on standard output, which Databricks keeps, what is logged; `runs.logs` reads its times."""
    handler = logging.StreamHandler(sys.stdout)
    form = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler.setFormatter(form)
    ours = logging.getLogger("forecastcore")
    before = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(before)


def _engine() -> str:
    """Spark where a Databricks runtime brings a session, and this forecastcore can use it."""
    from importlib.util import find_spec

    on_databricks = "DATABRICKS_RUNTIME_VERSION" in os.environ
    return "spark" if on_databricks and find_spec("forecastcore.engines.spark") else "local"


def _read(path: Path) -> RunRequest:
    from pydantic import ValidationError

    try:
        return RunRequest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        hint = "are the same versions of forecastcore on both sides?"
        raise UsageError(
            f"{path.name} is no request that forecastcore {__version__} reads: {error}", hint=hint
        ) from error


def _carry_out(request: RunRequest, project: Project, steps: Steps) -> dict[str, Any]:
    import forecastcore as fc
    from forecastcore.runs.contest import backtest

    works: dict[str, Callable[..., Any]] = {
        "retrain": fc.retrain,
        "predict": fc.predict,
        "backfill": fc.backfill,
        "backtest": backtest,
        "monitor": _watched,
    }
    done: dict[str, Any] = works[request.command](project, **request.options, steps=steps).to_json()
    return done


def _watched(project: Project, *, steps: Steps) -> Message:
    """Monitor, and do what the policies ask for, as the flow does."""
    from forecastcore.runs.acting import act
    from forecastcore.runs.monitor import monitor

    report = monitor(project, steps=steps)
    return act(project, report, steps=steps) if report.advice else report


def _project(request: RunRequest, engine: str, home: Path) -> Project:
    """The project: in its own folder where that is here too, else in its home in the volume."""
    from forecastcore.project import Project

    recipe = json.loads(request.recipe)
    own = Path(recipe["path"])
    if not own.parent.is_dir():
        texts = recipe["texts"].items()
        recipe["texts"] = {str(_moved(Path(path), own.parent, home)): text for path, text in texts}
        recipe["path"] = str(home / own.name)
    recipe["overrides"] = [*recipe["overrides"], f"engine={{type: {engine}}}"]
    return Project.from_recipe(json.dumps(recipe))


def _moved(path: Path, old: Path, new: Path) -> Path:
    return new / path.relative_to(old) if path.is_relative_to(old) else path


class _Told(Steps):
    """Says on the console which stage began, and in a file how far it is."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0.0

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Do one stage."""
        print(f"forecastcore: {name}", flush=True)  # noqa: T201 - the run's log
        self._tell(name, 0, 1)
        return work()

    def progress(self, name: str, done: int, total: int) -> None:
        """Write it down now and then."""
        if done >= total or time.monotonic() - self._at > _PATIENCE:
            self._tell(name, done, total)

    def _tell(self, name: str, done: int, total: int) -> None:
        self._at = time.monotonic()
        with contextlib.suppress(OSError):  # a volume that is away for a moment must not end the run
            self._path.write_text(json.dumps({"stage": name, "done": done, "total": total}), encoding="utf-8")
