"""A vintage per past origin, as it would have been made then.

For each origin: only rows up to it, assumptions as issued by then, the state of the source of then where it keeps its
states, and the model that was champion then. It can be stopped and started again: what is there is not written twice.
No origin depends on another, so several may be under way at a time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore import runtime
from forecastcore.errors import DataError, ForecastCoreError, UsageError
from forecastcore.messages import BackfillOrigin, BackfillReport
from forecastcore.ports import Steps
from forecastcore.runs.history import opened
from forecastcore.runs.predict import predict
from forecastcore.runs.remote import anywhere

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from forecastcore.messages import LedgerEntry, ModelVersion, PredictReport
    from forecastcore.project import Project

__all__ = ["backfill", "champion_at"]


@anywhere
def backfill(  # noqa: PLR0913 - all but the span have a default
    project: Project,
    first: str | datetime,
    last: str | datetime,
    *,
    every: int = 1,
    scenarios: Sequence[str] = ("base",),
    model: str | None = None,
    jobs: int = 1,
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
        jobs: origins at a time, in so many processes, which share the engine's `workers`; on Spark in threads, which
            share its session.
        steps: how to run and watch the stages; with several jobs, only how many origins are done.

    Returns:
        What was made, origin by origin. One that failed does not stop the others.

    Raises:
        UsageError: there is no origin between the two moments.
        DataError: the source cannot be used.
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs} is no number of origins at a time", hint="1 is one after the other")
    started, steps, store = time.perf_counter(), steps or Steps(), runtime.store(project)
    origins = _origins(project, first, last, every)
    ledger, versions = store.ledger(), {version.version: version for version in store.versions()}
    orders = [_Order(o, tuple(scenarios), model or champion_at(ledger, versions, o)) for o in origins]
    answers = _in_turn(project, orders, steps) if min(jobs, len(orders)) == 1 else _at_once(project, orders, jobs)
    found: dict[int, BackfillOrigin] = {}
    steps.progress("backfill", 0, len(orders))
    for number, answer in answers:
        found[number] = answer
        steps.progress("backfill", len(found), len(orders))
    done = [found[number] for number in range(len(orders))]
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
    with opened(project, runtime.engine_here(project), end.to_pydatetime(), Steps()) as found:
        grid, newest = found.grid, found.newest  # a later origin would know nothing more
    head = grid.floor(start)
    if head < start:
        head = grid.shift(head, 1)
    if newest is None or head > newest:
        raise UsageError(
            f"no value lies between {first} and {last}", hint=f"the newest one up to {last} is of {newest}"
        )
    return list(grid.between(head, newest)[::every])


@dataclass(frozen=True)
class _Order:
    """What is to be made of one origin.

    Attributes:
        origin: UTC.
        scenarios: as predict takes them.
        model: which serves; None where none was champion then.
    """

    origin: pd.Timestamp
    scenarios: tuple[str, ...]
    model: str | None


def _in_turn(project: Project, orders: Sequence[_Order], steps: Steps) -> Iterator[tuple[int, BackfillOrigin]]:
    for number, order in enumerate(orders):
        yield number, _made(project, order, steps)


def _at_once(project: Project, orders: Sequence[_Order], jobs: int) -> Iterator[tuple[int, BackfillOrigin]]:
    """In any order; where the process of an origin ends, such as for want of memory, that origin has failed."""
    for number, answer in runtime.side_by_side(project, _in_a_job, orders, min(jobs, len(orders))):
        lost = "its process ended before it was made; run it again, with fewer --jobs"
        yield number, answer or BackfillOrigin(as_of=orders[number].origin.to_pydatetime(), status="failed", note=lost)


def _in_a_job(recipe: str, order: _Order) -> BackfillOrigin:
    from forecastcore.project import Project

    return _made(Project.from_recipe(recipe), order, Steps())


def _made(project: Project, order: _Order, steps: Steps) -> BackfillOrigin:
    moment, model = order.origin.to_pydatetime(), order.model
    if model is None:
        words = "no model was champion then, and none had been trained by then; --model names one to use all the same"
        return BackfillOrigin(as_of=moment, status="failed", note=words)
    try:
        state, note = _state_then(project, order.origin)
        report = predict(project, moment, order.scenarios, model=model, steps=steps, state=state)
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
        note="; ".join([*missed, *filter(None, [note, _hindsight(project, report, order.origin)])]),
    )


def _status(report: PredictReport) -> Any:
    if report.published and all(p.already for p in report.published):
        return "already"
    return "made" if report.series.ok == report.series.total else "degraded"


def _hindsight(project: Project, report: PredictReport, origin: pd.Timestamp) -> str:
    """A model that was named may have been trained on what came after the origin."""
    version = runtime.store(project).resolve(report.model_version)
    until = version.trained_until if version else None
    late = until is not None and pd.Timestamp(until) > origin
    return f"version {report.model_version} has learned from data until {until}, later than the origin" if late else ""


def _state_then(project: Project, origin: pd.Timestamp) -> tuple[datetime | None, str]:
    """The instant of which a source that keeps its states is read, and a word where it does not go back so far."""
    source: Any = project.source()
    names = {field.name for field in fields(source)} if is_dataclass(source) else set()
    if "as_of" not in names or source.as_of is not None or getattr(source, "version", None) is not None:
        return None, ""
    state = origin.to_pydatetime()
    try:
        runtime.source_at(project, state).schema()
    except DataError:
        return None, "the source keeps no state that old; its rows up to the origin are used as they are today"
    return state, ""
