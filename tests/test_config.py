# ruff: noqa: E501 - each mistake stands on one line with the words it must give
"""The project file: every fault has its place, none is executed, and references stay references."""

import json
import os
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from forecastcore import config
from forecastcore.config.document import MAX_BYTES
from forecastcore.config.loading import absolute_uri
from forecastcore.errors import ConfigError

GOOD = """\
name: vic-demand
source:
  type: parquet
  path: data/vic.parquet
  timezone: Australia/Melbourne
quality:
  gaps: fill
  max_missing: 0.5
frequency: 30min
horizon: 336
quantiles: [0.1, 0.5, 0.9]
covariates:
  temperature: {assume: weather}
  promotion: {known: true}
assumptions:
  weather: {type: climatology, window_days: 15}
scenarios:
  heatwave: {weather: {type: shift, of: weather, add: 5.0}}
models:
  - type: seasonal-naive
  - {type: boost, depth: 3, grid: {rate: [0.05, 0.1], leaves: [31, 127]}}
backtest: {folds: 4, stride: 336, metric: mase, season: 48}
promotion: {mode: off, min_gain: 0.01, confidence: 0.95}
sinks:
  - {type: delta, path: out/forecasts}
engine: {type: local, workers: 2}
tracking: {uri: "sqlite:///mlflow.db", experiment: vic}
plugins: {block: [], allow: null}
"""

MINIMAL = "name: a\nsource: {type: csv}\nfrequency: h\nhorizon: 24\n"


