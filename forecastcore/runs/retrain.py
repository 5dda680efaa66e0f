"""Learn anew, compare with the champion, and swap only for the better.

history → quality check → backtest of every candidate → the best refitted on all history → registered as challenger →
compared with the champion on the same origins → promoted, or not, with the decision on record.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forecastcore import __version__, known, runtime
from forecastcore.backtest import fold_origins
from forecastcore.errors import StateError, TrackingAway
from forecastcore.intervals import calibrate
from forecastcore.logbook import note
from forecastcore.messages import RetrainReport, VersionRef
from forecastcore.package import Manifest, MemberStamp, Package, PluginStamp
from forecastcore.ports import Steps
from forecastcore.processes import give_back
from forecastcore.profile import PROFILE, profile
from forecastcore.race import fit_all
from forecastcore.runs.calibrating import calibration_errors
from forecastcore.runs.contest import hold_contest
from forecastcore.runs.deferred import catch_up, defer
from forecastcore.runs.demotion import review
from forecastcore.runs.gate import judge, recipe_of
from forecastcore.runs.history import opened
from forecastcore.runs.promotion import demote, settle
from forecastcore.runs.record import METRICS, log_contest, log_setting, tags_of
from forecastcore.runs.remote import anywhere
from forecastcore.watching.drift import INPUTS, inputs_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import numpy.typing as npt
    import pandas as pd

    from forecastcore.engines.kept import KeptAnswers
    from forecastcore.ensemble import Blend
    from forecastcore.messages import Decision, ModelVersion
    from forecastcore.ports import Engine, ModelStore, Past, Run
    from forecastcore.project import Candidate, Project
    from forecastcore.results import Result
    from forecastcore.runs.contest import Contest

    Floats = npt.NDArray[np.float64]

__all__ = ["example_of", "retrain"]

_log = logging.getLogger(__name__)
#: what puts an ensemble together
_CORE = PluginStamp(distribution="forecastcore", version=__version__, digest="")
#: series in the input example that is logged with the model
_EXAMPLE_SERIES = 3


@anywhere
def retrain(
    project: Project, as_of: str | datetime | None = None, *, promote: bool = True, steps: Steps | None = None
) -> RetrainReport:
    """Learn from all history up to an origin, and let the gate decide.

    Args:
        project: what to forecast, from what, with which candidates.
        as_of: the origin; nothing later is used. Default: the newest value. Without a zone it is in the source's.
        promote: False records the decision but leaves the champion as it is.
        steps: how to run and watch the stages.

    Returns:
        Leaderboard, decision, and what was registered.

    Raises:
        DataError: the history is held by the quality check; nothing was written.
        ForecastCoreError: no candidate could be fitted, or tracking failed.
    """
    steps, started = steps or Steps(), time.perf_counter()
    with (
        runtime.keeping(project, runtime.engine(project)) as engine,
        opened(project, engine.engine, as_of, steps) as history,
    ):
        report = _retrained(project, history, engine, steps, started, promote=promote)
    project.host.notify("forecastcore_promotion_decided", decision=report.decision)
    project.host.notify("forecastcore_run_finished", report=report)
    return report


def _retrained(
    project: Project, history: Past, engine: KeptAnswers, steps: Steps, started: float, *, promote: bool
) -> RetrainReport:
    """What `retrain` does once the history is there."""
    folds = fold_origins(history, project)
    store = runtime.store(project)
    caught_up = catch_up(project, store)
    champion, remarks = _reigning(store)
    name, tags = f"retrain {history.origin:%Y-%m-%d %H:%M}", tags_of(project, history, "retrain")
    with (
        store.run(name, tags=tags, lasting=True) as tracked,
        tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch,
    ):
        note(mlflow=tracked.run_id)
        log_setting(tracked, project, history, folds)
        not_applied = _not_applied(project, promote=promote)
        before = champion
        record = steps.run("review the champion", lambda: _reviewed(project, history, engine, store, tracked))
        if record is not None:
            tracked.json("demotion.json", record.to_json())
            if record.verdict == "promote" and not not_applied:
                champion = demote(store, record, champion, run_id=tracked.run_id)
        contest = hold_contest(project, history, engine, steps, champion=recipe_of(champion, project, store))
        log_contest(tracked, contest)
        folder = Path(scratch) / "model"
        steps.run(f"refit {contest.winner.name}", lambda: _refit(project, history, contest, engine, folder))
        example = example_of(project, history, folder)
        challenger = steps.run("register", lambda: store.register(tracked, folder, example=example))
        decision = steps.run("gate", lambda: judge(project, history, engine, contest, store, champion))
        after, deferred = _settled(store, tracked, decision, challenger, champion, not_applied)
        remarks += [record.reason] if record is not None and champion is not before else []
        remarks += [f"the decision was not applied: {not_applied}"] if not_applied else []
        remarks += engine.remarks
        report = RetrainReport(
            project=project.config.name,
            run_id=tracked.run_id,
            as_of=history.origin.to_pydatetime(),
            folds=len(folds),
            leaderboard=tuple(contest.leaderboard),
            challenger=_ref(challenger),
            champion_before=_ref(before),
            champion_after=_ref(after),
            decision=decision,
            assumption_errors=contest.assumption_errors,
            series=contest.series,
            worst=contest.worst,
            quality=dict(history.counts),
            notes=(*caught_up, *history.notes, *remarks),
            deferred=deferred,
            seconds=time.perf_counter() - started,
        )
        tracked.json("report.json", report.to_json())
        tracked.json("decision.json", decision.to_json())
        tracked.tags({"forecastcore.verdict": decision.verdict, "forecastcore.reason": decision.reason})
    known.remember(
        project.path,
        series=map(str, history.ids),
        versions=[ref.version for ref in (report.challenger, report.champion_before) if ref and ref.version],
        scenarios=("base", *project.config.scenarios),
    )
    return report


def _reigning(store: ModelStore) -> tuple[ModelVersion | None, list[str]]:
    """Today's champion, its files at hand from now on; and what is to be said where MLflow is away and they are not."""
    try:
        champion = store.resolve("champion")
        if champion is not None:
            with contextlib.suppress(StateError):  # the gate says so
                store.fetch(champion)
    except TrackingAway as error:
        return None, [f"nothing was compared, for the champion is not at hand: {error.message}"]
    return champion, []


