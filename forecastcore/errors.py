"""What can go wrong, as one tree; each error carries data, the cause in words, and the mend.

```
ForecastCoreError            code, hint, exit code
├── UsageError               the command or the call is wrong (2)
├── ConfigError              the project file is wrong; all its problems at once (2)
├── DataError                the source cannot be used as it is (4)
│   ├── MissingColumnsError  names what is missing and what is there (2)
│   └── QualityError         the quality check held the run; shows the first bad rows (4)
├── PluginError              a plugin raised or broke its contract (1)
│   ├── PluginNotFoundError  nobody offers that name (2)
│   ├── HistoryTooShort      a model's own word for "I need more rows" (1)
│   └── AssumptionUnavailable an assumption's source is down (1)
├── StateError               a stored model is not what was stored (1)
│   └── BackupError          an archive is not what `backup` wrote (1)
├── TrackingError            MLflow or the registry failed (1)
│   └── LedgerConflict       somebody else decided in between (1)
├── EngineError              workers died or ran out of time (1)
│   └── DatabricksRunError   a run on Databricks: which fault, its address, what to do (1, or what the run said)
└── SinkError                delivery failed; the previous vintage is still served (1)
    └── CommitConflict       somebody else changed the same vintage in this moment (1)
```
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AssumptionUnavailable",
    "BackupError",
    "CommitConflict",
    "ConfigError",
    "DataError",
    "DatabricksRunError",
    "EngineError",
    "ForecastCoreError",
    "HistoryTooShort",
    "LedgerConflict",
    "MissingColumnsError",
    "PluginError",
    "PluginNotFoundError",
    "Problem",
    "QualityError",
    "SinkError",
    "StateError",
    "TrackingError",
    "UsageError",
]


class ForecastCoreError(Exception):
    """The root of every error that forecastcore raises on purpose.

    Attributes:
        code: stable, kebab-case; the same word appears in `--json` and in a row's `reason`.
        exit_code: what the command line exits with.
        hint: what to do next, or None.
    """

    code: str = "error"
    exit_code: int = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(ForecastCoreError):
    """The command or the call cannot be carried out as it was given."""

    code = "usage"
    exit_code = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One fault of a project file.

    Attributes:
        message: what is wrong, and what was expected.
        file: the file as the user named it.
        line: 1-based; None where the fault has no place in the text.
        column: 1-based; None where the fault has no place in the text.
        key: dotted path of the key.
        hint: nearest valid name, or what to do next.
        code: stable kebab-case word.
    """

    message: str
    file: str
    line: int | None = None
    column: int | None = None
    key: str = ""
    hint: str | None = None
    code: str = "config"

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        words = f"{self.key}: {self.message}" if self.key else self.message
        return f"{place}: {words} ({self.hint})" if self.hint else f"{place}: {words}"


class ConfigError(ForecastCoreError):
    """The project file is wrong; `problems` holds every fault found in it."""

    code = "config"
    exit_code = 2

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems: tuple[Problem, ...] = tuple(problems)


class DataError(ForecastCoreError):
    """The source can be read, but not used as it is."""

    code = "data"
    exit_code = 4


class MissingColumnsError(DataError):
    """Columns that the project names are not in the source."""

    code = "missing-columns"
    exit_code = 2

    def __init__(self, missing: Sequence[str], columns: Sequence[str], where: str) -> None:
        super().__init__(
            f"{where} has no column {', '.join(map(repr, missing))}",
            hint=f"it has {', '.join(map(repr, columns)) or 'no column'}; name yours under source: or covariates:",
        )
        self.missing: tuple[str, ...] = tuple(missing)
        self.columns: tuple[str, ...] = tuple(columns)
        self.where = where


class QualityError(DataError):
    """The quality check held the run.

    Attributes:
        check: the policy's key under `quality:`, or the check's own name.
        words: what is wrong, without them.
        rows: how many rows fail it.
        examples: the first of them, in words.
    """

    code = "quality"

    def __init__(
        self, check: str, message: str, *, rows: int, examples: Sequence[str] = (), hint: str | None = None
    ) -> None:
        shown = "".join(f"\n    {example}" for example in examples)
        super().__init__(f"{check}: {message}{shown}", hint=hint)
        self.check = check
        self.words = message
        self.rows = rows
        self.examples: tuple[str, ...] = tuple(examples)


