"""What a monitor run says."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic reads the types at run time
from typing import Literal

from pydantic import Field

from forecastcore.messages import AssumptionError, Message, Number

__all__ = [
    "ActionTaken",
    "Drift",
    "ErrorSplit",
    "MonitorReport",
    "Outcome",
    "Schedule",
    "SeriesScore",
    "SliceScore",
    "VersionScore",
    "VintageScore",
]


class SliceScore(Message):
    """Accuracy of some of the rows that have come; errors as in the leaderboard.

    Attributes:
        kind: `all`, `steps` (a quarter of the horizon), `segment` (a size class of series) or `model` (who made them).
        name: which one.
        rows: how many were scored.
        skill: against the best seasonal naive on the same rows.
    """

    kind: Literal["all", "steps", "segment", "model"]
    name: str
    rows: int
    mase: Number = None
    rmsse: Number = None
    wql: Number = None
    bias: Number = None
    coverage: Number = None
    skill: Number = None
    win_rate: Number = None


class VersionScore(Message):
    """What a version did, beside what its backtest promised."""

    version: str
    model: str
    vintages: int
    rows: int
    mase: Number = None
    promised_mase: Number = None
    skill: Number = None
    promised_skill: Number = None
    coverage: Number = None
    promised_coverage: Number = None
    nominal: Number = None


class VintageScore(Message):
    """One delivered origin.

    Attributes:
        issued_at: the origin.
        model_version: who made it.
        arrived: share of its rows whose actuals have come; it is judged from a half on.
        judged: whether policies look at it.
        degraded: share of its rows that are not `ok`.
        worse_than_promised: mase over the version's mase in its backtest, minus one.
        late: it was made later than it was due, by more than half a cycle.
    """

    issued_at: datetime
    created_at: datetime
    model_version: str
    arrived: float
    judged: bool
    rows: int
    mase: Number = None
    skill: Number = None
    bias: Number = None
    coverage: Number = None
    degraded: float = 0.0
    worse_than_promised: Number = None
    late: bool = False


class SeriesScore(Message):
    """One of the series with the largest errors."""

    unique_id: str
    rows: int
    mase: Number = None
    skill: Number = None
    bias: Number = None


class ErrorSplit(Message):
    """A version's error, and how much of it is owed to covariates that came otherwise than assumed.

    Attributes:
        mase: as delivered.
        model_error: mase of the same stored version with the covariates that came.
        assumption_error: the rest.
    """

    version: str
    vintages: int
    mase: Number = None
    model_error: Number = None
    assumption_error: Number = None


class Drift(Message):
    """How an input is distributed lately, against the champion's training data.

    Attributes:
        column: `y`, with each series' level and spread taken out, or a covariate.
        rows: values in the newest window.
        psi: population stability index over tenths of the training data.
        usual_psi: the largest that any window of the training data itself had.
        ks: largest distance of the two distributions (Kolmogorov and Smirnov).
        usual_ks: the largest of the training data's windows.
        drifted: beyond 0.25, and beyond what training data itself does.
    """

    column: str
    rows: int
    psi: Number = None
    usual_psi: Number = None
    ks: Number = None
    usual_ks: Number = None
    drifted: bool = False


class Schedule(Message):
    """Whether vintages came as often as they use to.

    Attributes:
        every: usual distance of two origins, in seconds; null where fewer than three are there.
        missing: origins that the rhythm asks for and nobody made, oldest first.
        late: origins of vintages that were made later than they were due, by more than half a cycle.
    """

    every: Number = None
    missing: tuple[datetime, ...] = ()
    late: tuple[datetime, ...] = ()


class Outcome(Message):
    """What a policy of the project file says.

    Attributes:
        when: the condition in words.
        do: what it asks for.
        fired: whether the condition holds.
        reason: why or why not, with the numbers.
    """

    when: str
    do: Literal["retrain", "recalibrate", "alert", "demote"]
    fired: bool
    reason: str


class ActionTaken(Message):
    """What was done about a policy that fired."""

    do: str
    done: bool
    note: str
    run_id: str = ""


class MonitorReport(Message):
    """What a monitor run found; scores are of the scenario `base`."""

    schema_: str = Field("forecastcore/monitor/1", alias="schema")
    command: str = "monitor"
    project: str
    run_id: str
    as_of: datetime
    champion: str | None
    advice: tuple[str, ...]
    policies: tuple[Outcome, ...]
    acted: tuple[ActionTaken, ...] = ()
    vintages: tuple[VintageScore, ...]
    accuracy: tuple[SliceScore, ...]
    versions: tuple[VersionScore, ...]
    split: tuple[ErrorSplit, ...] = ()
    assumption_errors: tuple[AssumptionError, ...] = ()
    worst: tuple[SeriesScore, ...] = ()
    drift: tuple[Drift, ...] = ()
    new_series: tuple[str, ...] = ()
    ended_series: tuple[str, ...] = ()
    schedule: Schedule = Field(default_factory=Schedule)
    table: str = ""
    already: bool = False
    notes: tuple[str, ...] = ()
    seconds: float
