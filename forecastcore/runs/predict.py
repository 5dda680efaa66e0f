"""Forecast with the champion's stored parameters, and deliver.

latest history as context → assumptions for the unknown future → stored parameters applied, nothing re-estimated →
audited table → sinks.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore import known, runtime
from forecastcore.api import quantile_column
from forecastcore.audit import AuditError, Expected, audit, past_of
from forecastcore.errors import ForecastCoreError, SinkError, StateError, UsageError
from forecastcore.frames import data_digest
from forecastcore.logbook import note
from forecastcore.messages import PredictReport, Publication, SeriesCount, WorstSeries
from forecastcore.package import Package
from forecastcore.ports import Steps
from forecastcore.runs.deferred import catch_up
from forecastcore.runs.delivered import made_before, only_tells, readable
from forecastcore.runs.drawn import draw, show
from forecastcore.runs.leaderboard import worst_first
from forecastcore.runs.remote import anywhere
from forecastcore.runs.shelves import retain
from forecastcore.runs.standins import LastSeason, Lenient, Served, marked, whoever_can
from forecastcore.serving import Stored, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from forecastcore.api import Source
    from forecastcore.assumptions import Future
    from forecastcore.frames import History
    from forecastcore.messages import AssumptionNote, ModelVersion
    from forecastcore.ports import Engine, ModelStore
    from forecastcore.project import Project

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
    source: Source | None = None,
) -> PredictReport:
    """Deliver one vintage per scenario.

    Where the champion cannot be loaded, the one before serves, else the last season; every row is degraded then.

    Args:
        project: what to forecast, and where to.
        as_of: the origin; nothing later is used. Default: the newest value. Without a zone it is in the source's.
        scenarios: `base` and names under `scenarios:` of the project file.
        model: `champion`, `challenger`, a version or a run id.
        steps: how to run and watch the stages.
        source: to read from instead of the project's, such as an older state of the same.

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
    history = runtime.history(project, as_of, steps, source=source)
    caught_up = catch_up(project, store)
    served = steps.run("load model", lambda: _served(project, history, store, model))
    version, run = served.version, f"predict {history.origin:%Y-%m-%d %H:%M}"
    with (
        runtime.keeping(project, engine) as kept,
        Lenient(store.run(run, tags={"forecastcore.command": "predict"}, lasting=True)) as tracked,
    ):
        note(mlflow=tracked.run_id)
        _check_places(project)
        before = made_before(project, history.origin.to_pydatetime())
        vintages = [
            _vintage(project, history, served, scenario, kept, steps, before.get(scenario)) for scenario in scenarios
        ]
        steps.run("audit", lambda: _audited(project, history, version, vintages))
        published = [p for vintage in vintages for p in _delivered(project, vintage, steps)]
        series = _count([vintage.table for vintage in vintages])
        report = PredictReport(
            project=project.config.name,
            run_id=tracked.run_id,
            run_key=vintages[0].key,
            run_keys={vintage.scenario: vintage.key for vintage in vintages},
            issued_at=history.origin.to_pydatetime(),
            scenarios=tuple(scenarios),
            model=version.model,
            model_version=version.version,
            rows=sum(len(vintage.table) for vintage in vintages),
            series=series,
            alerts=_alerts(series, project.config.audit.alert_degraded),
            reasons=_reasons([vintage.table for vintage in vintages]),
            worst=_worst([vintage.table for vintage in vintages], served.model),
            assumptions=tuple(note for vintage in vintages for note in vintage.notes),
            published=tuple(published),
            quality=dict(history.counts),
            notes=(*caught_up, *history.notes, *filter(None, [served.told, tracked.note]), *kept.remarks),
            seconds=time.perf_counter() - started,
        )
        _track(tracked, report)
        if project.config.report is not None:
            page, tables = project.root / project.config.report, [vintage.table for vintage in vintages]
            told = report
            if steps.run("draw the page", lambda: draw(page, project, history, tables, version, store, told)):
                report = report.model_copy(update={"page": str(page)})
                tracked.file(page)
                show(page, project, published)
    retain(project)
    known.remember(
        project.path,
        series=map(str, history.ids),
        runs=(report.run_key[:8], report.run_id),
        versions=(version.version,),
        scenarios=("base", *project.config.scenarios),
    )
    project.host.notify("forecastcore_run_finished", report=report)
    if published and all(p.error for p in published):
        raise SinkError("; ".join(f"{p.sink} {p.location}: {p.error}" for p in published))
    return report


