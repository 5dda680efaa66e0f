"""What a shell offers when the tabulator key is pressed."""

import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from forecastcore.cli import main
from forecastcore.cli.completion import SCRIPTS, candidates
from forecastcore.cli.parser import build

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
        (["predict", "--scenario", ""], []),
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


def test_an_answer_takes_a_tenth_of_a_second_of_a_processor():
    took = []
    for _ in range(5):
        code = "import time; a = time.process_time(); from forecastcore.cli import main; main(['__complete', 're']);"
        code += "print(time.process_time())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        took.append(float(done.stdout.split()[-1]))
    assert statistics.median(took) <= 0.1
