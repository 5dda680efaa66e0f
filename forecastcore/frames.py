"""The frame contract, and the quality check that every run starts with.

A *panel* is a pandas frame `unique_id (str), ds (datetime64[ns, UTC]), y (float64), <covariates> (float64)`, sorted
by series and time, on the time grid without holes: each series runs from its first row to the origin, with NaN where
a value is missing. Everything later than the origin is cut before anything is looked at.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.errors import DataError, MissingColumnsError, QualityError
from forecastcore.timegrid import TimeGrid, say_an_offset

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import numpy.typing as npt
    import pyarrow as pa

    Answer = Mapping[str, npt.NDArray[Any]]

__all__ = [
    "Columns",
    "Extent",
    "Gathered",
    "History",
    "Policy",
    "check_span",
    "data_digest",
    "digest_sum",
    "extent_of",
    "offsets",
    "on_the_grid",
    "placed",
    "prepare",
    "prepare_at",
    "to_panel_arrow",
    "together",
]

#: what an instant may be of; nanoseconds reach from 1677 to 2262, and a grid goes beyond its newest value
_YEARS = (1700, 2200)
#: a grid with fewer cells than this is made, and one with fewer than so many cells for each row
_ROOMY, _SPARSE = 10_000_000, 100
_SHOWN = 5
#: letters of an id; more is a text, or an attack
_LETTERS = 1000
#: a whole number beyond 64 bits is a mistake, or an id
_TOO_LARGE = 2.0**63


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Where the source keeps what.

    Attributes:
        id: column of the series' names.
        time: column of the instants.
        target: column of the values.
        timezone: IANA zone of timestamps that say none.
        observed: covariates known for the past.
        known: covariates known for the future too.
    """

    id: str = "unique_id"
    time: str = "ds"
    target: str = "y"
    timezone: str = "UTC"
    observed: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    @property
    def wanted(self) -> tuple[str, ...]:
        """All columns to read, each once."""
        return tuple(dict.fromkeys((self.id, self.time, self.target, *self.observed, *self.known)))


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the quality check does with each fault; `error` stops the run, the others repair and count."""

    gaps: str = "fill"
    duplicates: str = "error"
    ambiguous: str = "error"
    nonexistent: str = "error"


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How far some rows of a source reach; extents of all of them, put together, say where the grid stands and ends.

    Attributes:
        earliest: the first instant of any row.
        first: the first instant that is not later than what is asked for.
        last: the last of these at which a series has a value.
        finite: there is a number among these.
    """

    earliest: pd.Timestamp | None = None
    first: pd.Timestamp | None = None
    last: pd.Timestamp | None = None
    finite: bool = False

    def __or__(self, other: Extent) -> Extent:
        """Of the rows of both."""
        return Extent(
            earliest=min((t for t in (self.earliest, other.earliest) if t is not None), default=None),
            first=min((t for t in (self.first, other.first) if t is not None), default=None),
            last=max((t for t in (self.last, other.last) if t is not None), default=None),
            finite=self.finite or other.finite,
        )


@dataclass(frozen=True, kw_only=True)
class History:
    """Checked history as it was known at the origin: the `ports.Past` whose rows are in this process.

    Attributes:
        panel: the frame contract, covariates in the order observed, known.
        known: `unique_id, ds, <known covariates>` of the horizon after the origin, as far as the source has it.
        grid: the time grid, anchored on the data.
        origin: last instant of the panel.
        counts: repairs and remarks by kind, such as `gaps_filled`; only those above zero.
        notes: what else a reader should know, in words.
        since: of some series of a longer history, the first instant of the whole.
    """

    panel: pd.DataFrame
    known: pd.DataFrame
    grid: TimeGrid
    origin: pd.Timestamp
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    since: pd.Timestamp | None = None

    @cached_property
    def ids(self) -> list[str]:
        """All series, sorted."""
        return list(self.panel["unique_id"].unique())

    @cached_property
    def sizes(self) -> npt.NDArray[np.intp]:
        """Rows of each series."""
        return np.diff(offsets(self.panel))

    @property
    def first(self) -> pd.Timestamp:
        """The first instant of any series."""
        return self.panel["ds"].min() if self.since is None else self.since

    @property
    def newest(self) -> pd.Timestamp | None:
        """The last instant at which any series has a value; None where none has."""
        there = self.panel.loc[np.isfinite(self.panel["y"]), "ds"]
        return there.max() if len(there) else None

    @cached_property
    def digest(self) -> str:
        """Of the panel; see `data_digest`."""
        return data_digest(self.panel)

    def ask(self, question: Callable[[History], Answer]) -> Iterator[Answer]:
        """What is asked of all series, answered once."""
        yield question(self)

    def of(self, ids: Collection[str]) -> History:
        """That of some of the series."""
        panel, known = (frame[frame["unique_id"].isin(ids)] for frame in (self.panel, self.known))
        return replace(self, panel=panel.reset_index(drop=True), known=known.reset_index(drop=True), since=self.first)

    @property
    def here(self) -> History:
        """Itself: its rows are here."""
        return self


