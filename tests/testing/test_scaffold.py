"""`plugins new` writes a plugin that works, `plugins check` finds it so, and pytest too."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from forecastcore.cli import main
from forecastcore.cli.plugins import listed
from forecastcore.host import Host

KINDS = ["model", "assumption", "sink", "source"]


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code = main(["--json", *words])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_small_and_passes_a_quick_run_of_the_suite(kind, cli, tmp_path):
    code, told = cli("plugins", "new", kind, f"my-{kind}")
    assert code == 0
    assert told["files"] == [
        "README.md",
        f"forecastcore_my_{kind}/__init__.py",
        "pyproject.toml",
        "tests/test_conformance.py",
    ]
    file = tmp_path / f"forecastcore-my-{kind}" / f"forecastcore_my_{kind}" / "__init__.py"
    own = [line for line in file.read_text().splitlines() if line.strip() and not line.startswith(("from", "import"))]
    assert len(own) <= 45
    code, told = cli("--plugin", str(file), "plugins", "check", "--quick")
    assert (code, told["failed"]) == (0, 0), [one for one in told["checks"] if one["status"] == "failed"]
    assert told["passed"] >= 20
    assert all({"name", "status", "detail"} <= set(one) for one in told["checks"])
    assert all(one["detail"] for one in told["checks"] if one["status"] == "skipped")


def run(env, *words):
    return subprocess.run([sys.executable, "-m", *words], env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_installs_is_found_at_once_and_its_own_test_passes(kind, cli, tmp_path):
    cli("plugins", "new", kind, f"my-{kind}")
    folder, site = tmp_path / f"forecastcore-my-{kind}", tmp_path / "site"
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--no-index", "--target", str(site), str(folder)),
        ],
        check=True,
        capture_output=True,
    )
    env = {**os.environ, "PYTHONPATH": str(site)}
    listed = run(env, "forecastcore.cli", "--json", "plugins", "list")
    (mine,) = [one for one in json.loads(listed.stdout)["plugins"] if one["name"] == f"my-{kind}"]
    assert (mine["kind"], mine["version"], mine["health"], mine["allowed"]) == (kind, "0.1.0", "ok", True)
    assert mine["hooks"] == [f"forecastcore_{kind}s"]
    tested = run(env, "pytest", "-q", "-p", "no:cacheprovider", str(folder / "tests"))
    assert tested.returncode == 0, tested.stdout
    assert " passed" in tested.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("model", "My_Model"), "lowercase words joined by dashes"),
        (("model", "seasonal-naive"), "is offered already"),
        (("model", "../evil"), "lowercase words joined by dashes"),
        (("modell", "x"), "did you mean 'model'?"),
    ],
)
def test_a_name_that_will_not_do_is_refused_in_words(words, says, cli, tmp_path):
    code, told = cli("plugins", "new", *words)
    assert code == 2
    assert says in f"{told['error']['message']} {told['error']['hint']}"
    assert not list(tmp_path.iterdir())


def test_nothing_that_is_there_is_written_over(cli):
    cli("plugins", "new", "model", "mine")
    code, told = cli("plugins", "new", "model", "mine")
    assert code == 2
    assert "is there already" in told["error"]["message"]


BAD = """
from dataclasses import dataclass
from forecastcore.api import ModelSpec, SinkSpec, hookimpl

@dataclass(frozen=True)
class Fitted:
    def predict(self, context, future, task):
        return future[["unique_id", "ds"]].assign(forecast=1.0).iloc[1:]

@dataclass(frozen=True)
class Bad:
    def fit(self, history, task):
        return Fitted()

@dataclass(frozen=True)
class Far:
    url: str
    def publish(self, vintage, run_key): ...
    def read(self, issued_at=None): ...

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="bad", summary="a row short", factory=Bad)

@hookimpl
def forecastcore_sinks():
    yield SinkSpec(name="far", summary="elsewhere", factory=Far)
