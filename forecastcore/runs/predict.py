"""Forecast with the champion's stored parameters, and deliver.

latest history as context → assumptions for the unknown future → stored parameters applied, nothing re-estimated →
audited table → sinks.

Where the history is on a Spark cluster it stays there: `sharded` has the workers do what is between reading and sinks.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore import known, runtime
from forecastcore.api import SparkSink
from forecastcore.audit import AuditError, judged
from forecastcore.errors import ForecastCoreError, SinkError, StateError, UsageError
from forecastcore.logbook import note
from forecastcore.messages import PredictReport, Publication, SeriesCount
from forecastcore.package import Package
from forecastcore.ports import Steps
from forecastcore.runs import sharded
from forecastcore.runs.deferred import catch_up
from forecastcore.runs.delivered import made_before, only_tells, readable
from forecastcore.runs.drawn import draw, show
from forecastcore.runs.making import Asked, Told, Whole, make, run_key, stamped, table_schema
from forecastcore.runs.remote import anywhere
from forecastcore.runs.shelves import retain
from forecastcore.runs.standins import LastSeason, Lenient, Served, whoever_can
from forecastcore.runs.whereabouts import Whereabouts
from forecastcore.serving import Stored
from forecastcore.vintages import check_vintage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from forecastcore.api import Published
    from forecastcore.engines.spark.spread import Shards
    from forecastcore.messages import ModelVersion
    from forecastcore.ports import Engine, ModelStore
    from forecastcore.project import Project
    from forecastcore.timegrid import TimeGrid

#: different reasons that are told
_REASONS = 20

__all__ = ["check_same_question", "forecasts", "known_scenarios", "predict", "run_key", "table_schema"]

_log = logging.getLogger(__name__)


@anywhere
def predict(
    project: Project,
    as_of: str | datetime | None = None,
    scenarios: Sequence[str] = ("base",),
    *,
    model: str = "champion",
    steps: Steps | None = None,
    state: datetime | None = None,
) -> PredictReport:
    """Deliver one vintage per scenario.

    Where the champion cannot be loaded, the one before serves, else the last season; every row is degraded then.

    Args:
        project: what to forecast, and where to.
        as_of: the origin; nothing later is used. Default: the newest value. Without a zone it is in the source's.
        scenarios: `base` and names under `scenarios:` of the project file.
        model: `champion`, `challenger`, a version or a run id.
        steps: how to run and watch the stages.
        state: the instant of which the source's state is read, where it keeps its states; default: as it is now.

    Returns:
        What was forecast, assumed and published. A sink that failed says so in `published`; the others are delivered.

    Raises:
        UsageError: there is no such model or scenario.
        DataError: the history is held by the quality check; nothing was written.
        AuditError: a forecast cannot be right; nothing was written.
        SinkError: no sink could be delivered to.
    """
    steps, started = steps or Steps(), time.perf_counter()
    scenarios = known_scenarios(project, scenarios)
    runtime.instant(project, as_of)  # a moment that is none is told first
    engine, store = runtime.engine(project, soon=True), runtime.store(project)
    found = Whereabouts(project, engine, as_of, steps, state=state, why=sharded.why_no_predict)
    place = found.place
    caught_up = catch_up(project, store)
    served = steps.run("load model", lambda: _served(project, place.grid, place.origin, store, model))
    version, run = served.version, f"predict {place.origin:%Y-%m-%d %H:%M}"
    with (
        runtime.keeping(project, engine) as kept,
        Lenient(store.run(run, tags={"forecastcore.command": "predict"}, lasting=True)) as tracked,
    ):
        note(mlflow=tracked.run_id)
        _check_places(project)
        before = made_before(project, place.origin.to_pydatetime())
        asked = Asked(scenarios=scenarios, version=version, reason=served.reason)
        rows, told = _made(found, served.model, asked, kept, steps)
        with rows:
            _audited(project, place.origin, told)
            keys = {
                s: run_key(project, place.origin, s, version, served.model.digest, told.digests[s]) for s in scenarios
            }
            vintages = [_Vintage(s, keys[s], told.rows[s], _now_after(before.get(s)), rows) for s in scenarios]
            published = [p for vintage in vintages for p in _delivered(project, vintage, steps)]
        report = PredictReport(
            project=project.config.name,
            run_id=tracked.run_id,
            run_key=vintages[0].key,
            run_keys=keys,
            issued_at=place.origin.to_pydatetime(),
            scenarios=tuple(scenarios),
            model=version.model,
            model_version=version.version,
            rows=sum(told.rows.values()),
            series=told.series,
            alerts=_alerts(told.series, project.config.audit.alert_degraded),
            reasons=_most_frequent(told.reasons),
            worst=told.worst,
            assumptions=told.notes,
            published=tuple(published),
            quality=told.counts,
            notes=(*caught_up, *found.notes, *filter(None, [served.told, tracked.note]), *kept.remarks),
            seconds=time.perf_counter() - started,
        )
        _track(tracked, report)
        if project.config.report is not None:
            page, tables = project.root / project.config.report, [vintage.table for vintage in vintages]
            draft = report
            if steps.run("draw the page", lambda: draw(page, project, found.here, tables, version, store, draft)):
                report = report.model_copy(update={"page": str(page)})
                tracked.file(page)
                show(page, project, published)
    retain(project)
    known.remember(
        project.path,
        series=told.names,
        runs=(report.run_key[:8], report.run_id),
        versions=(version.version,),
        scenarios=("base", *project.config.scenarios),
    )
    project.host.notify("forecastcore_run_finished", report=report)
    if published and all(p.error for p in published):
        raise SinkError("; ".join(f"{p.sink} {p.location}: {p.error}" for p in published))
    return report


@dataclass(frozen=True)
class _Vintage:
    """All rows of one origin and scenario, ready to be delivered."""

    scenario: str
    key: str
    count: int
    created_at: datetime
    rows: Whole | Shards

    @cached_property
    def table(self) -> pa.Table:
        """The rows, here."""
        return stamped(self.rows.table(self.scenario), self.key, self.created_at)

    def publish_to(self, sink: Any, schema: pa.Schema) -> Published:
        """Hand the rows to a sink; where Spark has them and can write them, none comes here."""
        if isinstance(self.rows, Whole) or not isinstance(sink, SparkSink):
            return sink.publish(self.table, self.key)  # type: ignore[no-any-return]  # a plugin's
        finish = partial(_as_stored, key=self.key, created_at=self.created_at)
        return sink.publish_frame(self.rows.frame(self.scenario, finish, schema), self.count, self.key)


def _as_stored(rows: pa.Table, key: str, created_at: datetime) -> pa.Table:
    """Rows as every sink stores them."""
    return check_vintage(stamped(rows, key, created_at), key)


def _made(
    found: Whereabouts, model: Stored | LastSeason, asked: Asked, engine: Engine, steps: Steps
) -> tuple[Whole | Shards, Told]:
    """The rows of all scenarios, made where the history is, and what is told of them."""
    if found.there is not None:
        try:
            return steps.run(f"forecast {', '.join(asked.scenarios)}", partial(found.there.made, model, asked))
        except sharded.BringHereError as error:
            found.bring_here(str(error))
    tables, told = make(found.project, found.here, model, asked, engine, steps)
    return Whole(tables), told


def _served(project: Project, grid: TimeGrid, origin: pd.Timestamp, store: ModelStore, model: str) -> Served[Stored]:
    """The model that was asked for; where the champion was and cannot be loaded, whoever can stand in for it."""

    def load(version: ModelVersion) -> Stored:
        folder = store.fetch(version)
        package = Package.outline(folder, project.host, version.digest or None)
        check_same_question(project, grid, origin, package, version)
        return Stored(package, folder)

    if model == "champion":
        return whoever_can(project, grid, store, lambda: _chosen(store, model), load)
    version = _chosen(store, model)
    _check_known(store, version)
    return Served(version, load(version))


def _now_after(before: datetime | None) -> datetime:
    """Now; where another machine's clock was ahead, just after the vintage of the same origin that it made.

    Of two vintages of one origin the one made last is the latest, and it is this one.
    """
    now = datetime.now(UTC)
    return now if before is None else max(now, before + timedelta(microseconds=1))


def _check_places(project: Project) -> None:
    """Stop before anything is forecast, where every place says that it does not take such a table.

    Raises:
        SinkError: with what each has against it.
    """
    refused, hint, schema = [], None, table_schema(project.config.quantiles)
    for label, sink in project.sinks():
        check = getattr(sink, "check", None)
        if only_tells(sink):
            continue
        if not callable(check):
            return
        try:
            check(schema)
        except SinkError as error:
            refused.append(f"{label}: {error}")
            hint = error.hint
        else:
            return
    if refused:
        raise SinkError("nothing was forecast, for no sink takes it: " + "; ".join(refused), hint=hint)


def _delivered(project: Project, vintage: _Vintage, steps: Steps) -> list[Publication]:
    return steps.run(f"publish {vintage.scenario}", lambda: _publish(project, vintage))


def forecasts(
    project: Project, issued_at: str | datetime | None = "latest", *, scenario: str | None = None
) -> pd.DataFrame:
    """The delivered table, from the first sink that can be read.

    Args:
        project: whose sinks.
        issued_at: an origin, with all vintages that were made of it; `latest` for the newest one, with that vintage of
            each scenario that was made last; None for all vintages.
        scenario: only this one.

    Returns:
        CONTRACT §3's table, sorted by scenario, series, origin and step; empty where nothing was delivered.
    """
    label, sink = readable(project)
    moment = _newest(sink) if issued_at == "latest" else runtime.instant(project, issued_at)
    frame = _read(sink, moment)
    if issued_at == "latest" and len(frame):
        frame = frame[frame["issued_at"] == frame["issued_at"].max()]
        last = frame.sort_values(["created_at", "run_key"], kind="stable").groupby("scenario")["run_key"].last()
        frame = frame[frame["run_key"] == frame["scenario"].map(last)]
    if scenario is not None:
        frame = frame[frame["scenario"] == scenario]
    frame.attrs["sink"] = label
    return frame.sort_values(["scenario", "unique_id", "issued_at", "step"], ignore_index=True)


def _newest(sink: Any) -> pd.Timestamp | None:
    """The newest origin that a sink holds, where it can tell without reading all."""
    listed = getattr(sink, "vintages", None)
    refs = listed() if callable(listed) else []
    return pd.Timestamp(max(ref.issued_at for ref in refs)) if refs else None


def _read(sink: Any, moment: pd.Timestamp | None) -> pd.DataFrame:
    table: pa.Table = sink.read(moment.to_pydatetime() if moment is not None else None)
    frame: pd.DataFrame = table.to_pandas()
    return frame


def known_scenarios(project: Project, scenarios: Sequence[str]) -> tuple[str, ...]:
    """The scenarios, each once."""
    known = ("base", *project.config.scenarios)
    unknown = [name for name in scenarios if name not in known]
    if unknown or not scenarios:
        raise UsageError(
            f"unknown scenario {', '.join(map(repr, unknown))}", hint=f"the project has {', '.join(known)}"
        )
    return tuple(dict.fromkeys(scenarios))


def _chosen(store: ModelStore, model: str) -> ModelVersion:
    version = store.resolve(model)
    if version is None:
        known = ", ".join(v.version for v in store.versions())
        hint = (
            f"versions: {known}; forecastcore models promote V makes one the champion"
            if known
            else "run forecastcore retrain first"
        )
        raise UsageError(
            f"there is no {model} model yet" if model in {"champion", "challenger"} else f"there is no model {model!r}",
            hint=hint,
        )
    return version


def _check_known(store: ModelStore, version: ModelVersion) -> None:
    """A version that somebody else put into the registry is not served: every retrain leaves a decision about its own.

    Raises:
        StateError: the ledger has no decision about the version.
    """
    if not any(entry.version == version.version for entry in store.ledger()):
        raise StateError(
            f"version {version.version} is in the registry, but the promotion ledger has no decision about it: "
            "no retrain of this project registered it; nothing of it was read",
            hint=f"find out who did; forecastcore models promote {version.version} vouches for it",
        )


def check_same_question(
    project: Project, grid: TimeGrid, origin: pd.Timestamp, package: Package, version: ModelVersion
) -> None:
    """A model answers the question it was trained for; a project file changed since needs a retrain."""
    changed = package.manifest.differs(runtime.task(project, grid, origin), grid)
    if changed:
        raise UsageError(f"version {version.version} {changed}", hint="run forecastcore retrain, or put the key back")


def _audited(project: Project, origin: pd.Timestamp, told: Told) -> None:
    """Hold the run if a vintage cannot be right.

    Raises:
        AuditError: with the rows that show it; nothing was published.
    """
    limits, now = project.config.audit, pd.Timestamp(datetime.now(UTC))
    found = [f for seen in told.looks.values() for f in judged(seen, origin, project.config.horizon, limits, now=now)]
    if found:
        raise AuditError(found)


def _publish(project: Project, vintage: _Vintage) -> list[Publication]:
    """Deliver to every sink; one that fails does not keep the others from it.

    A sink that only tells of a vintage comes last, and not where a place of the vintage failed.
    """
    sinks = project.sinks()
    places = [(label, sink) for label, sink in sinks if not only_tells(sink)]
    schema = table_schema(project.config.quantiles)
    notices = [(label, sink) for label, sink in sinks if only_tells(sink)]
    done = {label: _delivery(label, sink, vintage, schema) for label, sink in places}
    lost = [label for label, answer in done.items() if answer.error]
    for label, sink in notices:
        if lost:
            error = f"not told: the vintage did not arrive in {', '.join(lost)}"
            done[label] = Publication(sink=label, location=_place(sink), rows=0, already=False, error=error)
        else:
            done[label] = _delivery(label, sink, vintage, schema)
    return [done[label] for label, _ in sinks]


def _delivery(label: str, sink: Any, vintage: _Vintage, schema: pa.Schema) -> Publication:
    try:
        got = vintage.publish_to(sink, schema)
    except Exception as error:  # noqa: BLE001 - a plugin's own error; it is reported for its sink
        words = str(error) if isinstance(error, ForecastCoreError) else f"{type(error).__name__}: {error}"
        return Publication(sink=label, location=_place(sink), rows=0, already=False, error=words)
    return Publication(sink=label, location=got.location, rows=got.rows, already=got.already)


def _place(sink: Any) -> str:
    return str(getattr(sink, "path", ""))


def _alerts(series: SeriesCount, limit: float) -> tuple[str, ...]:
    """That more was degraded than usual, if it was; logged too."""
    off = series.total - series.ok
    if not series.total or off / series.total <= limit:
        return ()
    words = f"{off} of {series.total} series are not served by the model, more than audit.alert_degraded ({limit:.0%})"
    _log.warning("alert: %s", words)
    return (words,)


def _most_frequent(reasons: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(reasons.items(), key=lambda one: (-one[1], one[0]))[:_REASONS])


def _track(tracked: Lenient, report: PredictReport) -> None:
    tracked.params(
        {
            "issued_at": report.issued_at.isoformat(),
            "scenarios": ",".join(report.scenarios),
            "model_version": report.model_version,
            **{f"run_key.{scenario}": key for scenario, key in report.run_keys.items()},
        }
    )
    tracked.metrics(
        {f"series_{name}": float(count) for name, count in report.series.model_dump().items()}
        | {"rows": float(report.rows)}
    )
    tracked.json("report.json", report.to_json())
