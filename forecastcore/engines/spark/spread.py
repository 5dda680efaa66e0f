"""A source that stays on the cluster: workers read it, and work on shards of it; what they make stays there too.

The driver sees what a task tells of its rows, in a few bytes, and asks for the rows themselves only where somebody has
to have them here. Everything is derived from the source, so that a lost executor costs time and nothing else: Spark
makes again what it held, and each row is there once.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import uuid4

from forecastcore import __version__
from forecastcore.engines.spark import shards as tasks
from forecastcore.engines.spark.session import interrupt, mend, open_session, said, tagged
from forecastcore.engines.spark.shards import ERROR, TOLD, Ranges, Take
from forecastcore.engines.spark.slots import slots
from forecastcore.engines.spark.worker import lost
from forecastcore.engines.wire import error_of, table_of
from forecastcore.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from forecastcore.engines.spark import SparkEngine

__all__ = ["TOLD", "Shards", "Spread", "spread_frame", "spread_parts"]

T = TypeVar("T")
#: a part of a parcel
_PARCEL = "name string, place bigint, data binary"
#: bytes of parcels that are sent together
_SENT = 4_000_000


@dataclass(frozen=True)
class Spread:
    """A source as Spark's workers have it.

    Attributes:
        engine: whose session it is.
        rows: rows of the source, or `number, part` of its parts.
        read: the rows of a part; None where `rows` has them.
    """

    engine: SparkEngine
    rows: DataFrame
    read: Callable[[str], Iterable[pa.RecordBatch]] | None = None

    def look(self, work: Callable[[Iterator[pa.Table]], bytes]) -> list[bytes]:
        """What each task sees of its rows.

        Args:
            work: importable function of the rows, some at a time.

        Raises:
            EngineError: also where the work raises.
        """
        seen = self.rows.mapInArrow(partial(tasks.look, self.read, work, __version__), tasks.LOOKED)
        told = self.flown(seen.collect)
        for row in told:
            if row.error:
                raise error_of(bytes(row.data))
        return [bytes(row.data) for row in told]

    def shards(
        self,
        work: Callable[[pa.Table, Path], Iterable[tuple[str, bytes]]],
        *,
        column: str,
        cuts: Sequence[str],
        files: Iterable[tuple[str, bytes]] = (),
        needs: Sequence[Sequence[str]] = (),
    ) -> Shards:
        """Work on all rows of some of the series at a time, in a task each.

        Args:
            work: importable function of the rows and a folder of files; yields kinds and bytes, and of the kind `TOLD`
                what the driver is to know.
            column: names the series.
            cuts: ascending names of series: with each a shard begins, and one begins before the first.
            files: parcels with the folder that each fills; few of them are held at a time.
            needs: for each shard the parcels that it needs; none where no shard needs any.

        Raises:
            EngineError: also where the work raises.
        """
        spark, count = self.rows.sparkSession, len(cuts) + 1
        keys = self.flown(lambda: slots(spark, count))
        rows = self.rows.mapInArrow(partial(tasks.cut, self.read, column, tuple(cuts), tuple(keys)), tasks.CUT)
        if needs:
            parts = reduce(type(rows).unionByName, _sent(spark, tasks.parcels(files)))
            asked = [(keys[shard], name) for shard, names in enumerate(needs) for name in names]
            wanted = spark.createDataFrame(asked, "slot int, name string").join(parts, "name")
            rows = rows.unionByName(wanted.select(*rows.columns))
        numbers = {key: shard for shard, key in enumerate(keys)}
        made, held = _held(
            rows.repartition(count, "slot").mapInArrow(partial(tasks.make, work, numbers, __version__), tasks.MADE)
        )
        answers = made.where(made.kind.isin(TOLD, ERROR)).select("shard", "kind", "data")
        told = sorted(self.flown(answers.collect), key=lambda row: row.shard)
        for row in told:
            if row.kind == ERROR:
                raise error_of(bytes(row.data))
        return Shards(self, made, tuple(bytes(row.data) for row in told), held)

    def flown(self, action: Callable[[], T]) -> T:
        """What Spark answers; where nobody waits for it any more, it is interrupted.

        Raises:
            EngineError: Spark gave up.
        """
        spark, tag = self.rows.sparkSession, f"forecastcore-{uuid4().hex}"

        def fly() -> T:
            tagged(spark, tag)
            return action()

        with ThreadPoolExecutor(1) as crew:
            flight = crew.submit(fly)
            try:
                return flight.result()
            except Exception as error:
                raise EngineError(f"Spark gave up: {said(error)}", hint=mend(str(error))) from error
            finally:
                if not flight.done():
                    interrupt(spark, tag, own=self.engine.master is not None)


@dataclass(frozen=True)
class Shards:
    """What was made of a source, on the workers; a context manager that lets it go.

    Attributes:
        spread: of what.
        made: all of it.
        told: what the driver is to know, in the order of the shards.
        held: whether workers hold it; if not it is made anew whenever it is asked for.
    """

    spread: Spread
    made: DataFrame
    told: tuple[bytes, ...]
    held: bool = True

    def __enter__(self) -> Self:
        """Nothing: it is there."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let workers forget it."""
        self.let_go()

    def let_go(self) -> None:
        """Let workers forget it; that of a session that has ended is gone."""
        with suppress(Exception):  # what is told by then is worth more
            self.made.unpersist()

    def answered(self, work: Callable[[pa.Table], bytes], rows: Mapping[str, Ranges]) -> dict[str, bytes]:
        """What is said of some rows of what was made, by kind.

        Args:
            work: importable function of a table.
            rows: which of each kind; of these kinds each shard has one thing at most, the bytes of an Arrow stream.

        Raises:
            EngineError: also where the work raises, or something is not there any more.
        """
        asked = self._of(*rows).select("kind", "data")
        told = asked.mapInArrow(partial(tasks.answered, work, rows, __version__), tasks.ANSWERED)
        parts: dict[str, list[bytes]] = {}
        for row in sorted(self.spread.flown(told.collect), key=lambda row: (row.kind, row.place)):
            if row.error:
                raise error_of(bytes(row.data))
            parts.setdefault(row.kind, []).append(row.data)
        if len(parts) < len(rows):
            raise lost()
        return {kind: b"".join(data) for kind, data in parts.items()}

    def picked(self, takes: Mapping[str, Sequence[Take]]) -> DataFrame:
        """Rows of pieces of a panel, on their way to the units that need them; see `tasks.picked`."""
        return self._of(*takes).select("kind", "data").mapInArrow(partial(tasks.picked, takes), tasks.PICKED)

    def frame(self, kind: str, finish: Callable[[pa.Table], pa.Table], schema: pa.Schema) -> DataFrame:
        """The rows of a kind as Spark's own; none of them comes to the driver.

        Args:
            kind: of which each answer is the bytes of an Arrow stream.
            finish: importable function that is still to be applied.
            schema: of what it returns.
        """
        return self._of(kind).select("data").mapInArrow(partial(tasks.finished, finish), _ddl(schema))

    def table(self, kind: str) -> pa.Table:
        """The rows of a kind, brought here, in the order of the shards."""
        import pyarrow as pa

        def gather() -> list[tuple[int, int, pa.Table]]:
            answers = self._of(kind).select("shard", "place", "data").toLocalIterator()
            return [(row.shard, row.place, table_of(bytes(row.data))) for row in answers]

        found = sorted(self.spread.flown(gather), key=lambda one: one[:2])
        return pa.concat_tables([table for *_, table in found])

    def _of(self, *kinds: str) -> DataFrame:
        return self.made.where(self.made.kind.isin(*kinds))