def offsets(frame: pd.DataFrame) -> npt.NDArray[np.intp]:
    """Row numbers at which each series of a sorted frame starts, and the number of rows at the end."""
    ids = frame["unique_id"].to_numpy()
    if not len(ids):
        return np.zeros(1, dtype=np.intp)
    return np.asarray(np.r_[0, np.flatnonzero(ids[1:] != ids[:-1]) + 1, len(ids)])


def together(answers: Sequence[Answer], name: str, axis: int = 0) -> npt.NDArray[Any]:
    """What is called so in the answers to one question, side by side in the order of series; see `History.ask`."""
    return np.concatenate([answer[name] for answer in answers], axis)


class Gathered:
    """What answers to one question say of each series, put in place as they come: of many it is never there twice.

    Args:
        series: how many there are.

    Attributes:
        arrays: by name, in the order of series.
    """

    def __init__(self, series: int) -> None:
        self.arrays: dict[str, npt.NDArray[Any]] = {}
        self._series, self._done = series, 0

    def add(self, answer: Answer) -> None:
        """What is said of the next series; the first axis of each array is these."""
        count = len(next(iter(answer.values())))
        for name, values in answer.items():
            if name not in self.arrays:
                self.arrays[name] = np.empty((self._series, *values.shape[1:]), values.dtype)
            self.arrays[name][self._done : self._done + count] = values
        self._done += count


def _say(frame: pd.DataFrame, mask: npt.NDArray[np.bool_] | pd.Series) -> list[str]:
    rows = frame[mask].head(_SHOWN)
    return [", ".join(f"{column}={value}" for column, value in row.items()) for row in rows.to_dict("records")]


def _numbers(values: pd.Series, column: str, where: str) -> npt.NDArray[np.float64]:
    if pd.api.types.is_bool_dtype(values):
        return np.array(values.to_numpy(dtype=float, na_value=np.nan))
    numbers = values if pd.api.types.is_numeric_dtype(values) else pd.to_numeric(values, errors="coerce")
    plain = np.array(numbers.to_numpy(dtype=float, na_value=np.nan))
    too_large = (np.abs(plain) >= _TOO_LARGE) & np.isfinite(plain)
    wrong = (numbers.isna() & values.notna()) | too_large
    if wrong.any():
        examples = [
            f"row {row + 1}: {value!r}" for row, value in values[wrong].head(_SHOWN).items() if isinstance(row, int)
        ]
        raise QualityError(
            "numbers",
            f"{int(wrong.sum())} values of column {column!r} in {where} are no numbers"
            + (", or do not fit into 64 bits" if too_large.any() else ""),
            rows=int(wrong.sum()),
            examples=examples,
            hint="mend the column, or for CSV set decimal: or delimiter: under source:",
        )
    return plain


def _target(values: pd.Series, column: str, where: str) -> npt.NDArray[np.float64]:
    if pd.api.types.is_bool_dtype(values):
        raise QualityError(
            "numbers",
            f"column {column!r} of {where} holds true and false, not numbers",
            rows=len(values),
            hint="store 0 and 1 if that is what is to be forecast; is source.target the right column?",
        )
    return _numbers(values, column, where)


