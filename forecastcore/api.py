"""All that a plugin imports.

A plugin offers; objects work. A hook yields specs (`ModelSpec`, `AssumptionSpec`, `SinkSpec`, `SourceSpec`); a spec's
`factory` is a dataclass whose typed fields are the parameters that `forecast.yaml` may set. What a factory makes
follows one of the protocols here. There is no base class: the host checks what goes in and what comes out.

Nothing heavy is imported here; import your model library inside `fit` and `predict`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, runtime_checkable

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "Assumption",
    "AssumptionSpec",
    "Capabilities",
    "Example",
    "Fitted",
    "FittedPerSeries",
    "Model",
    "ModelSpec",
    "PartedSource",
    "Published",
    "Series",
    "Sink",
    "SinkSpec",
    "Source",
    "SourceSpec",
    "SparkSink",
    "SparkSource",
    "Task",
    "hookimpl",
    "per_series",
    "quantile_column",
]

hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker("forecastcore")

T = TypeVar("T")


def quantile_column(quantile: float) -> str:
    """The table's column of a quantile: 0.1 is `q10`, 0.025 is `q2_5`."""
    return "q" + f"{100 * quantile:.6g}".replace(".", "_")


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is asked of a model or an assumption, besides the frames.

    Attributes:
        origin: the moment the forecast is made from, UTC; nothing later is known.
        frequency: pandas offset alias of the grid.
        horizon: steps 1 … horizon are asked.
        quantiles: asked levels, ascending.
        season: steps of the main season (24 for hourly data); at least 1.
        seasons: all natural seasons in steps, ascending, such as (24, 168).
        timezone: IANA zone of the clock that people live by; frames themselves are in UTC.
        covariates: names of the covariate columns in history and future, in order.
        seed: of every random choice.
        threads: how many threads a library may use.
        replay: for models that train on past origins: given origins, the frame `unique_id, origin, ds, step,
            <covariates>` with each covariate as it *would have been assumed* at that origin; None where nothing is
            assumed. Train on it instead of the actual covariates, and the model learns how far to trust them.
        forecast: for assumptions that let a model forecast (`AssumptionSpec.models`): given `unique_id, ds, y` up to
            the origin and the rows `unique_id, ds, step` to forecast, the frame `unique_id, ds, forecast` of the model,
            fitted on that history; NaN for a series that it cannot do. Names of series are the assumption's own.
    """

    origin: pd.Timestamp
    frequency: str
    horizon: int
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    season: int = 1
    seasons: tuple[int, ...] = (1,)
    timezone: str = "UTC"
    covariates: tuple[str, ...] = ()
    seed: int = 0
    threads: int = 1
    replay: Callable[[Sequence[pd.Timestamp]], pd.DataFrame] | None = None
    forecast: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame] | None = None


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a model can do; the host gives it nothing else, and says so in the leaderboard.

    Attributes:
        scope: `local` learns each series on its own, `global` learns one model of all.
        covariates: it uses covariate columns.
        quantiles: it returns quantile columns itself, which are calibrated; otherwise conformal calibration adds them.
        missing: it can handle missing `y` and covariates; otherwise the host fills them from what came before.
        min_history: observations a series needs; shorter ones are served by the fallback.
        trusted: full names of third-party classes that its stored scikit-learn objects hold beside skops' own list.
    """

    scope: Literal["local", "global"] = "local"
    covariates: bool = False
    quantiles: bool = False
    missing: bool = False
    min_history: int = 1
    trusted: tuple[str, ...] = ()