@dataclass(frozen=True, kw_only=True)
class _Vintage:
    """All rows of one origin and scenario, ready to be delivered."""

    scenario: str
    key: str
    table: pa.Table
    notes: tuple[AssumptionNote, ...]


def _served(project: Project, history: History, store: ModelStore, model: str) -> Served[Stored]:
    """The model that was asked for; where the champion was and cannot be loaded, whoever can stand in for it."""

    def load(version: ModelVersion) -> Stored:
        folder = store.fetch(version)
        package = Package.outline(folder, project.host, version.digest or None)
        check_same_question(project, history, package, version)
        return Stored(package, folder)

    if model == "champion":
        return whoever_can(project, history, store, lambda: _chosen(store, model), load)
    version = _chosen(store, model)
    _check_known(store, version)
    return Served(version, load(version))


def _vintage(
    project: Project,
    history: History,
    served: Served[Stored],
    scenario: str,
    engine: Engine,
    steps: Steps,
    before: datetime | None,
) -> _Vintage:
    model, version, name = served.model, served.version, f"forecast {scenario}"
    needed = model.uses_covariates
    future = steps.run(f"assume {scenario}", lambda: runtime.future(project, history, scenario, insist=needed))

    def told(done: int, total: int) -> None:
        steps.progress(name, done, total)

    def work() -> pd.DataFrame:
        if isinstance(model, LastSeason):
            return model.forecast(history.panel, future.frame, history.origin)
        return serve(project, model, history, future.frame, engine, told)

    rows = steps.run(name, work)
    key = run_key(project, history, future, scenario, version, model.digest)
    rows = marked(rows, served.reason)
    if needed:
        carried = (rows["status"] == "ok").to_numpy() & (future.reasons != "")
        rows.loc[carried, "status"] = "degraded"
        rows.loc[carried, "reason"] = future.reasons[carried]
    rows = rows.assign(created_at=_now_after(before))
    table = _table(project, history, future, rows, scenario, version, key)
    return _Vintage(scenario=scenario, key=key, table=table, notes=future.notes)


def _now_after(before: datetime | None) -> pd.Timestamp:
    """Now; where another machine's clock was ahead, just after the vintage of the same origin that it made.

    Of two vintages of one origin the one made last is the latest, and it is this one.
    """
    now = datetime.now(UTC)
    return pd.Timestamp(now if before is None else max(now, before + timedelta(microseconds=1)))


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
    return steps.run(f"publish {vintage.scenario}", lambda: _publish(project, vintage.table, vintage.key))


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


def check_same_question(project: Project, history: History, package: Package, version: ModelVersion) -> None:
    """A model answers the question it was trained for; a project file changed since needs a retrain."""
    changed = package.manifest.differs(runtime.task(project, history.grid, history.origin), history.grid)
    if changed:
        raise UsageError(f"version {version.version} {changed}", hint="run forecastcore retrain, or put the key back")


def run_key(
    project: Project, history: History, future: Future, scenario: str, version: ModelVersion, digest: str
) -> str:
    """The identity of a vintage: the same project, origin, scenario, settings, data and model give the same key."""
    parts = {
        "project": project.config.name,
        "origin": history.origin.isoformat(),
        "scenario": scenario,
        "config": project.digest(),
        "data": data_digest(history.panel, future.frame),
        "model": [version.version, digest],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def table_schema(quantiles: Sequence[float]) -> pa.Schema:
    """The forecast table's columns and types (CONTRACT §3)."""
    import pyarrow as pa

    text, number, moment = pa.string(), pa.float64(), pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            ("project", text),
            ("unique_id", text),
            ("scenario", text),
            ("issued_at", moment),
            ("ds", moment),
            ("step", pa.int32()),
            ("forecast", number),
            *((quantile_column(q), number) for q in quantiles),
            ("model", text),
            ("model_version", text),
            ("status", text),
            ("reason", text),
            ("assumed_by", text),
            ("run_key", text),
            ("created_at", moment),
        ]
    )


def _table(
    project: Project,
    history: History,
    future: Future,
    rows: pd.DataFrame,
    scenario: str,
    version: ModelVersion,
    key: str,
) -> pa.Table:
    import pyarrow as pa

    rows = rows.assign(
        project=project.config.name,
        scenario=scenario,
        issued_at=history.origin,
        model_version=version.version,
        assumed_by=future.assumed_by,
        run_key=key,
    )
    schema = table_schema(project.config.quantiles)
    return pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False)


