"""What the flows share: stages as Prefect tasks, blocks as secrets, and a final state that tells the truth.

No frame and no fitted model passes through Prefect: a stage's answer stays in this process, so there is nothing to
hash, copy or pickle, whatever the settings of the server and of the user are.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from uuid import UUID

os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect reads it when it is imported

from flow_watch import Watch
from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import TerminationSignal
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from prefect.states import Cancelled, Completed, Failed
from pydantic import SecretBytes, SecretStr
from pydantic.types import Secret

import forecastcore as fc
from forecastcore.errors import EngineError, ForecastCoreError
from forecastcore.logbook import part_of
from forecastcore.ports import Steps
from forecastcore.processes import here
from forecastcore.tracking.connect import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, State

    from forecastcore.messages import SeriesCount
    from forecastcore.project import Project

__all__ = [
    "HOST",
    "PLAIN",
    "PROCESS",
    "PrefectSteps",
    "courtesy",
    "delivered",
    "load_project",
    "read_block",
    "run_script",
    "truthfully",
]

T = TypeVar("T")

#: Options of every flow: nothing is stored; should Prefect store an error of its own, then as JSON, never as a pickle.
PLAIN: Final[dict[str, Any]] = {"persist_result": False, "result_serializer": "json"}
#: Settings of a run without a server, where the user has none: a busy machine takes longer than 20 s to start one.
ALONE: Final[dict[Any, Any]] = {
    "server.ephemeral.startup_timeout_seconds": 120,
    "server.analytics_enabled": False,
}
#: What a script exits with, by the name of the final state; the same numbers as the command line's.
EXIT_CODES: Final = {"Completed": 0, "Degraded": 3, "Held": 4, "Cancelled": 130}
#: Exit code of an error that is the data's: the run is held, nothing was written.
_HELD = 4
#: Labels of a flow run that name its machine and its process there.
HOST, PROCESS = "forecastcore.host", "forecastcore.process"
_PATIENCE = 2.0
_LONGEST = 3000


class PrefectSteps(Steps):
    """Each stage is a task run of the flow run, named after the stage; its progress is an artifact of that task run."""

    def __init__(self, project: str) -> None:
        self._key = f"forecastcore-{project}-progress"
        self._bar: UUID | None = None
        self._told = 0.0

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Do one stage as a task run; an error of the stage fails the task run, and is raised as it is."""
        answers: list[T] = []
        errors: list[Exception] = []

        def stage() -> State[Any] | None:
            try:
                answers.append(work())
            except Exception as error:  # noqa: BLE001 - raised again below; raised here, Prefect would store it
                errors.append(error)
                return Failed(message=_cause(error))
            return None

        self._bar, self._told = None, 0.0
        watched: Any = task(name=name, task_run_name=lambda: name, cache_policy=NO_CACHE, **PLAIN)(stage)
        state: State[Any] = watched(return_state=True)
        if errors:
            raise errors[0]
        if not answers:
            raise EngineError(f"Prefect did not run the stage {name!r}: {state.name} {state.message or ''}".strip())
        return answers[0]

    def progress(self, name: str, done: int, total: int) -> None:
        """Move the stage's bar, at most every two seconds and at the end."""
        if done < total and time.monotonic() - self._told < _PATIENCE:
            return
        self._told = time.monotonic()
        share, words = 100.0 * done / max(total, 1), f"{name}: {done} of {total}"
        # where the server is away, the next call is early enough to ask again
        with courtesy("the progress bar"), temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
            if self._bar is None:
                self._bar = cast(UUID, create_progress_artifact(share, key=self._key, description=words))
            else:
                update_progress_artifact(self._bar, share, description=words)


