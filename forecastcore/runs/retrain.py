"""Learn anew, compare with the champion, and swap only for the better.

history → quality check → backtest of every candidate → the best refitted on all history → registered as challenger →
compared with the champion on the same origins → promoted, or not, with the decision on record.
"""

from __future__ import annotations

import getpass
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore import __version__, runtime
from forecastcore.backtest import Backtest, Result, fit_all, fold_origins, leaderboard_row, rows_of, run, run_package
from forecastcore.compare import Evidence, Rules, decide
from forecastcore.errors import DataError, ForecastCoreError, LedgerConflict
from forecastcore.frames import data_digest
from forecastcore.intervals import calibrate
from forecastcore.messages import (
    BacktestReport,
    Decision,
    LeaderboardRow,
    LedgerEntry,
    ModelVersion,
    RetrainReport,
    SeriesCount,
    VersionRef,
)
from forecastcore.metrics import coverage, group_mean
from forecastcore.package import Manifest, Package, PluginStamp
from forecastcore.ports import Steps
from forecastcore.project import Candidate

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from forecastcore.frames import History
    from forecastcore.ports import Engine, ModelStore, Run
    from forecastcore.project import Project

    Floats = npt.NDArray[np.float64]

__all__ = ["backtest", "promote", "retrain", "rollback"]

#: series in the per-series table and rows of examples that are logged
_EXAMPLE_SERIES = 3
_BUCKETS = 4


@dataclass(frozen=True, kw_only=True)
class _Contest:
    """All candidates on the same rows, and who won."""

    rows: Backtest
    results: list[Result]
    leaderboard: list[LeaderboardRow]
    best: Result


def retrain(
    project: Project, as_of: str | datetime | None = None, *, promote: bool = True, steps: Steps | None = None
) -> RetrainReport:
    """Learn from all history up to an origin, and let the gate decide.

    Args:
        project: what to forecast, from what, with which candidates.
        as_of: the origin; nothing later is used. Times without a zone are in the source's zone. Default: the newest value.
        promote: False records the decision but leaves the champion as it is.
        steps: how to run and watch the stages.

    Returns:
        Leaderboard, decision, and what was registered.

    Raises:
        DataError: the history is held by the quality check; nothing was written.
        ForecastCoreError: no candidate could be fitted, or tracking failed.
    """
    steps, started = steps or Steps(), time.perf_counter()
    history = steps.run("load and check", lambda: runtime.history(project, as_of))
    store, engine = runtime.store(project), runtime.engine(project)
    champion = store.resolve("champion")
    champion_recipe = _recipe_of(champion, project)
    folds = fold_origins(history, project)
    with store.run(f"retrain {history.origin:%Y-%m-%d %H:%M}", tags=_tags(project, history, "retrain")) as tracked:
        _log_setting(tracked, project, history, folds)
        contest = _contest(project, history, engine, folds, steps, also=champion_recipe)
        _log_contest(tracked, contest)
        with tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch:
            folder = Path(scratch) / "model"
            digest = steps.run(
                f"refit {contest.best.candidate.name}", lambda: _refit(project, history, contest, engine, folder)
            )
            version = steps.run(
                "register", lambda: store.register(tracked, folder, example=_example(project, history, folder))
            )
        decision = steps.run("gate", lambda: _gate(project, history, engine, contest, store, champion, champion_recipe))
        after = steps.run(
            "promote", lambda: _settle(project, store, tracked, decision, version, champion, digest, promote=promote)
        )
        report = RetrainReport(
            project=project.config.name,
            run_id=tracked.run_id,
            as_of=history.origin.to_pydatetime(),
            folds=len(folds),
            leaderboard=tuple(contest.leaderboard),
            challenger=VersionRef(model=version.model, version=version.version),
            champion_before=_ref(champion),
            champion_after=_ref(after),
            decision=decision,
            series=_count(contest.rows, contest.best),
            quality=dict(history.counts),
            notes=history.notes,
            seconds=time.perf_counter() - started,
        )
        tracked.json("report.json", report.to_json())
        tracked.json("decision.json", decision.to_json())
        tracked.tags({"forecastcore.verdict": decision.verdict, "forecastcore.reason": decision.reason})
    project.host.notify("forecastcore_promotion_decided", decision=decision)
    project.host.notify("forecastcore_run_finished", report=report)
    return report


