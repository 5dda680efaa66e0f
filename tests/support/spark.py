"""Spark as processes of their own: a Connect server, and a standalone cluster."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from forecastcore.engines.spark.session import open_session


def answers(port):
    with socket.socket() as call:
        return call.connect_ex(("127.0.0.1", port)) == 0


def started(command, port, log, **options):
    """A process of Spark's that answers at a port."""
    with log.open("wb") as kept:
        server = subprocess.Popen(command, stdout=kept, stderr=kept, **options)
    deadline = time.monotonic() + 120
    while not answers(port):
        if server.poll() is not None or time.monotonic() > deadline:
            server.kill()
            pytest.fail(log.read_text()[-2000:])
        time.sleep(0.5)
    return server


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture
def connect_server(tmp_path):
    """A Spark Connect server of its own, which ends with the test; its address."""
    import pyspark

    home = Path(pyspark.__file__).parent
    port = free_port()
    conf = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": port,
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.ui.enabled": "false",
    }
    words = [f"--conf={key}={value}" for key, value in conf.items()]
    main = "org.apache.spark.sql.connect.service.SparkConnectServer"
    command = [home / "bin" / "spark-submit", "--master=local[2,4]", "--driver-memory=1g", "--class", main, *words]
    env = {**os.environ, "SPARK_HOME": str(home), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    server = started([*command, "spark-internal"], port, tmp_path / "server.log", env=env, cwd=tmp_path)
    try:
        yield f"sc://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(60)


@contextmanager
def closing_session(remote):
    """A session that is told of its end while the server is there: without, it would ask for it for minutes."""
    session = open_session(None, remote, {})
    try:
        yield session
    finally:
        session.stop()


@dataclass(frozen=True)
class Cluster:
    """A standalone cluster.

    Attributes:
        address: of its master.
        workers: its processes, each with room for one executor of one core.
    """

    address: str
    workers: tuple[subprocess.Popen[bytes], ...]

    def executors(self) -> list[int]:
        """Process ids of its executors."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().decode().split("\0")
                parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
                if any("CoarseGrainedExecutorBackend" in word for word in words) and parent in self._pids:
                    found.append(int(path.parent.name))
        return found

    @property
    def _pids(self) -> set[int]:
        return {worker.pid for worker in self.workers}


@pytest.fixture
def cluster(tmp_path):
    """A standalone cluster with room for two executors, which ends with the test."""
    import pyspark

    home = Path(pyspark.__file__).parent
    env = {**os.environ, "SPARK_HOME": str(home), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "512m"}
    env["PYTHONPATH"] = str(tmp_path)
    options = {"env": env, "cwd": tmp_path}
    main, page = free_port(), free_port()
    run, at = [home / "bin" / "spark-class"], ["--host", "127.0.0.1"]
    deploy, servers = "org.apache.spark.deploy", []
    try:
        command = [*run, f"{deploy}.master.Master", *at, "--port", str(main), "--webui-port", str(page)]
        servers.append(started(command, main, tmp_path / "master.log", **options))
        for number in (1, 2):
            port, page = free_port(), free_port()
            size = ["--cores", "1", "--memory", "1g", "--work-dir", tmp_path / f"work-{number}"]
            command = [*run, f"{deploy}.worker.Worker", *at, "--port", str(port), "--webui-port", str(page), *size]
            log = tmp_path / f"worker-{number}.log"
            servers.append(started([*command, f"spark://127.0.0.1:{main}"], port, log, **options))
        yield Cluster(f"spark://127.0.0.1:{main}", tuple(servers[1:]))
    finally:
        for server in reversed(servers):
            server.terminate()
            server.wait(60)
