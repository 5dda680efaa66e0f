"""Checks of services beside the run: Prefect, where it is configured."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from forecastcore.doctor.finding import Fault, Skip
from forecastcore.runs.deployments import ask, served

if TYPE_CHECKING:
    from forecastcore.doctor.finding import Patient

__all__ = ["CHECKS"]

_PATIENCE = 5.0
#: the automations that end runs whose process, or whose worker, is gone; `flows/alerts.py deploy` makes them
_DEAD_RUNS = ("forecastcore: dead runs", "forecastcore: runs that nobody starts")
#: pools of these kinds start runs themselves
_NO_WORKER = (":push", ":managed")
#: how a run is that holds a slot of its deployment
_GOING = ("PENDING", "RUNNING", "CANCELLING")
#: seconds after which a run that was taken up should have started
_STARTING = 120.0


def _get(url: str, headers: dict[str, str], mend: str) -> bytes:
    place = urlsplit(url)
    if place.scheme not in {"http", "https"} or not place.hostname:
        raise Fault(f"{place.hostname or 'the address'} is not reached: it is no http(s) address", mend)
    asked = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme is seen to above
    where = f"{place.scheme}://{place.hostname}{place.path}"
    try:
        with urllib.request.urlopen(asked, timeout=_PATIENCE) as answer:  # noqa: S310 - as above
            got: bytes = answer.read(100_000)
    except urllib.error.HTTPError as error:
        raise Fault(f"GET {where} was answered {error.code} {error.reason}", mend) from error
    except (OSError, ValueError) as error:
        raise Fault(f"GET {where}: {getattr(error, 'reason', None) or error}", mend) from error
    return got


def prefect(patient: Patient) -> str:
    """The Prefect API that the environment names is well."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        raise Skip("PREFECT_API_URL is not set")
    key = os.environ.get("PREFECT_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        _get(f"{url.rstrip('/')}/health", headers, "prefect server start, or mend PREFECT_API_URL and PREFECT_API_KEY")
    except Fault:
        patient.broken.add("prefect")
        raise
    return f"{urlsplit(url).hostname} is well, asked {'with a key' if key else 'without a key'}"


def workers(patient: Patient) -> str:
    """Somebody asks for the runs of this project's deployments."""
    url, mine = _deployed(patient)
    pools = {one["work_pool_name"]: one["name"] for one in mine if one.get("work_pool_name")}
    told = ask(url, "work_pools/filter", {"work_pools": {"name": {"any_": list(pools)}}}, _PATIENCE)
    idle = [pool["name"] for pool in told if not pool["type"].endswith(_NO_WORKER) and pool["status"] == "NOT_READY"]
    if idle:
        late = ", ".join(sorted(one["name"] for one in mine if one.get("work_pool_name") in idle))
        words = f"nobody asks for the runs of the pool {idle[0]}: those of {late} will be late"
        raise Fault(words, f"prefect worker start --pool '{idle[0]}', kept alive by a service")
    return f"the runs of {len(mine)} deployments are asked for, in {', '.join(sorted(pools)) or 'this process'}"


def slots(patient: Patient) -> str:
    """No slot of a deployment is held by a run that is no more, which would keep all later ones from starting."""
    url, mine = _deployed(patient)
    limited = [one for one in mine if one.get("global_concurrency_limit")]
    wanted = {"deployment_id": {"any_": [one["id"] for one in limited]}, "state": {"type": {"any_": list(_GOING)}}}
    runs = ask(url, "flow_runs/filter", {"flow_runs": wanted, "limit": 200}, _PATIENCE) if limited else []
    for one in limited:
        limit, own = one["global_concurrency_limit"], [run for run in runs if run["deployment_id"] == one["id"]]
        stuck = [run["name"] for run in own if _stuck(run)]
        going = len(own) - len(stuck)
        if limit["active_slots"] > going:
            words = f"{one['name']}: {limit['active_slots']} of {limit['limit']} slots are held, by {going} runs"
            if stuck:
                words += f"; {', '.join(sorted(stuck))} was taken up by a worker that has not started it"
            mend = "a slot is given back five minutes after its run fell silent; else"
            raise Fault(words, f"{mend} prefect gcl update '{limit['name']}' --active-slots {going}")
    return f"no slot of {len(limited)} deployments with a limit is held in vain"


def _stuck(run: dict[str, Any]) -> bool:
    """Whether somebody has taken up a run, and does not start it."""
    since = datetime.fromisoformat(run["state"]["timestamp"])
    return bool(run["state"]["type"] == "PENDING" and (datetime.now(UTC) - since).total_seconds() > _STARTING)


def dead_runs(patient: Patient) -> str:
    """Runs whose process is gone are ended, and somebody hears of it."""
    url, _ = _deployed(patient)
    there = {one["name"] for one in ask(url, "automations/filter", {"limit": 200}, _PATIENCE) if one["enabled"]}
    if missing := [name for name in _DEAD_RUNS if name not in there]:
        words = f"the automation {missing[0]!r} is not there, or off: a run whose machine dies stays as it is for good"
        raise Fault(words, "python flows/alerts.py deploy")
    return f"the automations {' and '.join(map(repr, _DEAD_RUNS))} are on"


def _deployed(patient: Patient) -> tuple[str, list[dict[str, Any]]]:
    """The server's address, and its deployments of this project."""
    project, url = patient.need("project", "project-file"), os.environ.get("PREFECT_API_URL")
    if not url or "prefect" in patient.broken:
        raise Skip("needs what `prefect` looks at")
    mine = served(url, project, _PATIENCE)
    if not mine:
        raise Skip("the server has no deployment of this project")
    return url, mine


CHECKS = (
    ("prefect", prefect),
    ("prefect-workers", workers),
    ("prefect-slots", slots),
    ("prefect-dead-runs", dead_runs),
)
