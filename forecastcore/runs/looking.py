"""What is to be seen of a history before anything is learned from it or forecast.

Pure, as `making` is: whoever has some of the series sees what adds up with what is seen of the others.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import Field

from forecastcore import guard
from forecastcore.assumptions import blank_future
from forecastcore.frames import digest_sum
from forecastcore.messages import Message
from forecastcore.runs.making import assumed, summed

if TYPE_CHECKING:
    from forecastcore.frames import History
    from forecastcore.project import Project

__all__ = ["Question", "Seen", "UnknownAhead", "see", "unknown_ahead"]


class Question(Message):
    """What is looked at beside the history.

    Attributes:
        scenarios: futures that assumptions are asked for.
        needed: covariates are, so what the source should know of them is insisted on.
    """

    scenarios: tuple[str, ...] = ()
    needed: bool = False


class UnknownAhead(Message):
    """What a source should know of a covariate up to the horizon, and does not; that of other series adds to it.

    Attributes:
        steps: the horizon.
        series: how many there are.
        blind: how many of them lack a value.
        values: how many are lacking.
        first: the earliest that is.
    """

    steps: int
    series: int
    blind: int
    values: int
    first: datetime | None

    def __add__(self, other: UnknownAhead) -> UnknownAhead:
        """Of the series of both."""
        return UnknownAhead(
            steps=self.steps,
            series=self.series + other.series,
            blind=self.blind + other.blind,
            values=self.values + other.values,
            first=min((one.first for one in (self, other) if one.first is not None), default=None),
        )

    def told(self, name: str) -> str:
        """In words; empty where all is known."""
        if not self.values:
            return ""
        then = "carries the last season on there" if self.blind < self.series else "cannot serve a model that uses it"
        return (
            f"covariates.{name}: known is true, but the source lacks {self.values} of {self.series * self.steps} values"
            f" of the {self.steps} steps after the origin, in {self.blind} of {self.series} series, the first"
            f" at {self.first}; predict {then}"
        )


class Seen(Message):
    """What is seen of some series; what is seen of others adds to it.

    Attributes:
        ids: the series.
        rows: of the history, laid out on the grid.
        first: the first instant of any series.
        counts: repairs of the quality check.
        screened: series that no model is given, and why.
        unknown: what the source should know ahead, by covariate.
        digests: `frames.digest_sum` of history and future, by scenario.
        lacking: why none of the series has all that the source should know ahead; empty where one has.
    """

    ids: tuple[str, ...] = ()
    rows: int = 0
    first: datetime = datetime.max.replace(tzinfo=UTC)
    counts: dict[str, int] = Field(default_factory=dict)
    screened: dict[str, str] = Field(default_factory=dict)
    unknown: dict[str, UnknownAhead] = Field(default_factory=dict)
    digests: dict[str, int] = Field(default_factory=dict)
    lacking: str = ""

    def __add__(self, other: Seen) -> Seen:
        """Of the series of both."""
        if not self.ids or not other.ids:
            return self if self.ids else other
        return Seen(
            ids=(*self.ids, *other.ids),
            rows=self.rows + other.rows,
            first=min(self.first, other.first),
            counts=summed(self.counts, other.counts),
            screened={**self.screened, **other.screened},
            unknown={name: one + other.unknown[name] for name, one in self.unknown.items()},
            digests={name: (one + other.digests[name]) % 2**256 for name, one in self.digests.items()},
            lacking=self.lacking and other.lacking,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What is lacking ahead, in words."""
        return tuple(filter(None, (one.told(name) for name, one in self.unknown.items())))


def see(project: Project, history: History, question: Question, *, whole: bool = True) -> Seen:
    """What is to be seen of a history of some series, or of all.

    Args:
        project: whose.
        history: checked.
        question: what else is looked at.
        whole: these are all series; what the source must know ahead for one of them at least is then insisted on.

    Raises:
        DataError: no series has what the source should know.
    """
    past, digests, lacking = digest_sum(history.panel) if question.scenarios else 0, {}, ""
    for scenario in question.scenarios:
        future, lacking = assumed(project, history, scenario, needed=question.needed, whole=whole)
        digests[scenario] = (past + digest_sum(future.frame)) % 2**256
    return Seen(
        ids=tuple(map(str, history.ids)),
        rows=len(history.panel),
        first=history.first.to_pydatetime(),
        counts=dict(history.counts),
        screened=guard.screen(history.panel, project.config.quality.max_missing),
        unknown=unknown_ahead(project, history),
        digests=digests,
        lacking=lacking,
    )


def unknown_ahead(project: Project, history: History) -> dict[str, UnknownAhead]:
    """What the source should know up to the horizon of each covariate that is `known`, and does not.

    No assumption is asked.
    """
    names = [name for name, rule in project.config.covariates.items() if rule.known]
    if not names:
        return {}
    horizon = project.config.horizon
    blank = blank_future(history.ids, history.grid, history.origin, horizon)
    rows = blank.merge(history.known, on=["unique_id", "ds"], how="left")
    told = {}
    for name in names:
        lacking = rows[rows[name].isna()]
        told[name] = UnknownAhead(
            steps=horizon,
            series=len(history.ids),
            blind=lacking["unique_id"].nunique(),
            values=len(lacking),
            first=lacking["ds"].min().to_pydatetime() if len(lacking) else None,
        )
    return told