def backtest(project: Project, as_of: str | datetime | None = None, *, steps: Steps | None = None) -> BacktestReport:
    """The leaderboard of all candidates; nothing is registered, tracked or written.

    Args:
        project: what to forecast, from what, with which candidates.
        as_of: the end of history; see `retrain`.
        steps: how to run and watch the stages.
    """
    steps, started = steps or Steps(), time.perf_counter()
    history = steps.run("load and check", lambda: runtime.history(project, as_of))
    folds = fold_origins(history, project)
    contest = _contest(project, history, runtime.engine(project), folds, steps)
    return BacktestReport(
        project=project.config.name,
        as_of=history.origin.to_pydatetime(),
        folds=len(folds),
        leaderboard=tuple(contest.leaderboard),
        series=_count(contest.rows, contest.best),
        quality=dict(history.counts),
        notes=history.notes,
        seconds=time.perf_counter() - started,
    )


def promote(project: Project, which: str, *, reason: str = "promoted by hand") -> LedgerEntry:
    """Make a registered version the champion, whatever the gate said.

    Args:
        project: whose registry.
        which: a version, run id or alias.
        reason: goes into the ledger.
    """
    store = runtime.store(project)
    version = _existing(store, which)
    return _write(store, "manual", version, version, store.resolve("champion"), reason=reason)


def rollback(project: Project, *, reason: str = "rolled back by hand") -> LedgerEntry:
    """Make the champion's predecessor the champion again."""
    store = runtime.store(project)
    previous = store.resolve("previous")
    if previous is None:
        raise ForecastCoreError(
            "there is no previous champion to go back to",
            hint="forecastcore models history shows who was champion when",
        )
    return _write(store, "rollback", previous, previous, store.resolve("champion"), reason=reason)


def _existing(store: ModelStore, which: str) -> ModelVersion:
    version = store.resolve(which)
    if version is None:
        known = ", ".join(v.version for v in store.versions()) or "none yet"
        raise ForecastCoreError(f"there is no model version {which!r}", hint=f"versions: {known}")
    return version


# --- contest --------------------------------------------------------------------------------------------------------


def _contest(
    project: Project,
    history: History,
    engine: Engine,
    folds: list[pd.Timestamp],
    steps: Steps,
    *,
    also: Candidate | None = None,
) -> _Contest:
    candidates = list(project.candidates())
    if also is not None and all(not also.same_recipe(c) for c in candidates):
        candidates.append(also)
    rows = rows_of(project, history, folds)
    levels = tuple(project.config.quantiles)
    results, board = [], []
    for candidate in candidates:
        name = f"backtest {candidate.name}"
        (result,) = steps.run(
            name,
            lambda c=candidate, n=name: run(
                project, history, [c], engine, rows, lambda done, total: steps.progress(n, done, total)
            ),
        )
        results.append(result)
        board.append(leaderboard_row(result, rows, levels, runtime.unused_by(project, candidate)))
    fit_ones = [
        i
        for i, row in enumerate(board)
        if row.status != "failed" and getattr(row, project.config.backtest.metric) is not None
    ]
    fit_ones = [i for i in fit_ones if candidates[i] is not also or len(candidates) == 1] or fit_ones
    if not fit_ones:
        raise DataError(
            "no candidate could be scored: "
            + "; ".join(f"{row.name}: {row.reason or 'no finite error'}" for row in board),
            hint="is there a series with enough values? forecastcore validate --data tells",
        )
    best = min(fit_ones, key=lambda i: getattr(board[i], project.config.backtest.metric))
    order = sorted(
        range(len(board)),
        key=lambda i: (board[i].status == "failed", board[i].mase if board[i].mase is not None else np.inf),
    )
    return _Contest(rows=rows, results=results, leaderboard=[board[i] for i in order], best=results[best])


def _count(rows: Backtest, best: Result) -> SeriesCount:
    failed = sum(reason == "no-history" for reason in rows.screened.values())
    degraded = len(rows.screened) - failed + len(best.failures)
    return SeriesCount(total=len(rows.ids), ok=len(rows.ids) - degraded - failed, degraded=degraded, failed=failed)


