"""A vintage per past origin, as it would have been made then.

For each origin: only rows up to it, assumptions as issued by then, the state of the source of then where it keeps its
states, and the model that was champion then. It can be stopped and started again: what is there is not written twice.
"""

from __future__ import annotations

import time
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore import runtime
from forecastcore.errors import DataError, ForecastCoreError, UsageError
from forecastcore.messages import BackfillOrigin, BackfillReport
from forecastcore.ports import Steps
from forecastcore.runs.predict import predict
from forecastcore.runs.remote import anywhere

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from forecastcore.api import Source
    from forecastcore.messages import LedgerEntry, ModelVersion, PredictReport
    from forecastcore.ports import ModelStore
    from forecastcore.project import Project

__all__ = ["backfill", "champion_at"]


@anywhere
def backfill(
    project: Project,
    first: str | datetime,
    last: str | datetime,
    *,
    every: int = 1,
    scenarios: Sequence[str] = ("base",),
    model: str | None = None,
    steps: Steps | None = None,
) -> BackfillReport:
    """Deliver one vintage per origin and scenario.

    Args:
        project: what to forecast, and where to.
        first: no origin is earlier.
        last: no origin is later.
        every: steps of the grid from one origin to the next.
        scenarios: as predict takes them.
        model: a version, alias or run id to use throughout; default: at each origin the champion of then.
        steps: how to run and watch the stages.

    Returns:
        What was made, origin by origin. One that failed does not stop the others.

    Raises:
        UsageError: there is no origin between the two moments.
        DataError: the source cannot be used.
    """
    started, steps, store = time.perf_counter(), steps or Steps(), runtime.store(project)
    origins = _origins(project, first, last, every)
    ledger, versions = store.ledger(), {version.version: version for version in store.versions()}
    done = []
    for number, origin in enumerate(origins, start=1):
        steps.progress("backfill", number - 1, len(origins))
        done.append(_one(project, store, origin, scenarios, model or champion_at(ledger, versions, origin), steps))
    steps.progress("backfill", len(origins), len(origins))
    counts = {status: sum(one.status == status for one in done) for status in ("made", "degraded", "already", "failed")}
    return BackfillReport(
        project=project.config.name,
        origins=tuple(done),
        made=counts["made"] + counts["degraded"],
        already=counts["already"],
        failed=counts["failed"],
        seconds=time.perf_counter() - started,
    )


def champion_at(ledger: Sequence[LedgerEntry], versions: dict[str, ModelVersion], origin: pd.Timestamp) -> str | None:
    """The version that was champion at an origin; None where none was.

    The ledger says who was champion when. For an origin older than the ledger itself, it is the last champion that had
    not seen anything later than the origin.
    """
    then = [entry for entry in ledger if entry.champion and pd.Timestamp(entry.at) <= origin]
    if then:
        return then[-1].champion
    for entry in reversed(ledger):
        version = versions.get(entry.champion or "")
        if version and version.trained_until and pd.Timestamp(version.trained_until) <= origin:
            return version.version
    return None


def _origins(project: Project, first: str | datetime, last: str | datetime, every: int) -> list[pd.Timestamp]:
    start, end = runtime.instant(project, first), runtime.instant(project, last)
    if start is None or end is None or start > end:
        raise UsageError(f"--from {first} is later than --to {last}", hint="swap them")
    if every < 1:
        raise UsageError(f"--every {every} is no number of steps", hint="1 is every step of the grid")
    found = runtime.history(project, end.to_pydatetime())
    head = found.grid.floor(start)
    if head < start:
        head = found.grid.shift(head, 1)
    newest = found.panel.loc[found.panel["y"].notna(), "ds"].max()  # a later origin would know nothing more
    if head > newest:
        raise UsageError(
            f"no value lies between {first} and {last}", hint=f"the newest one up to {last} is of {newest}"
        )
    return list(found.grid.between(head, newest)[::every])


def _one(
    project: Project, store: ModelStore, origin: pd.Timestamp, scenarios: Sequence[str], model: str | None, steps: Steps
) -> BackfillOrigin:
    moment = origin.to_pydatetime()
    if model is None:
        words = "no model was champion then, and none had been trained by then; --model names one to use all the same"
        return BackfillOrigin(as_of=moment, status="failed", note=words)
    try:
        source, note = _source_then(project, origin)
        report = predict(project, moment, tuple(scenarios), model=model, steps=steps, source=source)
    except ForecastCoreError as error:
        return BackfillOrigin(as_of=moment, status="failed", model_version=model, note=str(error))
    missed = [f"{p.sink}: {p.error}" for p in report.published if p.error]
    return BackfillOrigin(
        as_of=moment,
        issued_at=report.issued_at,
        status="failed" if missed else _status(report),
        model_version=report.model_version,
        run_keys=report.run_keys,
        rows=report.rows,
        note="; ".join([*missed, *filter(None, [note, _hindsight(store, report, origin)])]),
    )


def _status(report: PredictReport) -> Any:
    if report.published and all(p.already for p in report.published):
        return "already"
    return "made" if report.series.ok == report.series.total else "degraded"


def _hindsight(store: ModelStore, report: PredictReport, origin: pd.Timestamp) -> str:
    """A model that was named may have been trained on what came after the origin."""
    version = store.resolve(report.model_version)
    until = version.trained_until if version else None
    late = until is not None and pd.Timestamp(until) > origin
    return f"version {report.model_version} has learned from data until {until}, later than the origin" if late else ""


def _source_then(project: Project, origin: pd.Timestamp) -> tuple[Source, str]:
    """The source as it was at the origin, where it keeps its states, and a word where it does not go back so far."""
    source: Any = project.source()
    names = {field.name for field in fields(source)} if is_dataclass(source) else set()
    if "as_of" not in names or source.as_of is not None or getattr(source, "version", None) is not None:
        return source, ""
    then: Any = replace(source, as_of=origin.to_pydatetime())
    try:
        then.schema()
    except DataError:
        return source, "the source keeps no state that old; its rows up to the origin are used as they are today"
    return then, ""
