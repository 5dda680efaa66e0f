"""Every example that `--help` shows is typed as it stands, in one project, in the order of a project's life."""

from __future__ import annotations

import re
import shlex
import shutil

import pytest

from forecastcore.cli import main
from forecastcore.testing import sample_history
from tests.conftest import SETTINGS, Site
from tests.test_cli import COMMANDS

#: Commands in an order in which their examples hold; behind a `>` what else happens. Exit codes beside 0 tell
#: of the project's state: held, stale, degraded. The empty line is `forecastcore` itself, whose examples come from all.
LIFE = """\
init
validate
doctor
schema
completion
plugins list
plugins new
plugins check
plugins
plan retrain
backtest
> retrain --as-of 2026-09-29
retrain: 4
plan predict
plan
> predict --as-of 2026-11-23
> predict --as-of 2026-11-24
> predict --scenario heatwave
predict
models list
models show
models compare
models promote
models history
models rollback
models
explain
failures
logs
diff
backfill
monitor: 3
status: 3
drill
backup
restore
rollback-vintage
reconcile
demo

bundle
"""


#: shops whose sales follow a temperature that a service tells, a day and a half ahead
WEATHER = {
    "horizon": 36,
    "covariates": {"temp": {"assume": "weather"}},
    "assumptions": {
        "weather": {"type": "chain", "links": ["service", "usual"]},
        "service": {"type": "persistence"},
        "usual": {"type": "climatology"},
    },
    "scenarios": {"heatwave": {"weather": {"type": "shift", "of": "weather", "add": 5.0}}},
    "models": [{"type": "seasonal-naive"}, {"type": "ridge"}],
}
DATABRICKS = {"type": "databricks", "volume": "/Volumes/main/forecasts/runs", "serverless": True}


def examples_of(command, capsys):
    capsys.readouterr()
    assert main([*command.split(), "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    return [re.split(r"\s{3,}|\s>\s", line.strip())[0] for line in lines if line.startswith("  forecastcore ")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_example_of_the_help_does_what_it_says(tmp_path, monkeypatch, capsys):
    (here := tmp_path / "life").mkdir()
    monkeypatch.chdir(here)
    history = sample_history(rows=71 * 24 + 1, start="2026-09-15", covariates=("temp",))
    history["unique_id"] = history["unique_id"].str.replace("series", "shop")
    Site(here, None, dict(SETTINGS)).write(history, **WEATHER)
    typed, seen, wrong = set(), set(), []
    for step in LIFE.splitlines():
        command, _, codes = step.partition(":")
        if command == "bundle":
            Site(here, None, dict(SETTINGS)).write(**WEATHER, engine=DATABRICKS)
        elif command == "plugins check":
            shutil.copy(here / "forecastcore-my-model" / "forecastcore_my_model" / "__init__.py", here / "my_model.py")
        seen.add(command)
        examples = [f"forecastcore {command[1:]}"] if command.startswith(">") else examples_of(command, capsys)
        for example in [example for example in examples if example not in typed]:
            typed.add(example)
            code = main(shlex.split(example)[1:])
            told = capsys.readouterr()
            if code not in {0, *map(int, codes.split())} or "Traceback" in told.err:
                wrong.append(f"{example}: {code}\n{told.err[-600:]}")
    assert not wrong, "\n".join(wrong)
    assert seen >= set(COMMANDS)
