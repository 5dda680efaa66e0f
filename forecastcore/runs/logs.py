"""The log of a run from wherever it was done: here, as a flow run of Prefect, as a run on Databricks; in one order."""

from __future__ import annotations

import logging
import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from forecastcore.errors import ForecastCoreError, UsageError
from forecastcore.logbook import Kept, kept
from forecastcore.runs.deployments import ask
from forecastcore.tracking.connect import mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from forecastcore.project import Project

__all__ = ["Line", "follow", "logs"]

_log = logging.getLogger(__name__)
#: by what a run is asked for
_NAMES: Final = ("log", "mlflow", "key", "flow_run", "job")
#: characters that the beginning of a name needs, and runs that are named where none was found
_SHORTEST, _TOLD = 4, 5
_PAUSE: Final = 2.0
#: seconds that Prefect's server may take to answer
_PATIENCE: Final = 15.0
#: log lines that Prefect's server tells in one answer
_PAGE: Final = 200
_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z) (\w+) (.*)")


@dataclass(frozen=True, order=True, kw_only=True)
class Line:
    """One line of a log.

    Attributes:
        at: when, UTC.
        source: `run` (ours), `prefect` or `databricks`.
        level: of the logging.
        message: in words.
    """

    at: datetime
    source: str
    level: str
    message: str

    def to_json(self) -> dict[str, str]:
        """As plain data."""
        at = f"{self.at:%Y-%m-%dT%H:%M:%S}.{self.at.microsecond // 1000:03d}Z"
        return {"at": at, "source": self.source, "level": self.level, "message": self.message}


def logs(project: Project, run: str = "latest") -> dict[str, Any]:
    """All that is logged of a run so far.

    Args:
        project: whose.
        run: a run's id in MLflow, its run key, its flow run or its number on Databricks, or the beginning of one; or
            `latest`.

    Returns:
        `names` of the run by kind, `lines` in order, `end` (empty while it goes on), and `unasked`: who could not be
        asked, and why.

    Raises:
        UsageError: there is no such run.
    """
    path = _found(project, run)
    lines, unasked, book = _gathered(project, path, _OTHERS)
    shown = {kind: name for kind, name in book.names.items() if kind in {*_NAMES, "command"}}
    return {"names": shown, "lines": [line.to_json() for line in lines], "end": book.end, "unasked": unasked}


def follow(project: Project, run: str = "latest") -> Iterator[Line]:
    """Each line of a run's log as it comes, until the run is over; see `logs`.

    Raises:
        UsageError: there is no such run.
    """
    path, seen, over = _found(project, run), set[Line](), False
    while True:
        # what it said on Databricks is told when it is over there
        lines, _, book = _gathered(project, path, others=_OTHERS if over else _MEANWHILE)
        for line in lines:
            if line not in seen:
                seen.add(line)
                yield line
        if over:
            return
        over = book.over  # once more: others tell its last lines a moment later
        time.sleep(_PAUSE)


def _found(project: Project, run: str) -> Path:
    there = list(kept(project.root))
    if run == "latest" and there:
        return there[0][0]
    whole = [path for path, book in there if any(book.names.get(kind) == run for kind in _NAMES)]
    begun = [path for path, book in there if any(book.names.get(kind, "").startswith(run) for kind in _NAMES)]
    if found := whole or (begun if len(run) >= _SHORTEST else []):
        return found[0]
    names = [f"{b.names.get('mlflow') or b.names.get('log', '')} ({b.names.get('command')})" for _, b in there[:_TOLD]]
    raise UsageError(
        f"no run of this project on this machine is known as {run!r}",
        hint=f"the newest are {', '.join(names)}" if names else "runs keep their log from now on; there is none yet",
    )


def _gathered(
    project: Project, path: Path, others: Mapping[str, Callable[[Project, str], Iterator[Line]]]
) -> tuple[list[Line], list[str], Kept]:
    book, unasked = Kept.read(path), []
    lines = [
        Line(at=_instant(line["at"]), source="run", level=line["level"], message=line["message"]) for line in book.lines
    ]
    said = {line.message for line in lines}
    for kind, asked in others.items():
        if name := book.names.get(kind):
            try:  # our own warnings are in the flow run's log too
                lines += (one for one in asked(project, name) if one.source != "prefect" or one.message not in said)
            except (OSError, ValueError, KeyError, ForecastCoreError) as error:
                unasked.append(mask(f"{asked.__name__.lstrip('_')}: {error}"))
    return sorted(lines), unasked, book


def _prefect(_: Project, flow_run: str) -> Iterator[Line]:
    """What Prefect's server keeps of a flow run."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        raise ValueError("PREFECT_API_URL is not set")
    wanted: dict[str, Any] = {"logs": {"flow_run_id": {"any_": [flow_run]}}, "sort": "TIMESTAMP_ASC", "limit": _PAGE}
    told = 0
    while page := ask(url, "logs/filter", {**wanted, "offset": told}, _PATIENCE):
        told += len(page)
        for line in page:
            level = logging.getLevelName(line["level"])
            yield Line(
                at=_instant(line["timestamp"]), source="prefect", level=level, message=mask(line["message"].strip())
            )


def _databricks(project: Project, number: str) -> Iterator[Line]:
    """What a run on Databricks has said; a line without its own time has that of the one before."""
    from forecastcore.engines.databricks import supervisor_of
    from forecastcore.engines.databricks.fetch import output_of

    ended, said = output_of(supervisor_of(project), int(number))
    at = datetime.fromtimestamp(ended, UTC)
    for text in said.splitlines():
        match = _STAMP.fullmatch(text)
        at = _instant(match[1]) if match else at
        if text.strip():
            level, message = (match[2], match[3]) if match else ("INFO", text.rstrip())
            yield Line(at=at, source="databricks", level=level, message=mask(message))


#: who else is asked, by the kind of name that they know a run by; and while it goes on
_MEANWHILE: Final = {"flow_run": _prefect}
_OTHERS: Final = {**_MEANWHILE, "job": _databricks}


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
