"""What stands for a cluster: a virtual environment with the job's libraries, and a process with the task's parameters.

Libraries are wheels that were uploaded, and what an index has: the one that the job names, else `Cluster.index`. All
others (pandas, MLflow, …) are those of this very environment, as a Databricks runtime brings its own; so are, where no
index is known, those that the job names. What is installed here in editable form is not seen. `/Volumes/…` in the
parameters becomes the folder that the fake keeps its volumes in.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecastcore.testing.databricks.runs import Ended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forecastcore.testing.databricks.runs import Run

__all__ = ["Cluster"]

#: how Databricks finds a wheel's function: by entry point, else by the name of the function in the package
_BOOT = """\
import importlib, importlib.metadata as metadata, sys
package, name = sys.argv[1:3]
sys.argv = [name, *sys.argv[3:]]
found = [p for p in metadata.distribution(package).entry_points if p.name == name]
work = found[0].load() if found else getattr(importlib.import_module(package), name)
work()
"""
#: settings of this machine's installers, its proxy too, are not the cluster's
_DIRECT = {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
_PATIENCE = 0.02
_GRACE = 2.0
_MEMORY = "The Spark driver has stopped unexpectedly and is restarting: it ran out of memory (exit code 137)."
_LOCK = threading.Lock()


class Cluster:
    """Runs wheel tasks.

    Attributes:
        folder: environments, kept by the digest of their wheels.
        volumes: folder that stands for `/Volumes`.
        workspace: folder that stands for `/Workspace`.
        environment: variables that tasks see beside those of this process.
        index: package index of jobs that name none: an address on this machine, or a folder of wheels.
    """

    def __init__(self, folder: Path, volumes: Path) -> None:
        self.folder: Path = folder
        self.volumes: Path = volumes
        self.workspace: Path = volumes.with_name("Workspace")
        self.environment: dict[str, str] = {}
        self.index: str | None = None

    def __call__(self, run: Run) -> None:
        """Carry out a run's task, from an environment to the exit of its process."""
        python = self._python(*self._libraries(run))
        run.enter("RUNNING")
        task = run.task.get("python_wheel_task")
        if not task:
            raise Ended("FAILED", "Only python_wheel_task is carried out here.", code="INVALID_RUN_CONFIGURATION")
        self._process(run, [str(python), "-u", "-c", _BOOT, task["package_name"], task["entry_point"]])

    def _libraries(self, run: Run) -> tuple[list[Path], list[str], str | None]:
        """The job's wheels, its requirements, and the index that these are taken from."""
        environments = {e["environment_key"]: e.get("spec", {}) for e in run.payload.get("environments", [])}
        asked = [library["whl"] for library in run.task.get("libraries", []) if "whl" in library]
        named = [library["pypi"] for library in run.task.get("libraries", []) if "pypi" in library]
        lines = environments.get(run.task.get("environment_key"), {}).get("dependencies", [])
        asked += [*lines, *(one["package"] for one in named)]
        index = next((one["repo"] for one in named if "repo" in one), self.index)
        index = next((line.split()[1] for line in lines if line.startswith("--index-url ")), index)
        wheels = {path: self.place(path) for path in asked if path.endswith(".whl")}
        for path, wheel in wheels.items():
            if not wheel.is_file():
                raise _not_installed(f"{path} is not there.")
        rest = [line for line in asked if line not in wheels and not line.startswith("-")]
        return list(wheels.values()), rest if index else [], index

    def place(self, path: str) -> Path:
        """Where a path of the workspace is on this machine."""
        if path.startswith("/Workspace/"):
            return self.workspace / path.removeprefix("/Workspace/")
        return self.volumes / path.removeprefix("/Volumes/") if path.startswith("/Volumes/") else Path(path)

    def _python(self, wheels: Sequence[Path], named: Sequence[str], index: str | None) -> Path:
        """The interpreter of an environment with these libraries; made once."""
        parts = [hashlib.sha256(wheel.read_bytes()).digest() for wheel in wheels]
        parts += [f"{index} {one}".encode() for one in named]
        digest = hashlib.sha256(b"".join(parts)).hexdigest()
        place = self.folder / digest[:16]
        python = place / "bin" / "python"
        with _LOCK:
            if not (place / "made").exists():
                self._make(place, python, [*map(str, wheels), *named], index if named else None)
        return python

    def _make(self, place: Path, python: Path, libraries: Sequence[str], index: str | None) -> None:
        venv.EnvBuilder(clear=True, symlinks=True).create(place)
        [site] = place.glob("lib/python*/site-packages")
        # Paths of a .pth file are put on sys.path; the .pth files in them, the editable projects, are not read.
        site.joinpath("libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
        said = subprocess.run(  # noqa: S603 - our own interpreter and files
            [*_installer(python), *_whence(index), "--quiet", "--no-deps", *libraries],
            capture_output=True,
            env={k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_"))} | _DIRECT,
            text=True,
            check=False,
        )
        if said.returncode:
            last = said.stderr.strip().splitlines()[-1:] or ["no word why"]
            raise _not_installed(last[0])
        (place / "made").touch()

    def _process(self, run: Run, command: list[str]) -> None:
        scratch = self.folder / f"run-{run.run_id}-{run.attempt}"
        scratch.mkdir(parents=True, exist_ok=True)
        told = [word.replace("/Volumes/", f"{self.volumes}/") for word in run.parameters]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DATABRICKS_", "COV_"))}
        with (scratch / "stdout").open("wb") as out, (scratch / "stderr").open("wb") as err:
            run.process = subprocess.Popen(  # noqa: S603 - the task of the run
                [*command, *told],
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                cwd=scratch,
                env={**clean, "PYSPARK_PYTHON": command[0], **self.environment},
                start_new_session=True,
            )
            try:
                while run.process.poll() is None:
                    run.check()
                    time.sleep(_PATIENCE)
            finally:
                _end(run.process)
                run.logs = (scratch / "stdout").read_text(encoding="utf-8", errors="replace")
        _judge(run.process.returncode, (scratch / "stderr").read_text(encoding="utf-8", errors="replace"))


def _installer(python: Path) -> list[str]:
    """The quicker installer, where it is there."""
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv", "pip", "install", "--python", str(python), "--no-cache", "--reinstall"]
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install"]
    return [*pip, "--ignore-installed", "--no-compile", "--no-cache-dir"]


def _whence(index: str | None) -> list[str]:
    if index is None:
        return ["--no-index"]
    return ["--index-url", index] if "://" in index else ["--no-index", "--find-links", index]


def _not_installed(why: str) -> Ended:
    return Ended("FAILED", f"Library installation failed: {why}", code="LIBRARY_INSTALLATION_ERROR")


def _end(process: subprocess.Popen[Any]) -> None:
    """Ask a process and its children to stop, then make them."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, sign)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            continue


def _judge(code: int, stderr: str) -> None:
    if code == 0:
        return
    if code == -signal.SIGKILL:
        raise Ended("FAILED", _MEMORY, code="DRIVER_ERROR")
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    start = stderr.rfind("Traceback (most recent call last)")
    raise Ended("FAILED", lines[-1] if lines else f"SystemExit: {code}", trace=stderr[start:] if start >= 0 else stderr)
