"""Job runs of the fake workspace: every state they can be in, and the tokens that make a submit happen once."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

__all__ = ["TERMINAL", "ApiError", "Ended", "Program", "Run", "Runs", "TokenSemantics"]

#: life-cycle states that a run does not leave
TERMINAL = frozenset({"TERMINATED", "SKIPPED", "INTERNAL_ERROR"})
#: what the documentation of `idempotency_token` says in three places: only an active run is found again; any run is;
#: and the token of a deleted run is an error
TokenSemantics = Literal["active-only", "any", "deleted-errors"]
_TOKEN_LENGTH = 64
_TICK = 0.02
_V2 = {"INTERNAL_ERROR": "TERMINATED", "SKIPPED": "TERMINATED", "WAITING_FOR_RETRY": "WAITING"}


class ApiError(Exception):
    """An answer that is an error, as the service words it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status: int = status
        self.code: str = code
        self.message: str = message


class Ended(Exception):  # noqa: N818 - names the event
    """How a run ends, where not by its program's return.

    Attributes:
        result: result state.
        life: life-cycle state.
        code: termination code, such as `CLUSTER_ERROR`.
        error: first thing that `get-output` says.
        trace: the traceback.
    """

    def __init__(
        self,
        result: str,
        error: str = "",
        *,
        life: str = "TERMINATED",
        code: str = "RUN_EXECUTION_ERROR",
        trace: str = "",
    ) -> None:
        super().__init__(error or result)
        self.result: str = result
        self.life: str = life
        self.code: str = code
        self.error: str = error
        self.trace: str = trace


@dataclass
class Run:
    """One run and its only task.

    Attributes:
        run_id: of the run; its task's is one more.
        payload: what was submitted.
        life: life-cycle state.
        result: result state, once it has ended.
    """

    run_id: int
    payload: dict[str, Any]
    life: str = "QUEUED"
    result: str | None = None
    message: str = ""
    code: str = "SUCCESS"
    error: str = ""
    trace: str = ""
    logs: str = ""
    attempt: int = 0
    reads: int = 0
    deleted: bool = False
    started: float = field(default_factory=time.time)
    ended: float | None = None
    process: subprocess.Popen[bytes] | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def live(self) -> bool:
        """Whether it still costs money."""
        return self.life not in TERMINAL

    @property
    def task(self) -> dict[str, Any]:
        """What its task is to do."""
        return dict(self.payload["tasks"][0])

    @property
    def parameters(self) -> list[str]:
        """Parameters of its wheel task."""
        return [str(word) for word in self.task.get("python_wheel_task", {}).get("parameters", [])]

    @property
    def deadline(self) -> float:
        """When its `timeout_seconds` is over, in `time.time()`; never where that is 0."""
        seconds = self.payload.get("timeout_seconds") or 0
        return self.started + seconds if seconds else float("inf")

    def enter(self, life: str) -> None:
        """Be in a state for as long as it takes to be asked."""
        self.life = life

    def pause(self, seconds: float) -> None:
        """Wait as a program does: until the time is over, the run is cancelled, or its timeout strikes."""
        until = time.time() + seconds
        while True:
            self.check()
            left = until - time.time()
            if left <= 0:
                return
            self.cancelled.wait(min(left, _TICK))

    def check(self) -> None:
        """End here where the run was cancelled or has timed out."""
        if self.cancelled.is_set():
            raise Ended("CANCELED", "Run cancelled.", code="USER_CANCELED")
        if time.time() >= self.deadline:
            raise Ended("TIMEDOUT", f"Run timed out after {self.payload['timeout_seconds']} s.", code="CANCELED")

    def close(self, end: Ended | None) -> None:
        """Come to an end."""
        self.ended = time.time()
        if end is None:
            self.result, self.message = "SUCCESS", ""
            self.life = "TERMINATED"
        else:
            self.result, self.message, self.code = end.result, end.error, end.code
            self.error, self.trace = end.error, end.trace
            self.life = end.life
        self.done.set()

    def as_json(self, host: str) -> dict[str, Any]:
        """As `runs/get` shows it."""
        told = self._state()
        page = f"{host}/?o=1#job/{self.run_id}/run/1"
        times = {"start_time": int(self.started * 1000), "end_time": int((self.ended or 0) * 1000)}
        task = {**self.task, "run_id": self.run_id + 1, "attempt_number": self.attempt, **told, "run_page_url": page}
        name = {"run_name": self.payload.get("run_name", "Untitled"), "run_type": "SUBMIT_RUN"}
        return {"run_id": self.run_id, "run_page_url": page, **name, **told, **times, "tasks": [task]}

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"life_cycle_state": self.life, "state_message": self.message}
        status: dict[str, Any] = {"state": _V2.get(self.life, self.life)}
        if not self.live:
            state["result_state"] = self.result
            if self.life == "INTERNAL_ERROR":
                state.pop("result_state")
            status["termination_details"] = {"code": self.code, "message": self.message}
        return {"state": state, "status": status}


#: what runs on the cluster; returns, or raises `Ended`
Program = "Callable[[Run], None]"


