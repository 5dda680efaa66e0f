"""The hooks of entry-point group `forecastcore`, each with an example that runs.

A hook function carries the spec's name and `@hookimpl`; the module or object that holds it is what the entry point
names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forecastcore.api import AssumptionSpec, ModelSpec, SinkSpec, SourceSpec
    from forecastcore.messages import Decision, PredictReport, RetrainReport

__all__ = ["GROUP", "KINDS"]

GROUP = "forecastcore"

#: kind of plugin -> hook that offers it
KINDS = {
    "model": "forecastcore_models",
    "assumption": "forecastcore_assumptions",
    "sink": "forecastcore_sinks",
    "source": "forecastcore_sources",
}

hookspec: pluggy.HookspecMarker = pluggy.HookspecMarker("forecastcore")


@hookspec
def forecastcore_models() -> Iterable[ModelSpec]:  # type: ignore[empty-body]  # a spec has no body
    """Offer model families.

    Examples:
        >>> from dataclasses import dataclass
        >>> from forecastcore.api import ModelSpec, hookimpl
        >>> @dataclass(frozen=True)
        ... class FittedLast:
        ...     def predict(self, context, future, task):
        ...         last = context.groupby("unique_id")["y"].last()
        ...         return future[["unique_id", "ds"]].assign(forecast=future["unique_id"].map(last))
        >>> @dataclass(frozen=True)
        ... class Last:
        ...     def fit(self, history, task):
        ...         return FittedLast()
        >>> @hookimpl
        ... def forecastcore_models():
        ...     yield ModelSpec(name="last", summary="the last value, for ever", factory=Last)
        >>> [spec.name for spec in forecastcore_models()]
        ['last']
    """


@hookspec
def forecastcore_assumptions() -> Iterable[AssumptionSpec]:  # type: ignore[empty-body]  # a spec has no body
    """Offer assumptions.

    Examples:
        >>> from dataclasses import dataclass
        >>> from forecastcore.api import AssumptionSpec, hookimpl
        >>> @dataclass(frozen=True)
        ... class Constant:
        ...     value: float = 0.0
        ...     def assume(self, history, future, task):
        ...         return future[["unique_id", "ds"]].assign(**{name: self.value for name in task.covariates})
        >>> @hookimpl
        ... def forecastcore_assumptions():
        ...     yield AssumptionSpec(name="constant", summary="always the same", factory=Constant)
        >>> [spec.name for spec in forecastcore_assumptions()]
        ['constant']
    """


@hookspec
def forecastcore_sinks() -> Iterable[SinkSpec]:  # type: ignore[empty-body]  # a spec has no body
    """Offer sinks.

    Examples:
        >>> from dataclasses import dataclass, field
        >>> import pyarrow as pa
        >>> from forecastcore.api import Published, SinkSpec, hookimpl
        >>> @dataclass
        ... class Memory:
        ...     kept: dict[str, pa.Table] = field(default_factory=dict, init=False)
        ...     def publish(self, vintage, run_key):
        ...         already = run_key in self.kept
        ...         self.kept.setdefault(run_key, vintage)
        ...         return Published(location="memory", rows=vintage.num_rows, already=already)
        ...     def read(self, issued_at=None):
        ...         return pa.concat_tables(self.kept.values())
        >>> @hookimpl
        ... def forecastcore_sinks():
        ...     yield SinkSpec(name="memory", summary="gone with the process", factory=Memory)
        >>> Memory().publish(pa.table({"step": [1, 2]}), "key")
        Published(location='memory', rows=2, already=False)
    """


@hookspec
def forecastcore_sources() -> Iterable[SourceSpec]:  # type: ignore[empty-body]  # a spec has no body
    """Offer sources.

    Examples:
        >>> from dataclasses import dataclass
        >>> import pyarrow as pa
        >>> from forecastcore.api import SourceSpec, hookimpl
        >>> @dataclass(frozen=True)
        ... class Fixed:
        ...     def schema(self):
        ...         return self.read(["y"]).schema
        ...     def read(self, columns):
        ...         return pa.table({"y": [1.0]}).select(columns)
        >>> @hookimpl
        ... def forecastcore_sources():
        ...     yield SourceSpec(name="fixed", summary="one number", factory=Fixed)
        >>> Fixed().schema().names
        ['y']
    """


@hookspec
def forecastcore_run_finished(report: RetrainReport | PredictReport) -> None:
    """Be told after every run, failed ones too.

    Examples:
        >>> from forecastcore.api import hookimpl
        >>> @hookimpl
        ... def forecastcore_run_finished(report):
        ...     print(report.project, report.series)
    """


@hookspec
def forecastcore_promotion_decided(decision: Decision) -> None:
    """Be told after every decision of the gate, held ones too.

    Examples:
        >>> from forecastcore.api import hookimpl
        >>> @hookimpl
        ... def forecastcore_promotion_decided(decision):
        ...     print(decision.verdict, decision.reason)
    """
