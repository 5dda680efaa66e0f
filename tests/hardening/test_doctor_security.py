"""`doctor --security`: thirteen planted weaknesses, each found by its own check, with its mend; none as shipped."""

import importlib.metadata
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
import urllib.request
from contextlib import ExitStack, closing, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from forecastcore import doctor
from forecastcore.doctor import machine
from tests.conftest import small_history
from tests.test_host import MODEL, Site

ROOT = Path(__file__).parents[2]
SERVERS = {"PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PREFECT_RESULTS_DEFAULT_SERIALIZER", "PREFECT_PROFILE"}


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """What the environment of whoever runs the tests says of servers does not matter."""
    for name in SERVERS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))


@pytest.fixture
def site(make_site):
    return make_site(small_history(series=1), bare=True)


def told(site):
    """All checks, by name."""
    return {one["name"]: one for one in site.cli("--json", "doctor", "--security").document["checks"]}


def failed(site):
    """The checks that failed, with what they say."""
    return {name: one for name, one in told(site).items() if one["status"] == "failed"}


@contextmanager
def listening(*addresses, port=0):
    """A server at one port of some loopback addresses; a second one answers as a server for all networks would."""
    with ExitStack() as stack:
        for address in addresses:
            server = stack.enter_context(closing(socket.socket()))
            server.bind((address, port))
            port = server.getsockname()[1]
            server.listen()
            threading.Thread(target=hang_up, args=(server,), daemon=True).start()
        yield port


def hang_up(server):
    """Answer everybody with nothing, so that nobody waits."""
    with suppress(OSError):
        while True:
            server.accept()[0].close()


def an_old_mlflow(site, patch, stack):
    version = importlib.metadata.version
    patch.setattr(importlib.metadata, "version", lambda name: "3.10.1" if name == "mlflow" else version(name))


def an_old_prefect(site, patch, stack):
    version = importlib.metadata.version
    patch.setattr(importlib.metadata, "version", lambda name: "3.6.13" if name == "prefect" else version(name))


def the_first_password(site, patch, stack):
    patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    patch.setenv("MLFLOW_TRACKING_PASSWORD", "password1234")
    port = stack.enter_context(listening("127.0.0.1"))
    site.write(tracking={"uri": f"http://127.0.0.1:{port}"})


def a_server_for_all_networks(site, patch, stack):
    port = stack.enter_context(listening("127.0.0.1", "127.0.0.2"))
    patch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")


def a_profile_with_a_server_for_all_networks(site, patch, stack):
    port = stack.enter_context(listening("127.0.0.1", "127.0.0.2"))
    home = Path(os.environ["PREFECT_HOME"])
    home.mkdir()
    text = f'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://127.0.0.1:{port}/api"\n'
    (home / "profiles.toml").write_text(text)


def a_password_in_the_clear(site, patch, stack):
    site.write(tracking={"uri": "http://mlflow.invalid:5000"})


def pickled_results(site, patch, stack):
    patch.setenv("PREFECT_RESULTS_DEFAULT_SERIALIZER", "compressed/pickle")


def results_stored_as_prefect_does(site, patch, stack):
    patch.setenv("PREFECT_RESULTS_PERSIST_BY_DEFAULT", "true")


def a_store_for_everybody(site, patch, stack):
    folder = site.folder / "mlartifacts" / "1"
    folder.mkdir(parents=True)
    (folder / "model.npz").touch()
    (folder / "model.npz").chmod(0o666)


def a_project_file_for_everybody(site, patch, stack):
    (site.folder / "forecast.yaml").chmod(0o646)


def a_password_in_the_file(site, patch, stack):
    site.write(tracking={"uri": "postgresql://mlflow:correct-horse@127.0.0.1/mlflow"})


def a_signature_in_the_file(site, patch, stack):
    signature = "sig=" + 40 * "A" + "%3D"
    site.write(sinks=[{"type": "parquet", "path": f"out?sv=2024-01-01&{signature}"}])


