"""What MLflow is told of a run, as entries: told at once, or kept on this machine while MLflow is away and told later.

A journal holds the entries of one run and of the runs below it, in order, with their files. An entry that is told twice
does no more than once: a run is known by its ticket, a metric by key, step and moment, a file by its name, a registered
version by run and digest.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from forecastcore.errors import TrackingError
from forecastcore.processes import gone, here
from forecastcore.tracking.connect import file_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mlflow import MlflowClient

__all__ = ["TICKET", "Entry", "Journal", "Spool", "begin", "begun", "tell"]

Entry = dict[str, Any]

#: tag of every run: what it is known by before MLflow has given it an id
TICKET: Final = "forecastcore_ticket"
_ENTRIES, _TOLD, _OPEN = "entries.jsonl", "told", ".open"


class Journal:
    """Entries of one run that MLflow has not been told.

    Args:
        home: folder of all journals; None where nothing may be kept, such as on a cluster whose disk goes with it.
    """

    def __init__(self, home: Path | None) -> None:
        self.home = home
        self.folder: Path | None = None
        self._files = 0

    @property
    def begun(self) -> bool:
        """Whether an entry is kept; every later one has to be, so that their order stays."""
        return self.folder is not None

    def keep(self, entry: Entry, *files: Path) -> None:
        """Keep an entry, and copies of the files that it needs.

        Raises:
            TrackingError: it can be kept nowhere.
        """
        try:
            self._keep(entry, files)
        except OSError as error:
            raise TrackingError(
                f"what MLflow cannot be told now cannot be kept in {self.home} either: {error}"
            ) from error

    def _keep(self, entry: Entry, files: Sequence[Path]) -> None:
        folder = self.folder = self.folder or self._begun()
        kept = []
        for file in files:
            self._files += 1
            place = folder / f"{self._files:04d}" / file.name
            place.parent.mkdir(mode=0o700)
            (shutil.copytree if file.is_dir() else shutil.copyfile)(file, place)
            kept.append(place.relative_to(folder).as_posix())
        self._write(folder, {**entry, "files": kept})

    def close(self) -> None:
        """No entry follows: whoever comes next may tell them."""
        if self.folder is not None and self.folder.is_dir():
            self.folder = self.folder.rename(self.folder.with_suffix(""))

    def _begun(self) -> Path:
        if self.home is None:
            raise TrackingError("what this run records is kept nowhere while MLflow is away", hint="try again later")
        from forecastcore.state.digests import make_private_folder  # imports pandas, and opening a store does not

        make_private_folder(self.home)
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}{_OPEN}"
        (folder := self.home / name).mkdir(mode=0o700)
        host, process = here()
        self._write(folder, {"do": "written by", "host": host, "process": process})
        return folder

    def _write(self, folder: Path, entry: Entry) -> None:
        with (folder / _ENTRIES).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


class Spool:
    """All journals of one project that wait to be told.

    Args:
        home: their folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home

    def waiting(self) -> list[Path]:
        """Folders of journals that nobody writes any more, oldest first."""
        found = sorted(self.home.iterdir()) if self.home.is_dir() else []
        return [folder for folder in found if folder.is_dir() and _written(folder)]

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Nobody else tells meanwhile."""
        with file_lock(self.home):
            yield

    def untold(self, folder: Path) -> Iterator[Entry]:
        """The entries of a journal that are not told yet; each counts as told when the next one is asked for."""
        told = int((folder / _TOLD).read_text()) if (folder / _TOLD).exists() else 0
        for number, entry in enumerate(_entries(folder), 1):
            if number > told:
                yield {**entry, "files": [folder / file for file in entry.get("files", [])]}
                part = folder / f"{_TOLD}.part"
                part.write_text(str(number))
                part.replace(folder / _TOLD)

    def forget(self, folder: Path) -> None:
        """Remove a journal that is told."""
        (folder / _ENTRIES).unlink(missing_ok=True)  # first: what is left of it is no journal any more
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.home.rmdir()


def _entries(folder: Path) -> list[Entry]:
    try:
        lines = (folder / _ENTRIES).read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]  # one that is cut was never kept


def _written(folder: Path) -> bool:
    """Whether nobody writes it any more: it is closed, or its writer died."""
    if folder.suffix != _OPEN:
        return True
    first: Mapping[str, Any] = next(iter(_entries(folder)), {})
    return gone(first.get("host"), first.get("process"))


def begin(client: MlflowClient, experiment: str, entry: Entry, parent: str | None) -> str:
    """Start the run of an entry; its id."""
    tags = entry["tags"] | ({"mlflow.parentRunId": parent} if parent else {})
    made = client.create_run(experiment, start_time=entry["at"], tags=tags, run_name=entry["name"])
    return str(made.info.run_id)


def begun(client: MlflowClient, experiment: str, ticket: str) -> str | None:
    """Id of the run with a ticket; None where it was not started yet, as far as MLflow tells."""
    found = client.search_runs([experiment], f"tags.{TICKET} = '{ticket}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def tell(client: MlflowClient, run_id: str, entry: Entry) -> None:
    """Do what an entry says to a run that is there."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    match entry["do"]:
        case "batch":
            client.log_batch(
                run_id,
                metrics=[Metric(*metric) for metric in entry.get("metrics", ())],
                params=[Param(*param) for param in entry.get("params", ())],
                tags=[RunTag(*tag) for tag in entry.get("tags", ())],
            )
        case "file":
            client.log_artifact(run_id, str(entry["files"][0]), artifact_path=entry["folder"])
        case "dataset":
            tags = [InputTag("mlflow.data.context", entry["context"])]
            client.log_inputs(run_id, datasets=[DatasetInput(Dataset(**entry["dataset"]), tags)])
        case "end":
            if entry["error"]:
                client.set_tag(run_id, "forecastcore_error", entry["error"])
            client.set_terminated(run_id, entry["status"], end_time=entry["at"])
        case other:
            raise AssertionError(other)
