"""What each drill breaks, and what must hold all the same."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from forecastcore import runtime
from forecastcore.errors import ForecastCoreError, UsageError
from forecastcore.logbook import keeping_log
from forecastcore.project import Project
from forecastcore.runs.predict import forecasts, predict
from forecastcore.runs.promotion import promote
from forecastcore.runs.retrain import example_of
from forecastcore.runs.standins import UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd

    from forecastcore.frames import History
    from forecastcore.messages import PredictReport
    from forecastcore.ports import Steps

__all__ = ["KINDS", "Check", "rehearse"]

_OUTAGES = Path(__file__).with_name("outages.py")


@dataclass(frozen=True)
class Check:
    """One thing that must hold in an outage."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class _Copy:
    """A project to break: the settings and data of the real one, everything that is written elsewhere."""

    original: Project
    folder: Path
    plugins: tuple[str, ...]
    overrides: tuple[str, ...]
    steps: Steps

    def project(self, *more: str) -> Project:
        """The copy, with what is broken in it."""
        tracking = {"uri": f"sqlite:///{(self.folder / 'mlflow.db').as_posix()}", "experiment": "drill"}
        said = (
            *self.overrides,
            f"tracking={json.dumps(tracking)}",
            f"sinks={json.dumps([self.sink('out')])}",
            *more,
        )
        return Project.load(self.original.path, overrides=said, plugins=(*self.plugins, str(_OUTAGES)))

    def sink(self, name: str) -> dict[str, str]:
        """A sink in the copy's folder."""
        return {"type": "parquet", "path": (self.folder / name).as_posix()}

    def predict(self, *more: str) -> PredictReport:
        """One predict of the copy."""
        return predict(self.project(*more), steps=self.steps)


def rehearse(
    kind: str,
    project: Project,
    folder: Path,
    steps: Steps,
    *,
    plugins: tuple[str, ...] = (),
    overrides: tuple[str, ...] = (),
) -> list[Check]:
    """Break a copy of a project, forecast, and look whether the forecast was delivered as it must be.

    Args:
        kind: one of `KINDS`.
        project: whose champion, settings and data; nothing of it changes.
        folder: empty, for all that the drill writes.
        steps: how to run and watch the stages.
        plugins: files that the project was loaded with.
        overrides: texts that the project was loaded with.

    Raises:
        UsageError: there is nothing to break, or no champion.
    """
    copy = _Copy(project, folder, plugins, overrides, steps)
    with _own_cache(folder), keeping_log(None, "drill"):
        history = runtime.history(project)
        _register(copy, history)
        try:
            return KINDS[kind](copy, history)
        except UsageError:
            raise
        except ForecastCoreError as error:
            return [Check("delivered", passed=False, detail=str(error))]


@contextmanager
def _own_cache(folder: Path) -> Iterator[None]:
    before = os.environ.get("FORECASTCORE_CACHE")
    os.environ["FORECASTCORE_CACHE"] = str(folder / "cache")
    try:
        yield
    finally:
        if before is None:
            del os.environ["FORECASTCORE_CACHE"]
        else:
            os.environ["FORECASTCORE_CACHE"] = before


def _register(copy: _Copy, history: History) -> None:
    """The champion, and the one before, in the registry of the copy, as they are stored."""
    target = copy.project()
    store = runtime.store(target)
    with runtime.look_only(copy.original) as there:
        wanted = [v for v in there.versions() if {"champion", "previous"} & set(v.aliases)]
        champions = [v for v in wanted if "champion" in v.aliases]
        if not champions:
            raise UsageError("there is no champion to rehearse with", hint="run forecastcore retrain first")
        for version in [*(v for v in wanted if v not in champions), *champions]:
            packed = there.examine(version, copy.folder / f"version-{version.version}")
            with store.run(f"drill {version.version}", tags={"forecastcore.command": "drill"}) as tracked:
                made = store.register(tracked, packed, example=example_of(target, history, packed))
            promote(target, made.version, reason="drill")


