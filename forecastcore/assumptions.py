"""Fills what cannot be known yet: the covariates' future, as it would be assumed at an origin.

Three ways a covariate gets its future: the source knows it (`known`), an archive says what was assumed when
(`issued`), or an assumption answers from the history before the origin. Whatever the way, nothing later than the
origin is handed on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.errors import AssumptionUnavailable, DataError, ForecastCoreError, PluginError
from forecastcore.frames import offsets
from forecastcore.messages import AssumptionNote
from forecastcore.naive import repeat_season

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from forecastcore.api import Assumption, AssumptionSpec, Task
    from forecastcore.timegrid import TimeGrid

    Floats = npt.NDArray[np.float64]
    Labels = npt.NDArray[np.object_]

#: what `assumed_by` says where nobody could say more
_CARRIED = "last-season"

__all__ = ["Assumptions", "Covariate", "Future", "Made", "blank_future", "replayer"]


@dataclass(frozen=True, kw_only=True)
class Covariate:
    """How one covariate gets its future.

    Attributes:
        name: column.
        assume: name of the assumption; None where the source knows the future.
        archive: what was assumed when, `ds, issued_at, value` and optionally `unique_id`, all UTC; or None.
    """

    name: str
    assume: str | None = None
    archive: pd.DataFrame | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """An assumption, ready to be asked."""

    spec: AssumptionSpec
    assumption: Assumption
    version: str = ""

    @property
    def of(self) -> str | None:
        """The assumption that this one changes, if it changes one."""
        return str(getattr(self.assumption, "of", "")) if self.spec.wraps else None


@dataclass(frozen=True, kw_only=True)
class Future:
    """The rows asked for, with every covariate filled.

    Attributes:
        frame: `unique_id, ds, step, <covariates>`, sorted.
        assumed_by: per row, such as `is_holiday=calendar; temperature=weather`.
        notes: counts by covariate and assumption.
        reasons: per row, why a covariate had to be carried on from the last season; empty where none had.
    """

    frame: pd.DataFrame
    assumed_by: Labels
    notes: tuple[AssumptionNote, ...] = ()
    reasons: Labels = field(default_factory=lambda: np.empty(0, dtype=object))


def blank_future(ids: Sequence[str], grid: TimeGrid, origin: pd.Timestamp, horizon: int) -> pd.DataFrame:
    """`unique_id, ds, step` for every series and step."""
    ds = grid.ahead(origin, horizon)
    steps = np.arange(1, horizon + 1, dtype=np.int32)
    return pd.DataFrame(
        {
            "unique_id": np.repeat(np.asarray(ids, dtype=object), horizon),
            "ds": ds[np.tile(np.arange(horizon), len(ids))],
            "step": np.tile(steps, len(ids)),
        }
    )


def _lookup(frame: pd.DataFrame, future: pd.DataFrame, columns: Sequence[str]) -> Floats:
    """Values of `columns` at the future's keys; NaN where the frame has no such row."""
    same = len(frame) == len(future) and np.array_equal(
        frame["ds"].to_numpy(dtype="datetime64[ns]"), future["ds"].to_numpy(dtype="datetime64[ns]")
    )
    if not same or not np.array_equal(frame["unique_id"].to_numpy(), future["unique_id"].to_numpy()):
        frame = future[["unique_id", "ds"]].merge(frame, on=["unique_id", "ds"], how="left")
    return frame[list(columns)].to_numpy(dtype=float)


