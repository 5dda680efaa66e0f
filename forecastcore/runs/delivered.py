"""What stands in the sinks: the newest vintages of a project, from the first sink that can be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore.errors import UsageError
from forecastcore.vintages import VintageRef, utc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from forecastcore.project import Project

__all__ = ["Shelf", "listed", "newest_vintages", "only_tells", "readable", "refs_of", "rows_of_vintages"]


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
