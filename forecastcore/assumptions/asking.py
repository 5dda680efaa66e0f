"""One question to one assumption: a copy goes in, checked numbers come out, the culprit is named."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.errors import AssumptionUnavailable, ForecastCoreError, PluginError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from forecastcore.api import Assumption, AssumptionSpec, Task
    from forecastcore.assumptions.forecaster import Forecaster

    Floats = npt.NDArray[np.float64]
    Instants = npt.NDArray[np.datetime64]
    Labels = npt.NDArray[np.object_]

__all__ = ["Link", "Made", "Said", "ask", "lookup"]


@dataclass(frozen=True, kw_only=True)
class Link:
    """Another assumption that one stands on.

    Attributes:
        of: its name.
        max_age: what it says counts only if it was issued at most so long before the origin; None: whenever.
    """

    of: str
    max_age: pd.Timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """An assumption, ready to be asked.

    Attributes:
        spec: the plugin's spec.
        assumption: the plugin's object.
        version: of its distribution.
        forecaster: the model that its parameter `model` names, where its spec says `models`.
    """

    spec: AssumptionSpec
    assumption: Assumption
    version: str = ""
    forecaster: Forecaster | None = None

    @property
    def links(self) -> tuple[Link, ...]:
        """The assumptions that this one stands on, in the order they are asked; none where it stands on its own."""
        if not self.spec.wraps:
            return ()
        given = getattr(self.assumption, "links", None) or [getattr(self.assumption, "of", "")]
        return tuple(_link(one) for one in given)


def _link(given: Any) -> Link:
    if isinstance(given, str):
        return Link(of=given)
    age = given.max_age
    return Link(of=given.of, max_age=None if age is None else pd.Timedelta(age))


@dataclass(frozen=True, kw_only=True)
class Said:
    """What was said of some rows; arrays of shape (rows, columns).

    Attributes:
        numbers: NaN where nothing was.
        by: who said it.
        issued: when it was issued; NaT where that is not told.
        late: where an assumption that was to be asked before could not say.
        faults: why it could not, in words.
    """

    numbers: Floats
    by: Labels
    issued: Instants
    late: npt.NDArray[np.bool_]
    faults: tuple[str, ...] = field(default=())

    @classmethod
    def nothing(cls, rows: int, columns: int) -> Said:
        """What nobody said."""
        shape = (rows, columns)
        return cls(
            numbers=np.full(shape, np.nan),
            by=np.full(shape, "", dtype=object),
            issued=np.full(shape, np.datetime64("NaT", "ns")),
            late=np.zeros(shape, dtype=bool),
        )

    def filled(self, where: npt.NDArray[np.bool_], other: Said) -> Said:
        """This, and at the places `where` the other."""
        return Said(
            numbers=np.where(where, other.numbers, self.numbers),
            by=np.where(where, other.by, self.by),
            issued=np.where(where, other.issued, self.issued),
            late=np.where(where, other.late, self.late),
            faults=self.faults,
        )


def ask(
    made: Made, name: str, columns: Sequence[str], history: pd.DataFrame, future: pd.DataFrame, task: Task
) -> tuple[Floats, Instants]:
    """One call of a plugin's `assume`.

    Args:
        made: whom to ask.
        name: what the project calls it.
        columns: covariates to fill.
        history: the frame contract, none later than `task.origin`; only `columns` of it are handed on.
        future: `unique_id, ds, step`, and the values of the assumptions that this one stands on.
        task: what is asked.

    Returns:
        Values, and when they were issued, each of shape (rows, columns).

    Raises:
        AssumptionUnavailable: its outside source cannot answer.
        PluginError: it raised anything else, or returned what its contract does not allow.
    """
    past = history[["unique_id", "ds", *(c for c in columns if c in history)]]
    asked = replace(task, covariates=tuple(columns), replay=None)
    if made.forecaster is not None:
        asked = replace(asked, forecast=partial(made.forecaster, task=asked))
    try:
        got = made.assumption.assume(past.copy(), future.copy(), asked)
    except AssumptionUnavailable as error:
        who = f"{made.spec.name} ({name})"
        raise AssumptionUnavailable(error.message, plugin=who, version=made.version, hint=error.hint) from error
    except ForecastCoreError:
        raise
    except Exception as error:
        raise _breach(made, name, f"{type(error).__name__}: {error}") from error
    return _checked(got, future, columns, made, name)


def lookup(frame: pd.DataFrame, future: pd.DataFrame, columns: Sequence[str]) -> Floats:
    """Values of `columns` at the future's keys; NaN where the frame has no such row."""
    return _aligned(frame, future)[list(columns)].to_numpy(dtype=float)


def _aligned(frame: pd.DataFrame, future: pd.DataFrame) -> pd.DataFrame:
    same = len(frame) == len(future) and np.array_equal(
        frame["ds"].to_numpy(dtype="datetime64[ns]"), future["ds"].to_numpy(dtype="datetime64[ns]")
    )
    if same and np.array_equal(frame["unique_id"].to_numpy(), future["unique_id"].to_numpy()):
        return frame
    return future[["unique_id", "ds"]].merge(frame, on=["unique_id", "ds"], how="left")


def _checked(got: Any, future: pd.DataFrame, columns: Sequence[str], made: Made, name: str) -> tuple[Floats, Instants]:
    lacking = [c for c in ("unique_id", "ds", *columns) if not isinstance(got, pd.DataFrame) or c not in got.columns]
    if lacking:
        raise _breach(made, name, f"returned no frame with {lacking}")
    if len(got) != len(future):
        raise _breach(made, name, f"returned {len(got)} rows, {len(future)} were asked for")
    aligned = _aligned(got, future)
    issued = np.full((len(future), len(columns)), np.datetime64("NaT", "ns"))
    if "issued_at" in aligned:
        issued[:] = aligned["issued_at"].to_numpy(dtype="datetime64[ns]")[:, None]
    return aligned[list(columns)].to_numpy(dtype=float), issued


def _breach(made: Made, name: str, message: str) -> PluginError:
    return PluginError(message, plugin=f"{made.spec.name} ({name})", version=made.version, hook="assume")
