"""What stands in the sinks: the newest vintages of a project, from the first sink that can be read."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore import runtime
from forecastcore.errors import UsageError
from forecastcore.vintages import VintageRef, utc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from forecastcore.project import Project

__all__ = [
    "Shelf",
    "listed",
    "made_before",
    "newest_vintages",
    "only_tells",
    "readable",
    "refs_of",
    "rows_of_vintages",
    "vintage_named",
]

_log = logging.getLogger(__name__)


def only_tells(sink: Any) -> bool:
    """Whether a sink keeps nothing that could be read back, as a webhook."""
    return bool(getattr(sink, "only_tells", False))


def readable(project: Project) -> tuple[str, Any]:
    """The first sink that can be read, and its label.

    Raises:
        UsageError: there is none.
    """
    for label, sink in project.sinks():
        if not only_tells(sink):
            return label, sink
    raise UsageError(
        "no sink of this project can be read back", hint="add {type: delta, path: out/forecasts} under sinks:"
    )


@dataclass(frozen=True)
class Shelf:
    """The vintages of one project in one sink.

    Attributes:
        label: of the sink.
        sink: it.
        refs: oldest first.
    """

    label: str
    sink: Any
    refs: tuple[VintageRef, ...]


def listed(project: Project, scenario: str = "base", *, all_made: bool = False) -> Shelf:
    """The vintages of a scenario, without their rows; of several of one origin the one made last.

    Args:
        project: whose sinks.
        scenario: which.
        all_made: those of one origin that were made before it too.
    """
    label, sink = readable(project)
    mine = sorted(ref for ref in refs_of(sink) if ref.project == project.config.name and ref.scenario == scenario)
    last = mine if all_made else {utc(ref.issued_at): ref for ref in mine}.values()
    return Shelf(label, sink, tuple(last))


def refs_of(sink: Any) -> Sequence[VintageRef]:
    """All vintages of a sink, of whatever project, without their rows."""
    look = getattr(sink, "vintages", None)
    return list(look() if callable(look) else _refs(sink.read(None).to_pandas()))


def made_before(project: Project, issued_at: datetime) -> Mapping[str, datetime]:
    """When the last vintage of an origin was made, by scenario, as far as the sinks can list and answer."""
    last: dict[str, datetime] = {}
    for label, sink in project.sinks():
        look = getattr(sink, "vintages", None)
        try:
            refs = look() if callable(look) else []
        except Exception as error:  # noqa: BLE001 - a plugin's own error; it comes again when there is something to deliver
            _log.info("%s cannot list its vintages: %s", label, error)
            continue
        for ref in refs:
            if ref.project == project.config.name and utc(ref.issued_at) == utc(issued_at):
                last[ref.scenario] = max(utc(ref.created_at), last.get(ref.scenario, utc(ref.created_at)))
    return last


def newest_vintages(shelf: Shelf, count: int, until: datetime | None = None) -> Sequence[VintageRef]:
    """The newest vintages of a shelf whose origin is before an instant, oldest first."""
    before = [ref for ref in shelf.refs if until is None or utc(ref.issued_at) < until]
    return before[-count:]


def rows_of_vintages(shelf: Shelf, refs: Sequence[VintageRef]) -> pd.DataFrame:
    """The rows of some vintages, at least one, sorted by origin, series and step."""
    keys = {ref.run_key for ref in refs}
    parts = [shelf.sink.read(moment).to_pandas() for moment in sorted({utc(ref.issued_at) for ref in refs})]
    table: pd.DataFrame = pd.concat(parts, ignore_index=True)
    mine = table[table["run_key"].isin(keys)]
    return mine.sort_values(["issued_at", "unique_id", "step"], kind="stable", ignore_index=True)


def vintage_named(project: Project, shelf: Shelf, name: str, scenario: str) -> VintageRef:
    """The vintage that somebody means.

    Args:
        project: whose.
        shelf: where it stands, with all that were made.
        name: a run key or its beginning, a run id, an origin, `latest` or `previous`.
        scenario: which.

    Raises:
        UsageError: there is none; the hint names the newest.
    """
    refs = shelf.refs
    newest = {"latest": -1, "previous": -2}
    if name in newest and len(refs) >= -newest[name]:
        return refs[newest[name]]
    found = [ref for ref in refs if re.fullmatch(r"[0-9a-f]{6,64}", name) and ref.run_key.startswith(name)]
    if not found and re.fullmatch(r"[0-9a-f]{32}", name):
        key = runtime.store(project).parameter(name, f"run_key.{scenario}")
        found = [ref for ref in refs if key and ref.run_key == key]
    if not found and not re.fullmatch(r"[0-9a-f]{6,}|latest|previous", name):
        moment = runtime.instant(project, name)
        found = [ref for ref in refs if pd.Timestamp(utc(ref.issued_at)) == moment]
    if not found:
        there = ", ".join(f"{ref.run_key[:12]} ({ref.issued_at:%Y-%m-%dT%H:%MZ})" for ref in refs[-5:]) or "none"
        raise UsageError(f"there is no vintage {name!r} of {scenario}", hint=f"the newest are {there}; or a run id")
    return found[-1]


def _refs(table: pd.DataFrame) -> Iterator[VintageRef]:
    """References made from the rows themselves, for a sink that cannot list."""
    for key, rows in table.groupby("run_key", sort=False):
        first = rows.iloc[0]
        yield VintageRef(
            issued_at=first["issued_at"].to_pydatetime(),
            created_at=first["created_at"].to_pydatetime(),
            run_key=str(key),
            project=str(first["project"]),
            scenario=str(first["scenario"]),
            rows=len(rows),
        )