@dataclass(frozen=True)
class Assumptions:
    """All that a project assumes.

    Attributes:
        covariates: in the order of the project file.
        made: assumptions by scenario and name; `base` has all, another scenario those that it changes.
    """

    covariates: tuple[Covariate, ...] = ()
    made: Mapping[str, Mapping[str, Made]] = field(default_factory=lambda: {"base": {}})

    @property
    def names(self) -> tuple[str, ...]:
        """Covariate columns, in order."""
        return tuple(c.name for c in self.covariates)

    @property
    def generated(self) -> tuple[str, ...]:
        """Covariates whose past is generated too, so that the source needs no column for them."""
        base = self.made["base"]
        return tuple(c.name for c in self.covariates if c.assume and base[c.assume].spec.generates)

    def only(self, names: Sequence[str]) -> Assumptions:
        """The same for some of the covariates."""
        return replace(self, covariates=tuple(c for c in self.covariates if c.name in set(names)))

    def with_generated(self, panel: pd.DataFrame, task: Task) -> pd.DataFrame:
        """The panel with all covariate columns, in order; the generated ones filled for its own instants."""
        if self.generated:
            out = panel.copy()
            asked = panel[["unique_id", "ds"]].assign(step=np.int32(0))
            for name in dict.fromkeys(c.assume for c in self.covariates if c.name in self.generated):
                columns = self._columns_of(name)
                got = self._ask(name or "", "base", columns, panel[["unique_id", "ds"]].iloc[:0], asked, task)
                for position, column in enumerate(columns):
                    out[column] = got[:, position]
            panel = out
        return panel[["unique_id", "ds", "y", *self.names]]

    def ahead(
        self,
        history: pd.DataFrame,
        known: pd.DataFrame,
        future: pd.DataFrame,
        task: Task,
        *,
        scenario: str = "base",
        insist: bool = False,
    ) -> Future:
        """Every covariate at every row of `future`; where nobody can say, the last season is carried on, with a reason.

        Args:
            history: the frame contract with all covariates, none later than `task.origin`.
            known: `unique_id, ds, <known covariates>` after the origin.
            future: `unique_id, ds, step`.
            task: what is asked.
            scenario: whose changes apply.
            insist: at least one series must have all that the source should know.

        Raises:
            DataError: no series has all that the source should know.
        """
        filled: dict[str, Floats] = {}
        labels: dict[str, Labels] = {}
        reasons = np.full(len(future), "", dtype=object)
        for group in dict.fromkeys(c.assume for c in self.covariates):
            columns = self._columns_of(group)
            if group is None:
                values = _lookup(known, future, columns)
                if insist:
                    _check_known(values, future, columns)
                by = {column: np.full(len(future), "source", dtype=object) for column in columns}
                why = f"covariate-missing: the source lacks future values of {', '.join(columns)}"
            else:
                why = f"assumption-unavailable: {group} has no value"
                try:
                    values, by = self._assumed(group, scenario, columns, history, future, task)
                except ForecastCoreError as error:
                    why = f"assumption-unavailable: {group}: {error.message}"
                    values = np.full((len(future), len(columns)), np.nan)
                    by = {column: np.full(len(future), "", dtype=object) for column in columns}
            values, holes = _without_holes(values, history, future, columns, task)
            reasons[holes.any(axis=1) & (reasons == "")] = why[:300]
            for position, column in enumerate(columns):
                by[column][holes[:, position]] = _CARRIED
                filled[column], labels[column] = values[:, position], by[column]
        frame = future.assign(**{name: filled[name] for name in self.names})
        return Future(
            frame=frame,
            assumed_by=_joined(labels, len(future)),
            notes=_notes(labels, scenario, reasons),
            reasons=reasons,
        )

    def _columns_of(self, assumption: str | None) -> list[str]:
        return [c.name for c in self.covariates if c.assume == assumption]

    def _assumed(
        self, name: str, scenario: str, columns: list[str], history: pd.DataFrame, future: pd.DataFrame, task: Task
    ) -> tuple[Floats, dict[str, Labels]]:
        changed = name in self.made.get(scenario, {})
        made = self.made[scenario if changed else "base"][name]
        label = f"{name}@{scenario}" if changed and scenario != "base" else name
        labels = {column: np.full(len(future), label, dtype=object) for column in columns}
        if made.of is not None:
            below = "base" if made.of == name else scenario
            values, under = self._assumed(made.of, below, columns, history, future, task)
            future = future.assign(**{column: values[:, i] for i, column in enumerate(columns)})
            values = self._ask(name, scenario if changed else "base", columns, history, future, task)
            return values, {c: np.array([f"{label}({u})" for u in under[c]], dtype=object) for c in columns}
        archived = self._archived(columns, future, task.origin)
        complete = np.isfinite(archived).all()
        values = (
            archived if complete else self._ask(name, scenario if changed else "base", columns, history, future, task)
        )
        for position, column in enumerate(columns):
            told = np.isfinite(archived[:, position])
            values[told, position] = archived[told, position]
            labels[column][told] = "archive"
        return values, labels

    def _archived(self, columns: Sequence[str], future: pd.DataFrame, origin: pd.Timestamp) -> Floats:
        """What was assumed last for each row, of all that had been issued by the origin; NaN where nothing was."""
        values = np.full((len(future), len(columns)), np.nan)
        by_name = {c.name: c.archive for c in self.covariates}
        for position, column in enumerate(columns):
            archive = by_name[column]
            if archive is None:
                continue
            keys = ["unique_id", "ds"] if "unique_id" in archive else ["ds"]
            rows = archive[(archive["issued_at"] <= origin) & (archive["ds"] > origin)]
            newest = rows.sort_values("issued_at", kind="stable").drop_duplicates(keys, keep="last")
            values[:, position] = (
                future[["unique_id", "ds"]].merge(newest, on=keys, how="left")["value"].to_numpy(dtype=float)
            )
        return values

    def _ask(
        self, name: str, scenario: str, columns: list[str], history: pd.DataFrame, future: pd.DataFrame, task: Task
    ) -> Floats:
        """One call of a plugin's `assume`, checked; a copy goes in, numbers come out."""
        made = self.made[scenario][name]
        past = history[["unique_id", "ds", *(c for c in columns if c in history)]]
        try:
            got = made.assumption.assume(
                past.copy(), future.copy(), replace(task, covariates=tuple(columns), replay=None)
            )
        except ForecastCoreError as error:
            raise _named(error, made, name) from error
        except Exception as error:
            raise _breach(made, name, f"{type(error).__name__}: {error}") from error
        return _checked(got, future, columns, made, name)


