"""What is typed, what is answered, and with which exit code."""

from __future__ import annotations

import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from forecastcore.cli import main
from forecastcore.cli.parser import build
from forecastcore.errors import ForecastCoreError
from forecastcore.testing import sample_history

COMMANDS = [
    "",
    "demo",
    "init",
    "doctor",
    "validate",
    "retrain",
    "predict",
    "backtest",
    "models",
    "models list",
    "models show",
    "models compare",
    "models promote",
    "models rollback",
    "models history",
    "plugins",
    "plugins list",
    "plugins check",
    "plugins new",
    "schema",
    "plan",
    "plan retrain",
    "plan predict",
    "monitor",
    "status",
    "drill",
    "explain",
    "failures",
    "logs",
    "diff",
    "backfill",
    "rollback-vintage",
    "reconcile",
    "backup",
    "restore",
    "bundle",
    "completion",
]


def test_every_command_is_in_the_list_above():
    def below(parser, *names):
        children = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
        yield " ".join(names)
        for name, child in children[0].items() if children else ():
            yield from below(child, *names, name)

    assert sorted(below(build())) == sorted(COMMANDS)


MEAN = '''
from dataclasses import dataclass

import numpy as np

from forecastcore.api import Capabilities, ModelSpec, hookimpl, per_series


@per_series
@dataclass(frozen=True)
class Mean:
    """The mean of the last values."""

    window: int = 24

    def fit_series(self, series, task):
        known = series.y[np.isfinite(series.y)][-self.window :]
        return {"level": float(known.mean()) if len(known) else 0.0}

    def predict_series(self, params, series, future, task):
        return np.full(len(future.ds), params["level"])


@hookimpl
def forecastcore_models():
    yield ModelSpec(name="mean", summary="the mean", factory=Mean, capabilities=Capabilities())
'''

SLOW = """
from dataclasses import dataclass
import time
from forecastcore.api import Capabilities, ModelSpec, hookimpl

@dataclass(frozen=True)
class Slow:
    def fit(self, history, task):
        time.sleep(120)

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="slow", summary="sleeps", factory=Slow, capabilities=Capabilities(scope="global"))
"""


#: the command, as it is installed beside this Python
FORECASTCORE = str(Path(sys.executable).with_name("forecastcore"))


def hours(series=2, days=4, start="2024-03-01"):
    """Naive hours of some series."""
    frame = sample_history(series=series, rows=24 * days, start=start, covariates=("temp",))
    return frame.assign(ds=frame["ds"].dt.tz_localize(None))