def a_plugin_of_somebody(site, patch, stack):
    folder = site.folder.parent / "packages"
    folder.mkdir()
    patch.syspath_prepend(str(folder))
    Site(folder).add("acme-flat", MODEL)
    stack.callback(lambda: sys.modules.pop("acme_flat", None))


def loose_requirements(site, patch, stack):
    (site.folder / "requirements.txt").write_text("# ours\nforecastcore==0.1.0 \\\n    --hash=sha256:0\nacme>=1\n")


PLANTED = {
    an_old_mlflow: ("known-holes", "CVE-2026-4137", "pip install 'mlflow>=3.12.1'"),
    an_old_prefect: ("known-holes", "CVE-2026-7723", "pip install 'prefect>=3.6.20'"),
    the_first_password: ("mlflow-password", "password that everybody knows", "update_user_password"),
    a_server_for_all_networks: ("listening", "listens to every network", "--host 127.0.0.1"),
    a_profile_with_a_server_for_all_networks: ("listening", "Prefect at", "--host 127.0.0.1"),
    a_password_in_the_clear: ("transport", "in the clear", "https://"),
    pickled_results: ("prefect-results", "pickles", "PREFECT_RESULTS_DEFAULT_SERIALIZER=json"),
    results_stored_as_prefect_does: ("prefect-results", "pickles", "PREFECT_RESULTS_DEFAULT_SERIALIZER=json"),
    a_store_for_everybody: ("open-folders", "model.npz can be written by everybody", "chmod -R o-w"),
    a_project_file_for_everybody: ("open-folders", "mode 646", "chmod -R o-w"),
    a_password_in_the_file: ("secrets-in-file", "tracking.uri", "${env:NAME}"),
    a_signature_in_the_file: ("secrets-in-file", "sinks.0", "give the secret a new value"),
    a_plugin_of_somebody: ("plugins-pinned", "acme-flat", "'acme-flat==1.2.3 --hash=sha256:"),
    loose_requirements: ("requirements-pinned", "'acme>=1'", "--require-hashes"),
}


@pytest.mark.row(63)
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__.replace("_", " "))
def test_a_planted_weakness_is_found_by_its_check_alone_and_comes_with_its_mend(plant, site, monkeypatch):
    check, words, mend = PLANTED[plant]
    with ExitStack() as stack, monkeypatch.context() as patch:
        plant(site, patch, stack)
        found = failed(site)
        told = site.cli("doctor", "--security")
    assert list(found) == [check]
    assert words in found[check]["detail"]
    assert mend in found[check]["mend"]
    assert "correct-horse" not in json.dumps(found)
    assert 40 * "A" not in json.dumps(found)
    assert told.code == 1
    assert mend in told.out


def test_a_sound_project_is_found_sound(site):
    assert failed(site) == {}
    assert site.cli("doctor", "--security").code == 0
    assert not site.written


def test_a_plugin_whose_hash_is_named_is_sound(site, monkeypatch):
    with ExitStack() as stack:
        a_plugin_of_somebody(site, monkeypatch, stack)
        pin = failed(site)["plugins-pinned"]["mend"].partition(": ")[2].strip("'")
        site.write(plugins={"allow": ["forecastcore-baseline", "forecastcore-files", pin]})
        assert failed(site) == {}


def test_without_a_project_the_machine_is_looked_at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {one.name: one.status for one in doctor.examine(None, secure=True)}
    assert found["project-file"] == "skipped"
    assert found["known-holes"] == "ok"
    assert "failed" not in found.values()


#: TARGETS: first version without the hole
FLOORS = {"mlflow": "3.12.1", "mlflow-skinny": "3.12.1", "skops": "0.13.0", "prefect": "3.6.20"}


def test_a_server_that_does_not_answer_is_not_taken_for_sound(site):
    with listening("127.0.0.1") as port:
        site.write(tracking={"uri": f"http://127.0.0.1:{port}"})
        found = told(site)
    assert {found[name]["status"] for name in ("mlflow-open", "mlflow-jobs", "mlflow-password")} == {"skipped"}


