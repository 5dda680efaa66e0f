"""What the states of a Databricks run mean: it goes on, it came to a good end, or why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HINTS", "KNOWN", "State", "missing_there", "read_state"]

#: life-cycle states in which a run is still to come to an end; one that nobody has heard of counts as such too
_UNDER_WAY = ("PENDING", "QUEUED", "BLOCKED", "WAITING_FOR_RETRY", "WAITING", "RUNNING", "TERMINATING")
_OVER = ("TERMINATED", "SKIPPED", "INTERNAL_ERROR")
KNOWN = frozenset((*_UNDER_WAY, *_OVER))
_CANCELLED = ("CANCELED", "UPSTREAM_CANCELED")
_MEMORY = ("memory", "oom", "exit code 137", "driver has stopped unexpectedly")

#: what to do, by fault
HINTS = {
    "cancelled": "somebody or something cancelled it; run it again",
    "budget": "raise engine.budget, or ask for less",
    "cluster": "look at engine.cluster: node_type, spark_version, policy_id, quota; then run it again",
    "failed": "the run's page shows the whole log",
    "forbidden": "ask an administrator for the permission",
    "memory": "take a larger engine.cluster.node_type, or more workers",
    "not-installed": "a wheel does not install or import there: look at spark_version and packages under engine:",
    "skipped": "Databricks did not start it: look at limits and policies of the workspace; then run it again",
    "timeout": "raise engine.timeout, or give it more machines",
}
_BY_CODE = {
    "LIBRARY_INSTALLATION_ERROR": "not-installed",
    "DRIVER_ERROR": "memory",
    "CLUSTER_ERROR": "cluster",
    "CLOUD_FAILURE": "cluster",
    "CLUSTER_REQUEST_LIMIT_EXCEEDED": "cluster",
    "INVALID_CLUSTER_REQUEST": "cluster",
    "UNAUTHORIZED_ERROR": "forbidden",
    "STORAGE_ACCESS_ERROR": "forbidden",
    "USER_CANCELED": "cancelled",
    "CANCELED": "cancelled",
}
_WORDS = {
    "cancelled": "was cancelled",
    "cluster": "got no cluster",
    "forbidden": "was not allowed to",
    "memory": "ran out of memory",
    "not-installed": "could not install its libraries",
    "skipped": "was never started",
    "timeout": "took too long",
}


@dataclass(frozen=True, kw_only=True)
class State:
    """A run as it was seen.

    Attributes:
        life: life-cycle state.
        result: result state; empty while there is none.
        message: what Databricks says of it.
        code: termination code.
        url: its page.
        name: its run name.
        task_run_id: of its only task.
        ended_at: seconds since 1970; None while it goes on.
        started_at: seconds since 1970.
    """

    life: str
    result: str = ""
    message: str = ""
    code: str = ""
    url: str = ""
    name: str = ""
    task_run_id: int | None = None
    ended_at: float | None = None
    started_at: float | None = None

    @property
    def known(self) -> bool:
        """Whether this version has heard of the state."""
        return self.life in KNOWN

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.life in _OVER

    @property
    def good(self) -> bool:
        """Whether it came to a good end."""
        return self.over and self.result == "SUCCESS"

    def fault(self, cause: str = "") -> str:
        """Why it came to no good end, in one word.

        Args:
            cause: what its output says.
        """
        said = f"{self.message} {cause}".lower()
        if self.result == "TIMEDOUT":
            return "timeout"
        if self.result in _CANCELLED:
            return "cancelled"
        if self.life == "SKIPPED" or self.result in ("EXCLUDED", "DISABLED", "MAXIMUM_CONCURRENT_RUNS_REACHED"):
            return "skipped"
        if any(word in said for word in _MEMORY):
            return "memory"
        if missing := missing_there(said):
            return missing
        return _BY_CODE.get(self.code, "cluster" if self.life == "INTERNAL_ERROR" else "failed")

    def words(self, cause: str) -> str:
        """What happened, in words."""
        said = cause or self.message or f"{self.life} {self.result}".strip()
        return f"{_WORDS.get(self.fault(cause), 'failed')}: {said}"


def missing_there(said: str) -> str:
    """The fault of a run that misses a library; empty where what it says is something else."""
    return "not-installed" if any(word in said.lower() for word in ("modulenotfounderror", "importerror")) else ""


def read_state(run: Mapping[str, Any]) -> State:
    """What `runs/get` says; `status`, the newer form, helps where `state` is silent."""
    state, status = run.get("state") or {}, run.get("status") or {}
    details = status.get("termination_details") or {}
    life = str(state.get("life_cycle_state") or status.get("state") or "UNKNOWN")
    result = state.get("result_state") or ("SUCCESS" if details.get("code") == "SUCCESS" else "")
    if life == "INTERNAL_ERROR":
        result = state.get("result_state") or "FAILED"
    tasks = run.get("tasks") or [{}]
    return State(
        life=life,
        result=str(result),
        message=str(state.get("state_message") or details.get("message") or ""),
        code=str(details.get("code") or ""),
        url=str(run.get("run_page_url") or ""),
        name=str(run.get("run_name") or ""),
        task_run_id=tasks[0].get("run_id"),
        ended_at=(run.get("end_time") or 0) / 1000 or None,
        started_at=(run.get("start_time") or 0) / 1000 or None,
    )