@pytest.fixture
def write(tmp_path):
    def write(text, name="forecast.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def problems(path, overrides=()):
    with pytest.raises(ConfigError) as caught:
        config.load(path, overrides)
    return caught.value.problems


def test_the_whole_file_is_read(write):
    c = config.load(write(GOOD))
    assert (c.name, c.frequency, c.horizon, c.quantiles) == ("vic-demand", "30min", 336, (0.1, 0.5, 0.9))
    assert (c.source.type, c.source.time, c.source.params) == ("parquet", "ds", {"path": "data/vic.parquet"})
    assert c.covariates["temperature"].assume == "weather"
    assert c.assumptions["weather"].params == {"window_days": 15}
    assert c.scenarios["heatwave"]["weather"].params == {"of": "weather", "add": 5.0}
    assert c.models[1].params == {"depth": 3}
    assert c.models[1].grid == {"rate": [0.05, 0.1], "leaves": [31, 127]}
    assert c.promotion.mode == "off"
    assert c.engine.params == {"workers": 2}
    assert c.plugins.allow is None


def test_four_keys_are_enough_and_the_rest_has_defaults(write):
    path = write(MINIMAL)
    c = config.load(path)
    assert c.quantiles == (0.1, 0.5, 0.9)
    assert (c.backtest.folds, c.backtest.stride, c.backtest.metric) == (4, 24, "mase")
    assert (c.promotion.mode, c.promotion.min_gain, c.promotion.confidence) == ("enforce", 0.01, 0.95)
    assert c.tracking.uri == f"sqlite:///{path.parent}/mlflow.db"
    assert c.tracking.experiment == "a"
    assert (c.engine.type, c.source.timezone, c.source.id) == ("local", "UTC", "unique_id")


def test_a_folder_stands_for_the_file_in_it(write):
    assert config.load(write(MINIMAL).parent).name == "a"


def test_the_config_cannot_be_changed(write):
    c = config.load(write(MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        c.horizon = 3


def test_words_of_old_yaml_stay_words(write):
    text = (
        MINIMAL
        + "assumptions:\n  c: {type: holidays, country: NO, at: 12:30, day: 2024-01-01, on: off, n: 010, e: 1e-3}\n"
    )
    params = config.load(write(text)).assumptions["c"].params
    assert params == {"country": "NO", "at": "12:30", "day": "2024-01-01", "on": "off", "n": 10, "e": 0.001}


def test_a_byte_order_mark_is_no_fault(write):
    assert config.load(write(b"\xef\xbb\xbf" + MINIMAL.encode())).name == "a"


def test_aliases_are_read(write):
    text = MINIMAL + "models:\n  - {type: a, grid: {x: &values [1, 2]}}\n  - {type: b, grid: {y: *values}}\n"
    assert config.load(write(text)).models[1].grid == {"y": [1, 2]}


# Each mistake: what it replaces, what it writes, and the line that the reader gets.
MISTAKES = [
    ("name: vic-demand", "name: Vic Demand", "1:7: name: expected lowercase letters, digits and dashes, got 'Vic Demand' (did you mean 'vic-demand'?)"),
    ("name: vic-demand", "name: 12", '1:7: name: expected text, got 12 (put it in quotes: "12")'),
    ("name: vic-demand", "nam: vic-demand", "1:1: nam: is not a known key"),
    ("name: vic-demand", "nam: vic-demand", "1:1: name: is required"),
    ("name: vic-demand", "name:", "1:6: name: expected text, got nothing"),
    ("  type: parquet\n", "", "2:1: source.type: is required"),
    ("  type: parquet", "  type: [parquet]", '3:9: source.type: expected text, got ["parquet"]'),
    ("  timezone: Australia/Melbourne", "  timezone: Australia/Melburne", "5:13: source.timezone: expected an IANA time zone such as Europe/Berlin, got 'Australia/Melburne' (did you mean 'Australia/Melbourne'?)"),
    ("  timezone: Australia/Melbourne", "  timezone: Australia", "5:13: source.timezone: expected an IANA time zone"),
    ("  timezone: Australia/Melbourne", "  timezone: ../../etc/passwd", "5:13: source.timezone: expected an IANA time zone"),
    ("  gaps: fill", "  gaps: fil", "7:9: quality.gaps: expected one of fill, zero, error; got 'fil' (did you mean 'fill'?)"),
    ("  gaps: fill", "  gap: fill", "7:3: quality.gap: is not a known key; expected one of gaps, duplicates, ambiguous, nonexistent, max_missing (did you mean 'gaps'?)"),
    ("  max_missing: 0.5", "  max_missing: 1.5", "8:16: quality.max_missing: must be at most 1, got 1.5"),
    ("  max_missing: 0.5", '  max_missing: "0.5"', "8:16: quality.max_missing: expected a number, got '0.5'"),
    ("  max_missing: 0.5", "  max_missing: .nan", "8:16: quality.max_missing: expected a number, got '.nan'"),
    ("frequency: 30min", "frequency: 30mins", "9:12: frequency: expected a pandas alias such as 30min, h, D, W-MON, MS or QS, got '30mins'"),
    ("frequency: 30min", "frequency: -1h", "9:12: frequency: expected a pandas alias"),
    ("frequency: 30min", "frequency: 30", '9:12: frequency: expected text, got 30 (put it in quotes: "30")'),
    ("frequency: 30min\n", "", "1:1: frequency: is required"),
    ("horizon: 336", "horizon: 0", "10:10: horizon: must be at least 1, got 0"),
    ("horizon: 336", 'horizon: "336"', "10:10: horizon: expected a whole number, got '336' (write 336 without quotes)"),
    ("horizon: 336", "horizon: 3.5", "10:10: horizon: expected a whole number, got 3.5"),
    ("horizon: 336", "horizon: true", "10:10: horizon: expected a whole number, got true"),
    ("horizon: 336", "horizon: 99999999999999999999999", "10:10: horizon: must be at most 1e+06"),
    ("horizon: 336", "horizons: 336", "10:1: horizons: is not a known key"),
    ("horizon: 336", "horizon: 336\nhorizon: 12", "11:1: horizon: the key stands here a second time; the first is on line 10 (keep one of them)"),
    ("horizon: 336", "horizon: 336\nfolds: 3", "11:1: folds: is not a known key"),
    ("horizon: 336", "horizon: 336\nfolds: 3", "(it belongs under `backtest:`)"),
    ("quantiles: [0.1, 0.5, 0.9]", "quantiles: [10, 50, 90]", "11:12: quantiles: a quantile lies above 0 and below 1, got 10 (did you mean 0.1?)"),
    ("quantiles: [0.1, 0.5, 0.9]", "quantiles: [0.1, 0.1]", "11:12: quantiles: the quantile 0.1 stands here more than once (keep one of them)"),
    ("quantiles: [0.1, 0.5, 0.9]", "quantiles: 0.5", "11:12: quantiles: expected a list, got 0.5"),
    ("quantiles: [0.1, 0.5, 0.9]", "quantiles: [0.1, a]", "11:18: quantiles.1: expected a number, got 'a'"),
    ("quantiles: [0.1, 0.5, 0.9]", "quantiles: []", "11:12: quantiles: needs at least one entry"),
    ("{assume: weather}", "{assume: wether}", "13:25: covariates.temperature.assume: no assumption is called 'wether'; there are weather (did you mean 'weather'?)"),
    ("{assume: weather}", "{assume: weather, known: true}", "13:34: covariates.temperature.known: its future is known or assumed, not both"),
    ("{assume: weather}", "{}", "13:3: covariates.temperature: says nothing of its future"),
    ("{assume: weather}", "{asume: weather}", "13:17: covariates.temperature.asume: is not a known key; expected one of assume, known, issued (did you mean 'assume'?)"),
    ("{assume: weather}", "weather", "13:16: covariates.temperature: expected keys with values, got 'weather'"),
    ("{known: true}", "{known: yes}", "14:22: covariates.promotion.known: expected true or false, got 'yes' (did you mean true?)"),
    ("{known: true}", "{known: true, issued: a.csv}", "14:28: covariates.promotion.issued: is read only where the covariate is assumed"),
    ("  promotion: {known: true}", "  ds: {known: true}", "14:3: covariates.ds: the name 'ds' is taken"),
    ("  promotion: {known: true}", "  2: {known: true}", "14:3: covariates.?: the key '2' is not text (put it in quotes)"),
    ("  weather: {type: climatology, window_days: 15}", "  weather: climatology", "16:12: assumptions.weather: expected keys with values, got 'climatology' (write {type: climatology})"),
    ("  weather: {type: climatology, window_days: 15}", "  weather: {window_days: 15}", "16:3: assumptions.weather.type: is required"),
    ("  heatwave: {weather:", "  heatwave: {wether:", "18:14: scenarios.heatwave.wether: no assumption is called 'wether'; there are weather (did you mean 'weather'?)"),
    ("  heatwave: {weather:", "  base: {weather:", "18:3: scenarios.base: 'base' always exists"),
    ("  heatwave: {weather:", "  ../x: {weather:", "18:3: scenarios.../x: expected letters, digits, dashes and underscores in the name"),
    ("  - type: seasonal-naive", "  - seasonal-naive", "20:5: models.0: expected keys with values, got 'seasonal-naive' (write {type: seasonal-naive})"),
    ("  - type: seasonal-naive", "  - typ: seasonal-naive", "20:5: models.0.type: is required"),
    ("grid: {rate: [0.05, 0.1]", "grid: {rate: 0.05", "21:42: models.1.grid.rate: expected a list, got 0.05"),
    ("grid: {rate: [0.05, 0.1]", "grid: {depth: [1, 2]", "21:36: models.1.grid.depth: 'depth' is set beside the grid too"),
    ("grid: {rate: [0.05, 0.1]", "grid: {rate: []", "21:42: models.1.grid.rate: needs at least one entry"),
    ("  - type: seasonal-naive", "  - type: seasonal-naive\n  - {type: seasonal-naive}", "21:5: models.1: is the same as models.0 (keep one of them)"),
    ("  max_missing: 0.5", "  max_missing: " + "9" * 400, "8:16: quality.max_missing: "),
    ("backtest: {folds: 4,", "backtest: {folds: 0,", "22:19: backtest.folds: must be at least 1, got 0"),
    ("backtest: {folds: 4,", "backtest: {fold: 4,", "22:12: backtest.fold: is not a known key; expected one of folds, stride, metric, season (did you mean 'folds'?)"),
    ("metric: mase", "metric: MASE", "22:43: backtest.metric: expected one of mase, rmsse, wql; got 'MASE' (did you mean 'mase'?)"),
    ("mode: off", "mode: dryrun", "23:19: promotion.mode: expected one of off, dry-run, enforce, manual; got 'dryrun' (did you mean 'dry-run'?)"),
    ("confidence: 0.95", "confidence: 95", "23:52: promotion.confidence: must be below 1, got 95"),
    ("sinks:\n  - {type: delta, path: out/forecasts}", "sinks: {type: delta}", "24:8: sinks: expected a list, got"),
    ("sinks:\n  - {type: delta, path: out/forecasts}", "sinks:", "24:7: sinks: expected a list, got nothing"),
    ("workers: 2", "worker: 2", "26:23: engine.worker: the engine 'local' has no such setting; it has workers, timeout (did you mean 'workers'?)"),
    ("workers: 2", "workers: two", "26:32: engine.workers: expected a whole number, got 'two'"),
    ("type: local", "type: locl", "26:16: engine.type: expected one of local, spark, databricks; got 'locl' (did you mean 'local'?)"),
    ("type: local, workers: 2", "type: databricks", "26:1: engine: expected exactly one of cluster, existing_cluster and serverless, got none"),
    ("experiment: vic", "experment: vic", "27:40: tracking.experment: is not a known key; expected one of uri, experiment (did you mean 'experiment'?)"),
    ("block: []", "block: a", "28:18: plugins.block: expected a list, got 'a'"),
    ("plugins: {block: [], allow: null}", "plugins:", "28:9: plugins: expected keys with values, got nothing (leave the key out to get the defaults)"),
    ("data/vic.parquet", "${env:}", "4:9: source.path: ${env:} is not a reference (write ${env:NAME} or ${block:TYPE/NAME})"),
    ("data/vic.parquet", "${evn:HOME}", "4:9: source.path: ${evn:HOME} is not a reference (did you mean 'env'?)"),
    ("name: vic-demand", 'name: "${env:NAME}"', "1:7: name: ${env:NAME} is not read here"),
    ("depth: 3", 'depth: "${env:DEPTH}"', "21:26: models.1.depth: ${env:DEPTH} is not read here"),
    # YAML itself
    ("  gaps: fill", "\tgaps: fill", "7:1: is not valid YAML: found character '\\t' that cannot start any token (indent with spaces)"),
    ("name: vic-demand", "name: a: b", "1:8: is not valid YAML: mapping values are not allowed here"),
    ("name: vic-demand", "name: [a", "2:7: is not valid YAML: "),
    ("name: vic-demand", 'name: "a', "27:18: is not valid YAML: expected <block end>, but found '<scalar>'"),
    ("name: vic-demand", "name: *nobody", "1:7: is not valid YAML: found undefined alias"),
    ("name: vic-demand", "name: !!python/object/apply:os.system [echo]", "1:7: name: the tag !!python/object/apply:os.system is not allowed (write plain YAML without tags)"),
    ("name: vic-demand", "name: !mine x", "1:7: name: the tag !mine is not allowed"),
    ("name: vic-demand", "name: !!int x", "1:7: name: cannot be read as int"),
    ("horizon: 336", "horizon: 1e999", "10:10: horizon: cannot be read as float"),
    ("name: vic-demand", "--- 1\n--- 2", "2:1: is not valid YAML: but found another document (keep one project in a file)"),
    ("name: vic-demand", 'name: "\\ud800"', "1:7: name: cannot be read as str"),
    ("name: vic-demand", "name: a\x07", "1:8: is not valid YAML: special characters are not allowed"),
    ("name: vic-demand", "? [a, b]\n: c", "1:3: ?: a key must be text"),
    ("name: vic-demand", "<<: {name: x}", "1:1: <<: is not a known key"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES, ids=[m[2][:50] for m in MISTAKES])
def test_a_mistake_is_told_with_its_place_and_mend(write, old, new, expected):
    assert GOOD.count(old) == 1 or old in ("type: local, workers: 2", "name: vic-demand")
    path = write(GOOD.replace(old, new, 1))
    told = [str(problem).removeprefix(f"{path}:") for problem in problems(path)]
    assert any(expected in text if expected.startswith("(") else text.startswith(expected) for text in told), told


def test_a_mistake_makes_no_echo(write):
    single = [m for m in MISTAKES if "nam:" not in m[1] and "folds: 3" not in m[1] and "2: {kn" not in m[1]]
    loud = {"horizons", "typ: seasonal-naive", "asume", "wether:", "<<", "[a, b]", "experment"}
    for old, new, expected in single:
        found = problems(write(GOOD.replace(old, new, 1)))
        if not any(word in new for word in loud):
            assert len(found) == 1, (expected, [str(problem) for problem in found])


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(write):
    text = (
        GOOD.replace("horizon: 336", "horizon: 0")
        .replace("gaps: fill", "gaps: x")
        .replace("{assume: weather}", "{assume: y}")
    )
    found = problems(write(text.replace("mode: off", "mode: of").replace("name: vic", "name: VIC")))
    assert [problem.key for problem in found] == [
        "name",
        "quality.gaps",
        "horizon",
        "covariates.temperature.assume",
        "promotion.mode",
    ]


def test_a_problem_carries_data_for_machines(write):
    path = write(GOOD.replace("gaps: fill", "gaps: fil"))
    (problem,) = problems(path)
    assert (problem.file, problem.line, problem.column, problem.key) == (str(path), 7, 9, "quality.gaps")
    assert (problem.hint, problem.code) == ("did you mean 'fill'?", "config")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"- a\n- b\n", "is not a list of keys with values"),
        (b"just text", "is not a list of keys with values"),
        (b"name: a\nsource: \xff\xfe\n", "2:9: is not UTF-8 text"),
        (b"a: 1\n" * MAX_BYTES, "is larger than 64 kB"),
        (b"\xff" * (MAX_BYTES + 9), "is larger than 64 kB"),
    ],
)
def test_a_file_that_is_no_project_is_told_so(write, content, expected):
    (problem,) = problems(write(content))
    assert expected in str(problem)


def test_a_missing_file_names_the_command_that_writes_one(tmp_path):
    (problem,) = problems(tmp_path / "forecast.yaml")
    assert "there is no such file" in problem.message
    assert "forecastcore init" in problem.hint


HOSTILE = {
    "aliases that double": "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefghijklmnopqrst", "bcdefghijklmnopqrstu", strict=True)),
    "an alias of itself": "a: &a [*a]\n",
    "deep flow lists": "a: " + "[" * 20_000,
    "deep mappings": "".join(" " * n + "a:\n" for n in range(300)),
    "many keys": "".join(f"k{n}: 1\n" for n in range(6000)),
    "a long scalar": "name: " + "x" * 60_000,
    "a long number": "horizon: " + "9" * 60_000,
    "deep block lists": "a:\n  " + "- " * 5_000 + "x",
    "an escape out of range": 'name: "\\UFFFFFFFF"',
    "a huge version": "%YAML " + "9" * 10_000 + ".1\n---\na: 1",
    "a call": "name: !!python/object/apply:builtins.eval ['1/0']",
    "too many candidates": MINIMAL
    + "models:\n- {type: a, grid: {"
    + ", ".join(f"p{n}: [1, 2, 3, 4]" for n in range(200))
    + "}}\n",
}  # fmt: skip


