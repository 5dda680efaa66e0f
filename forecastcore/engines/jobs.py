"""Whole runs side by side: in processes of this machine, or in threads where one Spark session serves them all."""

from __future__ import annotations

import os
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any, TypeVar

from forecastcore.engines.pool import broken, live_no_longer_than

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["in_processes", "in_threads"]

A = TypeVar("A")
T = TypeVar("T")


def in_processes(work: Callable[[A], T], asked: Sequence[A], jobs: int) -> Iterator[tuple[int, T | None]]:
    """Do some pieces of work, each in a process of its own kind, so many at a time.

    Args:
        work: importable function; what it gets and what it answers is pickled.
        asked: what to do.
        jobs: processes.

    Yields:
        Number of the piece and its answer, as they come; None where a process ended before it answered. Where nobody
        listens to the end, no process goes on.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    pool: Any = ProcessPoolExecutor(jobs, initializer=live_no_longer_than, initargs=(os.getpid(),))
    ended = False
    try:
        for number, future in _as_they_come(pool, work, asked):
            yield number, None if isinstance(future.exception(), broken()) else future.result()
        ended = True
    finally:
        pool.shutdown(wait=True, kill_workers=not ended)


def in_threads(work: Callable[[A], T], asked: Sequence[A], jobs: int) -> Iterator[tuple[int, T | None]]:
    """Do some pieces of work in threads of this process; see `in_processes`. What has begun is always done."""
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for number, future in _as_they_come(pool, work, asked):
                yield number, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _as_they_come(pool: Executor, work: Callable[[A], T], asked: Sequence[A]) -> Iterator[tuple[int, Any]]:
    flying = {pool.submit(work, one): number for number, one in enumerate(asked)}
    for future in as_completed(flying):
        yield flying[future], future
