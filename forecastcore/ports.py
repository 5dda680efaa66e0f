"""What the use cases see of the outside: engines and the model store, as protocols.

The adapters (`tracking`, `engines`) follow them; nothing below the use cases imports an adapter.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from forecastcore.frames import Answer, History
    from forecastcore.messages import LedgerEntry, ModelVersion
    from forecastcore.timegrid import TimeGrid

__all__ = ["Engine", "ModelStore", "Past", "Run", "Span", "Steps", "Unit"]

T = TypeVar("T")


@dataclass(frozen=True)
class Unit:
    """One piece of work.

    Attributes:
        ids: series of the chunk; None for the whole panel.
        request: what to do, as JSON text.
        barred: series of the chunk that the work's model must not be given, and why, by `unique_id`.
        folder: files that the work reads; None for none. The engine brings them to where the work is done.
        reads: folders below it that are read, beside the files that lie in it; empty for all.
    """

    ids: tuple[str, ...] | None
    request: str
    barred: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    reads: tuple[str, ...] = ()

    @property
    def order(self) -> str:
        """The request as the work gets it, with `barred` and the path of `folder` in it where there are such."""
        more: dict[str, Any] = {"barred": dict(self.barred)} if self.barred else {}
        if self.folder is not None:
            more["folder"] = str(self.folder)
        return json.dumps({**json.loads(self.request), **more}) if more else self.request


class Span(Protocol):
    """Where a history lies in time."""

    @property
    def grid(self) -> TimeGrid:
        """The time grid, anchored on the data."""
        ...

    @property
    def origin(self) -> pd.Timestamp:
        """The last instant."""
        ...

    @property
    def first(self) -> pd.Timestamp:
        """The first instant of any series."""
        ...


class Past(Span, Protocol):
    """A checked history as it was known at its origin, wherever its rows lie.

    They lie in this process (`frames.History`), or on the workers of a cluster (`runs.history.SpreadHistory`). Whoever
    learns from a history knows its series and asks the rest: one question, answered for all series at once or for some
    at a time, so the answers of some series must say what the one of all of them says.
    """

    @property
    def newest(self) -> pd.Timestamp | None:
        """The last instant at which any series has a value; None where none has."""
        ...

    @property
    def ids(self) -> list[str]:
        """All series, sorted."""
        ...

    @property
    def sizes(self) -> npt.NDArray[np.intp]:
        """Rows of each series."""
        ...

    @property
    def digest(self) -> str:
        """Of all rows; see `frames.data_digest`."""
        ...

    @property
    def counts(self) -> Mapping[str, int]:
        """Repairs of the quality check by kind."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What else a reader should know, in words."""
        ...

    @property
    def panel(self) -> Any:
        """What an engine cuts its units from."""
        ...

    def ask(self, question: Callable[[History], Answer]) -> Iterator[Answer]:
        """What is asked of the rows, in the order of series; there need not be more than some answers at a time.

        Args:
            question: importable function, or a `partial` of one, of a history of some or all of the series; makes
                arrays by name.
        """
        ...

    def of(self, ids: Collection[str]) -> Past:
        """That of some of the series, where it lies."""
        ...

    @property
    def here(self) -> History:
        """The same in this process; to be asked of a few series only."""
        ...


