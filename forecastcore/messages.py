"""What runs say: versioned, immutable, plain JSON; also what crosses to a cluster.

Every message has a `schema` such as `forecastcore/retrain/1`. Numbers that are not finite become null in JSON.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

__all__ = [
    "AssumptionError",
    "AssumptionNote",
    "BackfillOrigin",
    "BackfillReport",
    "Cost",
    "Decision",
    "Guard",
    "Leaderboard",
    "LeaderboardRow",
    "LedgerEntry",
    "ModelVersion",
    "PredictReport",
    "Publication",
    "RetrainReport",
    "RollbackReport",
    "RunFailure",
    "RunReport",
    "RunRequest",
    "SeriesCount",
    "VersionRef",
    "Withdrawal",
    "WorstSeries",
]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


#: members of a list that are shown in a notebook
_SHOWN = 5
#: a number, or null where it is not finite
Number = Annotated[float | None, BeforeValidator(_finite)]


class Message(BaseModel):
    """Base of all messages: frozen, closed, JSON."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), populate_by_name=True
    )

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`, with `schema` and `command` first where they exist."""
        return self.model_dump(mode="json", by_alias=True)

    def _repr_html_(self) -> str:
        """What a notebook shows: the plain fields; a report's decision, series and leaderboard in words and tables."""
        from forecastcore.markup import card

        leaderboard = getattr(self, "leaderboard", None)
        title = " ".join(filter(None, [getattr(self, "project", ""), getattr(self, "command", type(self).__name__)]))
        parts = [leaderboard._repr_html_()] if isinstance(leaderboard, Leaderboard) and leaderboard else []
        return card(title, self.facts(), *parts)

    def facts(self) -> dict[str, str]:
        """The fields that hold something, by name, in a few words each."""
        told = {name: getattr(self, name) for name in type(self).model_fields if name not in {"schema_", "leaderboard"}}
        facts = {name.replace("_", " "): _in_words(value) for name, value in told.items()}
        return {name: text for name, text in facts.items() if text and name not in {"project", "command"}}


class Cost(Message):
    """What a run took, or may take at most, on machines that were made for it; null where it is not known.

    Attributes:
        seconds: from its start to its end.
        nodes: machines, the driver too; the most there may be where the cluster grows.
        spot_share: share of them that was asked for from spare capacity.
        node_hours: hours, times nodes.
        dbu: estimated with `cost.dbu_per_node_hour`.
        amount: estimated with the prices under `cost`.
        currency: of `amount`.
        per_1000_series: `amount` for a thousand series.
        by_candidate: each candidate's share of the work on candidates, 0 to 1; empty where none was fitted.
    """

    seconds: float
    nodes: int | None = None
    spot_share: Number = None
    node_hours: Number = None
    dbu: Number = None
    amount: Number = None
    currency: str = ""
    per_1000_series: Number = None
    by_candidate: dict[str, float] = Field(default_factory=dict)


class SeriesCount(Message):
    """How many series were served, and how."""

    total: int
    ok: int
    degraded: int
    failed: int


class WorstSeries(Message):
    """A series that is served badly.

    Attributes:
        unique_id: the series.
        mase: its error in the backtest; null where there is none.
        times_naive: `mase` as a multiple of the seasonal naive's; 1 is as good, 2 is twice as wrong.
        reason: why it is not served by the model itself.
    """

    unique_id: str
    mase: Number = None
    times_naive: Number = None
    reason: str = ""


class LeaderboardRow(Message):
    """One candidate's backtest, errors as means over series and origins.

    Attributes:
        name: unique within the run, such as `ridge` or `gradient-boosting-2`.
        model: family.
        params: parameters of the candidate.
        status: `ok`, `degraded` (some series were served by the fallback) or `failed`.
        reason: why not `ok`, or what the model was given and cannot use.
        mase: mean absolute scaled error (Hyndman & Koehler 2006).
        rmsse: root mean squared scaled error (M5).
        wql: weighted quantile loss.
        bias: mean error over mean absolute actual; positive forecasts too high.
        coverage: share of actuals inside the outermost quantiles.
        skill: 1 - mase / mase of the best seasonal naive on the same rows.
        smape: symmetric mean absolute percentage error, in percent (M4).
        skill_gm: 1 - the geometric mean, over series and origins, of the error relative to the seasonal naive's.
        win_rate: share of series and origins with a smaller error than the seasonal naive.
        coverage_by_step: coverage of each quarter of the horizon.
        seconds: wall time of the backtest.
        premium: foresight premium: mase with the covariates as assumed minus mase of the same fitted model with the
            actual ones; null where the model uses no covariate that is assumed.
    """

    name: str
    model: str
    params: dict[str, Any]
    status: Literal["ok", "degraded", "failed"]
    reason: str = ""
    mase: Number = None
    rmsse: Number = None
    wql: Number = None
    bias: Number = None
    coverage: Number = None
    skill: Number = None
    smape: Number = None
    skill_gm: Number = None
    win_rate: Number = None
    coverage_by_step: dict[str, Number] = Field(default_factory=dict)
    seconds: Number = None
    premium: Number = None


class Leaderboard(tuple[LeaderboardRow, ...]):
    """Candidates, best first; a notebook shows them as a table."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        from forecastcore.markup import table

        errors = ("mase", "rmsse", "wql", "bias", "coverage", "skill", "seconds")
        rows = [[row.name, row.status, *(_in_words(getattr(row, name)) for name in errors), row.reason] for row in self]
        return table("Leaderboard", ["candidate", "status", *errors, "reason"], rows, numeric=range(2, 2 + len(errors)))


def _in_words(value: object) -> str:
    """A field in a few words; empty where it has none."""
    match value:
        case None:
            text = ""
        case Decision():
            text = f"{value.verdict}: {value.reason}"
        case Message():
            text = ", ".join(f"{inner} {name}" for name, inner in value.facts().items())
        case float():
            text = f"{value:.4g}"
        case datetime():
            text = f"{value:%Y-%m-%d %H:%M %Z}"
        case dict():
            text = ", ".join(f"{_in_words(inner)} {name}" for name, inner in value.items())
        case tuple():
            text = "; ".join(filter(None, map(_in_words, value[:_SHOWN]))) + ("; …" if len(value) > _SHOWN else "")
        case _:
            text = str(value)
    return text


#: candidates of a report, as pydantic keeps them
_Candidates = Annotated[tuple[LeaderboardRow, ...], AfterValidator(Leaderboard)]


class VersionRef(Message):
    """A registered version and the family that made it."""

    model: str
    version: str


class Guard(Message):
    """One condition of the gate."""

    name: str
    passed: bool
    detail: str


class Decision(Message):
    """What the gate decided, and why.

    Attributes:
        verdict: `first` (nobody to beat), `promote` or `hold`.
        reason: in words, with the numbers.
        gain: relative reduction of the mean loss against the champion; positive is better.
        ci: confidence interval of the gain.
        confidence: level of `ci`.
        guards: every condition that was looked at.
    """

    verdict: Literal["promote", "hold", "first"]
    reason: str
    gain: Number = None
    ci: tuple[Number, Number] | None = None
    confidence: float = 0.95
    guards: tuple[Guard, ...] = ()


class LedgerEntry(Message):
    """One line of the promotion ledger; never changed once written.

    Attributes:
        seq: 1, 2, 3 …
        at: when, UTC.
        action: `first`, `promote`, `hold`, `rollback` or `manual`.
        version: the version decided on.
        champion: the champion after this entry; None where there is none yet.
        previous: the champion before it.
        digest: of the champion's stored files.
        run_id: the run that decided, where one did.
        reason: in words.
        by: user or service that decided.
    """

    seq: int
    at: datetime
    action: Literal["first", "promote", "hold", "rollback", "manual"]
    version: str
    champion: str | None
    previous: str | None
    digest: str = ""
    run_id: str = ""
    reason: str = ""
    by: str = ""


class ModelVersion(Message):
    """A registered version, as `models list` shows it."""

    version: str
    model: str
    params: dict[str, Any] = Field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    created_at: datetime
    metrics: dict[str, Number] = Field(default_factory=dict)
    run_id: str = ""
    digest: str = ""
    trained_until: datetime | None = None


class AssumptionError(Message):
    """How far from what came a covariate was assumed at the origins of the backtest; assumed minus actual.

    Attributes:
        covariate: column.
        assumption: who was to say.
        rows: how many values were compared.
        spread: standard deviation of the covariate up to the first origin.
        bias: mean error, in the covariate's unit.
        mae: mean absolute error, in the covariate's unit.
        scaled: `mae / spread`; null where the covariate has none.
        bias_by_step: the same for each step, 1 … horizon; null where nothing could be compared.
        mae_by_step: the same for each step.
        scaled_by_step: the same for each step.
    """

    covariate: str
    assumption: str
    rows: int
    spread: Number = None
    bias: Number = None
    mae: Number = None
    scaled: Number = None
    bias_by_step: tuple[Number, ...] = ()
    mae_by_step: tuple[Number, ...] = ()
    scaled_by_step: tuple[Number, ...] = ()


class AssumptionNote(Message):
    """Which assumption filled which covariate for how many rows of a scenario."""

    scenario: str
    covariate: str
    assumption: str
    rows: int
    reason: str = ""


class Publication(Message):
    """Delivery to one sink."""

    sink: str
    location: str
    rows: int
    already: bool
    error: str = ""


class RetrainReport(Message):
    """What a retrain did."""

    schema_: str = Field("forecastcore/retrain/1", alias="schema")
    command: str = "retrain"
    project: str
    run_id: str
    as_of: datetime
    folds: int
    leaderboard: _Candidates
    challenger: VersionRef | None
    champion_before: VersionRef | None
    champion_after: VersionRef | None
    decision: Decision
    assumption_errors: tuple[AssumptionError, ...] = ()
    series: SeriesCount
    worst: tuple[WorstSeries, ...] = ()
    quality: dict[str, int] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    deferred: str = ""  # what waits for MLflow to be back, in words; the challenger has no version until then
    seconds: float
    where: str = ""  # address of the run where it was done elsewhere, such as on Databricks
    cost: Cost | None = None  # of that run


class BacktestReport(Message):
    """What a backtest found; nothing is registered."""

    schema_: str = Field("forecastcore/backtest/1", alias="schema")
    command: str = "backtest"
    project: str
    as_of: datetime
    folds: int
    leaderboard: _Candidates
    assumption_errors: tuple[AssumptionError, ...] = ()
    series: SeriesCount
    quality: dict[str, int] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float
    where: str = ""  # address of the run where it was done elsewhere, such as on Databricks
    cost: Cost | None = None  # of that run


class PredictReport(Message):
    """What a predict did; `reasons` counts the series that are not ok by why, in any scenario, most first.

    `worst` are series that are not ok, and after them those that the model did worst on in its backtest.
    """

    schema_: str = Field("forecastcore/predict/1", alias="schema")
    command: str = "predict"
    project: str
    run_id: str
    run_key: str
    run_keys: dict[str, str] = Field(default_factory=dict)
    issued_at: datetime
    scenarios: tuple[str, ...]
    model: str
    model_version: str
    rows: int
    series: SeriesCount
    reasons: dict[str, int] = Field(default_factory=dict)
    worst: tuple[WorstSeries, ...] = ()
    assumptions: tuple[AssumptionNote, ...] = ()
    published: tuple[Publication, ...] = ()
    quality: dict[str, int] = Field(default_factory=dict)
    alerts: tuple[str, ...] = ()  # what somebody should look at, though it was delivered
    notes: tuple[str, ...] = ()
    seconds: float
    page: str = ""  # the file for people, where one was drawn
    where: str = ""  # address of the run where it was done elsewhere, such as on Databricks
    cost: Cost | None = None  # of that run


class BackfillOrigin(Message):
    """What a backfill did for one origin.

    Attributes:
        as_of: the moment asked for, UTC.
        issued_at: the origin there was: the newest value known then.
        status: `made`, `already` (it was there before), `degraded` (made, but not all of it by the model) or `failed`.
        note: what there is to know, such as why it failed, or that the source keeps no older states.
    """

    as_of: datetime
    issued_at: datetime | None = None
    status: Literal["made", "already", "degraded", "failed"]
    model_version: str = ""
    run_keys: dict[str, str] = Field(default_factory=dict)
    rows: int = 0
    note: str = ""


class BackfillReport(Message):
    """What a backfill did."""

    schema_: str = Field("forecastcore/backfill/1", alias="schema")
    command: str = "backfill"
    project: str
    origins: tuple[BackfillOrigin, ...]
    made: int
    already: int
    failed: int
    seconds: float
    where: str = ""  # address of the run where it was done elsewhere, such as on Databricks
    cost: Cost | None = None  # of that run


class Withdrawal(Message):
    """A vintage that one sink does not show any more."""

    sink: str
    run_key: str
    issued_at: datetime
    scenario: str
    rows: int


class RollbackReport(Message):
    """Which vintages were taken back, and what is the latest now, by sink."""

    schema_: str = Field("forecastcore/rollback-vintage/1", alias="schema")
    command: str = "rollback-vintage"
    project: str
    reason: str
    dry_run: bool = False
    withdrawn: tuple[Withdrawal, ...]
    latest: dict[str, datetime | None]
    notes: tuple[str, ...] = ()


class RunRequest(Message):
    """What a run elsewhere is asked to do; crosses to a cluster as JSON, never with a secret in it.

    Attributes:
        command: `retrain`, `predict`, `backfill`, `backtest` or `monitor`.
        options: arguments of the use case of that name, beside the project.
        recipe: see `Project.recipe`; the text of the project file and of plugins that are single files.
        version: of the forecastcore that asks.
    """

    schema_: Literal["forecastcore/run-request/1"] = Field("forecastcore/run-request/1", alias="schema")
    command: Literal["retrain", "predict", "backfill", "backtest", "monitor"]
    options: dict[str, Any] = Field(default_factory=dict)
    recipe: str
    version: str


class RunFailure(Message):
    """An error of a run elsewhere, as the command line would tell it."""

    code: str
    message: str
    hint: str | None = None
    exit_code: int = 1


class RunReport(Message):
    """What a run elsewhere did: the use case's own report, or why there is none."""

    schema_: Literal["forecastcore/run-report/1"] = Field("forecastcore/run-report/1", alias="schema")
    command: str
    report: dict[str, Any] | None = None
    failure: RunFailure | None = None
    engine: str
    python: str
    version: str
    seconds: float