def _recipe_of(champion: ModelVersion | None, project: Project) -> Candidate | None:
    """The champion's family and parameters, to be refitted at each fold's origin; None where its plugin is gone."""
    if champion is None:
        return None
    model, params = champion.model, dict(champion.params)
    try:
        project.host.make("model", model, params, root=project.root)
    except ForecastCoreError:
        return None
    return Candidate(name=f"champion {model}", type=model, params=params)


# --- the challenger -------------------------------------------------------------------------------------------------


def _refit(project: Project, history: History, contest: _Contest, engine: Engine, folder: Path) -> str:
    """Fit the best candidate on all history and pack it; the folder's digest."""
    folder.mkdir(parents=True)
    candidate, rows, config = contest.best.candidate, contest.rows, project.config
    parts, _ = fit_all(project, history, candidate, engine, folder)
    offer = project.host.offer("model", candidate.type)
    task = runtime.task(project, history.grid, history.origin)
    learned = calibrate(
        rows.y - contest.best.forecast,
        rows.step,
        rows.series,
        rows.ids,
        config.horizon,
        config.quantiles,
        level_of=group_mean(np.abs(rows.y), rows.series, len(rows.ids)),
    )
    (board,) = (row for row in contest.leaderboard if row.name == candidate.name)
    manifest = Manifest(
        project=config.name,
        name=candidate.name,
        model=candidate.type,
        params=dict(candidate.params),
        plugin=PluginStamp(distribution=offer.distribution, version=offer.version, digest=offer.digest),
        requirements=(
            f"forecastcore=={__version__}",
            *([] if offer.source == "file" else [f"{offer.distribution}=={offer.version}"]),
        ),
        trained_until=history.origin.to_pydatetime(),
        frequency=history.grid.frequency,
        timezone=history.grid.timezone,
        phase_ns=history.grid.phase.value,
        horizon=config.horizon,
        quantiles=tuple(config.quantiles),
        season=task.season,
        seasons=task.seasons,
        covariates=task.covariates,
        metrics={name: getattr(board, name) for name in ("mase", "rmsse", "wql", "bias", "coverage", "skill")},
        fallback_spread=_spread(rows.reference_error, config.quantiles),
        parts=tuple(parts),
    )
    return Package.seal(folder, manifest, learned)


def _spread(relative_error: Floats, levels: Sequence[float]) -> tuple[float, ...]:
    """Quantiles of the seasonal naive's relative errors: the band of rows that a fallback makes."""
    if not len(relative_error):
        return tuple(0.0 for _ in levels)
    return tuple(float(value) for value in np.quantile(relative_error, levels))


