"""One assumption after the other: a forecast, the last one kept, what is usual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from forecastcore.timegrid import duration

if TYPE_CHECKING:
    import pandas as pd

    from forecastcore.api import Task

__all__ = ["Chain", "Link"]


@dataclass(frozen=True)
class Link:
    """An assumption of a chain.

    Attributes:
        of: its name.
        max_age: what it says counts only if it was issued at most so long before the origin, such as `12h`.
    """

    of: str
    max_age: str | None = None

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - read by the host; no field, so that nothing can set it

    def __post_init__(self) -> None:
        if self.max_age is not None:
            duration("max_age", self.max_age)


@dataclass(frozen=True)
class Chain:
    """Of each value what the first assumption says that can say; the host asks in order, as far as needed.

    The table's `assumed_by` names the link that was used. A link fails as a whole (its source is down), or has no value
    for some rows, or is too old for some.

    Attributes:
        links: names of other assumptions, in order; or `{of: name, max_age: 12h}`.
    """

    links: tuple[str | Link, ...]

    def __post_init__(self) -> None:
        if not self.links:
            msg = "links must name at least one assumption"
            raise ValueError(msg)

    def assume(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:  # noqa: ARG002 - the protocol's
        """What the links said."""
        return future[["unique_id", "ds", *task.covariates]]
