"""What a run would read, fit, write and promote, without doing any of it: nothing on disk or in MLflow changes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecastcore import runtime
from forecastcore.backtest import fold_origins
from forecastcore.errors import UsageError
from forecastcore.package import Package
from forecastcore.runs import remote
from forecastcore.runs.looking import Question
from forecastcore.runs.predict import check_same_question, known_scenarios, run_key
from forecastcore.runs.whereabouts import Looked, to_look_at
from forecastcore.segments import by_segment

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import pandas as pd

    from forecastcore.messages import ModelVersion
    from forecastcore.project import Candidate, Project
    from forecastcore.search import Search
    from forecastcore.tracking.store import MlflowStore

__all__ = ["plan_predict", "plan_retrain"]

Document = dict[str, Any]


def plan_retrain(project: Project, as_of: str | datetime | None = None, *, promote: bool = True) -> Document:
    """What `retrain` would do.

    Args:
        project: as for `retrain`.
        as_of: as for `retrain`.
        promote: as for `retrain`.

    Returns:
        `reads`, `fits`, `writes`, `promotes`, `submits` and `costs`, JSON-able.

    Raises:
        DataError: the run would be held by the quality check.
    """
    history = to_look_at(project, as_of).looked_at(Question())
    folds, searches = fold_origins(history, project), project.searches()
    with runtime.look_only(project) as store:
        champion, lasted = _meant(store, "champion"), store.lasted("retrain")
    rule = project.config.promotion
    candidates = [_fits(project, c, len(folds), searches.get(c.name), history.seen.ids) for c in project.candidates()]
    return {
        "reads": _reads(project, history),
        "fits": {
            "folds": [origin.isoformat() for origin in folds],
            "candidates": candidates,
            "total": sum(candidate["fits"] for candidate in candidates),
            "then": "the winner is fitted again on all history, once per series or once, as it was in a fold",
        },
        "writes": {"tracking": _tracking(project), "registers": f"{project.config.name}, a new version", "sinks": []},
        "promotes": {
            "mode": rule.mode if promote else "--no-promote",
            "champion": champion.version if champion else None,
            "rules": rule.model_dump(mode="json", exclude={"mode"}),
        },
        **_work(project, lasted, "retrain", {"as_of": as_of, "promote": promote}),
    }


def plan_predict(
    project: Project,
    as_of: str | datetime | None = None,
    scenarios: Sequence[str] = ("base",),
    *,
    model: str = "champion",
) -> Document:
    """What `predict` would do; assumptions are asked, because the run key depends on what they answer.

    Args:
        project: as for `predict`.
        as_of: as for `predict`.
        scenarios: as for `predict`.
        model: as for `predict`.

    Returns:
        See `plan_retrain`; each of `writes.sinks` says `already` where the vintage is there.

    Raises:
        UsageError: there is no such model or scenario, or the model answers another question.
        DataError: the run would be held by the quality check.
    """
    scenarios = known_scenarios(project, scenarios)
    found = to_look_at(project, as_of, ahead=True)
    with runtime.look_only(project) as store, tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch:
        version, lasted = _meant(store, model), store.lasted("predict")
        if version is None:
            raise UsageError(f"there is no {model} model", hint="forecastcore models list; retrain makes the first")
        package = Package.load(store.examine(version, Path(scratch)), project.host)
        check_same_question(project, found.place.grid, found.place.origin, package, version)
        history = found.looked_at(Question(scenarios=tuple(scenarios), needed=package.uses_covariates))
        keys = {
            scenario: run_key(project, history.origin, scenario, version, package.digest, data)
            for scenario, data in history.seen.digests.items()
        }
    return {
        "reads": _reads(project, history),
        "fits": {"candidates": [], "total": 0, "then": "stored parameters are applied, nothing is estimated"},
        "writes": {
            "tracking": _tracking(project),
            "model": {"model": version.model, "version": version.version},
            "rows": len(history.seen.ids) * project.config.horizon,
            "sinks": _sinks(project, history.origin, keys),
        },
        "promotes": None,
        **_work(project, lasted, "predict", {"as_of": as_of, "scenarios": tuple(scenarios), "model": model}),
    }


def _reads(project: Project, history: Looked) -> Document:
    source = project.config.source
    path = source.params.get("path")
    return {
        "source": source.type,
        "location": project.resolve_path(path) if isinstance(path, str) else None,
        "origin": history.origin.isoformat(),
        "series": len(history.seen.ids),
        "rows": history.seen.rows,
        "served_by_fallback": len(history.seen.screened),
        "covariates": {name: rule.assume or "known" for name, rule in project.config.covariates.items()},
        "notes": [*history.notes],
    }


def _fits(project: Project, candidate: Candidate, folds: int, search: Search | None, ids: Sequence[str]) -> Document:
    """A candidate, and how many times something is fitted in the backtest: series, segments, or all at once."""
    if candidate.members:
        return {**candidate.as_dict(), "trials": None, "scope": "ensemble", "fits": 0}
    scope = "segment" if candidate.segments else project.host.offer("model", candidate.type).spec.capabilities.scope
    each = folds * {"local": len(ids), "global": 1}.get(scope, len(by_segment(candidate.segments or "", ids)))
    trials = search.trials if search else 1
    return {**candidate.as_dict(), "trials": search.trials if search else None, "scope": scope, "fits": each * trials}


def _sinks(project: Project, origin: pd.Timestamp, keys: dict[str, str]) -> list[Document]:
    told = []
    for label, sink in project.sinks():
        there = _there(sink, origin)
        where = str(getattr(sink, "path", "")) or None
        told += [
            {
                "sink": label,
                "location": where,
                "scenario": s,
                "run_key": key,
                "already": None if there is None else key in there,
            }
            for s, key in keys.items()
        ]
    return told


def _there(sink: Any, origin: pd.Timestamp) -> set[str] | None:
    """Run keys that a sink has; None where it cannot be asked."""
    if callable(look := getattr(sink, "vintages", None)):
        return {ref.run_key for ref in look()}
    if callable(read := getattr(sink, "read", None)):
        return set(read(origin.to_pydatetime()).column("run_key").to_pylist())
    return None


def _meant(store: MlflowStore, which: str) -> ModelVersion | None:
    """Like `ModelStore.resolve`, which remembers the champion on disk."""
    return next((v for v in store.versions() if which in {*v.aliases, v.version, v.run_id}), None)


def _tracking(project: Project) -> str:
    from forecastcore.tracking.connect import mask

    return mask((project.tracking().uri or "").partition("?")[0])


def _work(project: Project, lasted: float | None, command: str, options: Document) -> Document:
    engine = project.config.engine.type
    given = {key: value for key, value in options.items() if value is not None}
    sent = remote.planned(project, command, given) if engine == "databricks" else {}
    at_most = sent.pop("at_most", None)
    seconds = lasted if engine == "local" else None
    words = (
        "as long as the run before" if seconds is not None else "not known: no earlier run of this kind is on record"
    )
    return {
        "submits": {"engine": engine, "jobs": 1 if sent else 0, **sent},
        "costs": {"seconds": seconds, "note": words, **({"at_most": at_most} if at_most else {})},
    }