def _names(values: pd.Series, column: str, where: str) -> pd.Series:
    empty = values.isna()
    if empty.any():
        raise QualityError(
            "ids", f"column {column!r} of {where} is empty in {int(empty.sum())} rows", rows=int(empty.sum())
        )
    if pd.api.types.is_float_dtype(values) and (values == values.round()).all():
        values = values.astype("int64")
    names = values.astype(str)
    unique = names.drop_duplicates()
    long = unique[unique.str.len() > _LETTERS]
    if len(long):
        raise QualityError(
            "ids",
            f"{len(long)} ids of column {column!r} in {where} have more than {_LETTERS} letters",
            rows=int(names.isin(long).sum()),
            examples=[f"{str(one)[:40]!r} … and {len(one) - 40} letters more" for one in long.head(_SHOWN)],
            hint="is it the column that names the series? see source.id",
        )
    return names


def _wall_times(values: pd.Series, column: str, where: str) -> pd.Series:
    if pd.api.types.is_datetime64_any_dtype(values):
        times = values
    elif pd.api.types.is_numeric_dtype(values):
        raise QualityError(
            "times",
            f"column {column!r} of {where} holds numbers ({values.iloc[0]!r} …), not timestamps",
            rows=len(values),
            hint="store timestamps or ISO text; seconds and milliseconds since 1970 cannot be told apart safely",
        )
    else:
        told = say_an_offset(values)
        mixed = values[~told & values.notna()] if told.any() else values[:0]
        if len(mixed):
            raise QualityError(
                "times",
                f"{len(mixed)} values of column {column!r} in {where} have no offset from UTC, and others have one",
                rows=len(mixed),
                examples=[f"{value!r} beside {values[told].iloc[0]!r}" for value in mixed.head(_SHOWN)],
                hint="write the offset of all of them, or of none, and source.timezone",
            )
        times = pd.to_datetime(values, errors="coerce", format="ISO8601", utc=True)
        if not told.any():
            times = times.dt.tz_localize(None)
    wrong = times.isna()
    if wrong.any():
        examples = [f"row {int(row) + 1}: {value!r}" for row, value in values[wrong].head(_SHOWN).items()]  # type: ignore[call-overload]  # a RangeIndex has ints
        raise QualityError(
            "times",
            f"{int(wrong.sum())} values of column {column!r} in {where} are no timestamps",
            rows=int(wrong.sum()),
            examples=examples,
        )
    far = ~times.dt.year.between(*_YEARS)
    if far.any():
        raise QualityError(
            "times",
            f"{int(far.sum())} values of column {column!r} in {where} lie outside the years {_YEARS[0]} to {_YEARS[1]}",
            rows=int(far.sum()),
            examples=[f"row {int(row) + 1}: {value}" for row, value in times[far].head(_SHOWN).items()],
            hint="a year of two digits, or a unit of time mistaken for another, is the usual cause",
        )
    return times


@dataclass(frozen=True)
class _Instants:
    ds: pd.DatetimeIndex
    ambiguous: npt.NDArray[np.bool_]
    nonexistent: npt.NDArray[np.bool_]


def _instants(times: pd.Series, ids: pd.Series, timezone: str, policy: Policy) -> _Instants:
    """UTC instants of wall times, and which of them the local clock shows twice or never."""
    if times.dt.tz is not None:
        nowhere = np.zeros(len(times), dtype=bool)
        return _Instants(pd.DatetimeIndex(times).tz_convert("UTC").as_unit("ns"), nowhere, nowhere)
    wall = pd.DatetimeIndex(times).as_unit("ns")
    unique, back = np.unique(wall.to_numpy(), return_inverse=True)
    walls = pd.DatetimeIndex(unique)
    early = walls.tz_localize(timezone, ambiguous=np.ones(len(walls), dtype=bool), nonexistent="shift_forward")
    late = walls.tz_localize(timezone, ambiguous=np.zeros(len(walls), dtype=bool), nonexistent="shift_forward")
    twice = np.asarray(early != late)[back]
    never = np.asarray(early.tz_localize(None) != walls)[back]
    second = np.zeros(len(wall), dtype=bool)
    if policy.ambiguous == "second":
        second = twice
    elif policy.ambiguous == "infer" and twice.any():
        seen = pd.DataFrame({"id": ids.to_numpy(), "wall": wall})[twice].groupby(["id", "wall"])
        second[twice] = seen.cumcount().to_numpy() > 0
        twice[twice] = seen["wall"].transform("size").to_numpy() < 2  # noqa: PLR2004 - shown once: which one it was cannot be told
    ds = early[back].where(~second, late[back])
    return _Instants(pd.DatetimeIndex(ds).tz_convert("UTC"), twice, never)