def spread_parts(engine: SparkEngine, parts: Sequence[str], read: Callable[[str], Iterable[pa.RecordBatch]]) -> Spread:
    """A source whose parts workers read themselves.

    Args:
        engine: whose session.
        parts: their names, in order.
        read: importable function that reads one.

    Raises:
        EngineError: no session can be had.
    """
    spark = open_session(engine.master, engine.remote, engine.conf)
    count = max(1, min(len(parts), engine.tasks))
    keys = slots(spark, count)
    numbered = [(keys[number % count], number, part) for number, part in enumerate(parts)]
    rows = spark.createDataFrame(numbered, "slot int, number bigint, part string").repartition(count, "slot")
    return Spread(engine, rows.select("number", "part"), read)


def spread_frame(engine: SparkEngine, frame: Any) -> Spread | None:
    """A source that Spark reads; None where it is another session's than the engine's."""
    spark: SparkSession = open_session(engine.master, engine.remote, engine.conf)
    return Spread(engine, frame) if frame.sparkSession is spark else None


def _sent(spark: SparkSession, parcels: Iterable[tuple[str, int, bytes]]) -> Iterator[DataFrame]:
    """Parts of parcels as Spark's, some megabytes at a time."""
    held: list[tuple[str, int, bytes]] = []
    for parcel in parcels:
        held.append(parcel)
        if sum(len(data) for *_, data in held) > _SENT:
            yield spark.createDataFrame(held, _PARCEL)
            held = []
    if held:
        yield spark.createDataFrame(held, _PARCEL)


def _held(frame: DataFrame) -> tuple[DataFrame, bool]:
    """The frame, held by the workers that made it, where the cluster can: serverless ones make it anew."""
    try:
        return frame.persist(), True
    except Exception as error:
        if "NOT_SUPPORTED" not in str(error):
            raise
        return frame, False


def _ddl(schema: pa.Schema) -> str:
    words = {"double": "double", "int32": "int", "string": "string", "timestamp[us, tz=UTC]": "timestamp"}
    return ", ".join(f"`{field.name}` {words[str(field.type)]}" for field in schema)