def _check_known(values: Floats, future: pd.DataFrame, columns: Sequence[str]) -> None:
    """Some series have ended, and nobody plans for them any more; that all of them have is a fault of the source."""
    lacking = ~np.isfinite(values)
    rows = lacking.any(axis=1)
    ids = future["unique_id"].to_numpy()
    if not rows.any() or len(set(ids[rows])) < len(set(ids)):
        return
    row = int(np.flatnonzero(rows)[0])
    name = columns[int(np.flatnonzero(lacking[row])[0])]
    raise DataError(
        f"covariates.{name}: known is true, but the source lacks {int(lacking.sum())} of {values.size} future values"
        f" and has all of them for no series, the first missing at {future['ds'].iloc[row]}"
        f" for series {future['unique_id'].iloc[row]!r}",
        hint=f"add rows with {name} up to the horizon, shorten horizon:, or write {name}: {{assume: …}}",
    )


def _named(error: ForecastCoreError, made: Made, name: str) -> ForecastCoreError:
    if isinstance(error, AssumptionUnavailable):
        return AssumptionUnavailable(
            error.message, plugin=f"{made.spec.name} ({name})", version=made.version, hint=error.hint
        )
    return error


def _breach(made: Made, name: str, message: str) -> PluginError:
    return PluginError(message, plugin=f"{made.spec.name} ({name})", version=made.version, hook="assume")


def _checked(got: Any, future: pd.DataFrame, columns: Sequence[str], made: Made, name: str) -> Floats:
    lacking = [c for c in ("unique_id", "ds", *columns) if not isinstance(got, pd.DataFrame) or c not in got.columns]
    if lacking:
        raise _breach(made, name, f"returned no frame with {lacking}")
    if len(got) != len(future):
        raise _breach(made, name, f"returned {len(got)} rows, {len(future)} were asked for")
    return _lookup(got, future, columns)