def help_of(command, capsys):
    capsys.readouterr()
    assert main([*command.split(), "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_of_the_help_can_be_typed(command, capsys):
    shown = help_of(command, capsys)
    examples = [
        re.split(r"\s{3,}|\s>\s", line.strip())[0] for line in shown.splitlines() if line.startswith("  forecastcore ")
    ]
    assert len(examples) >= 2
    for example in examples:
        words = shlex.split(example)[1:]
        parsed = build().parse_args(words)
        assert parsed.command


def test_help_answers_within_0_3_seconds_and_imports_nothing_heavy():
    took = []
    for _ in range(5):
        started = time.perf_counter()
        before = os.times()
        subprocess.run([FORECASTCORE, "--help"], check=True, capture_output=True)
        after = os.times()
        # processor time: on a busy machine the wall clock tells of the neighbours
        took.append(after.children_user + after.children_system - before.children_user - before.children_system)
        assert time.perf_counter() - started < 30
    assert statistics.median(took) <= 0.3
    code = (
        "import sys; from forecastcore.cli import main; main(['retrain', '--help']);"
        "heavy = {'pandas', 'numpy', 'pydantic', 'pyarrow', 'mlflow', 'sklearn', 'scipy', 'yaml', 'prefect', 'joblib'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stderr.strip() == "[]"


def assert_reads_well(told, folder):
    """Words, and tables that fit 80 columns but for paths."""
    assert told.code == 0
    lines = told.out.splitlines()
    assert lines[0].strip()
    assert "{" not in lines[0]
    tables = [line for line in lines if line.startswith((" ", "-"))]
    assert [line for line in tables if len(line) > 80 and str(folder) not in line] == []


def test_every_command_answers_one_json_document_in_a_whole_life(site):
    site.plugin(MEAN)
    first = site.cli("--json", "retrain")
    assert first.code == 0
    told = first.document
    assert list(told)[:3] == ["schema", "command", "project"]
    assert set(told) >= {
        "schema", "command", "project", "run_id", "as_of", "folds", "leaderboard", "challenger", "champion_before",
        "champion_after", "decision", "series", "seconds",
    }  # fmt: skip
    assert set(told["leaderboard"][0]) >= {
        "model", "params", "status", "reason", "mase", "rmsse", "wql", "bias", "coverage", "skill", "seconds",
    }  # fmt: skip
    assert told["decision"]["verdict"] == "first"
    assert told["champion_before"] is None
    assert told["champion_after"] == told["challenger"] == {"model": "seasonal-naive", "version": "1"}
    assert told["series"] == {"total": 3, "ok": 3, "degraded": 0, "failed": 0}

    second = site.cli("retrain", "--json", "--require-promotion")
    assert second.code == 4
    decision = second.document["decision"]
    assert set(decision) >= {"verdict", "reason", "gain", "ci", "confidence", "guards"}
    assert decision["verdict"] == "hold"
    assert decision["gain"] <= 0

    served = site.cli("--json", "predict").document
    assert set(served) >= {
        "schema", "command", "project", "run_id", "run_key", "issued_at", "scenarios", "model", "model_version", "rows",
        "series", "assumptions", "published", "seconds",
    }  # fmt: skip
    assert served["rows"] == 18
    assert [set(p) >= {"sink", "location", "rows", "already"} for p in served["published"]] == [True]
    again = site.cli("predict", "--json")
    assert (again.code, again.document["published"][0]["already"]) == (0, True)
    assert again.document["run_key"] == served["run_key"]

    assert site.cli("--json", "validate").document["valid"] is True
    assert site.cli("--json", "validate", "--data").document["data"]["series"] == 3
    board = site.cli("--json", "backtest", "--set", "backtest.folds=1").document
    assert (board["folds"], len(board["leaderboard"])) == (1, 2)
    models = site.cli("--json", "models", "list").document["models"]
    assert [m["version"] for m in models] == ["2", "1"]
    assert {m["version"]: set(m["aliases"]) for m in models} == {"1": {"champion"}, "2": {"challenger"}}
    assert all(set(m) >= {"version", "model", "aliases", "created_at", "metrics"} for m in models)
    assert site.cli("--json", "models", "show", "champion").document["model"]["version"] == "1"
    assert len(site.cli("--json", "models", "compare", "1", "2").document["models"]) == 2
    assert site.cli("--json", "models", "promote", "2").document["entry"]["champion"] == "2"
    assert "version 1 would be the champion" in site.cli("models", "rollback", "--dry-run").out
    rolled = site.cli("--json", "models", "rollback", "--reason", "drift").document
    assert (rolled["champion_before"], rolled["champion_after"], rolled["entry"]["champion"]) == ("2", "1", "1")
    ledger = site.cli("--json", "models", "history").document["ledger"]
    assert [(e["action"], e["version"], e["champion"]) for e in ledger] == [
        ("first", "1", "1"),
        ("hold", "2", "1"),
        ("manual", "2", "2"),
        ("rollback", "1", "1"),
    ]
    plugins = site.cli("--json", "plugins", "list").document["plugins"]
    assert {"mean", "seasonal-naive", "parquet"} <= {p["name"] for p in plugins}
    assert all(set(p) >= {"name", "kind", "distribution", "version", "source", "health", "reason"} for p in plugins)
    schema = site.cli("schema").document
    assert "properties" in schema
    for words in (["models", "list"], ["models", "show", "1"], ["models", "compare", "1", "2"], ["models", "history"],
                  ["plugins", "list"], ["validate", "--data"], ["backtest"], ["predict"]):  # fmt: skip
        assert_reads_well(site.cli(*words), site.folder)


def test_a_thirty_line_model_is_tried_from_the_command_line(site):
    assert len(MEAN.strip().splitlines()) <= 30
    (site.folder / "own.py").write_text(MEAN, encoding="utf-8")
    told = site.cli(
        "backtest",
        "--json",
        "--plugin",
        str(site.folder / "own.py"),
        "--set",
        'models=[{"type": "mean", "window": 12}]',
    )
    (row,) = told.document["leaderboard"]
    assert (row["model"], row["params"], row["status"]) == ("mean", {"window": 12}, "ok")
    unknown = site.cli("backtest", "--json", "--set", "models=[{type: mean}]")
    assert unknown.code == 2
    assert unknown.document["error"]["key"].startswith("models")


def test_predict_serves_a_model_of_a_file_and_names_what_lacks_without_it(site):
    (site.folder / "own.py").write_text(MEAN, encoding="utf-8")
    own = ["--plugin", str(site.folder / "own.py"), "--set", 'models=[{"type": "mean"}]']
    assert site.cli("retrain", *own).code == 0
    assert site.cli("predict", *own).code == 0
    gone = site.cli("--json", "predict")
    assert gone.code != 0
    assert "own.py" in gone.document["error"]["message"] + str(gone.document["error"]["hint"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["retrian"], "did you mean 'retrain'"),
        (["models", "promot", "1"], "did you mean 'promote'"),
        ([], "COMMAND"),
        (["predict", "--scenaro", "x"], "--scenaro"),
        (["models", "show"], "V"),
        (["predict", "--as-of", "yesterdayish"], "not a moment"),
        (["predict", "--scenario", "heatwave"], "base"),
        (["predict"], "retrain first"),
        (["models", "show", "7"], "7"),
        (["models", "rollback"], "previous"),
        (["validate", "--set", "horizon=-3"], "horizon"),
        (["validate", "--set", "nonsense"], "nonsense"),
        (["validate", "--set", "source.typ=csv"], "type"),
        (["validate", "--plugin", "nowhere.py"], "nowhere.py"),
    ],
)
def test_a_wrong_word_is_answered_with_2_and_the_right_one(words, says, make_site):
    site = make_site(bare=True)
    told = site.cli(*words)
    assert told.code == 2
    assert told.out == ""
    assert says in told.err
    assert "Traceback" not in told.err
    document = site.cli("--json", *words)
    assert document.code == 2
    error = document.document["error"]
    assert set(error) == {"code", "message", "file", "line", "column", "key", "hint"}
    assert document.document["errors"][0] == error
    assert not site.written


def test_a_run_that_failed_tells_the_command_that_goes_on_and_no_secret_of_it(site):
    words = ["predict", "--as-of", "2024-03-08 01:00", "--set", "sinks=[{type: parquet, path: forecast.yaml/out}]"]
    site.cli("retrain")
    told = site.cli(*words)
    assert told.code == 1
    again = told.err.splitlines()[-1].partition("to go on: ")[2]
    assert shlex.split(again)[-len(words) :] == words
    hidden = site.cli(*words, "--set", "source.path=https://me:hunter2@somewhere/x.parquet")
    assert "hunter2" not in hidden.err
    assert site.cli("predict", "--scenario", "nobody").err.count("to go on") == 0, "a mistake is not gone on with"


def test_without_a_project_the_answer_says_how_to_get_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["retrain"]) == 2
    assert "forecast.yaml" in capsys.readouterr().err
    assert main(["plugins", "list"]) == 0
    assert "seasonal-naive" in capsys.readouterr().out


def test_a_fault_of_the_project_file_is_placed_by_line_and_column(site):
    text = (site.folder / "forecast.yaml").read_text(encoding="utf-8")
    line = 1 + text.splitlines().index("horizon: 6")
    (site.folder / "forecast.yaml").write_text(text.replace("horizon: 6", "horizn: 6"), encoding="utf-8")
    told = site.cli("retrain")
    assert told.code == 2
    assert re.search(rf"forecast\.yaml:{line}:\d+: horizn: .*horizon", told.err)
    errors = site.cli("retrain", "--json").document["errors"]
    assert any(e["line"] == line and e["key"] == "horizn" for e in errors)


@pytest.mark.parametrize("workers", [pytest.param(0, marks=pytest.mark.slow), 2])
def test_an_interrupted_retrain_ends_with_130_and_leaves_nothing_running(workers, site):
    site.plugin(SLOW).write(models=[{"type": "slow"}], engine={"type": "local", "workers": workers})
    command = [FORECASTCORE, "-p", str(site.folder), "retrain"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        wait_until(lambda: sleeping_in(process.pid, "mlflow.db", site.folder), 120)
        wait_until(lambda: workers == 0 or len(descendants(process.pid)) > workers, 60)
        time.sleep(2)
        children = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        _, err = process.communicate(timeout=30)
        assert time.monotonic() - started < 15
    finally:
        for pid in [*descendants(process.pid), process.pid]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in err
    assert f"to go on: forecastcore -p {site.folder} retrain\n" in err
    wait_until(lambda: not any(alive(pid) for pid in children), 10)
    assert running(site.folder) == 0


def wait_until(true, seconds):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def sleeping_in(pid, name, folder):
    return alive(pid) and running(folder) > 0


def running(folder):
    import sqlite3

    with sqlite3.connect(f"file:{folder / 'mlflow.db'}?mode=ro", uri=True, timeout=30) as reader:
        return reader.execute("select count(*) from runs where status = 'RUNNING'").fetchone()[0]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:  # noqa: PTH123 - no file
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def descendants(pid):
    """Processes below `pid`, by the kernel's own book."""
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        try:
            with open(f"/proc/{parent}/task/{parent}/children", encoding="utf-8") as children:  # noqa: PTH123 - no file
                below = [int(child) for child in children.read().split()]
        except OSError:
            below = []
        found += below
        waiting += below
    return found


def edited(**changes):
    """The small history with columns changed."""
    frame = hours(2, 4)
    return frame.assign(**{name: change(frame) for name, change in changes.items()})


def with_cell(column, value, row=50):
    def change(frame):
        values = frame[column].astype(object)
        values.iloc[row] = value
        return values.astype(str) if isinstance(value, str) else values.astype(float)

    return edited(**{column: change})


BAD = {
    "a column is missing": (hours(2, 4).drop(columns="y"), {}, ["'y'", "unique_id"]),
    "the covariate is missing": (
        hours(2, 4).drop(columns="temp"),
        {"covariates": {"temp": {"assume": "w"}}, "assumptions": {"w": {"type": "persistence"}}},
        ["temp"],
    ),
    "the target is text": (edited(y=lambda f: ["many"] * len(f)), {}, ["no numbers", "many"]),
    "one value is text": (with_cell("y", "n/a"), {}, ["1 value", "n/a"]),
    "rows stand twice": (pd.concat([hours(2, 4), hours(2, 4).head(3)]), {}, ["quality.duplicates"]),
    "a gap that may not be": (
        hours(2, 4).drop(index=[40, 41]),
        {"quality": {"gaps": "error"}},
        ["2 rows", "quality.gaps"],
    ),
    "an infinite target that may not be": (
        with_cell("y", float("inf")),
        {"quality": {"gaps": "error"}},
        ["infinite"],
    ),
    "two frequencies": (
        pd.concat([hours(1, 4), hours(1, 4).iloc[::4].assign(unique_id="other")]),
        {},
        ["'other'", "every 4 steps"],
    ),
    "times off the grid": (
        edited(ds=lambda f: f["ds"] + pd.to_timedelta([7 if n == 9 else 0 for n in range(len(f))], "min")),
        {},
        ["not on the grid", "frequency"],
    ),
    "an hour that is there twice": (
        hours(2, 4, start="2024-10-26"),
        {"source": {"type": "parquet", "path": "history.parquet", "timezone": "Europe/Berlin"}},
        ["quality.ambiguous"],
    ),
    "an hour that is never there": (
        hours(2, 4, start="2024-03-30"),
        {"source": {"type": "parquet", "path": "history.parquet", "timezone": "Europe/Berlin"}},
        ["quality.nonexistent"],
    ),
    "no rows": (hours(2, 4).head(0), {}, ["no rows"]),
    "only missing values": (edited(y=lambda f: [float("nan")] * len(f)), {}, ["value"]),
    "numbers for times": (edited(ds=lambda f: range(len(f))), {}, ["not timestamps"]),
    "too short": (hours(2, 1).groupby("unique_id").head(5), {}, ["too short", "horizon"]),
    "empty names": (edited(unique_id=lambda f: [None, *f["unique_id"][1:]]), {}, ["unique_id", "empty"]),
    "the file is not there": (
        hours(2, 4),
        {"source": {"type": "parquet", "path": "nowhere.parquet"}},
        ["nowhere.parquet"],
    ),
}


@pytest.mark.row(28, 40)
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error_before_anything_is_written(case, make_site):
    frame, settings, says = BAD[case]
    site = make_site(frame, bare=True, **settings)
    told = site.cli("retrain")
    assert told.code in {2, 4}
    assert told.err.count("error:") == 1
    for words in says:
        assert words in told.err
    assert "Traceback" not in told.err
    assert site.cli("--json", "predict").document["error"]["message"]
    assert not site.written


@pytest.mark.parametrize(
    ("settings", "key", "says"),
    [
        ({"models": [{"type": "seasonal-niave"}]}, "models.0.type", "seasonal-naive"),
        ({"horizon": "six"}, "horizon", "six"),
        ({"models": [{"type": "seasonal-naive", "season": "day"}]}, "models.0.season", "day"),
        ({"source": {"type": "parqet", "path": "x"}}, "source.type", "parquet"),
        ({"covariates": {"temp": {"assume": "wether"}}, "assumptions": {"weather": {"type": "persistence"}}},
         "covariates.temp.assume", "weather"),
        ({"quality": {"gaps": "ignore"}}, "quality.gaps", "fill"),
    ],
)  # fmt: skip
def test_a_wrong_project_file_is_told_with_its_place_before_anything_is_read(settings, key, says, make_site):
    site = make_site(bare=True, **settings)
    told = site.cli("--json", "retrain")
    assert told.code == 2
    error = told.document["error"]
    assert re.sub(r"\[(\d+)\]", r".\1", error["key"]) == key
    assert error["line"] >= 1
    assert says in error["message"] + str(error["hint"])
    assert not site.written


@pytest.mark.row(40)
@pytest.mark.parametrize(
    ("frame", "quality", "count"),
    [
        (hours(2, 4).sample(frac=1, random_state=0), {}, {"rows_sorted": 192}),
        (hours(2, 4).drop(index=[40, 41, 150]), {}, {"gaps_filled": 3}),
        (pd.concat([hours(2, 4), hours(2, 4).head(3)]), {"duplicates": "last"}, {"duplicates_last": 3}),
        (with_cell("y", float("nan")), {}, {"values_missing": 1}),
        (with_cell("y", float("inf")), {}, {"infinite_as_missing": 1}),
    ],
)
def test_a_repair_that_the_project_allows_is_counted(frame, quality, count, make_site):
    site = make_site(frame, bare=True, quality=quality)
    told = site.cli("--json", "backtest")
    assert told.code == 0
    assert count.items() <= told.document["quality"].items()
    assert not site.written


def test_degraded_series_are_delivered_with_exit_code_3(site):
    frame = hours(3, 10)
    frame.loc[frame["unique_id"] == "series-1", "y"] = 7.0
    site.write(frame)
    assert site.cli("retrain").code == 0
    told = site.cli("--json", "predict")
    assert told.code == 3
    assert told.document["series"] == {"total": 3, "ok": 2, "degraded": 1, "failed": 0}
    words = "1 of 3 series are not served by the model, more than audit.alert_degraded"
    assert told.document["alerts"] == [f"{words} (5%)"]
    quiet = site.cli("--json", "predict", "--set", "audit.alert_degraded=0.34")
    assert (quiet.code, quiet.document["alerts"]) == (3, [])


def test_a_sink_that_fails_is_told_and_the_others_are_delivered(site):
    (site.folder / "blocked").write_text("a file where a folder should be", encoding="utf-8")
    site.write(sinks=[{"type": "parquet", "path": "blocked/there"}, {"type": "parquet", "path": "out/forecasts"}])
    assert site.cli("retrain").code == 0
    told = site.cli("--json", "predict")
    assert told.code == 1
    bad, good = told.document["published"]
    assert bad["error"]
    assert (good["rows"], good["error"]) == (18, "")
    site.write(sinks=[{"type": "parquet", "path": "blocked/there"}])
    alone = site.cli("--json", "predict")
    assert (alone.code, alone.document["error"]["code"]) == (1, "sink")


def test_errors_carry_the_exit_code_of_their_kind():
    codes = {cls.code: cls.exit_code for cls in all_errors(ForecastCoreError)}
    assert codes["usage"] == codes["config"] == 2
    assert set(codes.values()) <= {1, 2, 4}


def all_errors(cls):
    return [cls, *(below for sub in cls.__subclasses__() for below in all_errors(sub))]