@pytest.mark.row(61)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_refused_quickly(write, text):
    config.load(write(MINIMAL))  # libraries are imported now, outside the time
    path = write(text)
    started = time.process_time()
    assert problems(path)
    assert time.process_time() - started < 1


def test_overrides_apply_before_the_check(write):
    path = write(GOOD.replace("horizon: 336", "horizon: 0"))
    c = config.load(
        path, ["horizon=24", "backtest.folds=2", "models=[{type: ridge, alpha: 1.0}]", "promotion.mode=dry-run"]
    )
    assert (c.horizon, c.backtest.folds, c.promotion.mode) == (24, 2, "dry-run")
    assert c.models[0].params == {"alpha": 1.0}


def test_an_override_may_add_a_section_and_change_an_entry(write):
    c = config.load(write(MINIMAL), ["quality.gaps=error", "source.path=a=b.csv", "tracking.experiment=x"])
    assert (c.quality.gaps, c.source.params, c.tracking.experiment) == ("error", {"path": "a=b.csv"}, "x")
    assert config.load(write(GOOD), ["models.1.grid.rate.0=0.5"]).models[1].grid["rate"] == [0.5, 0.1]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("horizon=0", "--set horizon: horizon: must be at least 1, got 0"),
        ("backtest={fold: 2}", "--set backtest: backtest.fold: is not a known key"),
        ("horizn=3", "--set horizn: horizn: is not a known key"),
        ("horizon", "--set horizon: expected key.path=value (such as horizon=24)"),
        ("=3", "--set : expected key.path=value"),
        ("a..b=3", "--set a..b: expected key.path=value"),
        ("horizon=[1", "--set horizon: is not valid YAML"),
        ("models.7.type=x", "--set models.7.type: models is a list of 2 entries, counted from 0; '7' is none of them"),
        ("models.x=1", "--set models.x: models is a list of 2 entries"),
        ("horizon.x=1", "--set horizon.x: horizon has no keys to set"),
        ("name=!!python/name:os.system x", "--set name: the tag !!python/name:os.system is not allowed"),
    ],
)
def test_a_fault_of_an_override_names_the_override(write, override, expected):
    found = problems(write(GOOD), [override])
    assert any(str(problem).startswith(expected) for problem in found), [str(problem) for problem in found]
    assert all(problem.line is None for problem in found)


