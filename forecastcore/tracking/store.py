"""The model store of one project on MLflow: runs, versions and the ledger behind `forecastcore.ports.ModelStore`."""

from __future__ import annotations

import json
import logging
import re
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from forecastcore.errors import StateError, TrackingAway, TrackingError, UsageError
from forecastcore.tracking import connect
from forecastcore.tracking.cache import ModelCache
from forecastcore.tracking.ledger import Ledger, digest_of, standing
from forecastcore.tracking.registry import USED_UP, Registry
from forecastcore.tracking.runs import TrackedRun, close_orphan, close_orphans, left_running
from forecastcore.tracking.spool import Journal, Spool, begin, begun, tell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from mlflow import MlflowClient

    from forecastcore.messages import LedgerEntry, ModelVersion
    from forecastcore.ports import Run
    from forecastcore.tracking.runs import LeftRunning
    from forecastcore.tracking.spool import Entry

__all__ = ["MlflowStore", "Remembered"]

_NAME: Final = re.compile(r"^[\w-]+(\.[\w-]+){0,2}$", re.ASCII)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remembered:
    """A version as a backup keeps it.

    Attributes:
        version: as it was registered.
        folder: its packed files.
        shape: what `MlflowStore.shape` gave.
    """

    version: ModelVersion
    folder: Path
    shape: Mapping[str, Any]