def _weather_outage(copy: _Copy, history: History) -> list[Check]:
    config = copy.original.config
    guessed = runtime.assumptions(copy.original).guessed
    names = {str(config.covariates[covariate].assume) for covariate in guessed}
    if not names:
        raise UsageError("the project assumes no covariate, so no outage of a service can touch it")
    asked = {_first(name, copy.original) for name in names}
    report = copy.predict(*(f"assumptions.{name}={{type: drill-away}}" for name in sorted(asked)))
    stood_in = [note for note in report.assumptions if note.covariate in guessed and note.reason]
    told = "; ".join(f"{note.covariate} by {note.assumption}: {note.reason}" for note in stood_in)
    return [
        *_whole(forecasts(copy.project()), history, copy.original),
        Check("stood-in-for", bool(stood_in), told or "the report does not say what stood in"),
    ]


def _first(name: str, project: Project) -> str:
    """The assumption that is asked first: of a chain its first link."""
    params = project.config.assumptions[name].params
    links = params.get("links") or []
    first = links[0] if links else params.get("of")
    inner = first.get("of") if isinstance(first, dict) else first
    return _first(str(inner), project) if inner in project.config.assumptions else name


def _registry_loss(copy: _Copy, history: History) -> list[Check]:
    found = []
    versions = runtime.store(copy.project()).versions()
    champion = next(v for v in versions if "champion" in v.aliases)
    for version in (champion, *(v for v in versions if v is not champion)):
        _lose(copy, version.digest)
        copy.predict()
        rows = forecasts(copy.project())
        rows = rows[rows["created_at"] == rows["created_at"].max()]
        makers = rows[["model", "model_version"]].drop_duplicates().itertuples(index=False)
        made = ", ".join(f"{model} version {number}" for model, number in makers)
        marked = bool(((rows["status"] != "ok") & (rows["reason"] != "")).all())
        said = bool(rows["reason"].str.startswith(UNAVAILABLE).any())
        found += [
            *_whole(rows, history, copy.original),
            Check("every-row-marked", marked and said, f"without version {version.version}: made by {made}"),
        ]
    return found


def _lose(copy: _Copy, digest: str) -> None:
    """Take a version's files out of the copy's registry and cache."""
    shutil.rmtree(copy.folder / "cache" / "models" / digest, ignore_errors=True)
    for listing in list((copy.folder / "mlartifacts").rglob("digests.json")):
        if listing.exists() and sha256(listing.read_bytes()).hexdigest() == digest:
            shutil.rmtree(listing.parent)


def _sink_outage(copy: _Copy, history: History) -> list[Check]:
    second = copy.sink("second")
    report = copy.predict(f"sinks={json.dumps([{'type': 'drill-full'}, copy.sink('out')])}")
    errors = [p.error for p in report.published if p.error]
    whole = _whole(forecasts(copy.project()), history, copy.original)
    again = copy.predict(f"sinks={json.dumps([second, copy.sink('out')])}")
    mended = {p.sink: "there already" if p.already else "written" for p in again.published}
    return [
        *whole,
        Check("failure-told", len(errors) == 1, errors[0] if errors else "no sink failed"),
        Check("caught-up", [*mended.values()] == ["written", "there already"], f"the next run: {_listed(mended)}"),
    ]


def _listed(told: dict[str, str]) -> str:
    return ", ".join(f"{name} {words}" for name, words in told.items())


def _whole(rows: pd.DataFrame, history: History, project: Project) -> list[Check]:
    wanted = len(history.ids) * project.config.horizon
    served = rows.loc[rows["status"] != "failed", "forecast"].to_numpy(dtype=float)
    counts = ", ".join(f"{n} {status}" for status, n in rows["status"].value_counts().items())
    return [
        Check("delivered", len(rows) == wanted, f"{len(rows)} of {wanted} rows: {counts}"),
        Check("finite", bool(np.isfinite(served).all()), f"{len(served)} forecasts"),
    ]


#: what can be rehearsed
KINDS: dict[str, Callable[[_Copy, History], list[Check]]] = {
    "weather-outage": _weather_outage,
    "registry-loss": _registry_loss,
    "sink-outage": _sink_outage,
}
