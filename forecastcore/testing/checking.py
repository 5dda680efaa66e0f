"""The conformance suite: everything that a plugin of a kind has to keep to, as checks that need no pytest."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore import parameters
from forecastcore.api import AssumptionSpec, ModelSpec, SinkSpec, SourceSpec
from forecastcore.engines.spark.session import check_session
from forecastcore.errors import EngineError
from forecastcore.testing import assumptions, manners, model_leaks, model_series, models, sinks, sources
from forecastcore.testing.child import run_child
from forecastcore.testing.samples import sample_history
from forecastcore.testing.suite import Check, Probe, Skip, must, other_processes, probe, rules, run, said

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["KINDS", "READY", "check", "checks_of", "iterate", "kind_of"]

Spec = ModelSpec | AssumptionSpec | SinkSpec | SourceSpec
#: the first check of every kind
READY = "can-be-tried"
_THOUSAND = 1000
_SERIES = 20


@probe("a-fresh-process-can-use-it")
def a_spark_worker_can_use_it(trial: models.ModelTrial) -> str | None:
    """A worker of a local Spark makes it from its parameters and says the same; it needs pyspark and Java."""
    other_processes(quick=trial.quick)
    try:
        check_session("local[1]", None)
    except EngineError as error:
        raise Skip(str(error)) from error
    told = run_child(trial.job, "spark")
    must(not told.error, f"a Spark worker raised {told.error}")
    numbers = models.values_of(pd.read_parquet(trial.job / "spark.parquet"), trial.world)
    must(models.same(numbers, trial.expected), f"in a Spark worker {models.apart(numbers, trial.expected)}")
    return None


@probe()
def time_and_memory_for_a_thousand_series(trial: models.ModelTrial) -> str | None:
    """Seconds and megabytes for 1,000 series are told, from the sample and from a fresh process; no limit is set."""
    count = _SERIES if trial.spec.capabilities.scope == "global" else 2
    history = sample_history(series=count, rows=70, frequency="D", covariates=(models.COVARIATE,))
    world = models.World.of(history)
    started = time.perf_counter()
    fitted = trial.fit(world)
    between = time.perf_counter()
    trial.predict(fitted, world)
    learn, apply = between - started, time.perf_counter() - between
    must(learn >= 0, "the clock runs backwards")
    factor = _THOUSAND / count
    return (
        f"{factor * learn:.1f} s to fit, {factor * apply:.1f} s to predict 1,000 series of 70 days (measured: {count});"
        f" a fresh process grew by {trial.report.megabytes:.0f} MB with two series"
    )


_MODEL: tuple[Probe[Any], ...] = (
    *models.FIRST,
    *model_leaks.FIRST,
    *models.PROBES,
    *model_series.PROBES,
    *model_leaks.PROBES,
    *manners.PROBES,
    *manners.QUIET,
    a_spark_worker_can_use_it,
    time_and_memory_for_a_thousand_series,
)

#: kind -> spec, what is put on trial, and by which checks
KINDS: dict[str, tuple[type[Any], type[Any], tuple[Probe[Any], ...]]] = {
    "model": (ModelSpec, models.ModelTrial, _MODEL),
    "assumption": (AssumptionSpec, assumptions.AssumptionTrial, assumptions.PROBES),
    "sink": (SinkSpec, sinks.SinkTrial, sinks.PROBES),
    "source": (SourceSpec, sources.SourceTrial, sources.PROBES),
}


def kind_of(spec: Spec) -> str:
    """`model`, `assumption`, `sink` or `source`."""
    return next(kind for kind, (cls, *_rest) in KINDS.items() if isinstance(spec, cls))


def iterate(spec: Spec, params: Mapping[str, Any] | None = None, *, quick: bool = False) -> Iterator[Check]:
    """The checks of a plugin one by one, as they are done.

    The plugin's own object is called, without the fallbacks by which the host would cover for it. Nothing is left
    behind.

    Args:
        spec: what the plugin's hook yields.
        params: parameters as a project file would give them, beside those of the spec's `example`.
        quick: leave out what needs other processes.
    """
    _cls, trial, probes = KINDS[kind_of(spec)]
    with tempfile.TemporaryDirectory(prefix="forecastcore-check-") as place:
        folder = Path(place).resolve() / "trial"
        folder.mkdir()
        try:
            subject = trial(spec=spec, params=dict(params or {}), folder=folder, quick=quick)
            faults = parameters.check(spec.factory, subject.params)
        except Exception as error:  # noqa: BLE001 - whatever its example raises, it cannot be tried
            yield Check(name=READY, status="failed", detail=said(error))
            return
        words = "; ".join(f"{'.'.join(map(str, f.path)) or 'parameters'}: {f.message}" for f in faults)
        hint = " (say what it is tried with: params here, --param KEY=VALUE on the command line)" if faults else ""
        yield Check(name=READY, status="failed" if faults else "passed", detail=words + hint)
        if not faults:
            yield from run(probes, subject)


def check(spec: Spec, params: Mapping[str, Any] | None = None, *, quick: bool = False) -> list[Check]:
    """All checks of a plugin; see `iterate`.

    Example:
        >>> from dataclasses import dataclass
        >>> from forecastcore.api import Example, SourceSpec
        >>> @dataclass(frozen=True)
        ... class Nothing:
        ...     def schema(self): ...
        ...     def read(self, columns): ...
        >>> spec = SourceSpec(name="nothing", summary="no table", factory=Nothing, example=lambda *_: Example())
        >>> [(one.name, one.status) for one in check(spec)][:3]
        [('can-be-tried', 'passed'), ('reads', 'failed'), ('no-row-is-lost', 'skipped')]
    """
    return list(iterate(spec, params, quick=quick))


def checks_of(kind: str) -> list[tuple[str, str]]:
    """Name and rule of every check of a kind, in order."""
    ready = (READY, "Its parameters are known: they have defaults, or the spec's `example` gives them.")
    return [ready, *rules(KINDS[kind][2])]
