"""All covariates at all rows of a future: who is asked for which, and what happens where nobody can say."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore.assumptions.asking import Link, Made, Said, ask, lookup
from forecastcore.errors import AssumptionUnavailable, DataError, ForecastCoreError
from forecastcore.frames import offsets
from forecastcore.messages import AssumptionNote
from forecastcore.naive import repeat_season

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from forecastcore.api import Task
    from forecastcore.issued import Issued
    from forecastcore.timegrid import TimeGrid

    Floats = npt.NDArray[np.float64]
    Labels = npt.NDArray[np.object_]

#: what `assumed_by` says where nobody could say more
_CARRIED = "last-season"
#: the most letters of a reason
_WORDS = 300

__all__ = ["Assumptions", "Covariate", "Future", "blank_future"]


@dataclass(frozen=True, kw_only=True)
class Covariate:
    """How one covariate gets its future.

    Attributes:
        name: column.
        assume: name of the assumption; None where the source knows the future.
        archive: what was assumed when, in one column of values; or None.
    """

    name: str
    assume: str | None = None
    archive: Issued | None = None


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

    @property
    def guessed(self) -> tuple[str, ...]:
        """Covariates whose future is truly assumed: neither known to the source nor generated."""
        return tuple(c.name for c in self.covariates if c.assume and c.name not in self.generated)

    @property
    def asked_together(self) -> tuple[str, ...]:
        """Assumptions, in any scenario, whose answer for some of the series may not be the one for all of them."""
        return tuple(name for made in self.made.values() for name, one in made.items() if not one.spec.by_series)

    def only(self, names: Sequence[str]) -> Assumptions:
        """The same for some of the covariates."""
        return replace(self, covariates=tuple(c for c in self.covariates if c.name in set(names)))

    def actual(self, future: pd.DataFrame, panel: pd.DataFrame) -> pd.DataFrame:
        """`future` as it came: assumed covariates as the panel has them, where it has them."""
        names = list(self.guessed)
        came = lookup(panel, future, names)
        values = np.where(np.isfinite(came), came, future[names].to_numpy(dtype=float))
        return future.assign(**{name: values[:, position] for position, name in enumerate(names)})

    def with_generated(self, panel: pd.DataFrame, task: Task) -> pd.DataFrame:
        """The panel with all covariate columns, in order; the generated ones filled for its own instants."""
        if self.generated:
            out = panel.copy()
            asked = panel[["unique_id", "ds"]].assign(step=np.int32(0))
            for name in dict.fromkeys(c.assume for c in self.covariates if c.name in self.generated):
                columns = self._columns_of(name)
                past = panel[["unique_id", "ds"]].iloc[:0]
                got, _ = ask(self.made["base"][name or ""], name or "", columns, past, asked, task)
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
        told: dict[str, _Told] = {}
        reasons = np.full(len(future), "", dtype=object)
        for group in dict.fromkeys(c.assume for c in self.covariates):
            columns = self._columns_of(group)
            said = Said.nothing(len(future), len(columns))
            if group is None:
                values = lookup(known, future, columns)
                if insist:
                    _check_known(values, future, columns)
                said = replace(said, numbers=values, by=np.full(values.shape, "source", dtype=object))
                why = f"covariate-missing: the source lacks future values of {', '.join(columns)}"
            else:
                why = f"assumption-unavailable: {group} has no value"
                try:
                    said = self._say(group, scenario, columns, history, future, task)
                except ForecastCoreError as error:
                    why = f"assumption-unavailable: {group}: {error.message}"
                why = "; ".join([why, *said.faults])
            values, holes = _without_holes(said.numbers, history, future, columns, task)
            reasons[holes.any(axis=1) & (reasons == "")] = why[:_WORDS]
            by = np.where(holes, _CARRIED, said.by)
            for position, column in enumerate(columns):
                late = said.late[:, position] & ~holes[:, position]
                told[column] = _Told(values[:, position], by[:, position], np.where(late, "; ".join(said.faults), ""))
        frame = future.assign(**{name: told[name].numbers for name in self.names})
        return Future(
            frame=frame,
            assumed_by=_joined({name: told[name].by for name in told}, len(future)),
            notes=_notes(told, scenario, reasons),
            reasons=reasons,
        )

    def _columns_of(self, assumption: str | None) -> list[str]:
        return [c.name for c in self.covariates if c.assume == assumption]

    def _say(
        self, name: str, scenario: str, columns: list[str], history: pd.DataFrame, future: pd.DataFrame, task: Task
    ) -> Said:
        """What an assumption says, or the ones that it stands on, changed by it; an archive goes first."""
        changed = name in self.made.get(scenario, {})
        made = self.made[scenario if changed else "base"][name]
        label = f"{name}@{scenario}" if changed and scenario != "base" else name
        if made.links:
            under = self._first_of(name, made.links, scenario, columns, history, future, task)
            future = future.assign(**{column: under.numbers[:, i] for i, column in enumerate(columns)})
            values, _ = ask(made, name, columns, history, future, task)
            by = np.array([f"{label}({u})" for u in under.by.ravel()], dtype=object).reshape(under.by.shape)
            return replace(under, numbers=values, by=by)
        archived = self._archived(columns, future, task.origin)
        told = np.isfinite(archived.numbers)
        if told.all():
            return archived
        try:
            values, issued = ask(made, name, columns, history, future, task)
        except AssumptionUnavailable as error:
            if not told.any():
                raise
            return replace(archived, faults=(f"{name}: {error.message}",))
        by = np.full(values.shape, label, dtype=object)
        return replace(archived, numbers=values, by=by, issued=issued).filled(told, archived)

    def _first_of(
        self,
        name: str,
        links: Sequence[Link],
        scenario: str,
        columns: list[str],
        history: pd.DataFrame,
        future: pd.DataFrame,
        task: Task,
    ) -> Said:
        """Of each value what the first link says that can say, and is not too old to count.

        Raises:
            AssumptionUnavailable: no link can answer at all.
        """
        said = Said.nothing(len(future), len(columns))
        faults: list[str] = []
        errors: list[ForecastCoreError] = []
        for link in links:
            open_ = ~np.isfinite(said.numbers)
            if not open_.any():
                break
            try:
                got = self._say(link.of, "base" if link.of == name else scenario, columns, history, future, task)
            except ForecastCoreError as error:
                errors.append(error)
                faults.append(f"{link.of}: {error.message}")
                continue
            old = _older(got, link.max_age, task.origin)
            fresh = replace(got, late=got.late | bool(faults))
            said = said.filled(open_ & np.isfinite(got.numbers) & ~old, fresh)
            faults += got.faults
            if len(links) > 1 and (open_ & ~np.isfinite(said.numbers)).any():
                faults.append(_short(link, got, old & open_))
        if len(errors) == len(links):
            raise errors[0] if len(links) == 1 else AssumptionUnavailable("; ".join(faults))
        return replace(said, faults=tuple(faults))

    def _archived(self, columns: Sequence[str], future: pd.DataFrame, origin: pd.Timestamp) -> Said:
        """What was assumed last for each row, of all that had been issued by the origin."""
        said = Said.nothing(len(future), len(columns))
        by_name = {c.name: c.archive for c in self.covariates}
        for position, column in enumerate(columns):
            archive = by_name[column]
            if archive is not None:
                values, issued = archive.asof(future, origin)
                said.numbers[:, position], said.issued[:, position] = values[:, 0], issued[:, 0]
        said.by[np.isfinite(said.numbers)] = "archive"
        return said


@dataclass(frozen=True)
class _Told:
    """One covariate's values, who said each, and why those before could not."""

    numbers: Floats
    by: Labels
    late: Labels


