"""The way to MLflow: one explicit client per store, quiet, bounded in time, and safe for many processes at once."""

from __future__ import annotations

import configparser
import contextlib
import logging
import os
import re
import socket
import sqlite3
import threading
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies

from forecastcore.errors import TrackingAway, TrackingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mlflow import MlflowClient

__all__ = ["Connection", "absent", "databricks_file", "mask", "taken"]

T = TypeVar("T")

#: What MLflow is told before it is imported; a value that the user has set stays.
SWITCHES: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    # the working directory's uv.lock says nothing about what a packed model needs
    "MLFLOW_UV_AUTO_DETECT": "false",
    # MLflow's own bound is about four minutes a call; a forecast that is due cannot wait so long
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_DATABRICKS_ENDPOINT_HTTP_RETRY_TIMEOUT": "10",
}
#: Seconds in which a database server or a workspace must accept a connection.
CONNECT_SECONDS: Final = 5.0
#: Seconds for which a store that could not be reached is not asked again, and one that could is taken to be there.
REST_SECONDS: Final = 20.0
_PORTS: Final = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_HTTPS: Final = 443
_SECRET: Final = re.compile(
    r"(?i)((?:passw(?:or)?d|pwd|token|secret|api[_-]?key|account[_-]?key|access[_-]?key|signature|\bsig)"
    r"[\"']?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)"
)
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+|\bdapi[0-9a-f]{16,}(?:-\d+)?")
_USERINFO: Final = re.compile(r"(\w://)[^\s\"'<>]*@")  # greedy: a password may hold a / or an @
_THEIRS: Final = frozenset(
    {"mlflow", "sqlalchemy", "alembic", "requests", "urllib3", "databricks", "azure", "botocore"}
)
#: what the messages of HTTP clients and database drivers hold where nobody answers, or hangs up
_AWAY: Final = (
    *("Max retries exceeded", "Connection refused", "timed out", "Connection aborted", "Connection reset"),
    *("server closed the connection", "the database system is", "Failed to establish a new connection"),
)
_prepared = threading.Lock()


def mask(text: str) -> str:
    """`text` without credentials: user and password of URIs, `password=…`, `token: …`, bearer tokens."""
    return _BEARER.sub("***", _SECRET.sub(r"\1***", _USERINFO.sub(r"\1***@", text)))


def absent(error: Exception) -> bool:
    """Whether MLflow says that a thing is not there; a missing alias is reported as an invalid parameter."""
    code = getattr(error, "error_code", "")
    words = str(error)
    return code in {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"} or (
        code == "INVALID_PARAMETER_VALUE" and "alias" in words and "not found" in words
    )


def taken(error: Exception) -> bool:
    """Whether MLflow says that a name is there already."""
    return getattr(error, "error_code", "") in {"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"}


def _never(_: Exception) -> bool:
    return False