def _without_holes(
    values: Floats, history: pd.DataFrame, future: pd.DataFrame, columns: Sequence[str], task: Task
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Missing values replaced by those of the last season (0 where there was none), and where that was."""
    holes = ~np.isfinite(values)
    if not holes.any():
        return values, holes
    touched = future["unique_id"].isin(set(future["unique_id"].to_numpy()[holes.any(axis=1)])).to_numpy()
    season = np.zeros(values.shape)
    season[touched] = _last_season(history, future[touched].reset_index(drop=True), columns, task)
    return np.where(holes, season, values), holes


def _last_season(history: pd.DataFrame, future: pd.DataFrame, columns: Sequence[str], task: Task) -> Floats:
    starts = offsets(history)
    ids = history["unique_id"].to_numpy()[starts[:-1]] if len(history) else np.empty(0, dtype=object)
    span = {uid: (a, b) for uid, a, b in zip(ids, starts[:-1], starts[1:], strict=True)}
    values = np.zeros((len(future), len(columns)))
    for uid, rows in future.groupby("unique_id", sort=False).indices.items():
        if uid not in span:
            continue
        a, b = span[uid]
        for position, column in enumerate(columns):
            past = history[column].to_numpy()[a:b] if column in history else np.empty(0)
            values[rows, position] = np.nan_to_num(repeat_season(past, task.season, len(rows)))
    return values


def _joined(labels: Mapping[str, Labels], rows: int) -> Labels:
    joined = np.full(rows, "", dtype=object)
    for number, name in enumerate(sorted(labels)):
        joined = joined + (f"; {name}=" if number else f"{name}=") + labels[name]
    return joined


def _notes(labels: Mapping[str, Labels], scenario: str, reasons: Labels) -> tuple[AssumptionNote, ...]:
    notes = []
    for covariate, by in labels.items():
        for assumption, rows in pd.Series(by).value_counts(sort=False).items():
            reason = str(reasons[by == _CARRIED][0]) if assumption == _CARRIED else ""
            notes.append(
                AssumptionNote(
                    scenario=scenario, covariate=covariate, assumption=str(assumption), rows=int(rows), reason=reason
                )
            )
    return tuple(notes)


def replayer(
    assumptions: Assumptions, panel: pd.DataFrame, grid: TimeGrid, task: Task
) -> Callable[[Sequence[pd.Timestamp]], pd.DataFrame] | None:
    """What `Task.replay` is: covariates as they would have been assumed at past origins.

    Args:
        assumptions: all that the project assumes.
        panel: the frame contract, none later than `task.origin`.
        grid: the time grid.
        task: whose origin nothing may exceed.

    Returns:
        None where no covariate is assumed: the actual ones are then what will be known.
    """
    guessed = [c.name for c in assumptions.covariates if c.assume and c.name not in assumptions.generated]
    if not guessed:
        return None
    replay = _Replay(assumptions, panel, grid, task, guessed)
    return lambda origins: pd.concat([replay.at(origin) for origin in origins], ignore_index=True)


class _Replay:
    """Past origins, one after the other.

    Weather is often the same in all series; it is then asked for once and not for each of them, if at the first origin
    that makes no difference to the answer.
    """

    def __init__(
        self, assumptions: Assumptions, panel: pd.DataFrame, grid: TimeGrid, task: Task, guessed: list[str]
    ) -> None:
        self._assumptions, self._panel, self._grid, self._task, self._guessed = assumptions, panel, grid, task, guessed
        self._instants = panel["ds"].to_numpy(dtype="datetime64[ns]")
        self._one = self._longest()
        self._same: bool | None = None if self._all_alike() else False

    def at(self, origin: pd.Timestamp) -> pd.DataFrame:
        """`unique_id, origin, ds, step, <covariates>` of the rows after an origin that the panel has."""
        rows = self._later(self._panel, self._instants, origin)
        ahead = pd.DatetimeIndex(rows["ds"]).unique().sort_values()
        step = (ahead.get_indexer(pd.DatetimeIndex(rows["ds"])) + 1).astype(np.int32)
        if self._same is None:
            self._same = np.array_equal(self._alike(origin, rows), self._each(origin, rows), equal_nan=True)
        values = self._alike(origin, rows) if self._same else self._each(origin, rows)
        rows = rows.assign(**{name: values[:, n] for n, name in enumerate(self._guessed)})
        rows.insert(1, "origin", origin)
        rows.insert(3, "step", step)
        return rows[["unique_id", "origin", "ds", "step", *self._assumptions.names]]

    def _longest(self) -> pd.DataFrame:
        starts = offsets(self._panel)
        longest = int(np.argmax(np.diff(starts)))
        return self._panel.iloc[starts[longest] : starts[longest + 1]].reset_index(drop=True)

    def _all_alike(self) -> bool:
        place = np.searchsorted(self._one["ds"].to_numpy(dtype="datetime64[ns]"), self._instants)
        one, every = (frame[self._guessed].to_numpy(dtype=float) for frame in (self._one, self._panel))
        return bool(np.array_equal(one[place], every, equal_nan=True))

    def _later(self, panel: pd.DataFrame, instants: npt.NDArray[Any], origin: pd.Timestamp) -> pd.DataFrame:
        """Rows within the horizon after an origin, of the series that had begun by then."""
        last = self._grid.shift(origin, self._task.horizon).to_datetime64()
        begun = set(panel["unique_id"].to_numpy()[instants == origin.to_datetime64()].tolist())
        rows = panel[(instants > origin.to_datetime64()) & (instants <= last)]
        return rows[rows["unique_id"].isin(begun)].drop(columns="y").reset_index(drop=True)

    def _ask(self, origin: pd.Timestamp, panel: pd.DataFrame, rows: pd.DataFrame) -> Floats:
        past = panel[panel["ds"] <= origin]
        known = rows[["unique_id", "ds", *(c for c in rows.columns if c in self._assumptions.names)]]
        blank = rows[["unique_id", "ds"]].assign(step=rows.groupby("unique_id").cumcount().to_numpy(np.int32) + 1)
        asked = replace(self._task, origin=origin, replay=None)
        got = self._assumptions.only(self._guessed).ahead(past, known, blank, asked)
        return got.frame[self._guessed].to_numpy(dtype=float)

    def _each(self, origin: pd.Timestamp, rows: pd.DataFrame) -> Floats:
        return self._ask(origin, self._panel, rows)

    def _alike(self, origin: pd.Timestamp, rows: pd.DataFrame) -> Floats:
        one = self._later(self._one, self._one["ds"].to_numpy(dtype="datetime64[ns]"), origin)
        answer = self._ask(origin, self._one, one)
        return np.tile(answer, (len(rows) // max(len(one), 1), 1))
