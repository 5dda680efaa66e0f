"""What every sink must do: each vintage once and whole, read back as it was, whatever happens half-way."""

from __future__ import annotations

import functools
import json
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from forecastcore import parameters
from forecastcore.api import Published
from forecastcore.errors import SinkError
from forecastcore.testing.child import Report, run_child, start_child, write_job
from forecastcore.testing.manners import PROBES as MANNERS
from forecastcore.testing.manners import secrets_stay_out_of_repr
from forecastcore.testing.suite import Fault, must, other_processes, probe, said
from forecastcore.testing.tables import sample_vintage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from forecastcore.api import SinkSpec

__all__ = ["PROBES", "SinkTrial", "places"]

_KEY = ["project", "scenario", "issued_at", "unique_id", "step"]
_HOSTILE = (
    *("../../etc/passwd", "a'; DROP TABLE forecasts; --", 'quote " quote', "comma,semicolon;tab\t", "line\nbreak"),
    *(
        "=HYPERLINK(1)",
        "+1",
        "-1",
        "@x",
        "'quoted",
        "ünïcödé 日本 🚀",
        " space ",
        "100%25",
        "CON",
        "a/b\\c",
        "NA",
        "null",
        "007",
    ),
)


def places(factory: Any, folder: Path) -> dict[str, str]:
    """Parameters of type `Path` that have no default, each given a name of its own in a folder."""
    hints = get_type_hints(factory)
    required = parameters.json_schema(factory).get("required", [])
    return {name: str(folder / name) for name in required if hints.get(name) is Path}


@dataclass
class SinkTrial:
    """A sink on trial.

    Attributes:
        spec: the offer.
        params: as a project file would give them; by default those of the spec's example.
        folder: where it may write.
        quick: leave out what needs other processes.
    """

    spec: SinkSpec
    params: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)
    quick: bool = False

    def __post_init__(self) -> None:
        self.given: dict[str, Any] = dict(self.params)
        self.params = self.parameters_for(self.folder)

    def parameters_for(self, folder: Path) -> dict[str, Any]:
        """Parameters of a sink at a place of its own."""
        told = self.spec.example(folder).params if self.spec.example else places(self.spec.factory, folder)
        return {**told, **self.given}

    def make(self) -> Any:
        """The sink that all checks of a trial share, which is not empty after the first."""
        return self._at(self.folder, self.params)

    def _at(self, folder: Path, params: Mapping[str, Any]) -> Any:
        return self.spec.factory(**parameters.values(self.spec.factory, params, root=folder))

    def empty(self) -> Any:
        """A sink at a place where nothing is yet."""
        folder = self.place()
        return self._at(folder, self.parameters_for(folder))

    def place(self) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def job(self, vintage: pa.Table, folder: Path) -> Path:
        """A folder for a child process that publishes a vintage into the sink at `folder`."""
        other_processes(quick=self.quick)
        place = self.place()
        write_job(place, "sink", self.spec.factory, self.parameters_for(folder), run_key=vintage["run_key"][0].as_py())
        pq.write_table(vintage, place / "vintage.parquet")
        return place

    @functools.cached_property
    def report(self) -> Report:
        """What a fresh process noticed while it published."""
        return run_child(self.job(sample_vintage(seed=77), self.place()))


def _publish(sink: Any, vintage: pa.Table) -> Published:
    told: Published = sink.publish(vintage, vintage["run_key"][0].as_py())
    return told


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in [*_KEY, "run_key"]])


def _alike(got: pa.Table, want: pa.Table) -> None:
    """Fail unless two tables hold the same rows and types, in whatever order."""
    must(got.num_rows == want.num_rows, f"{got.num_rows} rows are read back, {want.num_rows} were published")
    one, two = _sorted(got), _sorted(want)
    for name in want.column_names:
        must(name in one.column_names, f"the column {name} is lost")
        column = one[name].cast(two[name].type) if one[name].type != two[name].type else one[name]
        if not column.combine_chunks().equals(two[name].combine_chunks()):
            pairs = zip(column.to_pylist(), two[name].to_pylist(), strict=True)
            first = next((pair for pair in pairs if pair[0] != pair[1]), None)
            raise Fault(
                f"{name} comes back changed: {first[1]!r} as {first[0]!r}" if first else f"{name} comes back changed"
            )