def _reviewed(project: Project, history: Past, engine: Engine, store: ModelStore, tracked: Run) -> Decision | None:
    """Whether the champion's predecessor should return; while MLflow is away that waits for the next retrain."""
    try:
        return None if tracked.waiting else review(project, history, engine, store)
    except TrackingAway as error:
        _log.warning("whether the champion's predecessor should return is not looked at: %s", error)
        return None


def _settled(
    store: ModelStore,
    tracked: Run,
    decision: Decision,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    not_applied: str,
) -> tuple[ModelVersion | None, str]:
    """The champion after the decision, and what is deferred because MLflow is away."""
    if not tracked.waiting:
        try:
            after = settle(store, decision, challenger, champion, run_id=tracked.run_id, not_applied=not_applied)
        except TrackingAway as error:
            _log.warning("the decision is deferred: %s", error)
        else:
            return after, ""
    return champion, defer(store, tracked, decision, challenger, champion, not_applied=not_applied)


def _not_applied(project: Project, *, promote: bool) -> str:
    mode = project.config.promotion.mode
    if not promote:
        return "--no-promote"
    return "" if mode == "enforce" else f"promotion.mode is {mode}"


def _ref(version: ModelVersion | None) -> VersionRef | None:
    return VersionRef(model=version.model, version=version.version) if version else None