def _audited(project: Project, history: History, version: ModelVersion, vintages: Sequence[_Vintage]) -> None:
    """Hold the run if a vintage cannot be right.

    Raises:
        AuditError: with the rows that show it; nothing was published.
    """
    config, season = project.config, runtime.task(project, history.grid, history.origin).season
    past = past_of(history.panel, config.horizon, season)
    expected = Expected(
        ids=history.ids,
        origin=history.origin,
        instants=history.grid.ahead(history.origin, config.horizon),
        quantiles=[quantile_column(q) for q in config.quantiles],
        season=season,
        skilled=(version.metrics.get("skill") or 0.0) > 0,
    )
    now = pd.Timestamp(datetime.now(UTC))
    found = [f for v in vintages for f in audit(v.table.to_pandas(), past, expected, config.audit, now=now)]
    if found:
        raise AuditError(found)


def _publish(project: Project, table: pa.Table, key: str) -> list[Publication]:
    """Deliver to every sink; one that fails does not keep the others from it.

    A sink that only tells of a vintage comes last, and not where a place of the vintage failed.
    """
    sinks = project.sinks()
    places = [(label, sink) for label, sink in sinks if not only_tells(sink)]
    notices = [(label, sink) for label, sink in sinks if only_tells(sink)]
    done = {label: _delivery(label, sink, table, key) for label, sink in places}
    lost = [label for label, answer in done.items() if answer.error]
    for label, sink in notices:
        if lost:
            error = f"not told: the vintage did not arrive in {', '.join(lost)}"
            done[label] = Publication(sink=label, location=_place(sink), rows=0, already=False, error=error)
        else:
            done[label] = _delivery(label, sink, table, key)
    return [done[label] for label, _ in sinks]


def _delivery(label: str, sink: Any, table: pa.Table, key: str) -> Publication:
    try:
        got = sink.publish(table, key)
    except Exception as error:  # noqa: BLE001 - a plugin's own error; it is reported for its sink
        words = str(error) if isinstance(error, ForecastCoreError) else f"{type(error).__name__}: {error}"
        return Publication(sink=label, location=_place(sink), rows=0, already=False, error=words)
    return Publication(sink=label, location=got.location, rows=got.rows, already=got.already)


def _place(sink: Any) -> str:
    return str(getattr(sink, "path", ""))


def _count(tables: Sequence[pa.Table]) -> SeriesCount:
    """Series by their worst status in any scenario."""
    rows = pd.concat([table.select(["unique_id", "status"]).to_pandas() for table in tables])
    bad = {status: set(rows.loc[rows["status"] == status, "unique_id"]) for status in ("degraded", "failed")}
    total, failed = rows["unique_id"].nunique(), len(bad["failed"])
    degraded = len(bad["degraded"] - bad["failed"])
    return SeriesCount(total=total, ok=total - degraded - failed, degraded=degraded, failed=failed)


def _alerts(series: SeriesCount, limit: float) -> tuple[str, ...]:
    """That more was degraded than usual, if it was; logged too."""
    off = series.total - series.ok
    if not series.total or off / series.total <= limit:
        return ()
    words = f"{off} of {series.total} series are not served by the model, more than audit.alert_degraded ({limit:.0%})"
    _log.warning("alert: %s", words)
    return (words,)


def _reasons(tables: Sequence[pa.Table]) -> dict[str, int]:
    """Series that are not ok by why, the most frequent first."""
    rows = pd.concat([table.select(["unique_id", "status", "reason"]).to_pandas() for table in tables])
    bad = rows[rows["status"] != "ok"].drop_duplicates(["unique_id", "reason"])
    counts = bad["reason"].value_counts().head(_REASONS)
    return {str(reason): int(count) for reason, count in counts.items()}


def _worst(tables: Sequence[pa.Table], model: Stored | LastSeason) -> tuple[WorstSeries, ...]:
    """Series that are not ok, with their error in the backtest where it is known; then the model's worst."""
    promised = () if isinstance(model, LastSeason) else model.package.manifest.worst
    known = {one.unique_id: one for one in promised}
    rows = pd.concat([table.select(["unique_id", "status", "reason"]).to_pandas() for table in tables])
    bad = rows[rows["status"] != "ok"].drop_duplicates("unique_id")
    reasons = dict(zip(bad["unique_id"], bad["reason"], strict=True))
    now = [known.get(uid, WorstSeries(unique_id=uid)).model_copy(update={"reason": r}) for uid, r in reasons.items()]
    here = set(rows["unique_id"])
    rest = [one.model_copy(update={"reason": ""}) for one in promised if one.unique_id in here - reasons.keys()]
    return worst_first([*now, *rest])


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
