"""Nobody is called: the demo's two runs give the same in a network namespace that has nothing but loopback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ALONE = [sys.executable, str(Path(__file__).parents[2] / "scripts" / "alone.py")]
pytestmark = pytest.mark.skipif(
    subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode != 0,
    reason="this kernel lets nobody make a network namespace",
)


@pytest.mark.row(64)
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_retrains_and_predicts_where_nothing_can_be_reached(tmp_path):
    command = [sys.executable, "-m", "forecastcore.cli", "demo", str(tmp_path / "demo")]
    environment = {**os.environ, "FORECASTCORE_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path / "home")}
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK", "MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        environment.pop(name, None)
    done = subprocess.run(
        [*ALONE, *command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    told = done.stdout + done.stderr
    assert not [line for line in told.splitlines() if "Network is unreachable" in line or "Name or service" in line]
    assert list((tmp_path / "demo" / "out").iterdir())


@pytest.mark.row(64)
def test_the_namespace_reaches_nobody():
    code = "import socket; socket.create_connection(('192.0.2.1', 80), 2)"
    done = subprocess.run([*ALONE, sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "unreachable" in done.stderr