def _refit(project: Project, history: Past, contest: Contest, engine: Engine, folder: Path) -> None:
    """Fit the winner on all history, and pack it with all it takes to predict."""
    folder.mkdir(parents=True)
    candidate, rows, config = contest.best.candidate, contest.rows, project.config
    task = runtime.task(project, history.grid, history.origin)
    members, blend = _members(project, history, contest.best, engine, folder)
    parts = () if members else tuple(fit_all(project, history, candidate, engine, folder))
    stamp = _CORE if members else _stamp(project, candidate)
    manifest = Manifest(
        project=config.name,
        name=candidate.name,
        model=candidate.type,
        params=dict(candidate.params),
        segments=candidate.segments,
        plugin=stamp,
        requirements=_requirements(project, [m.model for m in members if m.parts] or [candidate.type]),
        trained_until=history.origin.to_pydatetime(),
        frequency=history.grid.frequency,
        timezone=history.grid.timezone,
        phase_ns=history.grid.phase.value,
        horizon=config.horizon,
        quantiles=tuple(config.quantiles),
        season=task.season,
        seasons=task.seasons,
        covariates=task.covariates,
        # not the seconds: equal models have equal digests
        metrics={name: getattr(contest.winner, name) for name in METRICS if name != "seconds"},
        fallback_spread=_spread(rows.reference_errors(), config.quantiles),
        worst=contest.worst,
        max_missing=config.quality.max_missing,
        gaps=config.quality.gaps,
        parts=parts,
        members=members,
    )
    profile(history, task).write(folder / PROFILE)
    inputs_of(history, task).write(folder / INPUTS)
    learned = calibrate(calibration_errors(project, history, contest, engine), config.horizon, config.quantiles)
    Package.seal(folder, manifest, learned, blend)
    give_back()


def _members(
    project: Project, history: Past, best: Result, engine: Engine, folder: Path
) -> tuple[tuple[MemberStamp, ...], Blend | None]:
    """Fit the members that an ensemble uses; the stamps of all, and how those that were fitted are put together."""
    if best.blend is None:
        return (), None
    stamps = []
    for number, (member, used) in enumerate(zip(best.candidate.members, best.blend.used, strict=True)):
        parts = fit_all(project, history, member, engine, folder, prefix=f"{number:03d}-") if used else []
        stamps.append(
            MemberStamp(
                name=member.name,
                model=member.type,
                params=dict(member.params),
                segments=member.segments,
                plugin=_stamp(project, member),
                weight=float(best.blend.shares[number]),
                parts=tuple(parts),
            )
        )
    return tuple(stamps), best.blend.only(best.blend.used)


def _stamp(project: Project, candidate: Candidate) -> PluginStamp:
    offer = project.host.offer("model", candidate.type)
    return PluginStamp(distribution=offer.distribution, version=offer.version, digest=offer.digest)


def _requirements(project: Project, models: Sequence[str]) -> tuple[str, ...]:
    """What has to be installed to serve these models; a plugin that is a file cannot be."""
    offers = [project.host.offer("model", model) for model in models]
    plugins = [f"{offer.distribution}=={offer.version}" for offer in offers if offer.source != "file"]
    return (f"forecastcore=={__version__}", *dict.fromkeys(plugins))


def _spread(relative_error: Floats, levels: Sequence[float]) -> tuple[float, ...]:
    """Quantiles of the seasonal naive's relative errors: the band of rows that a fallback makes."""
    if not len(relative_error):
        return tuple(0.0 for _ in levels)
    return tuple(float(value) for value in np.quantile(relative_error, levels))


def example_of(project: Project, history: Past, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Some series' newest rows, the last horizon of them as if not yet known, and the forecast they give."""
    ids = history.ids[:_EXAMPLE_SERIES]
    outline = Package.outline(folder, project.host)
    package = outline.with_parts(folder, [n for n, part in outline.series_of(folder).items() if part.answers(ids)])
    manifest = package.manifest
    some = history.of(ids).here.panel
    rows = some.groupby("unique_id", sort=False).tail(2 * manifest.seasons[-1] + 2 * manifest.horizon)
    cut = history.grid.shift(history.origin, -manifest.horizon)
    frame = rows.assign(y=rows["y"].where(rows["ds"] <= cut)).reset_index(drop=True)
    return frame, package.predict(frame)