class Connection:
    """One MLflow tracking URI and the registry that belongs to it.

    Attributes:
        uri: absolute; holds credentials where the user gave any.
        shown: the same for people and logs.
        database: file of a SQLite URI, else None.
    """

    def __init__(self, uri: str, root: Path) -> None:
        self.database: Path | None = _database(uri, root)
        self.uri: str = f"sqlite:///{self.database.as_posix()}" if self.database else uri
        self.shown: str = mask(self.uri.partition("?")[0])
        self._down: tuple[float, TrackingAway] | None = None
        self._answered: float | None = None

    @property
    def databricks(self) -> bool:
        """Whether the tracking server is a Databricks workspace."""
        return self.uri.split(":")[0] == "databricks"

    @property
    def _profile(self) -> str:
        """Section of Databricks' configuration that the URI names."""
        return self.uri.removeprefix("databricks").lstrip(":/")

    @property
    def registry(self) -> str:
        """URI of the model registry: Unity Catalog beside Databricks tracking, the same store elsewhere."""
        named = f"://{self._profile}" if self._profile else ""
        beside = f"databricks-uc{named}" if self.databricks else self.uri
        return os.environ.get("MLFLOW_REGISTRY_URI") or beside

    @property
    def artifacts(self) -> str | None:
        """Where a new experiment keeps its files: beside a SQLite file, else where the server decides."""
        return (self.database.parent / "mlartifacts").as_uri() if self.database else None

    def exists(self) -> bool:
        """Whether there may be something to read; a SQLite file that is not there is not made by looking."""
        return self.database is None or _has_tables(self.database)

    def copied(self, into: Path) -> str:
        """URI of a copy of the SQLite file; one that is being written is copied as it stood before."""
        if self.database is None:
            return self.uri
        copy = into / self.database.name
        with (
            contextlib.closing(sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True)) as there,
            contextlib.closing(sqlite3.connect(copy)) as here,
        ):
            there.backup(here)
        return f"sqlite:///{copy.as_posix()}"

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's client, its store initialised once even when several processes begin together."""
        _hush()
        from mlflow import MlflowClient

        if self.database is not None:
            with _prepared, file_lock(self.database):
                _initialise(self.database)
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.registry)

    def call(self, what: str, work: Callable[[MlflowClient], T], *, unless: Callable[[Exception], bool] = _never) -> T:
        """Do `work` with the client; a failure of MLflow, its store or the network becomes a `TrackingError`.

        Args:
            what: completes "MLflow could not …".
            work: what to do.
            unless: failures that mean something to the caller, and are raised as they are.
        """
        _hush()
        if self._down is not None and time.monotonic() - self._down[0] < REST_SECONDS:
            raise self._down[1]
        try:
            self._reachable()
            return work(self.client)
        except Exception as error:
            if unless(error) or not _is_theirs(error):
                raise
            raise self._failed(what, error) from error

    def _failed(self, what: str, error: Exception) -> TrackingError:
        first = mask(str(error).replace(self.uri, self.shown)).strip().splitlines() or [type(error).__name__]
        words = f"MLflow at {self.shown} could not {what}: {first[0][:500]}"
        hint = "is the server up and are you let in? try again, or run `forecastcore doctor`"
        if not _is_outage(error):
            return TrackingError(words, hint=hint)
        away = TrackingAway(words, hint=hint)
        self._down = (time.monotonic(), away)
        return away

    def _reachable(self) -> None:
        # A closed port is found out in seconds; SQLAlchemy's connection is retried by MLflow for minutes, and
        # databricks-sdk, which MLflow makes anew for each call, asks a workspace that is away for five of them.
        if self._answered is not None and (time.monotonic() - self._answered < REST_SECONDS or not self.databricks):
            return
        parts = urlsplit(_workspace(self._profile) if self.databricks else self.uri)
        port = _HTTPS if self.databricks else _PORTS.get(parts.scheme.split("+")[0])
        if port is not None and parts.hostname and not getproxies().keys() & {parts.scheme, "all"}:
            _knock(parts.hostname, parts.port or port)
        self._answered = time.monotonic()


def _knock(host: str, port: int) -> None:
    """Raise what keeps `host` from accepting a connection, after a second look and a third."""
    for pause in (1.0, 2.0):
        with contextlib.suppress(OSError):
            return socket.create_connection((host, port), CONNECT_SECONDS).close()
        time.sleep(pause)
    return socket.create_connection((host, port), CONNECT_SECONDS).close()


def databricks_file() -> Path:
    """Where Databricks' tools keep their profiles."""
    return Path(os.environ.get("DATABRICKS_CONFIG_FILE") or "~/.databrickscfg").expanduser()


def _workspace(profile: str) -> str:
    """Address of the workspace that MLflow would ask; empty where only databricks-sdk knows it, as on a cluster."""
    file = configparser.ConfigParser(interpolation=None)
    with contextlib.suppress(configparser.Error, UnicodeDecodeError):
        file.read(databricks_file(), encoding="utf-8")
    section = profile or os.environ.get("DATABRICKS_CONFIG_PROFILE") or "DEFAULT"
    named = file[section].get("host", "") if section in file else ""
    host = os.environ.get("DATABRICKS_HOST", named) if not profile else named
    return host if "://" in host or not host else f"https://{host}"