class PluginError(ForecastCoreError):
    """A plugin raised, or returned what its contract does not allow.

    Attributes:
        plugin: name of the offer, such as `ets`.
        version: version of the distribution that made it, where known.
        hook: the hook or method that was called.
        series: `unique_id` at fault, where one is.
    """

    code = "plugin"

    def __init__(
        self,
        message: str,
        *,
        plugin: str = "",
        version: str = "",
        hook: str = "",
        series: str | None = None,
        hint: str | None = None,
    ) -> None:
        who = " ".join(part for part in (plugin, version, hook) if part)
        where = f" on series {series!r}" if series is not None else ""
        super().__init__(f"{who}{where}: {message}" if who or where else message, hint=hint)
        self.plugin = plugin
        self.version = version
        self.hook = hook
        self.series = series


class PluginNotFoundError(PluginError):
    """Nobody offers that name; the message says who comes nearest or what to install."""

    code = "plugin-not-found"
    exit_code = 2


class HistoryTooShort(PluginError):  # noqa: N818 - reads as the reason it becomes in the table
    """Raised by a model whose history does not suffice; the series is served by the fallback."""

    code = "history-too-short"

    def __init__(self, needed: int, got: int) -> None:
        super().__init__(f"needs {needed} observations, got {got}")
        self.needed = needed
        self.got = got


class AssumptionUnavailable(PluginError):  # noqa: N818 - reads as the reason it becomes in the table
    """Raised by an assumption whose outside source cannot answer now."""

    code = "assumption-unavailable"


class StateError(ForecastCoreError):
    """A stored model is not what was stored, or holds what must not be loaded."""

    code = "state"


class BackupError(StateError):
    """An archive is not what `backup` wrote; nothing was restored from it."""

    code = "backup"


class TrackingError(ForecastCoreError):
    """MLflow or the registry failed."""

    code = "tracking"


class TrackingAway(TrackingError):  # noqa: N818 - names the state
    """MLflow could not be reached: what is to be told may be told later."""


class LedgerConflict(TrackingError):  # noqa: N818 - names the event
    """Somebody else wrote the promotion ledger since it was read.

    Attributes:
        expected: the sequence number that this writer wanted to write.
        head: the sequence number that the ledger has now.
    """

    code = "ledger-conflict"

    def __init__(self, expected: int, head: int) -> None:
        super().__init__(
            f"the promotion ledger moved on: entry {expected} was to be written, it now ends at {head}",
            hint="compare again with the champion of today",
        )
        self.expected = expected
        self.head = head


class EngineError(ForecastCoreError):
    """Workers died or ran out of time."""

    code = "engine"


class DatabricksRunError(EngineError):
    """A run on Databricks could not be made, or did not come to a good end.

    Attributes:
        fault: which one, in one kebab-case word: `unreachable`, `unauthenticated`, `forbidden`, `not-installed`,
            `cluster`, `memory`, `cancelled`, `timeout`, `gone`, `no-report`, `busy`, `failed` …
        url: of the run in the workspace; empty where there is none.
        run_id: of the run; None where there is none.
        code: what the run itself said, where it did; else `databricks-run`.
    """

    code = "databricks-run"

    def __init__(
        self, message: str, *, fault: str, hint: str | None = None, url: str = "", run_id: int | None = None
    ) -> None:
        super().__init__(f"{message}; {url}" if url else message, hint=hint)
        self.fault = fault
        self.url = url
        self.run_id = run_id


class SinkError(ForecastCoreError):
    """Delivery failed; what was published before is still served."""

    code = "sink"


class CommitConflict(SinkError):  # noqa: N818 - names the event
    """Two writers changed one vintage at the same moment; the other one won, and this one changed nothing.

    Attributes:
        winner_run: whose change stands, as the place's own history names it.
    """

    code = "commit-conflict"

    def __init__(self, message: str, winner_run: str) -> None:
        super().__init__(message, hint="look at what is there now; run again only if it is not what you want")
        self.winner_run: str = winner_run