def test_a_server_that_takes_its_time_is_waited_for(site, monkeypatch):
    class Busy(BaseHTTPRequestHandler):
        def do_GET(self):
            time.sleep(0.6)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words):
            pass

    monkeypatch.setattr("forecastcore.doctor.security._PATIENCE", (0.3, 10.0))
    with closing_server(ThreadingHTTPServer(("127.0.0.1", 0), Busy)) as port:
        site.write(tracking={"uri": f"http://127.0.0.1:{port}"})
        assert "mlflow-password" in failed(site)


@contextmanager
def closing_server(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("lock", ["runtime.txt", "dev.txt"])
def test_the_lock_is_above_every_floor(lock):
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    locked = dict(line.split(" ")[0].split("==") for line in text.splitlines() if "==" in line and line[0].isalpha())
    floors = {name: Version(floor) for name, (floor, _) in machine.SAFE.items()}
    assert {name: Version(version) for name, version in FLOORS.items()}.items() <= floors.items()
    below = [name for name, floor in floors.items() if name in locked and Version(locked[name]) < floor]
    assert not below
    assert set(FLOORS) <= set(locked)


def test_what_the_project_asks_for_is_above_the_floors_too():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    asked = [Requirement(text) for name in ("mlflow", "prefect", "skops") for text in extras[name]]
    for need in asked:
        if need.name in machine.SAFE:
            floor = Version(machine.SAFE[need.name][0])
            lowest = min(Version(one.version) for one in need.specifier if one.operator == ">=")
            assert lowest >= floor, need


def answers(url):
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except OSError:
            time.sleep(0.5)
    return False


def free_port():
    with closing(socket.socket()) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.row(63)
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_servers_that_are_open_are_found_open_by_asking_them(site, monkeypatch, tmp_path):
    prefect, mlflow = free_port(), free_port()
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "prefect"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    environment.pop("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", None)
    commands = [
        ["prefect", "server", "start", "--port", str(prefect)],
        ["mlflow", "server", "--port", str(mlflow), "--backend-store-uri", f"sqlite:///{tmp_path}/m.db"],
    ]
    with ExitStack() as stack:
        for words in commands:
            started = subprocess.Popen(
                [sys.executable, "-m", *words],
                env=environment,
                cwd=tmp_path,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            stack.callback(ended, started)
        assert answers(f"http://127.0.0.1:{prefect}/api/health")
        assert answers(f"http://127.0.0.1:{mlflow}/health")
        for port in (prefect, mlflow):
            stack.enter_context(listening("127.0.0.2", port=port))
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{prefect}/api")
        site.write(tracking={"uri": f"http://127.0.0.1:{mlflow}"})
        found = failed(site)
    assert set(found) == {"listening", "mlflow-open", "mlflow-jobs", "prefect-csrf", "prefect-open"}
    assert all(one["mend"] for one in found.values())


def ended(process):
    os.killpg(process.pid, 15)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait(10)


@pytest.mark.row(63)
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_make_up_starts_is_found_sound(site, monkeypatch, tmp_path):
    shutil.copy(ROOT / "prefect.yaml", tmp_path)
    shutil.copytree(ROOT / "flows", tmp_path / "flows")
    shutil.copytree(site.folder, tmp_path / "demo-project")
    ports = {"PREFECT_PORT": str(free_port()), "MLFLOW_PORT": str(free_port())}
    environment = {**os.environ, **ports, "SERVICES_ROOT": str(tmp_path), "SERVICES_HOME": str(tmp_path / "services")}

    def call(word):
        command = [sys.executable, ROOT / "scripts" / "services.py", word]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)

    try:
        up = call("up")
        assert up.returncode == 0, up.stdout + up.stderr
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{ports['PREFECT_PORT']}/api")
        site.write(tracking={"uri": f"http://127.0.0.1:{ports['MLFLOW_PORT']}"})
        told = site.cli("--json", "doctor", "--security").document["checks"]
    finally:
        call("down")
    status = {one["name"]: one["status"] for one in told}
    assert "failed" not in status.values(), told
    asked = {"listening", "mlflow-password", "mlflow-open", "mlflow-jobs", "prefect-csrf", "prefect-open"}
    assert {status[name] for name in asked} == {"ok"}, "each was answered"
