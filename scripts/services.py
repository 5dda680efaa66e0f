"""Prefect's server and worker, the deployments of prefect.yaml, and MLflow's pages, on this machine: `up` and `down`.

Everything listens on 127.0.0.1. What was started is noted in `.services/`, with its birth, and `down` ends just that.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(os.environ.get("SERVICES_ROOT", Path(__file__).resolve().parents[1]))
HOME = Path(os.environ.get("SERVICES_HOME", ROOT / ".services"))
PREFECT_PORT = os.environ.get("PREFECT_PORT", "4200")
MLFLOW_PORT = os.environ.get("MLFLOW_PORT", "5000")
PATIENCE = 180.0
GRACE = 15.0
POOL = "local-pool"
PAGES = {"prefect": f"http://127.0.0.1:{PREFECT_PORT}", "mlflow": f"http://127.0.0.1:{MLFLOW_PORT}"}
ENVIRONMENT = {
    **os.environ,
    "PREFECT_HOME": str(HOME / "prefect"),
    "PREFECT_API_URL": f"{PAGES['prefect']}/api",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # a server that starts again knows who holds a deployment's slot; by default it forgets, and its runs are cancelled
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    # no page that is open in a browser may start runs, no result is a pickle, no server runs code for who asks
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


def born(pid: int) -> str:
    """When a process began, in the system's own count; empty where none of that number lives."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return "" if told[0] == "Z" else told[19]
    except OSError:
        asked = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return asked.stdout.strip()


def running(name: str) -> int | None:
    """The process of a service that this script started and that is still the same."""
    try:
        noted = json.loads((HOME / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return noted["pid"] if noted["born"] and born(noted["pid"]) == noted["born"] else None


def start(name: str, *command: str) -> None:
    """Start a service in a process group of its own, unless it runs."""
    if running(name):
        print(f"{name} runs already")
        return
    with (HOME / f"{name}.log").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    noted = {"pid": process.pid, "born": born(process.pid)}
    (HOME / f"{name}.json").write_text(json.dumps(noted), encoding="utf-8")
    print(f"{name} started, process {process.pid}, log {HOME / f'{name}.log'}")


def wait(name: str, path: str) -> None:
    """Until a service answers, or an end with the last lines of its log."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(PAGES[name] + path, timeout=5):
                return
        except OSError:
            if not running(name):
                break
        time.sleep(0.5)
    tail = (HOME / f"{name}.log").read_text(encoding="utf-8").splitlines()[-10:]
    sys.exit(f"{name} does not answer at {PAGES[name]}:\n" + "\n".join(tail) + "\nmake down ends what was started")


def prefect(*words: str, may_fail: bool = False) -> None:
    """One prefect command on the server that was started."""
    python("-m", "prefect", "--no-prompt", *words, may_fail=may_fail)


def python(*words: str, may_fail: bool = False) -> str:
    """One command of our Python, with the server that was started; what it said."""
    told = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if told.returncode and not may_fail:
        sys.exit(f"{' '.join(words)} failed:\n{told.stdout}{told.stderr}")
    return told.stdout


def up() -> None:
    """Start all, deploy, and say where to look."""
    project = ROOT / "demo-project"  # as in prefect.yaml
    if not (project / "forecast.yaml").is_file():
        sys.exit(f"the deployments run {project / 'forecast.yaml'}, which is not there: make demo writes it")
    HOME.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = f"sqlite:///{(project.resolve() / 'mlflow.db').as_posix()}"
    start("prefect", "prefect", "server", "start", "--host", "127.0.0.1", "--port", PREFECT_PORT)
    wait("prefect", "/api/health")
    prefect("work-pool", "create", POOL, "--type", "process", may_fail=True)  # it may be there from before
    if (HOME / "worker.json").exists() and not running("worker"):  # `down` would have taken the note away
        print("the worker had died: flows/reconcile.py --fix begins its runs again, and ends what they left behind")
        python("flows/reconcile.py", "--project", str(project / "forecast.yaml"), "--fix", may_fail=True)
    start("worker", "prefect", "worker", "start", "--pool", POOL, "--type", "process")  # it takes as long as to deploy
    prefect("deploy", "--all")
    start("mlflow", "mlflow", "server", "--backend-store-uri", store, "--host", "127.0.0.1", "--port", MLFLOW_PORT)
    print(python("flows/alerts.py", "deploy"), end="")
    wait("mlflow", "/health")
    print(f"\nPrefect  {PAGES['prefect']}\nMLflow   {PAGES['mlflow']}")
    print(f"For commands of your own: export PREFECT_API_URL={ENVIRONMENT['PREFECT_API_URL']}")


def down() -> None:
    """End just what `up` started: the worker first, so that its runs are told."""
    for name in ("worker", "mlflow", "prefect"):
        pid = running(name)
        if pid is None:
            print(f"{name} does not run")
        else:
            end(pid)
            print(f"{name} ended")
        (HOME / f"{name}.json").unlink(missing_ok=True)


def end(pid: int) -> None:
    """End a process and its group, with force after a while."""
    birth = born(pid)
    for sign, seconds in ((signal.SIGINT, GRACE), (signal.SIGTERM, GRACE), (signal.SIGKILL, GRACE)):
        try:
            os.killpg(pid, sign)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if born(pid) != birth:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGTERM)  # what it left behind
                return
            time.sleep(0.2)


if __name__ == "__main__":
    {"up": up, "down": down}[sys.argv[1]]()
