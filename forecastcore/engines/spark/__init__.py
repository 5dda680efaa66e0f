"""Runs units as tasks of Spark: a local session, a Spark Connect server, or the session that is there.

The panel crosses as pieces of whole series, each a row with the bytes of an Arrow stream: instants keep their
nanoseconds, and Spark has nothing to convert. Pieces come from the driver, or from workers that hold them (`panel`). A
unit becomes a task, which gets the pieces it needs and does the work as the local engine does it: in a process beside
the Spark worker. So a series that ends or holds up that process is found by the same halving and costs that series
only, and no Spark task fails for it. Answers come back as bytes too.

`mapInArrow`, not a grouped function: it is in every Spark since 3.3, it streams, and one partition for each unit is
asked for by number, which adaptive execution leaves alone; it would put groups of so few bytes into one task.

Nothing is used that Spark Connect lacks: no RDD, no context, no JVM. Units go in waves; while the answers of one are
handed on the next is under way, so the driver holds a few waves however many series there are.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

import pandas as pd

from forecastcore import __version__
from forecastcore.engines.spark.session import check_session, interrupt, mend, open_session, said, tagged
from forecastcore.engines.spark.slots import slots
from forecastcore.engines.spark.waves import Wave, waves
from forecastcore.engines.spark.worker import ANSWER, serve
from forecastcore.engines.wire import answer_of, error_of
from forecastcore.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession

    from forecastcore.engines.spark.panel import SpreadPanel
    from forecastcore.engines.spark.spread import Shards
    from forecastcore.ports import Unit

__all__ = ["SparkEngine", "check_session"]

T = TypeVar("T")

#: waves under way: while one waits for its last unit the next uses the other cores
_FLYING = 2


@dataclass(frozen=True)
class SparkEngine:
    """Tasks of a Spark session.

    Attributes:
        master: where a session made here runs, such as `local[2]`; None for a session that is there.
        remote: a Spark Connect server, such as `sc://host:15002`.
        conf: Spark settings of a session made here.
        tasks: most units of a wave.
        timeout: seconds that a unit may take.
    """

    master: str | None = None
    remote: str | None = None
    conf: Mapping[str, Any] = field(default_factory=dict)
    tasks: int = 64
    timeout: float = 3600.0

    def map(
        self, work: Callable[[pd.DataFrame, str], T], panel: pd.DataFrame | SpreadPanel, units: Sequence[Unit]
    ) -> Iterator[tuple[int, T]]:
        """See `ports.Engine.map`. Of a panel that workers hold, no row comes to the driver.

        Raises:
            EngineError: also where no session can be had, Spark gives up, or the work raises.
        """
        spark = open_session(self.master, self.remote, self.conf)
        tag = f"forecastcore-{uuid4().hex}"
        shards = None if isinstance(panel, pd.DataFrame) else panel.shards
        fly = partial(_fly, spark, partial(serve, work, self.timeout, __version__), tag, shards)
        flights: deque[Future[dict[int, deque[bytes]]]] = deque()
        with ThreadPoolExecutor(_FLYING) as crew:
            try:
                for wave in waves(panel, units, self.tasks):
                    if len(flights) == _FLYING:
                        yield from _landed(flights.popleft())
                    flights.append(crew.submit(fly, wave))
                while flights:
                    yield from _landed(flights.popleft())
            finally:
                if flights:  # nobody waits for them any more
                    for flight in flights:
                        flight.cancel()
                    interrupt(spark, tag, own=self.master is not None)


def _fly(
    spark: SparkSession, worker: Callable[..., Any], tag: str, shards: Shards | None, wave: Wave
) -> dict[int, deque[bytes]]:
    """The parts of the answers of one wave."""
    from pyspark.sql import functions as sql

    try:
        tagged(spark, tag)
        keys = slots(spark, len(wave.orders))
        slot = dict(zip(wave.orders, keys, strict=True))
        asked: list[tuple[int, str | None, str | None]] = []
        for unit, order in wave.orders.items():
            asked += [(slot[unit], None, order), *((slot[unit], piece, None) for piece in wave.needs[unit])]
        needs = spark.createDataFrame(asked, "slot int, piece string, request string")
        needs = needs.withColumn("rows", sql.lit(None).cast("binary"))
        if shards is not None:
            takes = {
                kind: [(slot[unit], name, spans) for unit, name, spans in going] for kind, going in wave.takes.items()
            }
            held = shards.picked(takes).selectExpr("slot", "piece", "cast(null as string) as request", "data as rows")
            needs = needs.unionByName(held)
        pieces = spark.createDataFrame([*wave.pieces.items()], "piece string, file binary")
        tasks = needs.repartition(len(keys), "slot").join(sql.broadcast(pieces), "piece", "left")
        given = tasks.select(sql.coalesce("rows", "file").alias("data"), "piece", "request")
        rows = given.mapInArrow(worker, ANSWER).collect()
    except Exception as error:
        raise EngineError(f"Spark gave up: {said(error)}", hint=mend(str(error))) from error
    found: dict[int, deque[bytes]] = {}
    for row in sorted(rows, key=lambda row: (row.unit, row.place)):
        if row.error:
            raise error_of(bytes(row.data))
        found.setdefault(row.unit, deque()).append(row.data)
    if missing := wave.orders.keys() - found.keys():
        raise EngineError(f"Spark gave no answer to {len(missing)} of {len(wave.orders)} units")
    return found


def _landed(flight: Future[dict[int, deque[bytes]]]) -> Iterator[tuple[int, Any]]:
    """The answers of a wave, each put together when it is its turn, and its parts let go meanwhile."""
    found = flight.result()
    for unit in [*found]:
        parts = found.pop(unit)
        yield unit, answer_of(parts.popleft() for _ in range(len(parts)))