def _with(vintage: pa.Table, **columns: Any) -> pa.Table:
    for name, values in columns.items():
        place = vintage.column_names.index(name)
        column = pa.array(values, vintage.schema.field(name).type) if isinstance(values, list) else values
        vintage = vintage.set_column(place, name, column)
    return vintage


def _refused(trial: SinkTrial, vintage: pa.Table, run_key: str, what: str) -> str:
    """A SinkError, and nothing visible."""
    sink = trial.empty()
    try:
        sink.publish(vintage, run_key)
    except SinkError as error:
        must(sink.read().num_rows == 0, f"{what} is refused, but rows of it can be read")
        return str(error)
    except Exception as error:
        raise Fault(f"{what}: it raised {said(error)}, not SinkError; vintages.check_vintage does it") from error
    raise Fault(f"{what} is taken; vintages.check_vintage refuses it")


@probe(gate=True)
def publishes(trial: SinkTrial) -> str | None:
    """`publish` returns `Published`, says where, how many rows, and that they were not there before."""
    vintage = sample_vintage()
    told = _publish(trial.empty(), vintage)
    must(isinstance(told, Published), f"publish returned {type(told).__name__}, not Published")
    must(told.location, "it does not say where a reader finds it")
    must(told.rows == vintage.num_rows, f"it says {told.rows} rows, {vintage.num_rows} were given")
    must(not told.already, "it says that the vintage was there before")
    return None


@probe(gate=True)
def what_was_published_is_read_back(trial: SinkTrial) -> str | None:
    """All rows and values come back; the order of rows is free."""
    sink, vintage = trial.empty(), sample_vintage()
    _publish(sink, vintage)
    _alike(sink.read(), vintage)
    return None


@probe()
def types_come_back(trial: SinkTrial) -> str | None:
    """Instants in UTC to the microsecond, numbers, text: each column comes back with the type of the schema."""
    sink, vintage = trial.empty(), sample_vintage(issued_at=datetime(2024, 1, 1, 0, 0, 0, 123456, tzinfo=UTC))
    _publish(sink, vintage)
    got = sink.read()
    wrong = [
        f"{f.name} is {got.schema.field(f.name).type}"
        for f in vintage.schema
        if got.schema.field(f.name).type != f.type
    ]
    must(not wrong, f"{', '.join(wrong)}")
    _alike(got, vintage)
    return None


@probe()
def nothing_published_is_an_empty_table(trial: SinkTrial) -> str | None:
    """Before anything is published, `read` gives a table without rows, with the columns of the schema."""
    got = trial.empty().read()
    must(got.num_rows == 0, f"{got.num_rows} rows, and nothing was published")
    must(
        {"unique_id", "ds", "forecast"} <= set(got.column_names), f"the empty table has the columns {got.column_names}"
    )
    return None


@probe()
def the_second_publish_says_already(trial: SinkTrial) -> str | None:
    """Published twice under one run key, the second call says `already`, and how many rows there are."""
    sink, vintage = trial.empty(), sample_vintage()
    _publish(sink, vintage)
    told = _publish(sink, vintage)
    must(told.already, "the second publish of one run key does not say already")
    must(told.rows == vintage.num_rows, f"it says that {told.rows} rows are there, there are {vintage.num_rows}")
    return None


@probe()
def one_run_key_is_one_copy(trial: SinkTrial) -> str | None:
    """Published twice under one run key, each row is there once; another object made anew knows it too."""
    folder, vintage = trial.place(), sample_vintage()
    for _ in range(2):
        _publish(trial._at(folder, trial.parameters_for(folder)), vintage)  # noqa: SLF001 - a trial of this module
    rows = trial._at(folder, trial.parameters_for(folder)).read().num_rows  # noqa: SLF001 - as above
    must(rows == vintage.num_rows, f"{rows} rows after two publishes of {vintage.num_rows}")
    return None


