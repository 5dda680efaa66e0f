"""What a shell offers when the tabulator key is pressed."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from forecastcore.cli import main
from forecastcore.cli.completion import SCRIPTS, candidates
from forecastcore.cli.parser import build
from forecastcore.known import recall, remember

BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["re"], ["reconcile", "restore", "retrain"]),
        (["models", ""], ["compare", "history", "list", "promote", "rollback", "show"]),
        (["-p", "models", "pl"], ["plan", "plugins"]),
        (["retrain", "--on", ""], ["databricks", "local", "spark"]),
        (["retrain", "--on", "local", "--no"], ["--no-promote"]),
        (["init", "--template", "e"], ["energy-load"]),
        (["plugins", "new", ""], ["assumption", "model", "sink", "source"]),
        (["plugins", "new", "sink", ""], []),
        (["predict", "--scenario", ""], ["base"]),
        (["nonsense", "x"], []),
        ([], sorted(next(a.choices for a in build()._actions if isinstance(a.choices, dict)))),
    ],
)
def test_the_last_word_becomes(words, expected):
    assert candidates(build(), words) == expected


@pytest.mark.parametrize("shell", SCRIPTS)
def test_each_shell_gets_its_script_and_those_that_are_here_can_read_it(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "forecastcore __complete" in script
    if shell == "bash":
        assert shutil.which("bash"), "every machine that runs these tests has bash"
        asked = f'{script}\nCOMP_WORDS=(forecastcore models ro); COMP_CWORD=2; _forecastcore; echo "${{COMPREPLY[@]}}"'
        done = subprocess.run(
            ["bash", "-euc", asked], env={"PATH": f"{BIN}:/usr/bin:/bin"}, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "rollback"


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setenv("FORECASTCORE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "shop" / "forecast.yaml"
    file.parent.mkdir()
    file.touch()
    remember(file, series=["shop-1", "shop-2", "a\nb"], versions=["1"], runs=["3fa94c21"], scenarios=["base", "hot"])
    remember(file, versions=["2"])
    return file


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["models", "show", ""], ["1", "2", "challenger", "champion", "previous"]),
        (["models", "compare", "1", "ch"], ["challenger", "champion"]),
        (["predict", "--model", ""], ["1", "2", "challenger", "champion"]),
        (["predict", "--scenario", "h"], ["hot"]),
        (["explain", "sh"], ["shop-1", "shop-2"]),
        (["diff", "3"], ["3fa94c21"]),
        (["diff", "3fa94c21", ""], ["3fa94c21", "latest", "previous"]),
        (["plugins", "new", "sink", ""], []),
    ],
)
def test_names_of_the_project_are_those_that_runs_have_met(project, words, expected, monkeypatch):
    assert candidates(build(), ["-p", str(project), *words]) == expected
    assert candidates(build(), ["-p", str(project.parent), *words]) == expected
    below = project.parent / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    assert candidates(build(), words) == expected


def test_names_are_few_and_a_cache_that_is_spoilt_or_closed_is_none(project, tmp_path, monkeypatch):
    remember(project, series=[f"s{n}" for n in range(100_000)])
    assert len(recall(project, "series")) == 2000
    (kept,) = (tmp_path / "cache" / "known").iterdir()
    kept.write_text("[1]")
    assert recall(project, "series") == []
    monkeypatch.setenv("FORECASTCORE_CACHE", str(project))
    remember(project, series=["x"])
    assert recall(project, "series") == []


def seconds(code):
    """Processor time of a Python process that runs this; the least of some, for what else runs only adds to it."""
    took = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(took)


def test_an_answer_takes_hardly_longer_than_python_itself(project):
    """A tenth of a second where Python with argparse starts in a fiftieth, as it does on the machines people have."""
    remember(project, series=[f"shop-{n}" for n in range(2000)])
    words = ["__complete", "-p", str(project), "explain", "shop-19"]
    ours = seconds(f"from forecastcore.cli import main; main({words!r})")
    bare = seconds("import argparse, json, difflib, pathlib, hashlib")
    assert ours <= 5 * bare, (ours, bare)
