"""A PostgreSQL server of one's own, for as long as some tests need it: a folder, a free port, no password."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: whom the server runs as where the tests run as root, which PostgreSQL refuses; Debian's package makes the user
OTHER_USER = "postgres"


def _binaries() -> Path:
    """The folder of initdb and pg_ctl.

    Raises:
        RuntimeError: what to install.
    """
    found = shutil.which("pg_ctl")
    if found:
        return Path(found).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not versions:
        raise RuntimeError("the tests on PostgreSQL need its server: apt-get install postgresql")
    return versions[-1].parent


def _as_owner(command: list[str]) -> None:
    """Run a server program, as another user where this one is root."""
    way = ["runuser", "-u", OTHER_USER, "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*way, *command], cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")


@contextmanager
def running() -> Iterator[str]:
    """Start a server; the URL of its database."""
    binaries = _binaries()
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = Path(tempfile.mkdtemp(prefix="forecastcore-pg-"))
    folder, user = root / "data", getpass.getuser()
    if os.geteuid() == 0:
        shutil.chown(root, OTHER_USER)
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {root} -c fsync=off"
    try:
        _as_owner([str(binaries / "initdb"), "-D", str(folder), "-U", user, "--auth=trust", "-E", "UTF8", "--no-sync"])
        start = [str(binaries / "pg_ctl"), "-D", str(folder), "-o", options, "-l", str(root / "log"), "-w", "start"]
        _as_owner(start)
        try:
            yield f"postgresql://{user}@127.0.0.1:{port}/postgres"
        finally:
            _as_owner([str(binaries / "pg_ctl"), "-D", str(folder), "-m", "fast", "-w", "stop"])
    finally:
        shutil.rmtree(root, ignore_errors=True)
