"""Answers kept on disk until the run that asked for them is over, so that one that was broken off goes on where it was.

An answer is found again by all that it depends on: the work, its request, the panel, and whatever else the run names
(see `KeptAnswers`). Nothing has to be told of a run before: the same question finds the same answer.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

import pandas as pd

from forecastcore.engines.wire import answer_of, pieces_of
from forecastcore.errors import DataError
from forecastcore.frames import data_digest
from forecastcore.state.digests import make_private_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from forecastcore.ports import Engine, Unit

__all__ = ["KeptAnswers", "abandoned"]

T = TypeVar("T")
_log = logging.getLogger(__name__)
#: seconds after which nobody comes back for an answer
_LIFE = 7 * 86400.0
#: seconds after which nobody is still writing an answer
_HALF = 3600.0
_MARK = b"forecastcore 1 "


@dataclass
class KeptAnswers:
    """An engine whose answers outlive a run that is broken off; a context manager whose good end forgets them.

    Attributes:
        engine: who does what has not been done.
        folder: where answers lie; made when the first one comes.
        basis: what an answer depends on beside its unit and its panel, such as versions of code.
        found: answers that were there.
    """

    engine: Engine
    folder: Path
    basis: str
    found: int = 0
    _mine: set[Path] = field(default_factory=set)
    _panel: tuple[Any, str] = (None, "")
    _broken: bool = False

    def __enter__(self) -> Self:
        """Throw away what nobody came back for."""
        for path in abandoned(self.folder):
            path.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Forget the answers, or say that they are kept; a run that is held for its data has come to its end too."""
        if kind is None or issubclass(kind, DataError):
            for path in self._mine:
                path.unlink(missing_ok=True)
            if self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()
        elif self._mine:
            _log.warning("%d pieces of work are done and kept: the same command goes on from there", len(self._mine))

    @property
    def remarks(self) -> list[str]:
        """What is to be said of answers that were there."""
        return [f"{self.found} pieces of work were done already, by a run that was broken off"] if self.found else []

    def map(self, work: Callable[[pd.DataFrame, str], T], panel: Any, units: Sequence[Unit]) -> Iterator[tuple[int, T]]:
        """See `ports.Engine.map`; what was answered before comes first."""
        paths = [self.folder / name for name in self._names(work, panel, units)]
        left = []
        for number, path in enumerate(paths):
            data = _read(path)
            if data is None:
                left.append(number)
            else:
                self._mine.add(path)
                self.found += 1
                yield number, answer_of([data])
        for place, answer in self.engine.map(work, panel, [units[number] for number in left]) if left else ():
            self._keep(paths[left[place]], answer)
            yield left[place], answer

    def _names(self, work: Callable[..., Any], panel: Any, units: Sequence[Unit]) -> Iterator[str]:
        if panel is not self._panel[0]:
            self._panel = (panel, data_digest(panel) if isinstance(panel, pd.DataFrame) else panel.digest)
        about = [self.basis, self._panel[1], f"{work.__module__}.{work.__qualname__}"]
        for unit in units:
            told = json.dumps([*about, unit.ids, unit.request, dict(unit.barred), unit.reads])
            yield hashlib.sha256(told.encode()).hexdigest()

    def _keep(self, path: Path, answer: Any) -> None:
        """Write an answer whole or not at all; a disk that takes no more costs the resumption, not the run."""
        if self._broken:
            return
        pieces = pieces_of(answer)
        seal = hashlib.sha256(pieces[0])
        seal.update(pieces[1])
        new = path.with_name(f"{path.name}.{os.getpid()}")
        try:
            make_private_folder(self.folder)
            with new.open("wb") as out:
                out.writelines([_MARK, seal.digest(), *pieces])
            new.replace(path)
        except OSError as error:
            self._broken = True
            _log.warning("what is done is not kept, so a run that is broken off starts anew: %s", error)
        else:
            self._mine.add(path)


def abandoned(folder: Path) -> list[Path]:
    """Answers that nobody came back for, and halves whose writer is no more; nothing is changed."""
    ages = {path: time.time() - _made(path) for path in sorted(folder.glob("*")) if path.is_file()}
    return [path for path, age in ages.items() if age > (_HALF if path.suffix else _LIFE)]


def _made(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another run was done with it
        return time.time()


def _read(path: Path) -> bytes | None:
    """A kept answer's bytes; None where there is none that is whole."""
    try:
        held = path.read_bytes()
    except OSError:
        return None
    seal, data = held[len(_MARK) : len(_MARK) + 32], held[len(_MARK) + 32 :]
    return data if held.startswith(_MARK) and hashlib.sha256(data).digest() == seal else None
