"""Honest assumptions, sinks and sources, and bad copies of them, each with a single fault: the suite has to name it."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from forecastcore.api import AssumptionSpec, Example, Published, SinkSpec, SourceSpec
from forecastcore.errors import AssumptionUnavailable, DataError, SinkError
from forecastcore.vintages import check_vintage, empty_vintage

# -- assumptions


@dataclass(frozen=True)
class Mean:
    def assume(self, history, future, task):
        return future[["unique_id", "ds"]].join(self.means(history, task), on="unique_id")

    def means(self, history, task):
        return history.groupby("unique_id")[list(task.covariates)].mean()


@dataclass(frozen=True)
class LeavesOut(Mean):
    def assume(self, history, future, task):
        return super().assume(history, future, task).iloc[1:]


@dataclass(frozen=True)
class Draws(Mean):
    def means(self, history, task):
        return super().means(history, task) + np.random.default_rng().normal()


@dataclass(frozen=True)
class OverTheHistory(Mean):
    def assume(self, history, future, task):
        answer = super().assume(history.copy(), future, task)
        history[list(task.covariates)] = 0.0
        return answer


@dataclass(frozen=True)
class Archivist(Mean):
    """Keeps the actual values it has seen, and tells them as soon as it is asked."""

    seen = {}  # noqa: RUF012 - that all share it is the fault on trial

    def assume(self, history, future, task):
        answer = super().assume(history, future, task)
        for row in history.itertuples(index=False):
            self.seen[row.unique_id, row.ds] = row[2:]
        for name in task.covariates:
            place = task.covariates.index(name)
            keys = zip(future["unique_id"], future["ds"], strict=True)
            told = [self.seen[key][place] if key in self.seen else np.nan for key in keys]
            answer[name] = pd.Series(told, index=answer.index).fillna(answer[name])
        return answer


@dataclass(frozen=True)
class Interpolating(Archivist):
    """Draws a line between the last value before the origin and one after it."""

    seen = {}  # noqa: RUF012 - as above

    def assume(self, history, future, task):
        mean = Mean.assume(self, history, future, task)
        known = Archivist.assume(self, history, future, task)
        return known.assign(**{name: (mean[name] + known[name]) / 2 for name in task.covariates})


@dataclass(frozen=True)
class FromFile(Mean):
    """The newest value in the archive, whenever it was issued."""

    path: Path = Path()
    as_of: bool = False

    def assume(self, history, future, task):
        try:
            rows = pd.read_parquet(self.path)
        except OSError as error:
            raise AssumptionUnavailable(f"{self.path} cannot be read") from error
        if self.as_of:
            rows = rows[rows["issued_at"] <= task.origin]
        newest = rows.sort_values("issued_at").drop_duplicates("ds", keep="last")
        answer = super().assume(history, future, task)
        told = future[["ds"]].merge(newest, on="ds", how="left")["value"].set_axis(answer.index)
        return answer.assign(**{name: told.fillna(answer[name]) for name in task.covariates})


@dataclass(frozen=True)
class FromFileAsOf(FromFile):
    as_of: bool = True


@dataclass(frozen=True)
class OverThePanel(Mean):
    def means(self, history, task):
        own = super().means(history, task)
        return own + history[list(task.covariates)].mean()


@dataclass(frozen=True)
class Peeking(Mean):
    def assume(self, history, future, task):
        answer = super().assume(history, future, task)
        return answer.assign(**{n: future[n] for n in task.covariates if n in future})


@dataclass(frozen=True)
class Fragile(FromFileAsOf):
    def assume(self, history, future, task):
        pd.read_parquet(self.path)
        return super().assume(history, future, task)


@dataclass(frozen=True)
class Hourly(Mean):
    def assume(self, history, future, task):
        if task.frequency != "h":
            return future[["unique_id", "ds"]].assign(**dict.fromkeys(task.covariates, np.nan))
        return super().assume(history, future, task)


def archive(folder):
    ds = pd.date_range("2024-01-01", periods=3000, freq="h", tz="UTC")
    rows = pd.DataFrame({"ds": ds, "issued_at": pd.Timestamp("2023-12-31", tz="UTC"), "value": 1.5})
    path = folder / "archive.parquet"
    rows.to_parquet(path)

    def issue_later(moment):
        later = rows[rows["ds"] > moment].assign(issued_at=moment + pd.Timedelta(1, "h"), value=9.0)
        pd.concat([rows, later], ignore_index=True).to_parquet(path)

    return Example(params={"path": str(path)}, issue_later=issue_later)


def assumption(factory):
    example = archive if issubclass(factory, FromFile) else None
    return AssumptionSpec(name="on-trial", summary="on trial", factory=factory, example=example)


HONEST_ASSUMPTIONS = (Mean, FromFileAsOf)
BAD_ASSUMPTIONS = {
    "a row is missing": (LeavesOut, ["every-row-asked-is-answered"]),
    "it draws": (Draws, ["an-answer-repeats"]),
    "arguments changed": (OverTheHistory, ["arguments-stay-untouched"]),
    "a slip when its file is gone": (Fragile, ["an-outage-is-named"]),
    "silent on other frequencies": (Hourly, ["quarter-hours", "daily-data", "weekly-data", "monthly-data"]),
}
LEAKY_ASSUMPTIONS = {
    "the archive of actuals, remembered": (Archivist, ["later-data-leave-no-trace"]),
    "interpolation across the origin": (Interpolating, ["later-data-leave-no-trace"]),
    "the archive of forecasts, those of tomorrow too": (FromFile, ["what-is-issued-later-changes-nothing"]),
    "the answer in the future's own column": (Peeking, ["a-future-with-answers-changes-nothing"]),
    "a mean over the whole panel": (OverThePanel, ["other-series-change-nothing"]),
}

# -- sinks


@dataclass(frozen=True)
class Folder:
    path: Path

    def publish(self, vintage, run_key):
        table = self.checked(vintage, run_key)
        target, part = self.path / f"{run_key}.parquet", self.path / f".{run_key}-{os.getpid()}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return self.write(table, part, target)
        except OSError as error:
            raise SinkError(f"{target} cannot be written: {error}") from error
        finally:
            part.unlink(missing_ok=True)

    def checked(self, vintage, run_key):
        return check_vintage(vintage, run_key)

    def write(self, table, part, target):
        pq.write_table(table, part)
        try:
            os.link(part, target)
        except FileExistsError:
            return Published(location=str(target), rows=pq.read_metadata(target).num_rows, already=True)
        return Published(location=str(target), rows=table.num_rows, already=False)

    def read(self, issued_at=None):
        tables = [pq.read_table(file) for file in sorted(self.path.glob("*.parquet"))]
        table = pa.concat_tables([empty_vintage(), *tables], promote_options="default")
        return table if issued_at is None else table.filter(pc.equal(table["issued_at"], pa.scalar(issued_at)))


@dataclass(frozen=True)
class SaysNew(Folder):
    def write(self, table, part, target):
        told = super().write(table, part, target)
        return Published(location=told.location, rows=told.rows, already=False)


@dataclass(frozen=True)
class Lax(Folder):
    def checked(self, vintage, run_key):
        check_vintage(vintage.slice(0, 1) if "step" in vintage.column_names else vintage, run_key)
        return vintage.combine_chunks().cast(pa.schema([(f.name, _plain(f.type)) for f in vintage.schema]))


def _plain(kind):
    return kind.value_type if pa.types.is_dictionary(kind) else kind


@dataclass(frozen=True)
class AllOrigins(Folder):
    def read(self, issued_at=None):
        return super().read()


@dataclass(frozen=True)
class ZeroForNull(Folder):
    def write(self, table, part, target):
        place = table.column_names.index("forecast")
        return super().write(table.set_column(place, "forecast", pc.fill_null(table["forecast"], 0.0)), part, target)


@dataclass(frozen=True)
class Telling(Folder):
    token: str = ""


@dataclass(frozen=True)
class InPieces(Folder):
    """Writes a vintage in two files, one after the other."""

    def write(self, table, part, target):
        second = target.with_name(f"{target.stem}-b.parquet")
        if target.exists() and second.exists():
            return Published(location=str(target), rows=table.num_rows, already=True)
        half = table.num_rows // 2
        pq.write_table(table.slice(0, half), part)
        part.replace(target)
        pq.write_table(table.slice(half), part)
        part.replace(second)
        return Published(location=str(target), rows=table.num_rows, already=False)


def sink(factory):
    return SinkSpec(name="on-trial", summary="on trial", factory=factory)


BAD_SINKS = {
    "never says already": (SaysNew, ["the-second-publish-says-already"]),
    "takes two origins at once": (Lax, ["two-vintages-at-once-are-refused"]),
    "gives all origins": (AllOrigins, ["one-origin-is-read-alone"]),
    "zero for null": (ZeroForNull, ["a-failed-row-stays-null"]),
    "its repr tells the token": (Telling, ["secrets-stay-out-of-repr"]),
}
BAD_SINKS_IN_PROCESSES = {
    "half a vintage": (InPieces, ["a-failure-half-way-leaves-nothing", "of-two-processes-one-publishes"]),
}

# -- sources


@dataclass(frozen=True)
class Arrow:
    path: Path
    token: str = field(default="", repr=False)

    def schema(self):
        return self.table().schema

    def read(self, columns):
        return self.table().select(list(columns))

    def table(self):
        try:
            return pa.ipc.open_file(self.path.read_bytes()).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error


@dataclass(frozen=True)
class ByName(Arrow):
    def read(self, columns):
        return self.table().select(sorted(columns))


@dataclass(frozen=True)
class Deduplicating(Arrow):
    def table(self):
        frame = super().table()
        return pa.Table.from_pandas(
            frame.to_pandas().drop_duplicates(["unique_id", "ds"]), frame.schema, preserve_index=False
        )


@dataclass(frozen=True)
class Sorting(Arrow):
    def table(self):
        return super().table().sort_by([("unique_id", "ascending"), ("ds", "ascending")])


@dataclass(frozen=True)
class NumbersForNames(Arrow):
    def table(self):
        table = super().table()
        names = table["unique_id"].to_pylist()
        if names and all(name.isdigit() for name in names):
            return table.set_column(0, "unique_id", pa.array([int(name) for name in names]))
        return table


@dataclass(frozen=True)
class Unnamed(Arrow):
    def table(self):
        return pa.ipc.open_file(self.path.read_bytes()).read_all()


def arrow_file(folder, table):
    with pa.OSFile(str(folder / "history.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    return Example(params={"path": str(folder / "history.arrow")})


def source(factory):
    return SourceSpec(name="on-trial", summary="on trial", factory=factory, example=arrow_file)


BAD_SOURCES = {
    "columns by name": (ByName, ["columns-come-in-the-order-asked"]),
    "rows sorted": (Sorting, ["rows-keep-their-order"]),
    "007 is 7": (NumbersForNames, ["leading-zeros-stay"]),
    "a slip when the file is gone": (Unnamed, ["a-source-that-is-gone-is-named", "a-damaged-source-is-named"]),
    "rows that stand twice are dropped": (Deduplicating, ["rows-that-stand-twice-stay"]),
}
