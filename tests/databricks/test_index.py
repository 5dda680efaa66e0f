"""Libraries from a package index instead of uploaded wheels: what is sent, what is refused, and that it runs."""

import contextlib
import functools
import http.server
import importlib.metadata
import json
import os
import subprocess
import sys
import threading

import pytest

from forecastcore.engines.databricks import wheels
from forecastcore.engines.databricks.wheels import wheel_of
from forecastcore.errors import EngineError

VOLUME = "/Volumes/main/fc/jobs"
INDEX = "https://packages.example.com/simple"
ENGINE = {"type": "databricks", "serverless": True, "volume": VOLUME, "poll": "50ms", "timeout": "2min"}
PINS = ["forecastcore==0.1.0", "forecastcore-baseline==0.1.0", "forecastcore-files==0.1.0"]


class Installed:
    """A distribution as `importlib.metadata` tells of it."""

    def __init__(self, name, version="0.1.0", said=None):
        self.metadata, self.version, self._said = {"Name": name}, version, said

    def read_text(self, name):
        return json.dumps(self._said) if name == "direct_url.json" and self._said else None


@pytest.fixture
def released(monkeypatch):
    """As if all that is installed here came from an index."""
    monkeypatch.setattr(wheels.importlib.metadata, "distribution", Installed)


@pytest.mark.parametrize("index", ["default", INDEX])
def test_plan_and_bundle_name_versions_and_no_wheel(make_site, released, index):
    where = {} if index == "default" else {"repo": index}
    site = make_site().write(engine={**ENGINE, "index": index, "packages": ["holidays==0.60"]})
    submits = site.cli("--json", "plan", "retrain").document["submits"]
    assert (submits["wheels"], submits["releases"]) == ([], PINS)
    (environment,) = submits["payload"]["environments"]
    line = [f"--index-url {index}"] if where else []
    assert environment["spec"]["dependencies"] == [*line, *PINS, "holidays==0.60"]
    assert f"from an index {', '.join(PINS)}" in site.cli("plan", "retrain").out

    site.write(engine={**ENGINE, "serverless": False, "existing_cluster": "c1", "index": index})
    (task,) = site.cli("--json", "plan", "retrain").document["submits"]["payload"]["tasks"]
    assert task["libraries"] == [{"pypi": {"package": pin, **where}} for pin in PINS]
    told = site.cli("--json", "bundle").document
    assert not any("wheels" in file for file in told["files"])
    assert all(pin in (site.folder / "bundle/databricks.yml").read_text() for pin in PINS)


@pytest.mark.parametrize(
    ("version", "said", "words"),
    [
        ("0.1.0", {"dir_info": {"editable": True}, "url": "file:///src"}, "0.1.0 was installed from its source"),
        ("0.1.0", {"vcs_info": {"vcs": "git"}, "url": "https://host/repo"}, "0.1.0 was installed from its source"),
        ("0.2.0.dev3", None, r"0\.2\.0\.dev3 is no released version"),
        ("0.1.0+mine", None, r"0\.1\.0\+mine is no released version"),
    ],
)
def test_what_no_index_has_is_refused_before_anything_is_sent(monkeypatch, version, said, words):
    monkeypatch.setattr(wheels.importlib.metadata, "distribution", lambda name: Installed(name, version, said))
    with pytest.raises(EngineError, match=f"engine.index: forecastcore {words}") as told:
        wheels.libraries_of([], index=True)
    assert "take engine.index out" in told.value.hint


def test_what_is_installed_from_its_source_is_refused_by_every_command_and_nothing_is_asked(make_site, databricks):
    site = make_site().write(engine={**ENGINE, "index": "default"})
    for command in (("plan", "retrain"), ("bundle",), ("retrain",)):
        told = site.cli(*command)
        assert (told.code, "engine.index: forecastcore 0.1.0 was installed from its source" in told.err) == (1, True)
    assert databricks.requests == []


@pytest.mark.parametrize("index", ["https://me:hunter2@host/simple", "https://host/simple?token=hunter2", "pypi"])
def test_an_index_that_is_no_plain_address_is_refused_and_not_shown(make_site, index):
    told = make_site().write(engine={**ENGINE, "index": index}).cli("validate")
    assert (told.code, "engine.index: expected the https:// address of a package index" in told.err) == (2, True)
    reason = next(line for line in told.err.splitlines() if "engine.index" in line)
    assert "hunter2" not in reason


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Nothing on the console."""


@contextlib.contextmanager
def index_of(folder, names):
    """A package index on this machine; its address, and the requests that came."""
    for name in names:
        wheel = wheel_of(name)
        place = folder / "simple" / name / wheel.name
        place.parent.mkdir(parents=True)
        place.write_bytes(wheel.content)
    asked = []

    class Handler(_Quiet):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.slow
def test_a_run_whose_libraries_come_from_an_index_gives_what_it_gives_here(make_site, databricks, tmp_path):
    names = [pin.partition("==")[0] for pin in PINS]
    there, here, own = make_site(), make_site(), tmp_path / "released"
    with index_of(tmp_path / "index", names) as (index, asked):
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--no-cache", "--target", own]
        # from the index here too: in front of what is installed in editable form
        subprocess.run([*install, "--index-url", index, *PINS], check=True, env={**os.environ, "NO_PROXY": "127.0.0.1"})
        before = len(asked)
        there.write(engine={**ENGINE, "index": index})

        def away(*words):
            done = subprocess.run(
                [sys.executable, "-m", "forecastcore.cli", "--json", *words],
                cwd=there.folder,
                env={**os.environ, "PYTHONPATH": str(own)},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return json.loads(done.stdout)

        told = away("retrain")
        away("predict")
        assert [path for path in asked[before:] if path.endswith(".whl")], "the fake took them from the index"
    made = here.cli("--json", "retrain").document
    assert told["where"].startswith(databricks.url)
    for one, two in zip(told["leaderboard"], made["leaderboard"], strict=True):
        assert one["mase"] == pytest.approx(two["mase"], abs=1e-9)
    here.cli("predict")
    assert (there.table()["forecast"] - here.table()["forecast"]).abs().max() <= 1e-9
    assert databricks.asked("whl") == [], "no wheel was uploaded"
    for run in databricks.runs:
        assert run.payload["environments"][0]["spec"]["dependencies"] == [f"--index-url {index}", *PINS]


@pytest.mark.slow
def test_a_version_that_the_index_has_not_is_told_as_what_it_is(make_site, databricks, tmp_path, monkeypatch):
    missing = wheels.Release(name="forecastcore", version="9.9")
    monkeypatch.setattr(wheels, "libraries_of", lambda used, index: [missing])
    databricks.cluster.index = str(tmp_path)  # a folder of wheels, as pip's --find-links takes it
    told = make_site().write(engine={**ENGINE, "index": "default"}).cli("retrain")
    assert (told.code, "could not install its libraries" in told.err) == (1, True), told.err
    assert databricks.live() == []


def test_whoever_is_installed_is_pinned_by_the_name_it_gives_itself():
    pluggy = importlib.metadata.version("pluggy")
    assert wheels.release_of("pluggy").pin == f"pluggy=={pluggy}"
