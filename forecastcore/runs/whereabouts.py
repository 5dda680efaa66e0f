"""A history that is only asked, wherever it lies: a predict is made of it, a plan says what there is."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore import runtime
from forecastcore.errors import EngineError
from forecastcore.ports import Steps
from forecastcore.runs.looking import Question, Seen, see
from forecastcore.runs.sharded import BringHereError, Sharded, find, passes_through, why_no_future, why_not_checked

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from forecastcore.frames import History
    from forecastcore.project import Project
    from forecastcore.timegrid import TimeGrid

__all__ = ["Looked", "Whereabouts", "to_look_at"]

_log = logging.getLogger(__name__)


class Whereabouts:
    """Where a history lies that is only asked: on the workers of a Spark cluster where they can answer, else here.

    Args:
        project: whose source and quality rules.
        engine: of the project.
        as_of: see `runtime.history`.
        steps: how to run and watch the stages.
        state: see `runtime.source_at`.
        why: tells why workers cannot answer, whatever the source is; empty where they can. Asked where there are some.
    """

    def __init__(
        self,
        project: Project,
        engine: Any,
        as_of: str | datetime | None,
        steps: Steps,
        *,
        state: datetime | None = None,
        why: Callable[[Project], str],
    ) -> None:
        self.project: Project = project
        self._engine, self._as_of, self._steps, self._state = engine, as_of, steps, state
        self._refused, self._why = why, ""

    @cached_property
    def there(self) -> Sharded | None:
        """The history on the workers of a Spark cluster; None where it has to come here."""
        if self.project.config.engine.type != "spark":
            return None
        look = partial(find, self.project, self._engine, self._as_of, self._refused(self.project), self._state)
        try:
            return self._steps.run("load", look)
        except BringHereError as error:
            self._why = str(error)
            return None

    @cached_property
    def here(self) -> History:
        """The history in this process."""
        if self._why:
            _log.info("%s", self._told)
        source = runtime.source_at(self.project, self._state)
        return runtime.history(self.project, self._as_of, self._steps, source=source)

    @property
    def place(self) -> Sharded | History:
        """Either of both."""
        return self.there or self.here

    def bring_here(self, why: str) -> None:
        """The history has to come to this process after all."""
        self._why = why

    def looked_at(self, question: Question) -> Looked:
        """What is to be seen of it; for errors see `looking.see`."""
        seen, place = self._seen(question), self.place
        return Looked(grid=place.grid, origin=place.origin, seen=seen, notes=(*self.notes, *seen.notes))

    def _seen(self, question: Question) -> Seen:
        if self.there is not None:
            try:
                return self._steps.run("check quality", partial(self.there.seen, question))
            except BringHereError as error:
                self.bring_here(str(error))
        return see(self.project, self.here, question)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of it."""
        if not self._why:
            return self.place.notes
        return (*self.here.notes, self._told)

    @property
    def _told(self) -> str:
        return passes_through(self._why)


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What was seen of a history, wherever it lies.

    Attributes:
        grid: the time grid.
        origin: the last instant.
        seen: all else.
        notes: what a reader should know, in words.
    """

    grid: TimeGrid
    origin: pd.Timestamp
    seen: Seen
    notes: tuple[str, ...]

    @property
    def first(self) -> pd.Timestamp:
        """The first instant of any series."""
        return pd.Timestamp(self.seen.first)


def to_look_at(project: Project, as_of: str | datetime | None = None, *, ahead: bool = False) -> Whereabouts:
    """A history to be looked at and no more; where no Spark is to be had, it is read here.

    Args:
        project: whose.
        as_of: see `runtime.history`.
        ahead: so is what is assumed of the future.
    """
    try:
        engine, why = runtime.engine_here(project), why_no_future if ahead else why_not_checked
    except EngineError as error:
        none = error.message
        return Whereabouts(project, None, as_of, Steps(), why=lambda _: none)
    return Whereabouts(project, engine, as_of, Steps(), why=why)