def _database(uri: str, root: Path) -> Path | None:
    """File of a SQLite URI."""
    if not uri.startswith("sqlite"):
        if uri.startswith("file:") or not re.match(r"^[a-z][a-z0-9+]+:|^databricks$", uri):
            raise UsageError(
                f"tracking.uri: {mask(uri)!r} is a folder, which MLflow keeps no longer",
                hint="use sqlite:///mlflow.db, a server's http(s):// address, a database, or databricks",
            )
        return None
    path = re.sub(r"^sqlite(\+\w+)?:(//)?/?", "", uri).partition("?")[0]
    if path in {"", ":memory:"}:
        raise UsageError(f"tracking.uri: {uri!r} is kept in memory only", hint="name a file: sqlite:///mlflow.db")
    return (root / path).absolute()


def _hush() -> None:
    """Set MLflow's switches before it is imported."""
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic"):
        logger = logging.getLogger(name)
        if logger.getEffectiveLevel() < logging.WARNING:
            logger.setLevel(logging.WARNING)
    # one word on every model stored from an environment made without pip
    logging.getLogger("mlflow.utils.environment").setLevel(logging.ERROR)


def _is_theirs(error: Exception) -> bool:
    return isinstance(error, OSError | sqlite3.Error) or type(error).__module__.split(".")[0] in _THEIRS


def _is_outage(error: Exception) -> bool:
    told = str(error)
    return isinstance(error, ConnectionError | TimeoutError | socket.gaierror) or any(words in told for words in _AWAY)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold the lock beside `path`; a folder that cannot be written needs none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError:
        yield
        return
    try:
        _lock(handle)
        yield
    finally:
        os.close(handle)  # which also lets go of the lock


def _lock(handle: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        locking: Any = msvcrt
        locking.locking(handle, locking.LK_LOCK, 1)
    else:
        fcntl.flock(handle, fcntl.LOCK_EX)


def _initialise(database: Path) -> None:
    """Make the tables of a new file, or bring those of an older MLflow up to date after a copy was kept."""
    artifacts = (database.parent / "mlartifacts").as_uri()
    if not _has_tables(database):
        _create(database, artifacts)
    else:
        _bring_up_to_date(database)
    _open(database, artifacts)


def _open(database: Path, artifacts: str) -> None:
    """Let MLflow make what is not there yet."""
    from mlflow.store.tracking import sqlalchemy_store

    library: Any = sqlalchemy_store
    library.SqlAlchemyStore(f"sqlite:///{database.as_posix()}", artifacts).engine.dispose()


def _create(database: Path, artifacts: str) -> None:
    # Made under another name and moved into place: a process killed half way leaves no half-made tables to trip over.
    if database.exists() and database.stat().st_size:
        return  # somebody's own file; MLflow adds its tables to it
    fresh = database.with_name(f".{database.name}.{os.getpid()}")
    try:
        _open(fresh, artifacts)
        fresh.replace(database)
    finally:
        fresh.unlink(missing_ok=True)


def _bring_up_to_date(database: Path) -> None:
    import sqlalchemy
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils

    library: Any = utils  # there is no public function for what `mlflow db upgrade` does
    scripts = ScriptDirectory.from_config(library._get_alembic_config(""))  # noqa: SLF001 - see above
    newest, *older = (script.revision for script in scripts.walk_revisions())
    with contextlib.closing(sqlite3.connect(database)) as old:
        revision = old.execute("select version_num from alembic_version").fetchone()[0]
        if revision == newest or revision not in older:  # a newer MLflow's: MLflow says so itself
            return
        with contextlib.closing(sqlite3.connect(database.with_name(f"{database.name}.{revision}.bak"))) as kept:
            old.backup(kept)
    engine = sqlalchemy.create_engine(f"sqlite:///{database.as_posix()}")
    try:
        library._upgrade_db(engine)  # noqa: SLF001 - see above
    finally:
        engine.dispose()


def _has_tables(database: Path) -> bool:
    if not database.is_file() or not database.stat().st_size:
        return False
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as reader:
        found = reader.execute("select 1 from sqlite_master where name = 'alembic_version'").fetchone()
    return found is not None