def test_an_override_mends_what_the_file_says_wrongly(write):
    path = write(GOOD.replace("name: vic-demand", "name: !mine x"))
    assert config.load(path, ["name=mended"]).name == "mended"


def test_no_secret_is_in_the_config(write, monkeypatch):
    monkeypatch.setenv("CANARY", "dapi-secret-0001")
    text = GOOD.replace("data/vic.parquet", '"${env:CANARY}"').replace("sqlite:///mlflow.db", "${env:CANARY}")
    c = config.load(write(text))
    everywhere = repr(c) + str(c) + c.model_dump_json() + config.digest(c)
    assert "dapi" not in everywhere
    assert c.source.params == {"path": "${env:CANARY}"}
    assert c.tracking.uri == "${env:CANARY}"


def test_references_are_resolved_on_demand_and_nowhere_else(monkeypatch):
    monkeypatch.setenv("CANARY", "s3cret")
    value = {"a": ["x-${env:CANARY}-${block:secret/pw}", 3], "b": None}
    plain, known, faults = config.resolve(value, {"block": lambda name: name.upper()})
    assert plain == {"a": ["x-s3cret-SECRET/PW", 3], "b": None}
    assert known == {"${env:CANARY}": "s3cret", "${block:secret/pw}": "SECRET/PW"}
    assert not faults
    assert config.redact("it is s3cret", known) == "it is ${env:CANARY}"


