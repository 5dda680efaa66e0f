"""Shows how far a run is: bars on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

from forecastcore.ports import Steps

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Progress"]

T = TypeVar("T")

#: seconds between plain lines of one stage
_PATIENCE = 10.0


class Progress(Steps):
    """Tells each stage's name and seconds, and how many of its units are done."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._told = 0.0

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Do one stage and say how long it took."""
        started = self._told = time.monotonic()
        if self._terminal:
            self._open(name)
        try:
            return work()
        finally:
            self._close()
            sys.stderr.write(f"{name:<34} {time.monotonic() - started:6.1f} s\n")

    def progress(self, name: str, done: int, total: int) -> None:
        """Move the bar, or write a line now and then."""
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        elif not self._terminal and time.monotonic() - self._told > _PATIENCE:
            self._told = time.monotonic()
            sys.stderr.write(f"{name:<34} {done} of {total}\n")

    def _open(self, name: str) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            desc=name,
            total=1,
            leave=False,
            file=sys.stderr,
            bar_format="{desc:<34} {bar:20} {n_fmt}/{total_fmt} {elapsed}",
        )

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
