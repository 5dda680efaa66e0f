"""`forecast.yaml` as frozen models; the words under each key are what `forecastcore schema` prints."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, ClassVar, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, Strict, model_validator

from forecastcore.config.pins import pin_of
from forecastcore.config.words import custom_error, did_you_mean

__all__ = [
    "ENSEMBLE",
    "AuditConfig",
    "BacktestConfig",
    "BudgetConfig",
    "Config",
    "CovariateConfig",
    "EngineConfig",
    "KeepConfig",
    "ModelConfig",
    "MonitorConfig",
    "PluginConfig",
    "PluginsConfig",
    "PolicyConfig",
    "ProjectConfig",
    "PromotionConfig",
    "QualityConfig",
    "RangeConfig",
    "SearchConfig",
    "SourceConfig",
    "TrackingConfig",
    "TrainingDataConfig",
    "WhenConfig",
    "digest",
]


#: the type of a candidate that is made of other candidates; no plugin may offer it
ENSEMBLE = "ensemble"


def _named(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{1,100}", text):
        better = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
        words = f"expected lowercase letters, digits and dashes, got {text[:60]!r}"
        raise custom_error(words, f"did you mean {better[:60]!r}?" if better else None)
    return text


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        words = f"expected a regular expression, got {text[:60]!r}: {error}"
        raise custom_error(words, "the part of a name that is in brackets is the segment, such as ^([^/]+)/") from None
    return text


#: aliases of what people write instead, without its ending
_IN_WORDS = {
    "minute": "min",
    "hour": "h",
    "dai": "D",
    "day": "D",
    "week": "W",
    "month": "MS",
    "quarter": "QS",
    "year": "YS",
    "annual": "YS",
}


def _frequency(text: str) -> str:
    from forecastcore.timegrid import parse_frequency

    try:
        parse_frequency(text)
    except (ValueError, OverflowError, TypeError, KeyError):
        words = f"expected a pandas alias such as 30min, h, D, W-MON, MS or QS, got {text[:60]!r}"
        meant = _IN_WORDS.get(re.sub(r"^1 ?|ly$|s$", "", text.strip().lower()))
        raise custom_error(words, f"did you mean {meant!r}?" if meant else None) from None
    return text


def _timezone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (LookupError, ValueError, OSError):
        words = f"expected an IANA time zone such as Europe/Berlin, got {text[:60]!r}"
        places = (zone for zone in available_timezones() if "/" in zone)  # CEST is near EST, and far from it
        raise custom_error(words, did_you_mean(text, places)) from None
    return text


def _span(text: str) -> str:
    from forecastcore.timegrid import duration

    try:
        fine = duration("span", text)
    except ValueError:
        fine = None
    if not fine:
        raise custom_error(f"expected a time span such as 15min, 36h or 2D, got {text[:60]!r}")
    return text


def _pinned(text: str) -> str:
    if pin_of(text) is None:
        raise custom_error(
            f"expected NAME, NAME==VERSION or NAME==VERSION --hash=sha256:…, got {text[:60]!r}",
            hint="forecastcore --json plugins list tells the hash of each",
        )
    return text


def _for(text: str) -> str:
    found = re.fullmatch(r"([1-9]\d{0,2}) of ([1-9]\d{0,2})", text)
    if not found or int(found[1]) > int(found[2]):
        raise custom_error(f"expected how many of how many vintages, such as 3 of 5, got {text[:60]!r}")
    return text


def _quantiles(levels: tuple[float, ...]) -> tuple[float, ...]:
    from forecastcore.api import quantile_column

    outside = [level for level in levels if not 0 < level < 1]
    if outside:
        hint = f"did you mean {outside[0] / 100:g}?" if 1 <= outside[0] < 100 else None  # noqa: PLR2004 - a percentage
        raise custom_error(f"a quantile lies above 0 and below 1, got {outside[0]:g}", hint)
    columns = [quantile_column(level) for level in levels]
    twice = [level for level, column in zip(levels, columns, strict=True) if columns.count(column) > 1]
    if twice:
        raise custom_error(f"the quantile {twice[0]:g} stands here more than once", "keep one of them")
    return tuple(sorted(levels))


Int = Annotated[int, Strict()]
Bool = Annotated[bool, Strict()]
Float = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Values = Annotated[list[Any], Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]
Named = Annotated[str, AfterValidator(_named), Field(json_schema_extra={"pattern": "^[a-z0-9-]{1,100}$"})]
Timezone = Annotated[str, AfterValidator(_timezone)]
Span = Annotated[Text, AfterValidator(_span)]
Allowed = Annotated[Text, AfterValidator(_pinned)]
Count = Annotated[Int, Field(ge=1, le=1_000_000)]


class Config(BaseModel):
    """Base of all sections: frozen and closed."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), use_attribute_docstrings=True, validate_default=False
    )