"""


def test_a_failed_check_is_exit_code_1_and_names_the_plugin(cli, tmp_path, capsys):
    (tmp_path / "bad.py").write_text(BAD)
    code, told = cli("--plugin", "bad.py", "plugins", "check", "--quick")
    assert code == 1
    found = {(one["plugin"], one["name"]): one["detail"] for one in told["checks"] if one["status"] == "failed"}
    assert found == {
        ("bad", "rows-are-those-asked"): "1 of 14 rows are missing",
        ("far", "can-be-tried"): "url: is required",
    } or set(found) == {("bad", "rows-are-those-asked"), ("far", "can-be-tried")}
    assert main(["--plugin", "bad.py", "plugins", "check", "bad", "--quick"]) == 1
    out = capsys.readouterr().out
    assert "failed  rows-are-those-asked: 1 of 14 rows are missing" in out
    assert "skipped forecasts-are-finite: it says nothing while rows-are-those-asked fails" in out


def test_a_name_that_nobody_offers_is_answered_with_the_nearest(cli):
    code, told = cli("plugins", "check", "seasonal-naiv")
    assert code == 2
    assert "seasonal-naive" in told["error"]["hint"]
    code, told = cli("plugins", "check")
    assert code == 2
    assert "--plugin FILE" in told["error"]["hint"]


def test_a_broken_plugin_fails_with_its_reason(cli, tmp_path):
    (tmp_path / "broken.py").write_text("raise RuntimeError('no licence')")
    code, told = cli("--plugin", "broken.py", "plugins", "check")
    assert code == 1
    assert told["checks"][0]["name"] == "can-be-tried"
    assert "no licence" in told["checks"][0]["detail"]


def test_the_list_tells_when_this_very_code_passed_the_whole_suite(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("FORECASTCORE_CACHE", str(tmp_path / "cache"))
    cli("plugins", "new", "assumption", "mine")
    file = Path("forecastcore-mine", "forecastcore_mine", "__init__.py")
    shutil.copy(file, "mine.py")

    def passed_on():
        _code, told = cli("--plugin", "mine.py", "plugins", "list")
        return next(one["conformance"] for one in told["plugins"] if one["name"] == "mine")

    assert passed_on() is None
    assert cli("--plugin", "mine.py", "plugins", "check", "--quick")[0] == 0
    assert passed_on() is None, "the quick checks are not the whole suite"
    before = datetime.now(UTC).date()
    assert cli("--plugin", "mine.py", "plugins", "check")[0] == 0
    assert before <= date.fromisoformat(passed_on()) <= datetime.now(UTC).date()
    Path("mine.py").write_text(file.read_text(encoding="utf-8") + "\n# changed\n", encoding="utf-8")
    assert passed_on() is None, "other code is another plugin"


def test_the_list_tells_hooks_tags_and_who_is_allowed(cli):
    _code, told = cli("plugins", "list")
    by_name = {(one["kind"], one["name"]): one for one in told["plugins"]}
    ridge = by_name["model", "ridge"]
    assert ridge["hooks"] == ["forecastcore_models"]
    assert ridge["tags"] == ["global", "covariates", "missing", "min_history=8"]
    assert by_name["assumption", "holidays"]["tags"] == ["generates"]
    assert all(one["allowed"] for one in told["plugins"])


def test_what_is_blocked_is_listed_without_being_imported(tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    (evil,) = [
        one for one in listed(Host.discover(block=["evil"], files=[tmp_path / "evil.py"])) if one["source"] == "file"
    ]
    assert (evil["name"], evil["health"], evil["allowed"], evil["hooks"]) == ("evil", "blocked", False, [])


def test_a_conformance_test_can_be_imported_whatever_was_imported_before():
    said = "from forecastcore.testing import conformance; assert callable(conformance), conformance"
    for first in ("", "import forecastcore.testing.checking; ", "from forecastcore.testing import check; "):
        done = subprocess.run([sys.executable, "-c", f"{first}{said}"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