class MlflowStore:
    """Runs, versions and decisions of one project.

    Attributes:
        notes: what was not as usual while the store was used, in words for a report.
    """

    def __init__(
        self, connection: connect.Connection, *, project: str, experiment: str, spool: Path | None = None
    ) -> None:
        if not _NAME.match(project):
            raise UsageError(f"{project!r} is no project name", hint="use small letters, digits and -")
        self._connection = connection
        self._project = project
        self._experiment_name = (
            f"/Shared/{experiment}" if connection.databricks and experiment[:1] != "/" else experiment
        )
        self._experiment_id: str | None = None
        self._registry = Registry(connection, project)
        self._ledger = Ledger(connection, project, self._experiment)
        self._spool = spool
        self._cache = ModelCache(f"{connection.shown}|{project}", _check)
        self._trusted: dict[str, str] = {}
        self.notes: list[str] = []

    def run(self, name: str, *, tags: Mapping[str, str], lasting: bool = False) -> TrackedRun:
        """A new parent run, to be entered with `with`.

        Args:
            name: for people.
            tags: its first ones.
            lasting: whether what it records is kept on this machine while MLflow is away; see `catch_up`.
        """
        journal = Journal(self._spool if lasting else None)
        return _ParentRun(self, name, {"forecastcore_project": self._project, **tags}, journal)

    def register(self, run: Run, folder: Path, *, example: tuple[pd.DataFrame, pd.DataFrame]) -> ModelVersion:
        """Store a packed model under `run` and register it as the challenger.

        Where MLflow is away and the run is a lasting one, the model is kept: the version has no number yet.

        Raises:
            StateError: the folder is not sealed, or is not what was sealed.
            TrackingError: MLflow failed; what it may hold by then is not registered.
        """
        if not isinstance(run, TrackedRun):
            raise TypeError("the run is not one of this store")
        metrics = run.logged
        if not run.waiting:
            try:
                return self._registered(run.run_id, folder, example, metrics)
            except TrackingAway:
                if run.journal.home is None:
                    raise
        prospect = self._registry.prospect(folder, metrics)
        with tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch:
            given, forecast = (Path(scratch, f"{name}.parquet") for name in ("given", "forecast"))
            for frame, path in zip(example, (given, forecast), strict=True):
                frame.to_parquet(path)
            run.keep({"do": "register", "digest": prospect.digest, "metrics": dict(metrics)}, folder, given, forecast)
        return prospect

    def defer(self, run: Run, settlement: Mapping[str, Any]) -> str:
        """Keep a decision that cannot be put on the ledger now, behind all else that its run has to tell.

        Args:
            run: the lasting run that decided.
            settlement: what `catch_up` hands over.

        Returns:
            Where it is kept.
        """
        if not isinstance(run, TrackedRun):
            raise TypeError("the run is not one of this store")
        run.keep({"do": "decide", "settlement": dict(settlement)})
        return run.waiting

    def behind(self) -> list[Path]:
        """What runs could not tell MLflow while it was away: a folder each, the oldest first."""
        return Spool(self._spool).waiting() if self._spool else []

    def catch_up(self, settle: Callable[[str, Mapping[str, Any]], str]) -> list[str]:
        """See `ports.ModelStore.catch_up`."""
        said: list[str] = []
        if not self.behind() or self._spool is None:
            return said
        spool = Spool(self._spool)
        with spool.alone():
            for folder in spool.waiting():
                try:
                    decided = [word for entry in spool.untold(folder) if (word := self._told_late(entry, settle))]
                except TrackingAway:
                    raise
                except (TrackingError, StateError, ValueError, OSError) as error:
                    self._note(f"what is kept in {folder} cannot be told to MLflow: {error}")
                    continue
                spool.forget(folder)
                told = f"MLflow has been told what was kept in {folder.name} while it was away"
                said.append("; ".join([told, *decided]))
        return said

    def _told_late(self, entry: Entry, settle: Callable[[str, Mapping[str, Any]], str]) -> str:
        """Do what an entry says; what became of the decision, where it holds one."""
        if entry["do"] == "written by":
            return ""
        run_id = self._begun(entry["ticket"])
        if entry["do"] == "start":
            if run_id is None:
                self._begin(entry)
            return ""
        if run_id is None:
            raise TrackingError(f"the run with the ticket {entry['ticket']} is not there any more")
        if entry["do"] == "decide":
            return settle(run_id, entry["settlement"])
        if entry["do"] == "register":
            self._registered_late(run_id, entry)
        else:
            self._connection.call("take what was kept", lambda client: tell(client, run_id, entry))
        return ""

    def _begun(self, ticket: str) -> str | None:
        experiment = self._experiment()
        return self._connection.call("look for a run", lambda client: begun(client, experiment, ticket))

    def _begin(self, entry: Entry) -> str:
        experiment = self._experiment()
        parent = self._begun(entry["parent"]) if entry["parent"] else None
        return self._connection.call("start a run", lambda client: begin(client, experiment, entry, parent))

    def _registered_late(self, run_id: str, entry: Entry) -> None:
        import pandas as pd

        if self._registry.added(run_id, entry["digest"]) is None:
            folder, *example = entry["files"]
            given, forecast = map(pd.read_parquet, example)
            self._registered(run_id, folder, (given, forecast), entry["metrics"])

    def _registered(
        self, run_id: str, folder: Path, example: tuple[pd.DataFrame, pd.DataFrame], metrics: Mapping[str, float]
    ) -> ModelVersion:
        self._ledger.ensure()
        version = self._registry.add(run_id, folder, example, metrics)
        self._registry.point("challenger", version.version)
        return version.model_copy(update={"aliases": ("challenger",)})

    def versions(self) -> list[ModelVersion]:
        """All registered versions, newest first; `champion` and `previous` are those of the ledger."""
        if not self._connection.exists():
            return []
        aliases = self._aliases(self._ledger.entries())
        return [_aliased(version, aliases) for version in self._registry.versions()]

    def resolve(self, which: str) -> ModelVersion | None:
        """The version meant by `champion`, `challenger`, `previous`, a number or a run id; None where there is none.

        While MLflow cannot be asked, `champion` is who it was when last asked, if that model is at hand; see `notes`.

        Raises:
            TrackingError: MLflow cannot be asked; or the ledger's champion is not in the registry any more.
        """
        if not self._connection.exists():
            return None
        if which not in {"champion", "previous"}:
            return self._looked_up(which)
        try:
            version = self._reigning(which)
        except TrackingError as error:
            return self._recalled(which, error)
        self._cache.remember(which, version)
        return version

    def fetch(self, version: ModelVersion) -> Path:
        """A private folder with the version's files; every digest is checked before any file is parsed.

        Raises:
            StateError: a file is missing or is not what was registered.
            TrackingError: MLflow cannot be reached and the files are not at hand.
        """
        digest = self._digest(version)
        kept = self._cache.get(digest)
        return kept or self._cache.put(digest, lambda into: self._registry.download(version, into))

    def kept(self, digest: str) -> Path | None:
        """The files of a digest, if this machine has them and they match it; MLflow is not asked."""
        return self._cache.get(digest) if digest else None

    def ledger(self) -> list[LedgerEntry]:
        """All decisions, oldest first."""
        return self._ledger.entries() if self._connection.exists() else []

    def append(self, entry: LedgerEntry) -> LedgerEntry:
        """Write the next decision, then project it onto the aliases.

        Raises:
            LedgerConflict: another decision took that number.
        """
        written = self._ledger.append(entry)
        try:
            self.project_aliases()
        except TrackingError as error:
            # the decision stands; the aliases follow with the next run
            self._note(f"decision {entry.seq} is written, but the aliases do not show it yet: {error}")
        return written

    def project_aliases(self) -> dict[str, str]:
        """Make the aliases say what the ledger says; harmless at any time.

        Returns:
            alias → version of what had to be put right; an alias that was taken away has an empty version.
        """
        changed: dict[str, str] = {}
        entries = self.ledger()
        while True:
            changed |= self._repoint(entries)
            again = self.ledger()
            if len(again) == len(entries):
                return changed
            entries = again  # somebody decided meanwhile: whoever sets an alias last has read the ledger after

    def examine(self, version: ModelVersion, into: Path) -> Path:
        """The version's files in a folder of the caller's, every digest checked; the cache is left as it is.

        Raises:
            StateError: a file is missing or is not what was registered.
        """
        folder = self._registry.download(version, into)
        _check(folder, self._digest(version))
        return folder

    def shape(self, version: ModelVersion, into: Path) -> dict[str, Any]:
        """Signature and input example of a version, as JSON takes them."""
        return self._registry.shape(version, into)

    def differs(self, models: Sequence[Remembered], entries: Sequence[LedgerEntry]) -> str:
        """What is here beyond versions and decisions of a backup, in words; empty where nothing is."""
        wanted = {one.version.version: one.version.digest for one in models}
        stray = [v.version for v in self.versions() if v.digest not in {wanted.get(v.version), USED_UP}]
        here = self.ledger()
        said = [f"version {', '.join(sorted(stray, key=int))}"] if stray else []
        said += ["decisions of its own"] if here != list(entries[: len(here)]) else []
        return " and ".join(said)

    def rebuild(self, models: Sequence[Remembered], entries: Sequence[LedgerEntry], *, anew: bool = False) -> None:
        """Make registry and ledger say what a backup says; one that was interrupted is carried on.

        Args:
            models: the versions, in any order.
            entries: all decisions, oldest first.
            anew: whether to delete what is here and is not in the backup.

        Raises:
            UsageError: something else is here, and `anew` is not given.
            StateError: a version's files are not those that were registered.
        """
        other = self.differs(models, entries)
        if other and not anew:
            raise UsageError(f"the registry holds {other}, which the backup does not", hint="--yes replaces it")
        if other:
            self._registry.forget()
            self._ledger = Ledger(self._connection, self._project, self._experiment)
            self._trusted.clear()
        here = {version.version for version in self.versions()}
        missing = sorted((m for m in models if m.version.version not in here), key=lambda m: int(m.version.version))
        wanted = {one.version.version for one in models}
        if not missing and here == wanted and len(self.ledger()) == len(entries):
            return
        with self.run("restore", tags={"forecastcore_command": "restore"}) as run:
            self._ledger.ensure()
            last = max(map(int, here), default=0)
            for one in missing:
                for _ in range(last + 1, int(one.version.version)):
                    self._registry.use_up(run.run_id)
                last = self._again(run.run_id, one)
            for entry in entries[len(self.ledger()) :]:
                self._ledger.append(entry)
            # last of all, for the number of a deleted version cannot be seen: an interrupted restore counts on them
            for version in self._registry.versions():
                if version.digest == USED_UP:
                    self._registry.drop(version.version)
        self.project_aliases()

    def _again(self, run_id: str, one: Remembered) -> int:
        made = self._registry.add_again(run_id, one.folder, one.shape, one.version)
        if made.version != one.version.version:
            raise TrackingError(
                f"version {one.version.version} came back as {made.version}: the registry has given that number before",
                hint="`forecastcore restore ARCHIVE --yes` begins anew",
            )
        return int(made.version)

    def lasted(self, command: str) -> float | None:
        """Seconds of the newest finished run of a command; None where there is none."""
        if not self._connection.exists():
            return None

        def newest(client: MlflowClient) -> float | None:
            experiment = client.get_experiment_by_name(self._experiment_name)
            if experiment is None:
                return None
            # by its name: the runs of its candidates carry the same tags
            wanted = f"attributes.run_name LIKE '{command} %' and attributes.status = 'FINISHED'"
            wanted += f" and tags.forecastcore_project = '{self._project}'"
            runs = client.search_runs([experiment.experiment_id], wanted, max_results=1)
            return (runs[0].info.end_time - runs[0].info.start_time) / 1000 if runs else None

        return self._connection.call("look up earlier runs", newest)

    def left_running(self) -> list[LeftRunning]:
        """Runs that MLflow takes to go on; nothing is changed."""
        if not self._connection.exists():
            return []
        found = self._connection.call(
            "look for the experiment", lambda client: client.get_experiment_by_name(self._experiment_name)
        )
        if found is None:
            return []
        return left_running(self._connection, str(found.experiment_id), self._project)

    def close(self, run_id: str, why: str) -> bool:
        """End as KILLED a run that nobody else has ended meanwhile; whether it was one."""
        return close_orphan(self._connection, run_id, why)

    def book(self, run_id: str, numbers: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Add metrics and tags to a run that is over."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, 0) for key, value in numbers.items()]
        named = [RunTag(key, value) for key, value in tags.items() if value]
        self._connection.call("record costs", lambda client: client.log_batch(run_id, metrics=metrics, tags=named))

    def parameter(self, run_id: str, name: str) -> str | None:
        """A parameter of a run; None where there is no such run or parameter."""
        if not self._connection.exists():
            return None
        try:
            run = self._connection.call("read a run", lambda client: client.get_run(run_id), unless=connect.absent)
        except TrackingError:
            raise
        except Exception as error:
            if not connect.absent(error):
                raise
            return None
        return run.data.params.get(name)

    def document(self, run_id: str, name: str) -> Any:
        """A JSON document of a run; None where there is none."""
        if not self._connection.exists():
            return None
        with tempfile.TemporaryDirectory() as folder:
            try:
                got = self._connection.call(
                    f"read {name}",
                    lambda client: client.download_artifacts(run_id, name, folder),
                    unless=connect.absent,
                )
                return json.loads(Path(got).read_bytes())
            except Exception as error:
                if isinstance(error, TrackingError) or not connect.absent(error):
                    raise
                return None

    def astray(self) -> dict[str, str | None]:
        """Aliases that do not say what the ledger says, with the version they should have; nothing is changed."""
        return self._wrong(self.ledger())

    def _repoint(self, entries: Sequence[LedgerEntry]) -> dict[str, str]:
        wrong = self._wrong(entries)
        for alias, number in wrong.items():
            self._registry.point(alias, number)
        return {alias: number or "" for alias, number in wrong.items()}

    def _wrong(self, entries: Sequence[LedgerEntry]) -> dict[str, str | None]:
        if not self._connection.exists():
            return {}
        current = self._registry.aliases()
        champion, previous = standing(entries)
        newest = next((version.version for version in self._registry.versions()), None)
        wanted = {"champion": champion, "previous": previous, "challenger": newest}
        return {alias: number for alias, number in wanted.items() if number != current.get(alias)}

    def _aliases(self, entries: Sequence[LedgerEntry]) -> dict[str, str]:
        """Alias → version; the ledger's word goes before the registry's."""
        champion, previous = standing(entries)
        decided = {"champion": champion, "previous": previous}
        return {alias: number for alias, number in (self._registry.aliases() | decided).items() if number is not None}

    def _reigning(self, which: str) -> ModelVersion | None:
        entries = self._ledger.entries()
        champion, previous = standing(entries)
        number = champion if which == "champion" else previous
        if number is None:
            return None
        version = self._registry.version(number)
        if version is None:
            raise TrackingError(
                f"version {number} of {self._project} is {which} by the ledger, but is not in the registry any more",
                hint="choose another with `forecastcore models promote`, or restore a backup",
            )
        digest = digest_of(entries, number) or version.digest
        self._trusted[number] = digest
        return _aliased(version, self._aliases(entries)).model_copy(update={"digest": digest})

    def _recalled(self, which: str, error: TrackingError) -> ModelVersion:
        version = self._cache.recall(which)
        if version is None or self._cache.get(version.digest) is None:
            raise error
        self._trusted[version.version] = version.digest
        self._note(f"MLflow could not be asked; version {version.version} was {which} when last asked: {error.message}")
        return version

    def _looked_up(self, which: str) -> ModelVersion | None:
        versions = self.versions()
        if which == "challenger":
            named = [version for version in versions if which in version.aliases]
            return next(iter(named or versions), None)
        return next((version for version in versions if which in {version.version, version.run_id}), None)

    def _digest(self, version: ModelVersion) -> str:
        """The digest to believe: the ledger's for a version that was ever champion, else the registered one."""
        if version.version not in self._trusted:
            self._trusted[version.version] = digest_of(self.ledger(), version.version) or version.digest
        trusted = self._trusted[version.version]
        if version.digest and version.digest != trusted:
            raise StateError(
                f"version {version.version} of {self._project} is registered with digest {version.digest[:12]}…, "
                f"but became champion with {trusted[:12]}…",
                hint="its registration was changed afterwards; find out by whom before it is served",
            )
        return trusted

    def _experiment(self) -> str:
        """Id of the experiment; made where it is not there yet. Never by name later: MLflow's own way has a race."""
        if self._experiment_id is None:
            self._experiment_id = self._connection.call("open the experiment", self._found_or_made)
        return self._experiment_id

    def _found_or_made(self, client: MlflowClient) -> str:
        name = self._experiment_name
        found = client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(client.create_experiment(name, artifact_location=self._connection.artifacts))
            except Exception as error:
                found = client.get_experiment_by_name(name) if connect.taken(error) else None
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise TrackingError(
                f"experiment {name!r} was deleted",
                hint=f"restore it with `mlflow experiments restore -x {found.experiment_id}`, or name another",
            )
        return str(found.experiment_id)

    def _tidy(self) -> None:
        """Put right what a run that died left behind; no reason to stop the run that begins."""
        try:
            closed = close_orphans(self._connection, self._experiment(), self._project)
            healed = self.project_aliases()
        except TrackingError as error:
            self._note(f"traces of earlier runs were not tidied: {error}")
            return
        if closed:
            self._note(f"{len(closed)} earlier run(s) had died without a word and are now marked as killed")
        if healed:
            self._note(f"aliases put right after the ledger: {', '.join(sorted(healed))}")

    def _note(self, words: str) -> None:
        _log.warning("%s", words)
        self.notes.append(words)


class _ParentRun(TrackedRun):
    """A run that tidies up after those before it when it begins."""

    def __init__(self, store: MlflowStore, name: str, tags: Mapping[str, str], journal: Journal) -> None:
        super().__init__(store._connection, store._experiment, name, tags=tags, journal=journal)  # noqa: SLF001 - two halves of one store
        self._tidy = store._tidy  # noqa: SLF001 - two halves of one store

    def __enter__(self) -> Self:
        """Start the run."""
        super().__enter__()
        if not self.waiting:
            self._tidy()
        return self


def _aliased(version: ModelVersion, aliases: Mapping[str, str]) -> ModelVersion:
    names = tuple(sorted(alias for alias, number in aliases.items() if number == version.version))
    return version.model_copy(update={"aliases": names})


def _check(folder: Path, digest: str) -> None:
    from forecastcore.state import verify

    verify(folder, digest)
