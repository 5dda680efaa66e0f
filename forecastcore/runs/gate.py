"""Champion against challenger on the same origins, none of which either was fitted on.

On an origin after the champion's training its stored artefact is scored, as it serves today; on an earlier one its
recipe is refitted at that origin, as the challenger's is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore import runtime
from forecastcore.backtest import run_package
from forecastcore.compare import Evidence, Rules, decide
from forecastcore.errors import ForecastCoreError, PluginError, StateError
from forecastcore.messages import Decision
from forecastcore.metrics import coverage, group_mean
from forecastcore.package import Manifest, Package
from forecastcore.project import Candidate
from forecastcore.runs.blending import as_chosen

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.backtest import Backtest
    from forecastcore.frames import History
    from forecastcore.messages import ModelVersion
    from forecastcore.ports import Engine, ModelStore
    from forecastcore.project import Project
    from forecastcore.runs.contest import Contest

    Floats = npt.NDArray[np.float64]

__all__ = ["judge", "recipe_of"]

#: slices of the horizon, and of the series by size
_SLICES = 4


def recipe_of(champion: ModelVersion | None, project: Project, store: ModelStore) -> Candidate | None:
    """The champion's family and parameters; None where there is no champion, or a plugin is gone or has changed."""
    if champion is None:
        return None
    try:
        manifest = Manifest.read(store.fetch(champion))
        models = [(m.model, m.params) for m in manifest.members] or [(manifest.model, manifest.params)]
        for model, params in models:
            project.host.make("model", model, params, root=project.root)
    except ForecastCoreError:
        return None
    members = tuple(Candidate(f"champion's {m.name}", m.model, m.params) for m in manifest.members)
    return Candidate(f"champion {manifest.model}", manifest.model, manifest.params, members)


def judge(
    project: Project,
    history: History,
    engine: Engine,
    contest: Contest,
    store: ModelStore,
    champion: ModelVersion | None,
) -> Decision:
    """Let the challenger replace the champion, or not.

    Args:
        project: whose promotion rules.
        history: checked history.
        engine: where the stored champion is scored.
        contest: every candidate's backtest, the champion's recipe among them.
        store: where the champion's artefact is.
        champion: today's; None where there is none yet.
    """
    settings = project.config.promotion
    name = contest.best.candidate.name
    if champion is None:
        return Decision(
            verdict="first", reason=f"first: {name} has no predecessor to beat", confidence=settings.confidence
        )
    if settings.mode == "off":
        reason = "held: promotion.mode is off, nothing was compared"
        return Decision(verdict="hold", reason=reason, confidence=settings.confidence)
    recipe, fault = recipe_of(champion, project, store), _cannot_serve(project, history, store, champion)
    if recipe is None or fault:
        reason = f"promoted: version {champion.version} ({champion.model}) " + (
            fault or "cannot be made with the plugins installed here"
        )
        return Decision(verdict="promote", reason=reason, confidence=settings.confidence)
    stride = project.config.backtest.stride or project.config.horizon
    rules = Rules(min_gain=settings.min_gain, confidence=settings.confidence)
    evidence = _evidence(project, history, engine, contest, store, champion, recipe)
    return decide(evidence, rules, overlap=-(-project.config.horizon // stride))


def _cannot_serve(project: Project, history: History, store: ModelStore, champion: ModelVersion) -> str:
    """Why the champion cannot answer what the project asks now; whoever can is better."""
    try:
        package = Package.load(store.fetch(champion), project.host)
    except (PluginError, StateError) as error:
        return f"cannot be loaded here: {error.message}"
    return package.manifest.differs(runtime.task(project, history.grid, history.origin), history.grid)


def _evidence(
    project: Project,
    history: History,
    engine: Engine,
    contest: Contest,
    store: ModelStore,
    champion: ModelVersion,
    recipe: Candidate,
) -> Evidence:
    rows, best, levels = contest.rows, contest.best, project.config.quantiles
    # The champion's own recipe again was not lucky to be chosen: it is judged as it is.
    challenger = best.forecast if recipe.same_recipe(best.candidate) else as_chosen(contest.choices, rows).forecast
    refitted = next(result for result in contest.results if recipe.same_recipe(result.candidate))
    new = _origins_after_training(rows, champion)
    forecast = refitted.forecast
    if new:
        stored = run_package(project, history, store.fetch(champion), engine, rows, new)
        forecast = np.where(np.isfinite(stored), stored, forecast)
    return Evidence(
        champion=rows.losses(forecast),
        challenger=rows.losses(challenger),
        slices=_slices(rows, forecast, challenger),
        coverage=coverage(rows.y, best.quantiles[:, 0], best.quantiles[:, -1]),
        champion_coverage=coverage(rows.y, refitted.quantiles[:, 0], refitted.quantiles[:, -1]),
        nominal=levels[-1] - levels[0],
        skill=contest.winner.skill if contest.winner.skill is not None else float("nan"),
        new_origins=len(new),
    )


def _origins_after_training(rows: Backtest, champion: ModelVersion) -> list[int]:
    if champion.trained_until is None:
        return []
    until = pd.Timestamp(champion.trained_until)
    return [number for number, origin in enumerate(rows.origins) if origin >= until]


def _slices(rows: Backtest, champion: Floats, challenger: Floats) -> dict[str, tuple[float, float]]:
    """Mean scaled loss of both by quarter of the horizon, and by quarter of the series ordered by size."""
    scale = rows.scale.ravel()[rows.group]
    size = group_mean(np.abs(rows.y), rows.series, len(rows.ids))
    scored = np.flatnonzero(np.isfinite(size))
    quarter = np.full(len(rows.ids), -1)
    quarter[scored[np.argsort(size[scored], kind="stable")]] = np.arange(len(scored)) * _SLICES // max(len(scored), 1)
    horizon = int(rows.step.max())
    hits = {
        f"steps {-(-b * horizon // _SLICES) + 1}-{-(-(b + 1) * horizon // _SLICES)}": (rows.step - 1)
        * _SLICES
        // horizon
        == b
        for b in range(_SLICES if horizon >= _SLICES else 0)
    }
    if len(scored) >= 2 * _SLICES:
        hits |= {f"series of size {b + 1} of {_SLICES}": quarter[rows.series] == b for b in range(_SLICES)}
    ours, theirs = (np.abs(forecast - rows.y) / scale for forecast in (champion, challenger))
    return {name: (_mean(ours[hit]), _mean(theirs[hit])) for name, hit in hits.items()}


def _mean(values: Floats) -> float:
    fine = values[np.isfinite(values)]
    return float(fine.mean()) if len(fine) else float("nan")