@contextlib.contextmanager
def courtesy(what: str) -> Iterator[None]:
    """What a run shows beside its work: where it cannot be shown, the log says so and the run goes on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - a server that is down for a moment must not undo a delivered forecast
        get_run_logger().warning("Prefect did not take %s: %s", what, mask(f"{type(error).__name__}: {error}"))


def read_block(name: str) -> str:
    """The text that `${block:TYPE/NAME}` stands for.

    Args:
        name: type slug and name of a block that holds one value, such as `secret/store-key`, or several fields, such as
            `azure-blob-storage-credentials/store`.

    Returns:
        The value; one that is no text, as JSON; several fields as a JSON object.

    Raises:
        ValueError: there is no such block.
        TypeError: the block holds nothing that is text.
    """
    from prefect.blocks.core import Block

    load: Any = Block.load
    # `Secret.get()` is not used: it reads a key such as 1e5 as a number.
    block = load(name, _sync=True)
    value = _plain(getattr(block, "value", None))
    if value is None:
        fields = {field: _plain(getattr(block, field)) for field in type(block).model_fields}
        value = {field: text for field, text in fields.items() if isinstance(text, str)}
    if not value:
        raise TypeError(f"the block {name} holds no text")
    return value if isinstance(value, str) else json.dumps(value)


def _plain(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, Secret | SecretStr | SecretBytes) else value


def load_project(path: str, overrides: Sequence[str]) -> Project:
    """A checked project whose `${block:…}` references are read from Prefect."""
    return fc.Project.load(path, overrides=overrides, resolvers={"block": read_block})


def truthfully(work: Callable[[], State[Any]]) -> State[Any]:
    """Run a flow's work; an error becomes a failed state whose message begins with the cause.

    Args:
        work: returns the state to end in.

    Returns:
        That state, or `Failed`, or `Held` (of type failed, so that automations see it) where the data held the run; or
        `Skipped` (of type completed) where a later run of the same schedule is due already, so that after an outage
        one run catches up, not one for each that was missed; or `Cancelled` where the server wanted that, and nobody
        but the run itself has heard.
    """
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    with courtesy("who runs this flow run"):
        _sign(run)
    if (later := _successor(run)) is not None:
        words = f"the run due at {later:%Y-%m-%d %H:%M} UTC does what this one was to do: nothing was read or written"
        return Completed(name="Skipped", message=words)
    names, watch = {"flow_run": str(run.id)} if run else {}, Watch(run)
    try:
        with part_of(**names), _warnings_shown(), watch:
            return work()
    except TerminationSignal:
        if not watch.struck:
            raise  # of somebody who sees to the state himself
        return Cancelled(message="cancelled on the server: what was under way here and on a cluster was ended")
    except ForecastCoreError as error:
        return Failed(name="Held" if error.exit_code == _HELD else "Failed", message=_cause(error), data=error)
    except Exception as error:  # noqa: BLE001 - a plugin's or a fault of ours; the state has to say so
        get_run_logger().exception("the run failed")
        return Failed(message=_cause(error), data=error)


class _Shown(APILogHandler):
    """Sends a record to the log of the run that it is made in; one of a thread beside it is in our own log only."""

    def emit(self, record: logging.LogRecord) -> None:
        if FlowRunContext.get() or TaskRunContext.get():
            plain = {"msg": mask(record.getMessage()), "args": None, "exc_info": None, "exc_text": None}
            super().emit(logging.makeLogRecord(record.__dict__ | plain))


@contextlib.contextmanager
def _warnings_shown() -> Iterator[None]:
    """What forecastcore warns of, such as that it waits for a cluster's workspace, is in the flow run's log too."""
    ours, handler = logging.getLogger("forecastcore"), _Shown(logging.WARNING)
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)


def _sign(run: FlowRun | None) -> None:
    """Note on the flow run which process it is, for `reconcile`."""
    if run is not None:
        host, process = here()
        with get_client(sync_client=True) as client:
            client.update_flow_run_labels(run.id, {HOST: host, PROCESS: process})


def _successor(run: FlowRun | None) -> datetime | None:
    """When a later run was due that a schedule made with the same parameters, if one is due and did not end badly.

    Due when a worker took this run up, not now: where a process takes longer to start than a schedule waits, no run
    would ever do its work.
    """
    if run is None or not run.auto_scheduled or run.deployment_id is None or run.expected_start_time is None:
        return None
    well = (StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED)
    found: list[FlowRun] = []
    with courtesy("the question for later runs"), get_client(sync_client=True) as client:
        taken = [s.timestamp for s in client.read_flow_run_states(run.id) if s.type == StateType.PENDING]
        due = FlowRunFilterExpectedStartTime(after_=run.expected_start_time, before_=max(taken, default=None))
        wanted = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[run.deployment_id]),
            expected_start_time=due,
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(well))),
        )
        found = client.read_flow_runs(flow_run_filter=wanted) if taken else []
    moments = [
        other.expected_start_time for other in found if other.auto_scheduled and other.parameters == run.parameters
    ]
    # Strictly later: of two that are due at one moment, each would wait for the other.
    return max((moment for moment in moments if moment and moment > run.expected_start_time), default=None)


def delivered(words: str, series: SeriesCount, cause: str = "") -> State[None]:
    """`Completed`; by the name of `Degraded` where a fallback served a series, or something is left undone.

    Args:
        words: what was done.
        series: how many were served how.
        cause: why most of those are not ok that are not, or what is left undone; told first.
    """
    whole = series.ok == series.total and not cause
    words = f"{cause}; {words}" if cause else words
    counts = f"{series.total} series: {series.ok} ok, {series.degraded} degraded, {series.failed} failed"
    return Completed(name="Completed" if whole else "Degraded", message=f"{words}; {counts}")


def run_script(flow: Flow[Any, Any], parameters: Mapping[str, Any]) -> int:
    """Run a flow from the shell, with a server where Prefect's settings name one, else with one of its own.

    Args:
        flow: what to run.
        parameters: its parameters; those that are None keep their default.

    Returns:
        The exit code: 0 completed, 1 failed, 3 degraded, 4 held, 130 cancelled.
    """
    run: Any = flow
    with temporary_settings(set_defaults=ALONE):
        state: State[Any] = run(**{k: v for k, v in parameters.items() if v is not None}, return_state=True)
    return EXIT_CODES.get(state.name or "", 1)


def _cause(error: Exception) -> str:
    """The error for the reader: its sentence and what to do next, no credentials."""
    if isinstance(error, ForecastCoreError):
        return mask(str(error))[:_LONGEST]
    words = f"{type(error).__name__}: {error} (a fault of forecastcore or a plugin; the run's log shows where)"
    return mask(words)[:_LONGEST]