@probe()
def vintages_stand_beside_each_other(trial: SinkTrial) -> str | None:
    """Vintages of two origins and of two scenarios are all there."""
    sink = trial.empty()
    later = datetime(2024, 1, 2, tzinfo=UTC)
    vintages = [sample_vintage(), sample_vintage(issued_at=later), sample_vintage(scenario="heatwave")]
    for vintage in vintages:
        must(not _publish(sink, vintage).already, "another run key is taken for the same")
    _alike(sink.read(), pa.concat_tables(vintages))
    return None


@probe()
def one_origin_is_read_alone(trial: SinkTrial) -> str | None:
    """`read(issued_at)` gives the vintages of that origin, and an empty table for an origin without one."""
    sink = trial.empty()
    first, second = sample_vintage(), sample_vintage(issued_at=datetime(2024, 1, 2, tzinfo=UTC))
    for vintage in (first, second):
        _publish(sink, vintage)
    _alike(sink.read(datetime(2024, 1, 2, tzinfo=UTC)), second)
    rows = sink.read(datetime(2023, 1, 1, tzinfo=UTC)).num_rows
    must(rows == 0, f"{rows} rows of an origin that was never published")
    return None


@probe()
def quantiles_may_change(trial: SinkTrial) -> str | None:
    """Vintages with other quantiles stand beside each other, null where one lacks them, or are refused."""
    sink, first = trial.empty(), sample_vintage()
    other = sample_vintage(issued_at=datetime(2024, 1, 2, tzinfo=UTC))
    other = other.rename_columns(["q2_5" if name == "q10" else name for name in other.column_names])
    _publish(sink, first)
    try:
        _publish(sink, other)
    except SinkError as error:
        _alike(sink.read(), first)
        return f"refused: {error}"
    got = sink.read()
    must({"q10", "q2_5", "q90"} <= set(got.column_names), f"of q2_5, q10, q90 it gives {got.column_names}")
    must(got["q10"].null_count == other.num_rows, "a quantile that a vintage lacks is not null")
    return None


@probe()
def a_failed_row_stays_null(trial: SinkTrial) -> str | None:
    """A forecast that is missing stays missing: not zero, not NaN, not left out."""
    sink, vintage = trial.empty(), sample_vintage()
    half = vintage.num_rows // 2
    numbers = {n: [None] * half + vintage[n].to_pylist()[half:] for n in ("forecast", "q10", "q90")}
    vintage = _with(vintage, **numbers, status=["failed"] * half + ["ok"] * half)
    _publish(sink, vintage)
    _alike(sink.read(), vintage)
    return None


@probe()
def numbers_come_back_exactly(trial: SinkTrial) -> str | None:
    """Very large, very small and long numbers come back to the last bit."""
    sink, vintage = trial.empty(), sample_vintage()
    numbers = np.resize([1e308, -1e-300, 0.1 + 0.2, 1 / 3, 123456789.123456789, -0.5, 5e-324], vintage.num_rows)
    _publish(sink, vintage := _with(vintage, forecast=numbers.tolist()))
    _alike(sink.read(), vintage)
    return None


@probe()
def hostile_names_are_only_names(trial: SinkTrial) -> str | None:
    """Ids with paths, quotes, SQL, formulas, line breaks and any script come back as they are, and do nothing."""
    sink = trial.empty()
    before = _files(trial.folder.parent, trial.folder)
    _publish(sink, vintage := sample_vintage(series=_HOSTILE, horizon=2))
    must(_files(trial.folder.parent, trial.folder) == before, "an id led to a file outside the sink's folder")
    _alike(sink.read(), vintage)
    return None


def _files(folder: Path, but: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir() if entry != but}