def _check_clock(frame: pd.DataFrame, policy: Policy, timezone: str, counts: dict[str, int]) -> None:
    for kind, words in (("ambiguous", "occur twice"), ("nonexistent", "never occur")):
        hit = frame[kind].to_numpy()
        if not hit.any():
            continue
        rule = getattr(policy, kind)
        if rule in {"error", "infer"}:
            both = "first | second | infer" if kind == "ambiguous" else "shift"
            raise QualityError(
                kind,
                f"{int(hit.sum())} local times {words} in {timezone}, where the clocks change",
                rows=int(hit.sum()),
                examples=_say(frame[["unique_id", "wall"]], hit),
                hint=f"set quality.{kind}: {both}, or store timestamps with their offset",
            )
        counts[f"{kind}_{rule}"] = int(hit.sum())


def _without_duplicates(frame: pd.DataFrame, policy: Policy, counts: dict[str, int]) -> pd.DataFrame:
    repeated = frame.duplicated(["unique_id", "ds"], keep=False).to_numpy()
    if not repeated.any():
        return frame
    if policy.duplicates == "error":
        raise QualityError(
            "duplicates",
            f"{int(repeated.sum())} rows share series and time with another row",
            rows=int(repeated.sum()),
            examples=_say(frame[["unique_id", "ds", "y"]], repeated),
            hint="set quality.duplicates: last | mean",
        )
    counts[f"duplicates_{policy.duplicates}"] = int(frame.duplicated(["unique_id", "ds"]).sum())
    if policy.duplicates == "last":
        return frame.drop_duplicates(["unique_id", "ds"], keep="last")
    return frame.groupby(["unique_id", "ds"], sort=True, as_index=False).mean()


def _check_on_grid(frame: pd.DataFrame, grid: TimeGrid) -> None:
    off = ~grid.on_grid(pd.DatetimeIndex(frame["ds"]))
    if off.any():
        looks_like = _frequency_of(frame.loc[frame["unique_id"] == frame["unique_id"].iloc[0], "ds"], grid.timezone)
        hint = f"the first series looks like frequency: {looks_like}" if looks_like else "check source.timezone: too"
        raise QualityError(
            "frequency",
            f"{int(off.sum())} timestamps are not on the grid of frequency {grid.frequency}",
            rows=int(off.sum()),
            examples=_say(frame[["unique_id", "ds"]], off),
            hint=hint,
        )


def _frequency_of(ds: pd.Series[pd.Timestamp], timezone: str) -> str | None:
    wall = pd.DatetimeIndex(ds).unique()[:200].tz_convert(timezone).tz_localize(None)
    enough = 3  # pandas' own minimum
    return pd.infer_freq(wall) if len(wall) >= enough else None


def _check_mixed(
    ids: npt.NDArray[np.object_], starts: npt.NDArray[np.intp], position: npt.NDArray[np.int64], frequency: str
) -> None:
    """A series whose rows are evenly several steps apart is of another frequency."""
    enough = 8
    for a, b in pairwise(starts):
        if b - a >= enough and position[a + 1] - position[a] > 1:
            gaps = np.diff(position[a:b])
            if (gaps == gaps[0]).all():
                raise QualityError(
                    "frequency",
                    f"series {ids[a]!r} has a value every {gaps[0]} steps of {frequency}: it is of another frequency",
                    rows=int(b - a),
                    hint="put series of another frequency into a project of their own",
                )


