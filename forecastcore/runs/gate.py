"""Champion against challenger on the same origins, none of which either was fitted on.

On an origin after the champion's training its stored artefact is scored, as it serves today; on an earlier one its
recipe is refitted at that origin, as the challenger's is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore import continuity, runtime, state
from forecastcore.compare import Evidence, Rules, decide, unopposed
from forecastcore.errors import ForecastCoreError, PluginError, StateError
from forecastcore.messages import Decision, Guard
from forecastcore.metrics import step_buckets
from forecastcore.package import Manifest, Package
from forecastcore.profile import PROFILE, Profile
from forecastcore.project import Candidate
from forecastcore.race import run_package
from forecastcore.runs.blending import as_chosen
from forecastcore.segments import by_segment

if TYPE_CHECKING:
    import numpy.typing as npt

    from forecastcore.backtest import Backtest
    from forecastcore.messages import ModelVersion
    from forecastcore.ports import Engine, ModelStore, Past
    from forecastcore.project import Project
    from forecastcore.runs.contest import Contest

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

#: segments that the gate looks at one by one
_SEGMENTS = 8

__all__ = ["judge", "origins_after_training", "recipe_of", "rules_of", "training_data"]


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
    members = tuple(Candidate(f"champion's {m.name}", m.model, m.params, segments=m.segments) for m in manifest.members)
    return Candidate(f"champion {manifest.model}", manifest.model, manifest.params, members, manifest.segments)


def judge(
    project: Project,
    history: Past,
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
    data = training_data(project, history, store, champion)
    recipe, fault = recipe_of(champion, project, store), _cannot_serve(project, history, store, champion)
    if recipe is None or fault:
        words = f"version {champion.version} ({champion.model}) " + (
            fault or "cannot be made with the plugins installed here"
        )
        return unopposed(words, data, settings.confidence)
    rules, overlap = rules_of(project)
    evidence = _evidence(project, history, engine, contest, store, champion, recipe)
    return decide(replace(evidence, data=data), rules, overlap=overlap)


def rules_of(project: Project) -> tuple[Rules, int]:
    """What `promotion:` asks for, and how many origins in a row overlap."""
    settings, stride = project.config.promotion, project.config.backtest.stride or project.config.horizon
    rules = Rules(
        min_gain=settings.min_gain,
        confidence=settings.confidence,
        worst_slice=settings.max_slice_loss,
        coverage_slack=settings.coverage_slack,
    )
    return rules, -(-project.config.horizon // stride)


def training_data(project: Project, history: Past, store: ModelStore, champion: ModelVersion) -> list[Guard]:
    """Whether the history continues what the champion was trained on, as its profile tells."""
    limits = project.config.promotion.data
    if not limits.check:
        return []
    try:
        known = Profile.from_bytes(state.open_verified(store.fetch(champion), wanted=PROFILE.__eq__).read(PROFILE))
    except StateError:
        return [Guard(name="data", passed=True, detail=f"version {champion.version} keeps no profile of its data")]
    return continuity.compare(
        known,
        history,
        runtime.task(project, history.grid, history.origin),
        continuity.Limits(
            gone=limits.max_gone,
            cut=limits.max_cut,
            level=limits.max_level_change,
            rewritten=limits.max_rewritten,
            series=limits.max_series,
        ),
    )


def _cannot_serve(project: Project, history: Past, store: ModelStore, champion: ModelVersion) -> str:
    """Why the champion cannot answer what the project asks now; whoever can is better."""
    try:
        package = Package.load(store.fetch(champion), project.host)
    except (PluginError, StateError) as error:
        return f"cannot be loaded here: {error.message}"
    return package.manifest.differs(runtime.task(project, history.grid, history.origin), history.grid)


def _evidence(
    project: Project,
    history: Past,
    engine: Engine,
    contest: Contest,
    store: ModelStore,
    champion: ModelVersion,
    recipe: Candidate,
) -> Evidence:
    rows, best = contest.rows, contest.best
    levels, metric = project.config.quantiles, project.config.backtest.metric
    # The champion's own recipe again was not lucky to be chosen: it is judged as it is.
    chosen = best if recipe.same_recipe(best.candidate) else as_chosen(contest.choices, rows, levels, metric)
    refitted = next(result for result in contest.results if recipe.same_recipe(result.candidate))
    new, served = origins_after_training(rows, champion), None
    if new:
        served = run_package(project, history, store.fetch(champion), engine, rows, new)
    segments, means = _segments(rows, project.config.segments), _Means(len(rows.origins))
    losses: tuple[list[Floats], list[Floats]] = ([], [])
    for part in rows.parts():
        old, winner = refitted.among(part), chosen.among(part)
        forecast, quantiles = old.forecast, old.quantiles
        if served is not None:
            stored = part.taken(served)
            forecast = np.where(np.isfinite(stored[:, 0]), stored[:, 0], forecast)
            quantiles = np.where(np.isfinite(stored[:, 1:]), stored[:, 1:], quantiles)
        losses[0].append(part.losses_by(metric, forecast, quantiles, levels))
        losses[1].append(part.losses_by(metric, winner.forecast, winner.quantiles, levels))
        naive, ours, theirs = (
            np.abs(f - part.y) / part.scale.ravel()[part.group] for f in (part.naive, forecast, winner.forecast)
        )
        inside, before = _inside(part.y, best.among(part).quantiles), _inside(part.y, quantiles)
        everything = np.ones(len(part.y), dtype=bool)
        buckets = step_buckets(part.step, part.horizon)
        means.add("naive", "", part.fold, everything, naive, theirs)
        for name, hit in {"all": everything, **buckets}.items():
            means.add("coverage", name, part.fold, hit, before, inside)
        classes = {name: hit[part.first : part.first + len(part.ids)][part.series] for name, hit in segments.items()}
        for name, hit in {**buckets, **classes}.items():
            means.add("slices", name, part.fold, hit, ours, theirs)
    return Evidence(
        champion=np.concatenate(losses[0], axis=1),
        challenger=np.concatenate(losses[1], axis=1),
        slices=means.of("slices"),
        coverage=means.of("coverage"),
        nominal=levels[-1] - levels[0],
        naive=means.of("naive")[""],
        rivals=sum(not recipe.same_recipe(choice.candidate) for choice in contest.choices),
        new_origins=len(new),
    )


class _Means:
    """Means of the champion's and the challenger's values by origin, of several kinds and slices.

    Args:
        origins: how many.
    """

    def __init__(self, origins: int) -> None:
        self._origins = origins
        self._totals: dict[tuple[str, str], Floats] = {}

    def add(self, kind: str, name: str, fold: Ints, hit: npt.NDArray[np.bool_], *values: Floats) -> None:
        """Some rows of a slice: the values of both."""
        totals = self._totals.setdefault((kind, name), np.zeros((2, 2, self._origins)))
        for number, one in enumerate(values):
            fine = hit & np.isfinite(one)
            totals[number, 0] += np.bincount(fold[fine], one[fine], minlength=self._origins)
            totals[number, 1] += np.bincount(fold[fine], minlength=self._origins)

    def of(self, kind: str) -> dict[str, tuple[Floats, Floats]]:
        """Those of a kind, by name of the slice; NaN for an origin that has none."""
        found = {}
        for (other, name), totals in self._totals.items():
            if other == kind:
                total, count = totals[:, 0], totals[:, 1]
                ours, theirs = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
                found[name] = (ours, theirs)
        return found


def origins_after_training(rows: Backtest, champion: ModelVersion) -> list[int]:
    """Numbers of the origins that the champion has not been trained on."""
    if champion.trained_until is None:
        return []
    until = pd.Timestamp(champion.trained_until)
    return [number for number, origin in enumerate(rows.origins) if origin >= until]


def _segments(rows: Backtest, pattern: str | None) -> dict[str, npt.NDArray[np.bool_]]:
    """Series of each slice: quarters of the series by size and the largest tenth, segments.

    Of the segments the largest: with ever more of them one would be worse by chance.
    """
    found = by_segment(pattern, rows.ids) if pattern else {}
    largest = sorted(found, key=lambda name: -len(found[name]))[:_SEGMENTS] if len(found) > 1 else []
    ids = np.asarray(rows.ids, dtype=object)
    return {**rows.classes, **{f"segment {name or 'of the others'}": np.isin(ids, found[name]) for name in largest}}


def _inside(y: Floats, quantiles: Floats) -> Floats:
    """1 where the actual lies within the outermost quantiles, 0 where not, NaN where either is missing."""
    low, high = quantiles[:, 0], quantiles[:, -1]
    known = np.isfinite(y) & np.isfinite(low) & np.isfinite(high)
    return np.where(known, (low <= y) & (y <= high), np.nan)