class PluginConfig(Config):
    """A plugin and its parameters, which stand beside `type` in the file."""

    type: Text
    """Name that a plugin offers; `forecastcore plugins list` shows them all."""
    params: dict[str, Any] = Field(default_factory=dict)
    """The plugin's own parameters; in the file they stand beside `type`."""


class SourceConfig(PluginConfig):
    """Where history comes from."""

    id: Text = "unique_id"
    """Column with the name of the series."""
    time: Text = "ds"
    """Column with the time stamps."""
    target: Text = "y"
    """Column with what is forecast."""
    timezone: Timezone = "UTC"
    """IANA zone of naive time stamps, and the clock that people live by; everything inside is UTC."""


class RangeConfig(Config):
    """All numbers from `low` to `high`, ends included; whole ones where the parameter takes no others."""

    low: Float
    """Smallest value."""
    high: Float
    """Largest value."""
    log: Bool = False
    """Whether small values are tried as often as large ones, by order of magnitude; `low` must be above 0."""

    @model_validator(mode="after")
    def _ordered(self) -> RangeConfig:
        if self.low >= self.high:
            raise custom_error(f"low must be below high, got {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise custom_error(f"low must be above 0 where log is true, got {self.low:g}")
        return self


class BudgetConfig(Config):
    """How long a search may go on: it ends with whichever is used up first."""

    trials: Annotated[Int, Field(ge=1, le=10_000)] = 40
    """Parameter sets that are tried."""
    seconds: Annotated[Float, Field(gt=0)] | None = None
    """Time after which no trial is begun; without it only `trials` counts, and the same seed finds the same."""


class SearchConfig(Config):
    """A search over a model's parameters by Optuna; the best trial is the candidate."""

    space: Annotated[dict[str, Any], Field(min_length=1)]
    """What is tried, by parameter: a list of values, or a range {low, high}."""
    trials: Annotated[Int, Field(ge=1, le=10_000)] | None = None
    """Parameter sets that are tried; what `search:` of the project says where it is left out."""
    seconds: Annotated[Float, Field(gt=0)] | None = None
    """Time after which no trial is begun; what `search:` of the project says where it is left out."""


class ModelConfig(PluginConfig):
    """A candidate, or several where `grid` lists values."""

    grid: dict[str, Values] = Field(default_factory=dict)
    """Values to search over, by parameter; each combination is a candidate of its own."""
    search: SearchConfig | None = None
    """Search over parameters within a budget, instead of trying every combination."""
    scope: Literal["segment"] | None = None
    """`segment` fits a global model once for each of the project's `segments`, instead of once for all series."""


class QualityConfig(Config):
    """What the check before every run does; every repair is counted and reported."""

    gaps: Literal["fill", "zero", "error"] = "fill"
    """Missing rows from a series' first on: take as missing values, as zeros (nothing was sold), or hold the run."""
    duplicates: Literal["error", "last", "mean"] = "error"
    """Two rows of one series and time: hold the run, take the last, or average them."""
    ambiguous: Literal["error", "first", "second", "infer"] = "error"
    """Local times that occur twice when clocks go back."""
    nonexistent: Literal["error", "shift"] = "error"
    """Local times that never occur when clocks go forward."""
    max_missing: Annotated[Float, Field(ge=0, le=1)] = 0.5
    """Share of missing values above which a series is served by a fallback."""


class CovariateConfig(Config):
    """Where the future of a covariate comes from: exactly one of `assume` and `known`."""

    assume: Text | None = None
    """Name of the assumption that stands in for its future."""
    known: Bool = False
    """The source holds future values too."""
    issued: Text | None = None
    """Archive of what was assumed when: a file with columns ds, issued_at, value."""


class BacktestConfig(Config):
    """How candidates are compared on the past."""

    folds: Annotated[Int, Field(ge=1, le=1000)] = 4
    """Number of past origins."""
    stride: Count | None = None
    """Steps between two origins; the horizon where it is left out."""
    metric: Literal["mase", "rmsse", "wql"] = "mase"
    """What decides."""
    season: Count | None = None
    """Steps of the main season; taken from the frequency where it is left out."""


Share = Annotated[Float, Field(ge=0, le=1)]


class TrainingDataConfig(Config):
    """How far the history may be from what the champion was trained on; beyond that the challenger is held."""

    check: Bool = True
    """Whether to look; a profile of the training data is kept with each model either way."""
    max_gone: Share = 0.1
    """Share of the champion's series that may be missing."""
    max_cut: Share = 0.3
    """Share of its values that a series may have lost."""
    max_level_change: Annotated[Float, Field(gt=1)] = 4.0
    """Factor by which a series' level may leave the range that it has had."""
    max_rewritten: Share = 0.2
    """Share of the values that the champion was trained on that may have changed since."""
    max_series: Share = 0.25
    """Share of the series that may break a limit, or be all zeros, repeated or stale."""


class PromotionConfig(Config):
    """When a challenger becomes champion."""

    mode: Literal["off", "dry-run", "enforce", "manual"] = "enforce"
    """off: never; dry-run: decide and record only; enforce: swap if better; manual: wait for `models promote`."""
    min_gain: Annotated[Float, Field(ge=0, lt=1)] = 0.01
    """Smallest relative reduction of the loss that counts."""
    confidence: Annotated[Float, Field(gt=0, lt=1)] = 0.95
    """Level at which the gain must be certain."""
    max_slice_loss: Annotated[Float, Field(ge=0)] = 0.1
    """Share by which a step bucket or a size class of series may get worse, chance aside."""
    coverage_slack: Share = 0.1
    """How far coverage may lie from nominal, chance aside; half as much again within a step bucket."""
    data: TrainingDataConfig = Field(default_factory=TrainingDataConfig)
    """How far the history may be from what the champion was trained on."""


class AuditConfig(Config):
    """What holds a vintage back before it is published."""

    level: Annotated[Float, Field(gt=1)] = 5.0
    """How many times its recent level a series may be forecast at, where its past was never near (down: fourfold)."""
    minimum: Float | None = None
    """Smallest value that a forecast or a quantile may have."""
    maximum: Float | None = None
    """Largest value that a forecast or a quantile may have."""
    flat_line: Literal["hold", "allow"] = "hold"
    """A flat line of a model that has shown skill, where history repeats itself each season."""
    max_broken: Annotated[Float, Field(ge=0, le=1)] = 0.5
    """Share of series on which the model may break (status degraded, reason model-error)."""
    max_degraded: Annotated[Float, Field(ge=0, le=1)] = 1.0
    """Share of series that may be served by a fallback or not at all, whatever the reason; 1 never holds."""
    alert_degraded: Annotated[Float, Field(ge=0, le=1)] = 0.05
    """Above this share of such series, what is delivered is an alert: in the report, the log and the run's state."""
    max_age: Span | None = None
    """How old the newest data may be when the forecast is made, such as 36h or 2D."""


class KeepConfig(Config):
    """How long vintages stay; of each scenario the newest always does."""

    vintages: Count | None = None
    """How many of each scenario."""
    days: Annotated[Float, Field(gt=0)] | None = None
    """For how many days after their origin."""


class WhenConfig(Config):
    """Conditions of a policy; all that are named must hold at once."""

    skill_below: Float | None = None
    """Skill of a vintage against the seasonal naive on the same rows."""
    mase_above: Float | None = None
    """Mean absolute scaled error of a vintage."""
    worse_than_promised: Float | None = None
    """Share by which a vintage's error exceeds that of the version's backtest."""
    bias_beyond: Annotated[Float, Field(ge=0)] | None = None
    """Bias of a vintage in either direction, as a share of the actuals."""
    coverage_below: Share | None = None
    """Share of actuals between the outermost quantiles of a vintage."""
    coverage_above: Share | None = None
    """The same, too wide."""
    degraded_above: Share | None = None
    """Share of a vintage's rows that a fallback made, or nobody."""
    drift_above: Annotated[Float, Field(ge=0)] | None = None
    """Population stability index of an input, over what its training data had itself; 0.25 is the usual alarm."""
    missing_above: Annotated[Int, Field(ge=0)] | None = None
    """Vintages that the rhythm of the others asks for and nobody made."""
    window: Annotated[str, AfterValidator(_for)] = Field("1 of 1", alias="for")
    """In how many of the newest vintages that have come; drift and missing ones are looked at once."""

    @model_validator(mode="after")
    def _says_something(self) -> WhenConfig:
        if not self.limits():
            names = ", ".join(name for name in type(self).model_fields if name != "window")
            raise custom_error(f"names no condition; there are {names}")
        return self

    def limits(self) -> dict[str, float]:
        """The conditions that are named, with their limits."""
        values = self.model_dump(exclude={"window"}, exclude_none=True)
        return {name: float(value) for name, value in values.items()}

    def counts(self) -> tuple[int, int]:
        """How many of how many vintages."""
        needed, _, window = self.window.partition(" of ")
        return int(needed), int(window)


class PolicyConfig(Config):
    """What to do when delivered forecasts are not what they should be."""

    when: WhenConfig
    """The condition."""
    do: Literal["retrain", "recalibrate", "alert", "demote"]
    """Retrain; learn the intervals anew; say so; or return to the champion before, where it would have done better."""


class MonitorConfig(Config):
    """How delivered forecasts are watched."""

    last: Annotated[Int, Field(ge=1, le=10_000)] = 30
    """Newest vintages that are looked at."""
    table: Text = "out/monitor"
    """Folder of the table of results, one Parquet file per result; relative to the project file."""
    stale_after: Span | None = None
    """How old the newest vintage may be, such as 36h; twice the usual distance of vintages where it is left out."""
    policies: tuple[PolicyConfig, ...] = (
        PolicyConfig(when=WhenConfig(**{"skill_below": 0.0, "for": "3 of 5"}), do="retrain"),
        PolicyConfig(when=WhenConfig(**{"worse_than_promised": 0.5, "for": "3 of 5"}), do="retrain"),
    )
    """What to do when; two that ask for a retrain where it is left out."""


class EngineConfig(Config):
    """What the work runs on."""

    type: Literal["local", "spark", "databricks"] = "local"
    """Processes of this machine, a Spark session, or a Databricks job."""
    params: dict[str, Any] = Field(default_factory=dict)
    """The engine's own parameters; in the file they stand beside `type`."""


class TrackingConfig(Config):
    """Where runs and models are recorded."""

    uri: Text | None = None
    """MLflow tracking URI; `mlflow.db` beside the file where it is left out."""
    experiment: Text | None = None
    """MLflow experiment; the project's name where it is left out."""


class PluginsConfig(Config):
    """Which plugins may be loaded."""

    block: tuple[Text, ...] = ()
    """Plugins that are never loaded, by name of entry point, distribution, file or offered type."""
    allow: tuple[Allowed, ...] | None = None
    """Distributions that may be loaded, as `NAME`, `NAME==VERSION` or `NAME==VERSION --hash=sha256:…`; all where null.
    What is not allowed is not even imported."""
    load: tuple[Text, ...] = ()
    """Single Python files to load as plugins, relative to the project file."""


class ProjectConfig(Config):
    """A forecasting project."""

    name: Named
    """Name of the project and of its registered model."""
    profile: Literal["dev", "prod"] = "dev"
    """Under prod, Azure and Databricks are asked as a managed identity or service principal that this file names, and
    as nobody else: no account key, no personal token, nothing that the machine happens to know."""
    source: SourceConfig
    """Where history comes from."""
    quality: QualityConfig = Field(default_factory=QualityConfig)
    """What the check before every run does."""
    frequency: Annotated[str, AfterValidator(_frequency)]
    """Pandas offset alias of the grid, such as 30min, h, D, W-MON or MS."""
    horizon: Count
    """Steps to forecast."""
    quantiles: Annotated[tuple[Float, ...], Field(min_length=1, max_length=99), AfterValidator(_quantiles)] = (
        0.1,
        0.5,
        0.9,
    )
    """Quantiles to forecast beside the point forecast."""
    segments: Annotated[str, AfterValidator(_pattern)] | None = None
    """Regular expression that tells groups of series apart: what its first group matches in a `unique_id` is the
    segment, such as ^([^/]+)/ where names are region/store."""
    covariates: dict[str, CovariateConfig] = Field(default_factory=dict)
    """Columns that help to forecast, and where their future comes from."""
    assumptions: dict[str, PluginConfig] = Field(default_factory=dict)
    """Stand-ins for the unknown future of covariates, by a name of your own."""
    scenarios: dict[str, dict[str, PluginConfig]] = Field(default_factory=dict)
    """What-ifs: assumptions that replace those of the same name. `base` always exists."""
    models: Annotated[tuple[ModelConfig, ...], Field(min_length=1)] = ()
    """Candidates; a sensible shelf where it is left out."""
    search: BudgetConfig = Field(default_factory=BudgetConfig)
    """Budget of each model that has a `search:` and says none of its own."""
    backtest: BacktestConfig = Field(default_factory=BacktestConfig)
    """How candidates are compared on the past."""
    promotion: PromotionConfig = Field(default_factory=PromotionConfig)
    """When a challenger becomes champion."""
    sinks: Annotated[tuple[PluginConfig, ...], Field(min_length=1)] = ()
    """Where forecasts are delivered; a Delta table at out/forecasts where it is left out."""
    audit: AuditConfig = Field(default_factory=AuditConfig)
    """What holds a vintage back before it is published."""
    report: Text | None = None
    """File to draw each forecast into, such as out/report.html: one page for people, for MLflow too; none is drawn
    where it is left out."""
    keep: KeepConfig = Field(default_factory=KeepConfig)
    """How long vintages stay in the sinks; for ever where it is left out."""
    monitor: MonitorConfig = Field(default_factory=MonitorConfig)
    """How delivered forecasts are watched, and what is done when they are not what they should be."""
    engine: EngineConfig = Field(default_factory=EngineConfig)
    """What the work runs on."""
    tracking: TrackingConfig = Field(default_factory=TrackingConfig)
    """Where runs and models are recorded."""
    plugins: PluginsConfig = Field(default_factory=PluginsConfig)
    """Which plugins may be loaded."""


_ELSEWHERE = {
    "name",
    "profile",
    "sinks",
    "audit",
    "report",
    "keep",
    "monitor",
    "engine",
    "tracking",
    "promotion",
    "plugins",
}


def digest(config: ProjectConfig) -> str:
    """SHA-256 of all that shapes a forecast: not where it goes, what it runs on, or who is told."""
    shaping = config.model_dump(mode="json", exclude=_ELSEWHERE)
    return hashlib.sha256(json.dumps(shaping, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