@probe()
def a_hostile_scenario_is_only_a_name(trial: SinkTrial) -> str | None:
    """The same of a scenario's name, or it is refused."""
    sink = trial.empty()
    vintage = sample_vintage(scenario="../../x';--\n%2e")
    try:
        _publish(sink, vintage)
    except SinkError as error:
        return f"refused: {error}"
    _alike(sink.read(), vintage)
    return None


@probe()
def a_hostile_run_key_is_refused(trial: SinkTrial) -> str | None:
    """A run key that is not hex digits is refused: it becomes part of names."""
    for key in ("../../../tmp/x", "", "x' or 1=1", "ABCDEF0123456789/.."):
        vintage = _with(sample_vintage(), run_key=[key] * sample_vintage().num_rows)
        _refused(trial, vintage, key, f"the run key {key!r}")
    return None


@probe()
def a_run_key_that_is_not_the_vintages_is_refused(trial: SinkTrial) -> str | None:
    """The run key said and the one in the rows are the same, or nothing is written."""
    return _refused(trial, sample_vintage(), "0123456789abcdef", "another run key than the rows'")


@probe()
def a_table_that_is_no_vintage_is_refused(trial: SinkTrial) -> str | None:
    """A table without a column of the schema is refused, and nothing of it is visible."""
    vintage = sample_vintage()
    return _refused(
        trial, vintage.drop_columns("step"), vintage["run_key"][0].as_py(), "a table without the column step"
    )


@probe()
def two_vintages_at_once_are_refused(trial: SinkTrial) -> str | None:
    """Rows of two origins under one run key are refused."""
    vintage = sample_vintage()
    later = [datetime(2025, 1, 1, tzinfo=UTC)] * vintage.num_rows
    both = pa.concat_tables([vintage, _with(vintage, issued_at=later)])
    return _refused(trial, both, vintage["run_key"][0].as_py(), "a table of two origins")


@probe()
def a_vintage_without_rows_is_refused(trial: SinkTrial) -> str | None:
    """A vintage has rows, for failed series too."""
    vintage = sample_vintage()
    return _refused(trial, vintage.slice(0, 0), vintage["run_key"][0].as_py(), "a vintage without rows")


@probe()
def any_arrow_table_will_do(trial: SinkTrial) -> str | None:
    """Dictionary-encoded text, many chunks and another order of columns are taken, and come back plain."""
    sink, plain = trial.empty(), sample_vintage()
    columns = {
        n: c.dictionary_encode() if pa.types.is_string(c.type) else c
        for n, c in zip(plain.column_names, plain.columns, strict=True)
    }
    encoded = pa.table(columns).select(plain.column_names[::-1])
    chunks = pa.concat_tables([encoded.slice(0, 5), encoded.slice(5)])
    sink.publish(chunks, plain["run_key"][0].as_py())
    _alike(sink.read(), plain)
    return None


@probe("one-origin-is-read-alone")
def another_origin_published_late_is_kept(trial: SinkTrial) -> str | None:
    """A vintage of an earlier origin, delivered after a later one, is there too."""
    sink = trial.empty()
    newer, older = sample_vintage(issued_at=datetime(2024, 1, 2, tzinfo=UTC)), sample_vintage()
    for vintage in (newer, older):
        _publish(sink, vintage)
    rows = sink.read(datetime(2024, 1, 1, tzinfo=UTC)).num_rows
    must(rows == older.num_rows, f"{rows} rows of the earlier origin, {older.num_rows} were published")
    return None