def _on_every_instant(
    frame: pd.DataFrame, grid: TimeGrid, origin: pd.Timestamp, policy: Policy, counts: dict[str, int]
) -> pd.DataFrame:
    """Spread sorted rows over the grid, from each series' first row to the origin."""
    _check_span(frame, grid, origin)
    instants = grid.between(frame["ds"].min(), origin)
    position = instants.searchsorted(pd.DatetimeIndex(frame["ds"])).astype(np.int64)
    starts = offsets(frame)
    ids = frame["unique_id"].to_numpy()
    if policy.gaps != "zero":  # what is sold each Monday is not of another frequency
        _check_mixed(ids, starts, position, grid.frequency)
    first = position[starts[:-1]]
    lengths = len(instants) - first
    begins = np.r_[0, np.cumsum(lengths)]
    rows = np.diff(starts)
    target = np.repeat(begins[:-1] - first, rows) + position
    inside = int((position[starts[1:] - 1] - first + 1 - rows).sum())
    if inside and policy.gaps == "error":
        jump = np.flatnonzero((np.diff(position) > 1) & (ids[1:] == ids[:-1]))[:_SHOWN]
        examples = [
            f"unique_id={ids[row]}, after {frame['ds'].iloc[row]}: {position[row + 1] - position[row] - 1} missing"
            for row in jump
        ]
        raise QualityError(
            "gaps",
            f"{inside} rows are missing inside their series",
            rows=inside,
            examples=examples,
            hint="set quality.gaps: fill, or zero where no row says that nothing was sold",
        )
    late = int((len(instants) - 1 - position[starts[1:] - 1]).sum())
    found = {"gaps_as_zero": inside + late} if policy.gaps == "zero" else {"gaps_filled": inside, "rows_late": late}
    counts.update({key: n for key, n in found.items() if n})
    grid_row = np.arange(begins[-1]) - np.repeat(begins[:-1] - first, lengths)
    out = pd.DataFrame({"unique_id": np.repeat(ids[starts[:-1]], lengths), "ds": instants[grid_row]})
    for column in frame.columns.drop(["unique_id", "ds"]):
        spread = np.full(begins[-1], 0.0 if column == "y" and policy.gaps == "zero" else np.nan)
        spread[target] = frame[column].to_numpy()
        out[column] = spread
    return out