@runtime_checkable
class Fitted(Protocol):
    """Learned parameters. A frozen dataclass of arrays, frames, scalars and scikit-learn estimators stores itself."""

    def predict(self, context: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:
        """Apply the learned parameters to newer data; estimate nothing.

        Args:
            context: `unique_id, ds, y, <covariates>`, sorted, UTC, on the grid, none later than `task.origin`. Usually
                newer than what `fit` saw.
            future: `unique_id, ds, step, <covariates>`, the rows asked for.
            task: what is asked.

        Returns:
            `unique_id, ds, forecast` and, where the model has quantiles, `q10 …`: one row per row of `future`. A series
            it cannot do may be left out or null; the fallback serves it.
        """
        ...


@runtime_checkable
class Model(Protocol):
    """A model family with its parameters set, not yet fitted."""

    def fit(self, history: pd.DataFrame, task: Task) -> Fitted:
        """Learn from history.

        Args:
            history: `unique_id, ds, y, <covariates>`, sorted by series and time, UTC, on the grid, none later than
                `task.origin`. A model of local scope gets some of the series, one of global scope all of them.
            task: what will be asked.

        Raises:
            HistoryTooShort: the series is served by the fallback.
        """
        ...


@runtime_checkable
class Assumption(Protocol):
    """A stand-in for the unknown future of covariates."""

    def assume(self, history: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:
        """Say what the covariates will be, from what is known at `task.origin`.

        Args:
            history: `unique_id, ds, <covariates>` up to the origin; only the covariates that name this assumption.
            future: `unique_id, ds, step`, the rows asked for. An assumption that stands on others (`wraps`) finds
                their values here, in columns of the covariates' names.
            task: `task.covariates` names the columns to fill.

        Returns:
            `unique_id, ds, <covariates>`, one row per row of `future`; NaN where it cannot say. Optionally a column
            `issued_at`, UTC: when what it says was issued, so that a chain can tell its age.

        Raises:
            AssumptionUnavailable: its outside source cannot answer now.
        """
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What a sink says after publishing.

    Attributes:
        location: where a reader finds it.
        rows: rows of this vintage there.
        already: it was there before; nothing was written.
    """

    location: str
    rows: int
    already: bool


@runtime_checkable
class Sink(Protocol):
    """A place that forecasts are delivered to."""

    def publish(self, vintage: pa.Table, run_key: str) -> Published:
        """Make one vintage (all rows of one origin and scenario) visible at once, or not at all.

        The same `run_key` never writes twice: the second call changes nothing and says `already`.

        Raises:
            SinkError: nothing of this vintage is visible.
        """
        ...

    def read(self, issued_at: datetime | None = None) -> pa.Table:
        """All published vintages, or those of one origin; an empty table where there are none.

        Args:
            issued_at: UTC.
        """
        ...


@runtime_checkable
class Source(Protocol):
    """A place that history comes from."""

    def schema(self) -> pa.Schema:
        """Names and types of what is there, read without reading the data where possible."""
        ...

    def read(self, columns: Sequence[str]) -> pa.Table:
        """The named columns, which are all in `schema()`, as they stand in the source: unsorted, unchecked."""
        ...


@runtime_checkable
class PartedSource(Source, Protocol):
    """A source that several processes can read a part of each, such as the workers of a Spark cluster."""

    def parts(self) -> Sequence[str]:
        """Texts that name parts, in order; put together they are what `read` gives now, whatever is added later."""
        ...

    def read_part(self, part: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The named columns of a part, their types as `read` has them.

        It is asked of another object, made of the same parameters in another process.
        """
        ...


@runtime_checkable
class SparkSource(Source, Protocol):
    """A source that Spark reads itself."""

    def frame(self, columns: Sequence[str]) -> Any:
        """The named columns as a Spark `DataFrame`, nothing read yet."""
        ...


@runtime_checkable
class SparkSink(Sink, Protocol):
    """A sink that Spark writes to itself, so that no row passes through the driver."""

    def publish_frame(self, vintage: Any, rows: int, run_key: str) -> Published:
        """What `publish` does, of a Spark `DataFrame` of as many rows, each as `vintages.check_vintage` leaves it.

        Raises:
            SinkError: nothing of this vintage is visible.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Example:
    """How to try a plugin that needs parameters; the conformance suite asks for it.

    Attributes:
        params: as a project file would give them.
        covariates: names that an assumption can fill.
        issue_later: adds to the archive that an assumption reads other values for the same instants, issued after the
            moment it is given; None where it has none.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    covariates: tuple[str, ...] = ("temperature",)
    issue_later: Callable[[pd.Timestamp], None] | None = None


@dataclass(frozen=True, kw_only=True)
class _Spec:
    name: str
    summary: str
    factory: Callable[..., Any]
    example: Callable[..., Example] | None = None

    def __post_init__(self) -> None:
        if not self.name or not all(part.isalnum() for part in self.name.split("-")) or self.name != self.name.lower():
            msg = f"{type(self).__name__} name {self.name!r} must be lowercase words joined by dashes, like 'auto-ets'"
            raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class ModelSpec(_Spec):
    """An offer of a model family.

    Attributes:
        name: what `type:` says in the project file.
        summary: one line for `plugins list`.
        factory: dataclass following `Model`; its typed fields are the parameters.
        example: given an empty folder, how to try it; needed where parameters have no default.
        capabilities: what it can do; a mapping of the same names will do.
    """

    capabilities: Capabilities = field(default_factory=Capabilities)

    def __post_init__(self) -> None:
        super().__post_init__()
        given: Capabilities | Mapping[str, Any] = self.capabilities
        if not isinstance(given, Capabilities):
            object.__setattr__(self, "capabilities", Capabilities(**given))


@dataclass(frozen=True, kw_only=True)
class AssumptionSpec(_Spec):
    """An offer of an assumption.

    Attributes:
        name: what `type:` says in the project file.
        summary: one line for `plugins list`.
        factory: dataclass following `Assumption`; its typed fields are the parameters.
        example: given an empty folder, how to try it, and on which covariates; needed where parameters have no default.
        generates: it also knows the past, as a calendar does; the source needs no column for it.
        wraps: it stands on others: on the one that its parameter `of` names, or on the list `links`, of names or of
            objects with the attributes `of` and `max_age`; of each value the first of them that can say is handed on.
        models: it lets a model forecast, by `task.forecast`; its parameter `model` says which: `{type: ets, …}`.
        by_series: what it says of a series follows from the series' own past and the calendar, where it has been seen,
            and asks nothing outside; so workers of a cluster may ask it, each of some of the series.
    """

    generates: bool = False
    wraps: bool = False
    models: bool = False
    by_series: bool = False


@dataclass(frozen=True, kw_only=True)
class SinkSpec(_Spec):
    """An offer of a sink.

    Attributes:
        name: what `type:` says in the project file.
        summary: one line for `plugins list`.
        factory: dataclass following `Sink`; fields of type `Path` are resolved against the project file.
        example: given an empty folder, how to try it; needed where parameters other than paths have no default.
    """


@dataclass(frozen=True, kw_only=True)
class SourceSpec(_Spec):
    """An offer of a source.

    Attributes:
        name: what `type:` says in the project file.
        summary: one line for `plugins list`.
        factory: dataclass following `Source`; fields of type `Path` are resolved against the project file.
        example: given an empty folder and an Arrow table, puts the table there and says how to read it.
    """


@dataclass(frozen=True, slots=True)
class Series:
    """One series as arrays.

    Attributes:
        unique_id: its name.
        ds: instants, `datetime64[ns]`, UTC.
        y: target, float; empty for a future.
        x: covariates, float, shape (rows, covariates), columns as in `Task.covariates`.
    """

    unique_id: str
    ds: npt.NDArray[np.datetime64]
    y: npt.NDArray[np.float64]
    x: npt.NDArray[np.float64]


def _series_of(frame: pd.DataFrame, covariates: Sequence[str]) -> dict[str, Series]:
    import numpy as np

    ids = frame["unique_id"].to_numpy()
    ds = frame["ds"].to_numpy(dtype="datetime64[ns]")
    y = frame["y"].to_numpy(dtype=float) if "y" in frame else np.empty(0)
    x = frame[list(covariates)].to_numpy(dtype=float)
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else np.empty(0, dtype=int)
    ends = np.r_[starts[1:], len(ids)]
    return {str(ids[a]): Series(str(ids[a]), ds[a:b], y[a:b], x[a:b]) for a, b in zip(starts, ends, strict=False)}


def _reason(error: Exception) -> str:
    """A code where the error has one, such as `history-too-short`; else its type and words."""
    return str(getattr(error, "code", "")) or f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class FittedPerSeries:
    """Learned parameters of a one-series model, one entry per series.

    Attributes:
        model: the model, with `predict_series`.
        params: what `fit_series` returned, by `unique_id`.
        failures: what it raised instead, in words, by `unique_id`.
    """

    model: Any
    params: dict[str, Any]
    failures: dict[str, str]

    def predict(self, context: pd.DataFrame, future: pd.DataFrame, task: Task) -> pd.DataFrame:
        """Apply `predict_series` to each series; what it raises is told in `attrs["failures"]`."""
        import numpy as np

        pasts = _series_of(context, task.covariates)
        failures = dict(self.failures)
        columns = ["forecast"]
        blocks: list[Any] = []
        for unique_id, ahead in _series_of(future, task.covariates).items():
            block = np.full((len(ahead.ds), 1 + len(task.quantiles)), np.nan)
            if unique_id in self.params:
                try:
                    answer = self.model.predict_series(self.params[unique_id], pasts[unique_id], ahead, task)
                    values = np.asarray(answer, dtype=float)
                    values = values[:, None] if values.ndim == 1 else values
                    block[:, : values.shape[1]] = values
                except Exception as error:  # noqa: BLE001 - one series never stops the others; the reason is kept
                    failures[unique_id] = _reason(error)
            elif unique_id not in failures:
                failures[unique_id] = "new-series"
            blocks.append(block)
        out = future[["unique_id", "ds"]].copy()
        stacked = np.concatenate(blocks) if blocks else np.empty((0, 1 + len(task.quantiles)))
        columns += [quantile_column(q) for q in task.quantiles]
        for position, column in enumerate(columns):
            if position == 0 or np.isfinite(stacked[:, position]).any():
                out[column] = stacked[:, position]
        out.attrs["failures"] = failures
        return out


def per_series(cls: type[T]) -> type[T]:
    """Turn a dataclass that models one series into a model of many.

    The class says `fit_series(self, series: Series, task: Task)`, which returns parameters (a dict or a frozen
    dataclass of scalars and arrays), and `predict_series(self, params, series: Series, future: Series, task: Task)`,
    which returns an array of shape (steps,), or (steps, 1 + quantiles) with the point forecast first. A series that
    raises is served by the fallback; the others go on.

    Examples:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> @per_series
        ... @dataclass(frozen=True)
        ... class Mean:
        ...     window: int = 28
        ...     def fit_series(self, series, task):
        ...         return {"level": float(series.y[-self.window :].mean())}
        ...     def predict_series(self, params, series, future, task):
        ...         return np.full(len(future.ds), params["level"])
    """

    def fit(self: Any, history: pd.DataFrame, task: Task) -> FittedPerSeries:
        params: dict[str, Any] = {}
        failures: dict[str, str] = {}
        for unique_id, series in _series_of(history, task.covariates).items():
            try:
                params[unique_id] = self.fit_series(series, task)
            except Exception as error:  # noqa: BLE001 - one series never stops the others; the reason is kept
                failures[unique_id] = _reason(error)
        return FittedPerSeries(self, params, failures)

    fit.__doc__ = "Fit each series on its own."
    cls.fit = fit  # type: ignore[attr-defined]  # the decorator's whole purpose
    return cls


def parameters(obj: Any) -> dict[str, Any]:
    """The parameters that a factory's object was made with, as plain data."""
    return {f.name: getattr(obj, f.name) for f in fields(obj) if f.init}