def _example(project: Project, history: History, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A few series' newest rows with a future to fill, and the forecast they give: MLflow's signature and input example."""
    package = Package.load(folder, project.host)
    some = history.ids[:_EXAMPLE_SERIES]
    enough = 2 * package.manifest.seasons[-1] + package.manifest.horizon
    past = (
        history.panel[history.panel["unique_id"].isin(some)]
        .groupby("unique_id", sort=False)
        .tail(enough)
        .reset_index(drop=True)
    )
    future = runtime.future(project, history, past).frame.drop(columns="step").assign(y=np.nan)
    frame = pd.concat([past, future[past.columns]], ignore_index=True)
    return frame, package.predict(frame)


# --- the gate -------------------------------------------------------------------------------------------------------


def _gate(
    project: Project,
    history: History,
    engine: Engine,
    contest: _Contest,
    store: ModelStore,
    champion: ModelVersion | None,
    recipe: Candidate | None,
) -> Decision:
    settings = project.config.promotion
    if champion is None:
        return Decision(
            verdict="first",
            reason=f"first: {contest.best.candidate.name} has no predecessor to beat",
            confidence=settings.confidence,
        )
    if settings.mode == "off":
        return Decision(
            verdict="hold", reason="held: promotion.mode is off, nothing was compared", confidence=settings.confidence
        )
    rows, best = contest.rows, contest.best
    if recipe is None:
        reason = f"promoted: the champion {champion.model} {champion.version} cannot be made here any more"
        return Decision(verdict="promote", reason=reason, confidence=settings.confidence)
    (refitted,) = (r for r in contest.results if recipe.same_recipe(r.candidate))
    forecast, new = _champion_forecast(project, history, engine, rows, refitted.forecast, store, champion)
    levels = project.config.quantiles
    evidence = Evidence(
        champion=rows.losses(forecast),
        challenger=rows.losses(best.forecast),
        slices=_slices(rows, forecast, best.forecast),
        coverage=coverage(rows.y, best.quantiles[:, 0], best.quantiles[:, -1]),
        champion_coverage=coverage(rows.y, refitted.quantiles[:, 0], refitted.quantiles[:, -1]),
        nominal=levels[-1] - levels[0],
        skill=1 - float(np.nanmean(rows.losses(best.forecast))) / rows.reference,
        new_origins=new,
    )
    stride = project.config.backtest.stride or project.config.horizon
    return decide(
        evidence,
        Rules(min_gain=settings.min_gain, confidence=settings.confidence),
        overlap=-(-project.config.horizon // stride),
    )


def _champion_forecast(
    project: Project,
    history: History,
    engine: Engine,
    rows: Backtest,
    refitted: Floats,
    store: ModelStore,
    champion: ModelVersion,
) -> tuple[Floats, int]:
    """The champion on every fold: its stored artefact on origins after its training, its recipe refitted before."""
    until = pd.Timestamp(champion.trained_until) if champion.trained_until else None
    new = [number for number, origin in enumerate(rows.origins) if until is not None and origin >= until]
    if not new:
        return refitted, 0
    stored = run_package(project, history, store.fetch(champion), engine, rows, new)
    return np.where(np.isfinite(stored), stored, refitted), len(new)


def _slices(rows: Backtest, champion: Floats, challenger: Floats) -> dict[str, tuple[float, float]]:
    """Mean scaled loss of both by quarter of the horizon and by quarter of the series, ordered by size."""
    scale = rows.scale.ravel()[rows.group]
    level = group_mean(np.abs(rows.y), rows.series, len(rows.ids))
    rank = np.argsort(np.argsort(np.nan_to_num(level))) * _BUCKETS // max(len(rows.ids), 1)
    horizon = int(rows.step.max())
    buckets = {
        f"steps {b * horizon // _BUCKETS + 1}-{(b + 1) * horizon // _BUCKETS}": (rows.step - 1) * _BUCKETS // horizon
        == b
        for b in range(min(_BUCKETS, horizon))
    }
    if len(rows.ids) >= 2 * _BUCKETS:
        buckets |= {f"series of size {b + 1} of {_BUCKETS}": rank[rows.series] == b for b in range(_BUCKETS)}
    pair = [np.abs(f - rows.y) / scale for f in (champion, challenger)]
    with np.errstate(invalid="ignore"):
        return {name: (_mean(pair[0][hit]), _mean(pair[1][hit])) for name, hit in buckets.items()}


def _mean(values: Floats) -> float:
    fine = values[np.isfinite(values)]
    return float(fine.mean()) if len(fine) else float("nan")


def _settle(
    project: Project,
    store: ModelStore,
    tracked: Run,
    decision: Decision,
    version: ModelVersion,
    champion: ModelVersion | None,
    digest: str,
    *,
    promote: bool,
) -> ModelVersion | None:
    """Put the decision on the ledger; the champion after it."""
    applies = promote and project.config.promotion.mode == "enforce" and decision.verdict in {"promote", "first"}
    action = decision.verdict if applies else "hold"
    reason = (
        decision.reason
        if applies or decision.verdict == "hold"
        else f"not applied ({_why_not(project, promote)}): {decision.reason}"
    )
    try:
        _write(
            store,
            action,
            version,
            version if applies else champion,
            champion,
            run_id=tracked.run_id,
            reason=reason,
            digest=digest,
        )
    except LedgerConflict as conflict:
        # Somebody changed the champion while we compared: the comparison no longer holds.
        _write(
            store,
            "hold",
            version,
            store.resolve("champion"),
            None,
            run_id=tracked.run_id,
            reason=f"held: {conflict.message}",
            retry=True,
        )
        return store.resolve("champion")
    return version if applies else champion


def _why_not(project: Project, promote: bool) -> str:  # noqa: FBT001 - the caller's flag, passed on
    return f"promotion.mode is {project.config.promotion.mode}" if promote else "--no-promote"


def _write(
    store: ModelStore,
    action: str,
    version: ModelVersion,
    champion: ModelVersion | None,
    before: ModelVersion | None,
    *,
    run_id: str = "",
    reason: str = "",
    digest: str = "",
    retry: bool = False,
) -> LedgerEntry:
    entries = store.ledger()
    head = entries[-1] if entries else None
    if not retry and (head.champion if head else None) != (before.version if before else None):
        raise LedgerConflict(len(entries) + 1, len(entries))
    changed = champion is not None and (head is None or head.champion != champion.version)
    entry = LedgerEntry(
        seq=(head.seq if head else 0) + 1,
        at=datetime.now(UTC),
        action=action,  # type: ignore[arg-type]  # the callers' words are the literals
        version=version.version,
        champion=champion.version if champion else None,
        previous=(head.champion if changed else head.previous) if head else None,
        digest=(digest or champion.digest)
        if champion and champion.version == version.version
        else champion.digest
        if champion
        else "",
        run_id=run_id,
        reason=reason[:2000],
        by=_user(),
    )
    return store.append(entry)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _ref(version: ModelVersion | None) -> VersionRef | None:
    return VersionRef(model=version.model, version=version.version) if version else None


# --- what is tracked ------------------------------------------------------------------------------------------------


def _tags(project: Project, history: History, command: str) -> dict[str, str]:
    return {
        "forecastcore.project": project.config.name,
        "forecastcore.command": command,
        "forecastcore.origin": history.origin.isoformat(),
        "forecastcore.version": __version__,
        "forecastcore.config": project.digest(),
        "forecastcore.data": data_digest(history.panel),
        **{
            f"forecastcore.plugin.{o.kind}.{o.name}": f"{o.distribution} {o.version} {o.digest[:12]}"
            for o in runtime.used_offers(project)
        },
    }


def _log_setting(tracked: Run, project: Project, history: History, folds: list[pd.Timestamp]) -> None:
    config = project.config
    tracked.params(
        {
            "as_of": history.origin.isoformat(),
            "frequency": config.frequency,
            "horizon": config.horizon,
            "folds": len(folds),
            "first_fold": folds[0].isoformat(),
            "metric": config.backtest.metric,
            "series": len(history.ids),
            "rows": len(history.panel),
        }
    )
    tracked.json("config.json", config.model_dump(mode="json"))
    tracked.json("quality.json", dict(history.counts))
    tracked.dataset(history.panel, name=config.name, source=config.source.type, context="retrain")


def _log_contest(tracked: Run, contest: _Contest) -> None:
    rows = contest.rows
    by_name = {row.name: row for row in contest.leaderboard}
    for result in contest.results:
        board = by_name[result.candidate.name]
        with tracked.child(result.candidate.name) as child:
            child.params({"model": board.model, **{f"param.{k}": v for k, v in board.params.items()}})
            child.tags({"forecastcore.status": board.status, "forecastcore.reason": board.reason})
            child.metrics({name: value for name, value in _numbers(board).items() if value is not None})
            for fold, losses in enumerate(rows.losses(result.forecast)):
                child.metrics({"fold_mase": _mean(losses)}, step=fold + 1)
            child.table("series.parquet", _per_series(rows, result))
    tracked.metrics(
        {
            f"best_{name}": value
            for name, value in _numbers(by_name[contest.best.candidate.name]).items()
            if value is not None
        }
    )
    tracked.table(
        "leaderboard.parquet",
        pd.DataFrame(
            [
                {**_numbers(row), "name": row.name, "status": row.status, "reason": row.reason}
                for row in contest.leaderboard
            ]
        ),
    )


def _numbers(row: LeaderboardRow) -> dict[str, float | None]:
    return {name: getattr(row, name) for name in ("mase", "rmsse", "wql", "bias", "coverage", "skill", "seconds")}


def _per_series(rows: Backtest, result: Result) -> pd.DataFrame:
    error = result.forecast - rows.y
    count = len(rows.ids)
    losses = rows.losses(result.forecast)
    return pd.DataFrame(
        {
            "unique_id": rows.ids,
            "mase": group_mean(losses.ravel(), np.tile(np.arange(count), len(losses)), count),
            "mae": group_mean(np.abs(error), rows.series, count),
            "bias": group_mean(error, rows.series, count),
            "reason": [rows.screened.get(uid, result.failures.get(uid, "")) for uid in rows.ids],
        }
    )