@probe("one-run-key-is-one-copy")
def a_failure_half_way_leaves_nothing(trial: SinkTrial) -> str | None:
    """Killed at any write, it leaves the vintage whole or invisible; the next publish makes it whole, once."""
    vintage = sample_vintage(series=tuple("abcdefgh"))
    folder = trial.place()
    counted = run_child(trial.job(vintage, folder), "once")
    must(not counted.error, f"a fresh process raised {counted.error}")
    writes = len(counted.writes)
    places_of = {at: trial.place() for at in sorted({1, 1 + writes // 3, 1 + 2 * writes // 3, max(1, writes)})}
    dying = [start_child(trial.job(vintage, folder), f"die-{at}") for at, folder in places_of.items()]
    for child in dying:
        child.communicate(timeout=120)
    for at, folder in places_of.items():
        sink = trial._at(folder, trial.parameters_for(folder))  # noqa: SLF001 - a trial of this module
        rows = sink.read().num_rows
        must(
            rows in {0, vintage.num_rows},
            f"killed at write {at} of {writes}, {rows} of {vintage.num_rows} rows are visible",
        )
        _publish(sink, vintage)
        rows = sink.read().num_rows
        must(rows == vintage.num_rows, f"published again after a kill, {rows} rows of {vintage.num_rows} are there")
    return f"killed at {len(places_of)} of {writes} writes that Python sees"


@probe("one-run-key-is-one-copy")
def of_two_processes_one_publishes(trial: SinkTrial) -> str | None:
    """Two processes publish one run key at once: the rows are there once, and one of the two says `already`."""
    vintage, folder = sample_vintage(series=tuple("abcdefgh")), trial.place()
    jobs = [trial.job(vintage, folder) for _ in range(2)]
    running = [start_child(job, "once") for job in jobs]
    for child in running:
        child.communicate(timeout=120)
    told = [json.loads((job / "once.json").read_text(encoding="utf-8")) for job in jobs]
    errors = [one["error"] for one in told if one["error"]]
    must(not errors, f"one of them raised {errors[:1]}")
    rows = trial._at(folder, trial.parameters_for(folder)).read().num_rows  # noqa: SLF001 - a trial of this module
    must(rows == vintage.num_rows, f"{rows} rows, {vintage.num_rows} were published by two processes")
    must(
        sorted(one["result"]["already"] for one in told) == [False, True],
        "both say that they wrote it, or neither does",
    )
    return None


@probe()
def the_location_tells_no_secret(trial: SinkTrial) -> str | None:
    """What `publish` says of the place holds no password, key or signature: it goes into logs and reports."""
    where = _publish(trial.empty(), sample_vintage()).location.lower()
    bad = [word for word in ("password=", "sig=", "accountkey=", "token=", "secret=") if word in where]
    must(not bad, f"the location holds {bad}")
    return None


@probe()
def a_hundred_thousand_rows(trial: SinkTrial) -> str | None:
    """A vintage of 100,000 rows is published and read back; the seconds are told."""
    sink = trial.empty()
    vintage = sample_vintage(series=[f"s{n}" for n in range(1000)], horizon=100)
    started = time.perf_counter()
    _publish(sink, vintage)
    written = time.perf_counter()
    got = sink.read()
    seconds = time.perf_counter() - written
    must(got.num_rows == vintage.num_rows, f"{got.num_rows} rows of {vintage.num_rows}")
    must(pc.sum(got["step"]).as_py() == pc.sum(vintage["step"]).as_py(), "values were lost")
    return f"{written - started:.2f} s to publish, {seconds:.2f} s to read"


PROBES: tuple[Any, ...] = (
    publishes,
    what_was_published_is_read_back,
    types_come_back,
    nothing_published_is_an_empty_table,
    the_second_publish_says_already,
    one_run_key_is_one_copy,
    vintages_stand_beside_each_other,
    one_origin_is_read_alone,
    quantiles_may_change,
    a_failed_row_stays_null,
    numbers_come_back_exactly,
    hostile_names_are_only_names,
    a_hostile_scenario_is_only_a_name,
    a_hostile_run_key_is_refused,
    a_run_key_that_is_not_the_vintages_is_refused,
    a_table_that_is_no_vintage_is_refused,
    two_vintages_at_once_are_refused,
    a_vintage_without_rows_is_refused,
    any_arrow_table_will_do,
    another_origin_published_late_is_kept,
    a_failure_half_way_leaves_nothing,
    of_two_processes_one_publishes,
    the_location_tells_no_secret,
    a_hundred_thousand_rows,
    *MANNERS,
    secrets_stay_out_of_repr,
)