def _older(said: Said, max_age: pd.Timedelta | None, origin: pd.Timestamp) -> npt.NDArray[np.bool_]:
    """Where what was said is too old; what does not tell its age is none."""
    if max_age is None:
        return np.zeros(said.numbers.shape, dtype=bool)
    return np.asarray(said.issued < (origin - max_age).to_datetime64())


def _short(link: Link, said: Said, old: npt.NDArray[np.bool_]) -> str:
    """In what a link fell short, in words."""
    if old.any():
        newest = pd.Timestamp(np.max(said.issued[old]), tz="UTC")
        return f"{link.of}: issued {newest}, more than {link.max_age} before the origin"
    return f"{link.of}: no value for {int((~np.isfinite(said.numbers)).sum())} of {said.numbers.size}"


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


def _notes(told: Mapping[str, _Told], scenario: str, reasons: Labels) -> tuple[AssumptionNote, ...]:
    notes = []
    for covariate, one in told.items():
        for assumption, rows in pd.Series(one.by).value_counts(sort=False).items():
            mine = one.by == assumption
            why = reasons[mine][0] if assumption == _CARRIED else max(one.late[mine], key=len)
            notes.append(
                AssumptionNote(
                    scenario=scenario,
                    covariate=covariate,
                    assumption=str(assumption),
                    rows=int(rows),
                    reason=str(why)[:_WORDS],
                )
            )
    return tuple(notes)