class Run(Protocol):
    """One tracked run; a context manager that ends it as finished, failed or killed."""

    @property
    def run_id(self) -> str:
        """The tracker's id; empty where the run began while the tracker was away."""
        ...

    @property
    def waiting(self) -> str:
        """Where is kept what the tracker has not been told of this run; empty where it knows all."""
        ...

    def __enter__(self) -> Self:
        """Start the run."""
        ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """End it truthfully: FAILED with the error's words in a tag when one passes through."""
        ...

    def child(self, name: str) -> Run:
        """A run under this one."""
        ...

    def params(self, values: Mapping[str, Any]) -> None:
        """Record parameters as text."""
        ...

    def metrics(self, values: Mapping[str, float], *, step: int = 0) -> None:
        """Record metrics; values that are not finite are left out."""
        ...

    def tags(self, values: Mapping[str, str]) -> None:
        """Record tags."""
        ...

    def json(self, name: str, value: Any) -> None:
        """Store a JSON document as an artifact."""
        ...

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Store a frame as a Parquet artifact."""
        ...

    def file(self, path: Path, *, folder: str = "") -> None:
        """Store a file as an artifact."""
        ...

    def dataset(self, shown: pd.DataFrame, *, rows: int, digest: str, name: str, source: str, context: str) -> None:
        """Record which data was used: how many rows, their digest, and the schema that some of them show."""
        ...


class ModelStore(Protocol):
    """Runs, registered versions, and the promotion ledger of one project."""

    def run(self, name: str, *, tags: Mapping[str, str], lasting: bool = False) -> Run:
        """A new parent run, to be entered with `with`.

        Args:
            name: for people.
            tags: its first ones.
            lasting: whether what it records is kept on this machine while the tracker is away; see `catch_up`.
        """
        ...

    def register(self, run: Run, folder: Path, *, example: tuple[pd.DataFrame, pd.DataFrame]) -> ModelVersion:
        """Store `folder` (a packed model, see `package`) under `run` and register it as the challenger.

        While the tracker is away, a lasting run's model is kept for later: the version has no number yet.

        Args:
            run: the run it was made in.
            folder: the packed model.
            example: a few rows of input and the forecast they give: the signature is taken from them.
        """
        ...

    def defer(self, run: Run, settlement: Mapping[str, Any]) -> str:
        """Keep a decision that cannot be put on the ledger now, behind all else that its run has to tell; where."""
        ...

    def behind(self) -> list[Path]:
        """What runs could not tell while the tracker was away: a folder each, the oldest first."""
        ...

    def catch_up(self, settle: Callable[[str, Mapping[str, Any]], str]) -> list[str]:
        """Tell what runs could not tell; what was told before is not told twice.

        Args:
            settle: carries out a decision that was deferred, given its run's id and what `defer` was given; says what
                became of it.

        Returns:
            What was told, in words.

        Raises:
            TrackingAway: the tracker is still away.
        """
        ...

    def versions(self) -> list[ModelVersion]:
        """All registered versions, newest first."""
        ...

    def resolve(self, which: str) -> ModelVersion | None:
        """The version meant by `champion`, `challenger`, `previous`, a number or a run id; None where there is none.

        `champion` and `previous` are read from the ledger, never from the alias.
        """
        ...

    def fetch(self, version: ModelVersion) -> Path:
        """A local folder with the version's files as registered; digests are checked before any file is parsed.

        Raises:
            StateError: a file is missing or is not what was registered.
        """
        ...

    def book(self, run_id: str, numbers: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Add metrics and tags to a run that is over."""
        ...

    def close(self, run_id: str, why: str) -> bool:
        """End as killed a run that goes on for ever; false where somebody else has ended it."""
        ...

    def parameter(self, run_id: str, name: str) -> str | None:
        """A parameter of a run; None where there is no such run or parameter."""
        ...

    def document(self, run_id: str, name: str) -> Any:
        """A JSON document that `Run.json` stored in a run; None where there is none."""
        ...

    def ledger(self) -> list[LedgerEntry]:
        """All decisions, oldest first."""
        ...

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        """Write the next decision, then project it onto the aliases.

        Args:
            entry: its `seq` must be one more than that of the last entry the writer has read.

        Raises:
            LedgerConflict: another decision took that number.
        """
        ...


class Engine(Protocol):
    """Runs one pure function over chunks of whole series."""

    def map(self, work: Callable[[pd.DataFrame, str], T], panel: Any, units: Sequence[Unit]) -> Iterator[tuple[int, T]]:
        """Apply `work(chunk, unit.order)` to each unit; yield (number of the unit, answer) as they come.

        A series that ends the worker, or holds it up for too long, is looked for; then the unit is done once more with
        that series barred. So the work must bear being done again.

        The work may be done on another machine: what it needs is in its arguments, what it made is in its answer.

        Args:
            work: importable function of the unit's part of the panel and the unit's request. Its answer is a frame or
                bytes: no engine has to carry anything else.
            panel: a frame sorted by series and time, or what a `Past` has of it.
            units: what to do.

        Raises:
            EngineError: a worker dies or runs out of time whichever series are barred.
        """
        ...


class Steps:
    """Runs the stages of a use case one after the other; override to watch them.

    The command line draws progress bars with it, a Prefect flow makes each stage a task.
    """

    def run(self, name: str, work: Callable[[], T]) -> T:  # noqa: ARG002 - for those who watch
        """Do one stage and return what it returns."""
        return work()

    def progress(self, name: str, done: int, total: int) -> None:
        """Be told how far the stage `name` is."""