def _known_ahead(frame: pd.DataFrame, columns: Columns, origin: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
    ahead = frame[(frame["ds"] > origin) & (frame["ds"] <= until)]
    ahead = ahead.drop_duplicates(["unique_id", "ds"], keep="last").sort_values(["unique_id", "ds"], ignore_index=True)
    return ahead[["unique_id", "ds", *columns.known]]


def _read_frame(table: pa.Table, columns: Columns, policy: Policy, where: str) -> pd.DataFrame:
    raw = table.select(list(columns.wanted)).to_pandas(date_as_object=False)
    if raw.empty:
        raise DataError(f"{where} has no rows", hint="check source.path and that the export has finished")
    frame = pd.DataFrame({"unique_id": _names(raw[columns.id], columns.id, where)})
    times = _wall_times(raw[columns.time], columns.time, where)
    found = _instants(times, frame["unique_id"], columns.timezone, policy)
    frame["ds"], frame["wall"] = found.ds, times.to_numpy()
    frame["ambiguous"], frame["nonexistent"] = found.ambiguous, found.nonexistent
    frame["y"] = _target(raw[columns.target], columns.target, where)
    for name in (*columns.observed, *columns.known):
        frame[name] = _numbers(raw[name], name, where)
    return frame


def prepare(
    table: pa.Table,
    *,
    columns: Columns,
    policy: Policy,
    frequency: str,
    horizon: int,
    as_of: pd.Timestamp | None = None,
    where: str = "the source",
) -> History:
    """Cut at the origin, check, repair what the policy repairs, and lay out on the grid.

    Args:
        table: the source's columns as they stand there, unsorted.
        columns: which is which.
        policy: what to do with each fault.
        frequency: pandas alias of the grid.
        horizon: steps for which known covariates are kept after the origin.
        as_of: the origin, UTC; the last instant of the grid not later than it counts. Default: the last instant at
            which any series has a value.
        where: the source in words, for messages.

    Raises:
        MissingColumnsError: a column is not there.
        DataError: there is nothing at or before the origin.
        QualityError: the policy says so, or a column cannot be read as what it must be.
    """
    missing = [name for name in columns.wanted if name not in table.column_names]
    if missing:
        raise MissingColumnsError(missing, table.column_names, where)
    frame = _read_frame(table, columns, policy, where)
    grid, origin = placed(_extent(frame, as_of), columns, frequency, as_of, where)
    return _laid_out(frame, columns, policy, grid, origin, horizon)


def extent_of(
    table: pa.Table, *, columns: Columns, policy: Policy, as_of: pd.Timestamp | None = None, where: str = "the source"
) -> Extent:
    """How far some of the source's rows reach; arguments and errors are those of `prepare`."""
    return _extent(_read_frame(table, columns, policy, where), as_of) if table.num_rows else Extent()


def placed(
    extent: Extent, columns: Columns, frequency: str, as_of: pd.Timestamp | None, where: str
) -> tuple[TimeGrid, pd.Timestamp]:
    """The grid of a source, and the origin; for arguments and errors see `prepare`.

    Args:
        extent: of all rows.
        columns: see there.
        frequency: see there.
        as_of: see there.
        where: see there.
    """
    if extent.first is None:
        raise DataError(f"{where} has no rows at or before {as_of}", hint=f"it starts at {extent.earliest}")
    if not extent.finite or extent.last is None:
        raise DataError(
            f"column {columns.target!r} of {where} has no value"
            + (f" at or before {as_of}" if as_of is not None else ""),
            hint="check source.target and that the export has finished",
        )
    grid = TimeGrid(frequency, columns.timezone).anchored_at(extent.first)
    return grid, grid.floor(extent.last if as_of is None else as_of)


def prepare_at(
    table: pa.Table,
    *,
    columns: Columns,
    policy: Policy,
    grid: TimeGrid,
    origin: pd.Timestamp,
    horizon: int,
    where: str = "the source",
) -> History | None:
    """What `prepare` makes of some series of a source, all rows of each, whose grid and origin are known.

    Args:
        table: at least one row.
        columns: see there.
        policy: see there.
        grid: as `placed` gives it for all series.
        origin: the same.
        horizon: see there.
        where: see there.

    Returns:
        None where no row stands at or before the origin.
    """
    frame = _read_frame(table, columns, policy, where)
    if not (frame["ds"] <= origin).any():
        return None
    return _laid_out(frame, columns, policy, grid, origin, horizon)


def _extent(frame: pd.DataFrame, as_of: pd.Timestamp | None) -> Extent:
    rows = frame if as_of is None else frame[frame["ds"] <= as_of]
    ends = [frame["ds"].min(), rows["ds"].min(), rows.loc[rows["y"].notna(), "ds"].max()]
    earliest, first, last = (None if pd.isna(end) else end for end in ends)
    return Extent(earliest=earliest, first=first, last=last, finite=bool(np.isfinite(rows["y"].to_numpy()).any()))


def _laid_out(
    frame: pd.DataFrame, columns: Columns, policy: Policy, grid: TimeGrid, origin: pd.Timestamp, horizon: int
) -> History:
    counts: dict[str, int] = {}
    past = frame[frame["ds"] <= origin]
    _check_clock(past, policy, columns.timezone, counts)
    values = ["unique_id", "ds", "y", *columns.observed, *columns.known]
    past = past[values].sort_values(["unique_id", "ds"], kind="stable")
    if not past.index.is_monotonic_increasing:
        counts["rows_sorted"] = len(past)
    past = past.reset_index(drop=True)
    _check_on_grid(past, grid)
    past = _without_duplicates(past, policy, counts)
    infinite = np.isinf(past["y"].to_numpy())
    if infinite.any():
        if policy.gaps == "error":
            raise QualityError(
                "infinite",
                f"{int(infinite.sum())} target values are infinite",
                rows=int(infinite.sum()),
                examples=_say(past[["unique_id", "ds", "y"]], infinite),
                hint="set quality.gaps: fill to take them as missing",
            )
        counts["infinite_as_missing"] = int(infinite.sum())
    numeric = past.columns.drop(["unique_id", "ds"])
    past[numeric] = past[numeric].replace([np.inf, -np.inf], np.nan)
    nulls = int(past["y"].isna().sum())
    if nulls:
        counts["values_missing"] = nulls
    panel = _on_every_instant(past, grid, origin, policy, counts)
    until = grid.shift(origin, horizon)
    return History(
        panel=panel, known=_known_ahead(frame, columns, origin, until), grid=grid, origin=origin, counts=counts
    )


def _check_span(frame: pd.DataFrame, grid: TimeGrid, origin: pd.Timestamp) -> None:
    starts = offsets(frame)
    begins = frame["ds"].iloc[starts[:-1]].reset_index(drop=True)
    step = grid.shift(origin, 1) - origin
    cells = (origin - begins).to_numpy() / step.to_timedelta64()
    emptiest = np.argsort(np.diff(starts) - cells, kind="stable")[:_SHOWN]
    ids = frame["unique_id"].iloc[starts[:-1]].to_numpy()
    told = [f"unique_id={ids[n]} begins at {begins[n]} and has {np.diff(starts)[n]} rows" for n in emptiest]
    check_span(cells.sum(), len(frame), grid.frequency, told)


def check_span(cells: float, rows: int, frequency: str, examples: Sequence[str] = ()) -> None:
    """A single row of long ago would make a grid that no memory holds.

    Args:
        cells: instants from each series' first row to the origin.
        rows: that are there.
        frequency: of the grid.
        examples: the emptiest series, in words.

    Raises:
        QualityError: there are far more cells than rows.
    """
    if cells < _ROOMY or cells < _SPARSE * rows:
        return
    raise QualityError(
        "times",
        f"{rows} rows would be spread over {cells:.2g} instants of {frequency}",
        rows=rows,
        examples=examples,
        hint="a wrong year in a first row, or a frequency that is too fine, is the usual cause",
    )


def on_the_grid(frame: pd.DataFrame, grid: TimeGrid, origin: pd.Timestamp, gaps: str = "fill") -> pd.DataFrame:
    """Sorted rows up to an origin as the frame contract: each series from its first row to the origin.

    Args:
        frame: `unique_id, ds, y, <covariates>`, sorted, UTC, no row twice.
        grid: the time grid.
        origin: last instant, on the grid.
        gaps: what a missing row means: `fill`, a missing value; `zero`, nothing.

    Raises:
        QualityError: an instant is not on the grid, or a series is of another frequency.
    """
    _check_on_grid(frame, grid)
    return _on_every_instant(frame, grid, origin, Policy(gaps=gaps), {})


def data_digest(*frames: pd.DataFrame) -> str:
    """Digest of frames' column names, keys and values; the same rows give the same one in any process.

    Args:
        frames: of series, each sorted by `unique_id`.
    """
    return f"{digest_sum(*frames):064x}"


def digest_sum(*frames: pd.DataFrame) -> int:
    """`data_digest` as a number: those of some series and of the others add up to that of all, modulo 2 ** 256.

    So it does not matter which worker has read which series.
    """
    return sum(map(_series_digests, frames)) % 2**256


def _series_digests(frame: pd.DataFrame) -> int:
    """The sum of SHA-256 of each series' rows."""
    names = [column for column in frame.columns if column != "unique_id"]
    columns = []
    for name in names:
        kind = "datetime64[ns]" if name == "ds" else float
        columns.append(np.ascontiguousarray(frame[name].to_numpy(dtype=kind)).view(np.uint8).data)
    ids, head, total = frame["unique_id"].to_numpy(), "\x1f".join(frame.columns).encode(), 0
    for a, b in pairwise(offsets(frame).tolist()):
        digest = hashlib.sha256(head + b"\x1e" + str(ids[a]).encode() + b"\x1e")
        for column in columns:
            digest.update(column[8 * a : 8 * b])
        total += int.from_bytes(digest.digest(), "big")
    return total


def to_panel_arrow(panel: pd.DataFrame) -> pa.Table:
    """The panel as Arrow with the names dictionary-encoded: what travels between processes."""
    import pyarrow as pa

    starts = offsets(panel)
    series = np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))
    names = pa.array(panel["unique_id"].to_numpy()[starts[:-1]], pa.string())
    table = pa.Table.from_pandas(panel.drop(columns="unique_id"), preserve_index=False)
    return table.add_column(0, "unique_id", pa.DictionaryArray.from_arrays(series, names))