def test_a_value_that_looks_like_a_reference_is_not_followed(monkeypatch):
    monkeypatch.setenv("CANARY", "${env:OTHER}")
    assert config.resolve("${env:CANARY}")[0] == "${env:OTHER}"


def test_references_that_cannot_be_read_are_faults_without_the_words_of_the_resolver(monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)

    def broken(name):
        raise RuntimeError("password is hunter2")

    _, _, faults = config.resolve({"a": "${env:NOT_SET}", "b": "${block:x/y}"}, {"block": broken}, ("source",))
    assert [(f.path, f.message) for f in faults] == [
        (("source", "a"), "the environment variable NOT_SET is not set"),
        (("source", "b"), "the block x/y cannot be read: RuntimeError"),
    ]
    (fault,) = config.resolve("${block:x/y}")[2]
    assert "inside a flow" in fault.message


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///mlflow.db", "sqlite:////p/mlflow.db"),
        ("sqlite:////abs/mlflow.db", "sqlite:////abs/mlflow.db"),
        ("mlruns", "/p/mlruns"),
        ("databricks", "databricks"),
        ("databricks-uc", "databricks-uc"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_relative_tracking_uris_start_at_the_file(uri, expected):
    assert absolute_uri(uri, Path("/p")) == expected


def test_the_digest_follows_what_shapes_a_forecast_and_nothing_else(write):
    base = config.digest(config.load(write(GOOD)))
    for same in (
        "name=other",
        "sinks=[{type: csv}]",
        "engine.workers=0",
        "promotion.mode=off",
        "tracking.experiment=y",
    ):
        assert config.digest(config.load(write(GOOD), [same])) == base
    for other in ("horizon=2", "source.path=b", "quality.gaps=error", "models.1.depth=4", "quantiles=[0.5]"):
        assert config.digest(config.load(write(GOOD), [other])) != base


def test_the_digest_does_not_follow_the_order_of_keys(write):
    a = config.load(write(MINIMAL + "quality: {gaps: fill, max_missing: 0.1}\n"))
    b = config.load(write("quality: {max_missing: 0.1, gaps: fill}\n" + MINIMAL))
    assert config.digest(a) == config.digest(b)


def test_databricks_and_spark_engines_have_their_own_keys(write):
    c = config.load(write(MINIMAL + "engine: {type: databricks, existing_cluster: '${env:CLUSTER}', timeout: 4h}\n"))
    assert c.engine.params["timeout"] == "4h"
    c = config.load(write(MINIMAL + "engine: {type: spark, remote: 'sc://127.0.0.1:15002'}\n"))
    assert c.engine.params == {"remote": "sc://127.0.0.1:15002"}
    (problem,) = problems(
        write(MINIMAL + "engine: {type: spark, master: 'local[2]', remote: 'sc://127.0.0.1:15002'}\n")
    )
    assert "keep one of master and remote" in str(problem)
    (problem,) = problems(write(MINIMAL + "engine: {type: databricks, serverless: true, existing_cluster: a}\n"))
    assert "exactly one" in problem.message


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates()
keys = st.sampled_from([*yaml.safe_load(GOOD), "type", "params", "grid", "weather", "assume", "known"]) | st.text(
    max_size=4
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


def only_config_errors(text):
    folder = Path(os.environ["PYTEST_FOLDER"])
    path = folder / "forecast.yaml"
    path.write_bytes(text)
    try:
        told = [config.digest(config.load(path))]
    except ConfigError as error:
        told = [str(problem) for problem in error.problems]
    assert told
    assert json.dumps(told)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_FOLDER", str(tmp_path))


@pytest.mark.row(61, trials=80)
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.dictionaries(keys, values, max_size=6))
def test_random_data_is_a_project_or_a_config_error(folder, data):
    only_config_errors(yaml.safe_dump({**yaml.safe_load(GOOD), **data}, allow_unicode=True).encode("utf-8", "replace"))


@pytest.mark.row(61, trials=150)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    position=st.integers(0, len(GOOD)),
    length=st.integers(0, 30),
    text=st.text(max_size=6) | st.sampled_from(list("{}[]:-#&*!|>'\"%@`,?\t\n")),
)
@example(position=0, length=0, text="\x00")
def test_a_file_with_random_damage_is_a_project_or_a_config_error(folder, position, length, text):
    damaged = GOOD[:position] + text + GOOD[position + length :]
    only_config_errors(damaged.encode("utf-8", "surrogatepass"))


@pytest.mark.row(61, trials=100)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_random_bytes_are_a_config_error(folder, content):
    only_config_errors(content)


@settings(max_examples=100, deadline=None)
@given(alias=st.text(max_size=10) | st.from_regex(r"[0-9]{0,20}[A-Za-z-]{0,6}", fullmatch=True))
def test_any_text_is_a_frequency_or_a_fault(alias):
    told = "pandas alias"
    try:
        config.ProjectConfig(name="a", source={"type": "x"}, frequency=alias, horizon=1)
    except ValidationError as error:
        told = str(error)
    assert "pandas alias" in told
