"""What a Prefect server says of a project's deployments, over its REST interface; the core imports no Prefect."""

from __future__ import annotations

import json
import os
import urllib.request
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forecastcore.project import Project

__all__ = ["ask", "deployments", "served"]

_PATIENCE = 1.0
_MANY = 200


def deployments(project: Project) -> tuple[list[dict[str, Any]], str]:
    """The deployments of a project with their next and last run, and why there are none to show.

    Args:
        project: those whose parameter `project` names its file.
    """
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return [], "PREFECT_API_URL is not set"
    try:
        wanted = served(url, project)
        ids = [one["id"] for one in wanted]
        due = _runs(url, ids, ["SCHEDULED"], "EXPECTED_START_TIME_ASC") if ids else []
        done = _runs(url, ids, ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"], "END_TIME_DESC") if ids else []
    except (OSError, ValueError, KeyError) as error:
        return [], f"{urlsplit(url).hostname} was not reached: {getattr(error, 'reason', None) or error}"
    return [_told(one, due, done) for one in wanted], "" if wanted else "the server has no deployment of this project"


def served(url: str, project: Project, patience: float = _PATIENCE) -> list[dict[str, Any]]:
    """The deployments of a project, as the server tells them.

    Args:
        url: of the server's interface.
        project: those whose parameter `project` names its file.
        patience: seconds that an answer may take.

    Raises:
        OSError: the server was not reached.
        ValueError: the address is none, or the answer is no JSON.
    """
    return [one for one in ask(url, "deployments/filter", {"limit": _MANY}, patience) if _is_of(one, project)]


def _told(one: dict[str, Any], due: list[dict[str, Any]], done: list[dict[str, Any]]) -> dict[str, Any]:
    following = next((run for run in due if run["deployment_id"] == one["id"]), None)
    last = next((run for run in done if run["deployment_id"] == one["id"]), None)
    return {
        "name": one["name"],
        "paused": bool(one.get("paused")),
        "next_run": following["expected_start_time"] if following else None,
        "last_run": {"state": last["state_name"], "at": last["end_time"]} if last else None,
    }


def _runs(url: str, ids: list[str], types: list[str], order: str) -> list[dict[str, Any]]:
    wanted = {"state": {"type": {"any_": types}}, "deployment_id": {"any_": ids}}
    return ask(url, "flow_runs/filter", {"flow_runs": wanted, "sort": order, "limit": _MANY})


def _is_of(deployment: dict[str, Any], project: Project) -> bool:
    """Whether a deployment runs this project's file; a relative path starts at the folder that runs start in."""
    named = (deployment.get("parameters") or {}).get("project")
    if not isinstance(named, str):
        return False
    steps = [step for step in deployment.get("pull_steps") or [] if isinstance(step, dict)]
    folders = [value.get("directory") for step in steps for value in step.values() if isinstance(value, dict)]
    places = [Path(str(folder)) / named for folder in folders if folder] or [Path(named).absolute()]
    return any(place.resolve() in {project.path.resolve(), project.root.resolve()} for place in places)


def ask(url: str, what: str, body: dict[str, Any], patience: float = _PATIENCE) -> list[dict[str, Any]]:
    """What the server answers to a question such as `work_pools/filter`.

    Args:
        url: of its interface.
        what: is asked.
        body: of the question.
        patience: seconds that an answer may take.

    Raises:
        OSError: the server was not reached.
        ValueError: the address is none, or the answer is no JSON.
    """
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ValueError("it is no http(s) address")
    address = f"{url.rstrip('/')}/{what}"
    try:
        found: list[dict[str, Any]] = _answered(address, patience, body)
    except HTTPError as error:
        if error.code != HTTPStatus.FORBIDDEN or (leave := _leave(url, patience)) is None:
            raise
        found = _answered(address, patience, body, leave)
    return found


def _leave(url: str, patience: float) -> dict[str, str] | None:
    """What a server wants to see that protects itself against pages of other sites; None where it does not."""
    client = str(uuid.uuid4())
    try:
        told = _answered(f"{url.rstrip('/')}/csrf-token?client={client}", patience)
    except HTTPError:
        return None
    return {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": str(told["token"])}


def _answered(
    address: str, patience: float, body: dict[str, Any] | None = None, more: Mapping[str, str] | None = None
) -> Any:
    key = os.environ.get("PREFECT_API_KEY")
    mine = {"Authorization": f"Bearer {key}"} if key else {}
    asked = urllib.request.Request(  # noqa: S310 - the scheme is seen to by the caller
        address,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", **mine, **(more or {})},
        method="GET" if body is None else "POST",
    )
    with urllib.request.urlopen(asked, timeout=patience) as answer:  # noqa: S310 - as above
        return json.loads(answer.read(10_000_000))
