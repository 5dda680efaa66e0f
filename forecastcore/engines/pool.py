"""A pool of processes that loses no unit: a series that ends or holds up a worker is found and barred.

Workers are loky's: started afresh, never forked, kept for the next map, one thread each unless the request says more.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from forecastcore.errors import EngineError
from forecastcore.guard import culprits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from forecastcore.ports import Unit

    Call = Callable[[Unit], tuple[Callable[..., Any], *tuple[Any, ...]]]

__all__ = ["Pool", "WorkerLostError", "broken", "live_no_longer_than", "wake"]

T = TypeVar("T")

#: threads of a worker's libraries; the work itself may ask for more
_ENVIRONMENT = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
#: seconds that an idle worker waits for the next map before it ends
_IDLE = 300
#: seconds that a part of a chunk is given on top of its share
_GRACE = 5.0
#: seconds within which a worker must have started
_START = 120.0
#: the number of a unit that flies by itself
_ALONE = -1
#: seconds between two looks at the clock
_TICK = 0.2
#: seconds within which what was sent lies in the workers' queue
_SETTLED = 0.5
#: seconds between two looks of a worker at its parent
_LOOK = 1.0


class WorkerLostError(Exception):
    """A worker ended, or was ended, before it answered.

    Attributes:
        code: `worker-died` or `timed-out`; the reason of the rows of a series that is to blame.
    """

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, eq=False)
class _Flight(Generic[T]):
    """A unit on its way.

    Attributes:
        unit: what was sent.
        future: its answer to come.
        marker: a file that is there once a worker has begun.
        sent: clock when it was sent.
        limit: seconds from the beginning.
    """

    unit: Unit
    future: Future[T]
    marker: Path
    sent: float
    limit: float

    @property
    def late(self) -> bool:
        """It has not answered within the limit; the time that a worker takes to start does not count."""
        if self.future.done():
            return False
        try:
            return time.time() - self.marker.stat().st_mtime > self.limit
        except FileNotFoundError:
            return time.time() - self.sent > self.limit + _START

    @property
    def died(self) -> bool:
        """Its worker ended without an answer."""
        return self.future.done() and isinstance(self.future.exception(), broken())


class Pool(Generic[T]):
    """Sends units to worker processes.

    Args:
        workers: processes.
        timeout: seconds that a unit may take.
        call: an importable function and its arguments for a unit.
        ids: all series of the panel, in order; the chunk of a unit that names none.
        folder: for files that live as long as the map.
    """

    #: workers that were started: those that a small map does not need are kept for the next one
    alive: ClassVar[int] = 0

    def __init__(self, workers: int, timeout: float, call: Call, ids: Sequence[str], folder: Path) -> None:
        self._workers, self._timeout, self._call, self._ids, self._folder = workers, timeout, call, tuple(ids), folder
        self._executor: Any = None
        self._flying: dict[int, _Flight[T]] = {}
        self._sent = 0

    def map(self, units: Sequence[Unit]) -> Iterator[tuple[int, T]]:
        """See `ports.Engine.map`. Where it ends early, no worker goes on; else they wait for the next map."""
        try:
            yield from self._answers(units)
        except BaseException:
            if self._flying:
                self._stop()
            raise

    def _answers(self, units: Sequence[Unit]) -> Iterator[tuple[int, T]]:
        waiting = deque(range(len(units)))
        while waiting or self._flying:
            self._fill(waiting, units)
            lost = self._landed(self._flying.values())
            there = [n for n, flight in self._flying.items() if flight.future.done() and not flight.died]
            landed, suspects = {number: self._flying.pop(number) for number in there}, {}
            if lost:
                self._stop()
                suspects, self._flying = self._flying, {}
            else:  # before the answers are handed out: no worker waits for whoever takes them
                self._fill(waiting, units)
            for number, flight in landed.items():
                yield number, flight.future.result()
            for number, flight in suspects.items():
                yield number, self._alone(flight.unit, lost.get(flight))

    def _fill(self, waiting: deque[int], units: Sequence[Unit]) -> None:
        """Keep every worker busy, and one unit more on the way."""
        while waiting and len(self._flying) <= self._workers:
            number = waiting.popleft()
            self._flying[number] = self._send(units[number], self._timeout, self._workers)

    def _landed(self, flights: Iterable[_Flight[T]]) -> dict[_Flight[T], str]:
        """Wait until something has happened; the flights that were lost, and how."""
        flights = list(flights)
        while True:
            done, _ = wait([flight.future for flight in flights], timeout=_TICK, return_when=FIRST_COMPLETED)
            lost = {flight: "timed-out" for flight in flights if flight.late}
            lost |= {flight: "worker-died" for flight in flights if flight.died}
            if done or lost:
                return lost

    def _alone(self, unit: Unit, code: str | None) -> T:
        """The answer of a unit that was lost: it is tried by itself, then without the series that are to blame."""
        ids = unit.ids or self._ids
        if code != "timed-out":  # another unit may be to blame: when one worker dies, its neighbours' answers are lost
            try:
                return self._run(unit, self._timeout)
            except WorkerLostError as lost:
                code = lost.code

        def attempt(some: Sequence[str]) -> None:
            self._run(replace(unit, ids=tuple(some)), self._timeout * len(some) / len(ids) + min(self._timeout, _GRACE))

        found: dict[str, BaseException] = culprits(attempt, ids) if len(ids) > 1 else {ids[0]: WorkerLostError(code)}
        try:
            # Where each alone is fine and all together are not, none of them.
            guilty = _codes(found) or dict.fromkeys(ids, code)
            return self._run(replace(unit, barred={**unit.barred, **guilty}), self._timeout)
        except WorkerLostError as lost:
            raise EngineError(
                f"a worker process {_WORDS[lost.code]}, whichever series it was not given",
                hint="raise engine.timeout, or leave out the heaviest candidate under models:",
            ) from lost

    def _run(self, unit: Unit, seconds: float) -> T:
        """One unit, nothing beside it."""
        flight = self._flying[_ALONE] = self._send(unit, seconds, 1)
        lost = self._landed([flight])
        del self._flying[_ALONE]
        if lost:
            self._stop()
            raise WorkerLostError(lost[flight])
        return flight.future.result()

    def _send(self, unit: Unit, seconds: float, workers: int) -> _Flight[T]:
        self._executor = _workers(workers)
        self._sent += 1
        marker = self._folder / f"begun-{self._sent}"
        future: Future[T] = self._executor.submit(_begin, str(marker), *self._call(unit))
        return _Flight(unit, future, marker, time.time(), seconds)

    def _stop(self) -> None:
        if self._executor is not None:
            _settle(self._executor)
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor, Pool.alive = None, 0


def _settle(executor: Any) -> None:
    """Wait until what was sent lies in the workers' queue.

    Loky's manager moves it there in a moment; where workers are killed before that, it stumbles over it, and says so.
    """
    deadline = time.monotonic() + _SETTLED
    while executor._work_ids.qsize() and time.monotonic() < deadline:  # noqa: SLF001 - nothing public tells
        time.sleep(0.001)


def _workers(least: int) -> Any:
    """The process pool of this process, with so many workers or more."""
    from joblib.externals.loky import get_reusable_executor

    Pool.alive = max(Pool.alive, least)
    return get_reusable_executor(
        max_workers=Pool.alive,
        timeout=_IDLE,
        env=_ENVIRONMENT,
        initializer=live_no_longer_than,
        initargs=(os.getpid(),),
    )


def wake() -> None:
    """Start a worker, and let it import what all work needs, while this process does something else."""
    _workers(1).submit(_import, "forecastcore.package")


def _import(module: str) -> None:
    import_module(module)


def _begin(marker: str, function: Callable[..., T], *arguments: Any) -> T:
    Path(marker).touch()
    return function(*arguments)


def live_no_longer_than(parent: int) -> None:
    """End this process when the one that started it is gone, however it went: a killed one stops no work of others.

    Args:
        parent: its process id, for it may be gone before this one can ask.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def broken() -> tuple[type[BaseException], ...]:
    """What a future raises whose process ended."""
    from joblib.externals.loky.process_executor import BrokenProcessPool, ShutdownExecutorError, TerminatedWorkerError

    return BrokenProcessPool, ShutdownExecutorError, TerminatedWorkerError


_WORDS = {"worker-died": "died", "timed-out": "ran out of time"}


def _codes(found: dict[str, BaseException]) -> dict[str, str]:
    return {
        uid: error.code if isinstance(error, WorkerLostError) else f"model-error: {error}"
        for uid, error in found.items()
    }