class Runs:
    """All runs of a workspace, each in a thread of its own.

    Attributes:
        program: what a run does.
        semantics: what a token does.
        slots: how many may run at once; others are queued.
        limit: how many may be live at once; a further submission is answered with 429.
        rate: submissions in a second; a further one is answered with 429.
        most_live: how many ran at once, at most.
    """

    def __init__(self, program: Callable[[Run], None]) -> None:
        self.program = program
        self.semantics: TokenSemantics = "any"
        self.slots: int | None = None
        self.limit: int | None = None
        self.rate: float | None = None
        self._credit, self._counted = 1.0, time.monotonic()
        self.most_live: int = 0
        self._all: dict[int, Run] = {}
        self._tokens: dict[str, int] = {}
        self._numbers = itertools.count(1001, 1000)
        self._lock = threading.Lock()

    def __iter__(self) -> Any:
        """Every run that is not deleted, oldest first."""
        return iter([run for run in self._all.values() if not run.deleted])

    def __len__(self) -> int:
        return sum(not run.deleted for run in self._all.values())

    @property
    def newest(self) -> Run:
        """The run that was submitted last."""
        return self._all[max(self._all)]

    def submit(self, payload: dict[str, Any]) -> Run:
        """A new run, or the one that its token already made."""
        token = payload.get("idempotency_token")
        if token and len(token) > _TOKEN_LENGTH:
            raise ApiError(
                400, "INVALID_PARAMETER_VALUE", f"idempotency_token has more than {_TOKEN_LENGTH} characters"
            )
        if not payload.get("tasks"):
            raise ApiError(400, "INVALID_PARAMETER_VALUE", "One-time runs need at least one task")
        with self._lock:
            self._let_in()
            known = self._known(token) if token else None
            if known is not None:
                return known
            if self.limit is not None and sum(run.live for run in self._all.values()) >= self.limit:
                raise ApiError(429, "REQUEST_LIMIT_EXCEEDED", f"The workspace has {self.limit} active runs already.")
            run = Run(next(self._numbers), payload)
            self._all[run.run_id] = run
            if token:
                self._tokens[token] = run.run_id
        self._start(run)
        return run

    def _let_in(self) -> None:
        """Count a submission; too many in a second are turned away."""
        if self.rate is None:
            return
        now = time.monotonic()
        self._credit = min(max(1.0, self.rate), self._credit + (now - self._counted) * self.rate)
        self._counted = now
        if self._credit < 1:
            raise ApiError(429, "REQUEST_LIMIT_EXCEEDED", f"More than {self.rate:g} submissions in a second.")
        self._credit -= 1

    def _known(self, token: str) -> Run | None:
        run = self._all.get(self._tokens.get(token, 0))
        if run is None:
            return None
        if run.deleted:
            if self.semantics == "deleted-errors":
                raise ApiError(400, "INVALID_STATE", f"The run with idempotency token {token} is deleted.")
            return None
        return None if self.semantics == "active-only" and not run.live else run

    def _start(self, run: Run) -> None:
        threading.Thread(target=self._carry_out, args=(run,), name=f"run-{run.run_id}", daemon=True).start()

    def _carry_out(self, run: Run) -> None:
        try:
            while self.slots is not None and not self._may_start(run):
                run.pause(_TICK)
            if run.life == "QUEUED":
                run.enter("PENDING")
            self.most_live = max(self.most_live, sum(r.life in {"PENDING", "RUNNING"} for r in self._all.values()))
            run.check()
            self.program(run)
            run.check()
        except Ended as end:
            run.close(end)
        except Exception as error:  # noqa: BLE001 - a test's own program is wrong: the run shows it
            run.close(Ended("FAILED", f"{type(error).__name__}: {error}", code="INTERNAL_ERROR"))
        else:
            run.close(None)

    def _may_start(self, run: Run) -> bool:
        with self._lock:
            busy = sum(r.life in {"PENDING", "RUNNING"} for r in self._all.values())
            if busy < (self.slots or 0):
                run.enter("PENDING")
                return True
            return False

    def get(self, run_id: Any) -> Run:
        """The run of this number, or of this task's number."""
        number = int(run_id)
        run = self._all.get(number) or self._all.get(number - 1)
        if run is None or run.deleted:
            raise ApiError(400, "RESOURCE_DOES_NOT_EXIST", f"Run {run_id} does not exist.")
        return run

    def cancel(self, run_id: Any) -> dict[str, Any]:
        """Ask a run to stop; it stops a moment later."""
        run = self.get(run_id)
        if run.live:
            run.cancelled.set()
        return {}

    def delete(self, run_id: Any) -> dict[str, Any]:
        """Forget a run; its token stays reserved."""
        run = self.get(run_id)
        if run.live:
            raise ApiError(400, "INVALID_STATE", f"Run {run_id} is active.")
        run.deleted = True
        return {}

    def repair(self, run_id: Any) -> dict[str, Any]:
        """Do a run that has failed again, with the parameters it had."""
        run = self.get(run_id)
        if run.live:
            raise ApiError(400, "INVALID_STATE", f"Run {run_id} is active.")
        run.attempt, run.life, run.result, run.ended, run.started = run.attempt + 1, "QUEUED", None, None, time.time()
        run.code, run.message, run.error, run.trace = "SUCCESS", "", "", ""
        run.cancelled.clear()
        run.done.clear()
        self._start(run)
        return {"repair_id": run.attempt}

    def end_all(self) -> None:
        """Cancel what is left and wait for it."""
        live = [run for run in self._all.values() if run.live]
        for run in live:
            run.cancelled.set()
        for run in live:
            run.done.wait(10)
