"""What a check says, what it is given, and how it is run."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from forecastcore.errors import ForecastCoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from forecastcore.api import Source
    from forecastcore.engines.databricks.supervisor import Supervisor
    from forecastcore.frames import History
    from forecastcore.messages import LedgerEntry, ModelVersion
    from forecastcore.project import Project
    from forecastcore.tracking.store import MlflowStore

__all__ = ["Fault", "Finding", "Patient", "Seen", "Skip", "found"]


class Fault(Exception):  # noqa: N818 - reads as what it is
    """Something that matters is broken.

    Attributes:
        detail: what was tried, where, as whom, and what came of it.
        mend: what to do about it.
    """

    def __init__(self, detail: str, mend: str) -> None:
        super().__init__(detail)
        self.detail: str = detail
        self.mend: str = mend


class Skip(Exception):  # noqa: N818 - reads as what it is
    """The check does not apply, or cannot be made; its words say why."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one check.

    Attributes:
        name: of the check.
        status: `ok`, `failed` or `skipped`.
        detail: what was tried and found, or why not.
        mend: what to do, where it failed.
    """

    name: str
    status: Literal["ok", "failed", "skipped"]
    detail: str
    mend: str = ""


@dataclass(frozen=True)
class Seen:
    """The store, and what it holds: versions newest first, decisions oldest first, aliases that should be otherwise."""

    store: MlflowStore
    versions: Sequence[ModelVersion]
    ledger: Sequence[LedgerEntry]
    astray: Mapping[str, str | None]


@dataclass
class Patient:
    """What the checks look at; a check that gets at a thing leaves it here for those after it.

    Attributes:
        path: the project file or its folder; None where there is none.
        overrides: as `--set` gives them.
        plugins: as `--plugin` gives them.
        project: there once the file is found valid.
        source: there once it answers.
        history: there once it is read.
        store: there once the model store answers: what it holds.
        databricks: there once the workspace of the engine answers.
        closing: closes what stays open until the last check.
        broken: checks whose fault keeps others from being made.
    """

    path: str | Path | None
    overrides: tuple[str, ...]
    plugins: tuple[str | Path, ...]
    project: Project | None = None
    source: Source | None = None
    history: History | None = None
    store: Seen | None = None
    databricks: Supervisor | None = None
    closing: ExitStack = field(default_factory=ExitStack)
    broken: set[str] = field(default_factory=set)

    def need(self, thing: str, check: str) -> Any:
        """What an earlier check should have left.

        Raises:
            Skip: it did not.
        """
        there = getattr(self, thing)
        if there is None:
            raise Skip("there is no project" if self.path is None else f"needs what `{check}` looks at")
        return there


def found(name: str, check: Callable[[Patient], str], patient: Patient) -> Finding:
    """Run one check; whatever it raises is its finding."""
    from forecastcore.tracking.connect import mask

    try:
        return Finding(name=name, status="ok", detail=check(patient))
    except Skip as reason:
        return Finding(name=name, status="skipped", detail=str(reason))
    except Fault as fault:
        detail, mend = fault.detail, fault.mend
    except ForecastCoreError as error:
        detail, mend = error.message, error.hint or "the message says what is wrong; -v shows more"
    except Exception as error:  # noqa: BLE001 - a broken thing breaks in its own way
        detail, mend = f"{type(error).__name__}: {error}", "look at the message; nothing else is known"
    return Finding(name=name, status="failed", detail=mask(detail), mend=mend)
