"""The JSON Schema of the project file: what it accepts and refuses, with words on every key."""

import jsonschema
import pytest
import yaml

from forecastcore.host import Host
from forecastcore.schema import json_schema

PLUGIN = '''
from __future__ import annotations
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal
from forecastcore.api import AssumptionSpec, ModelSpec, SinkSpec, SourceSpec, hookimpl

class Mode(Enum):
    FAST = "fast"
    SLOW = "slow"

@dataclass(frozen=True)
class Lake:
    """Reads.

    Attributes:
        path: the table.
    """

    path: Path
    port: int = 1
    mode: Mode = Mode.FAST
    def schema(self): ...
    def read(self, columns): ...

@dataclass(frozen=True)
class Drop:
    path: Path
    convert: type = dict
    def publish(self, vintage, run_key): ...
    def read(self, issued_at=None): ...

@dataclass(frozen=True)
class Tree:
    rate: float
    depth: int | None = None
    def fit(self, history, task): ...

@dataclass(frozen=True)
class Weather:
    days: int = 15
    def assume(self, history, future, task): ...

@hookimpl
def forecastcore_sources():
    yield SourceSpec(name="lake", summary="a lake", factory=Lake)

@hookimpl
def forecastcore_sinks():
    yield SinkSpec(name="drop", summary="a drop", factory=Drop)

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="tree", summary="a tree", factory=Tree)

@hookimpl
def forecastcore_assumptions():
    yield AssumptionSpec(name="weather", summary="weather", factory=Weather)
'''

GOOD = """\
name: demo
source: {type: lake, path: a, mode: slow, timezone: UTC, port: "${env:PORT}"}
frequency: h
horizon: 24
covariates: {t: {assume: sky}, p: {known: true}}
assumptions: {sky: {type: weather, days: 10}}
scenarios: {heat: {sky: {type: weather}}}
models:
- {type: tree, rate: 1, depth: 3}
- {type: tree, grid: {rate: [0.1], depth: [1, null]}}
- {type: tree, search: {trials: 9, space: {rate: {low: 0.1, high: 1.0, log: true}, depth: [1, null]}}}
- {type: ensemble, members: [tree]}
- {type: ensemble, grid: {method: [mean, per-series]}}
search: {trials: 20, seconds: 60}
backtest: {folds: 2}
promotion: {mode: "off"}
sinks: [{type: drop, path: out}]
engine: {type: databricks, serverless: true, timeout: 4h}
tracking: {uri: databricks}
plugins: {allow: null, block: []}
"""


@pytest.fixture
def validator(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    schema = json_schema(Host.discover(files=[file], allow=[]))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_a_good_file_is_accepted(validator):
    assert [error.message for error in validator.iter_errors(yaml.safe_load(GOOD))] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("horizon", 0),
        ("horizons", 3),
        ("name", "Not Good"),
        ("source", {"type": "lake"}),
        ("source", {"type": "lake", "path": "a", "pth": "b"}),
        ("source", {"type": "lake", "path": "a", "mode": "slw"}),
        ("source", {"type": "lak", "path": "a"}),
        ("models", [{"type": "tree"}]),
        ("models", [{"type": "tree", "rate": "x"}]),
        ("models", [{"type": "tree", "grid": {"rate": 0.1}}]),
        ("models", [{"type": "tree", "rate": 1, "grid": {"dept": [1]}}]),
        ("models", []),
        ("models", [{"type": "tree", "search": {"space": {}}}]),
        ("models", [{"type": "tree", "search": {"space": {"dept": [1], "rate": [1]}}}]),
        ("models", [{"type": "tree", "search": {"space": {"rate": ["x"]}}}]),
        ("models", [{"type": "tree", "search": {"space": {"rate": {"low": 1}}}}]),
        ("models", [{"type": "tree", "search": {"space": {"rate": [1]}, "trails": 3}}]),
        ("models", [{"type": "ensemble", "method": "best"}]),
        ("models", [{"type": "ensemble", "search": {"space": {"method": ["mean"]}}}]),
        ("search", {"trials": 0}),
        ("sinks", [{"type": "lake", "path": "a"}]),
        ("assumptions", {"sky": {"type": "weather", "day": 1}}),
        ("scenarios", {"heat": {"sky": {"type": "wether"}}}),
        ("engine", {"type": "local", "serverless": True}),
        ("engine", {"type": "spak"}),
        ("backtest", {"metric": "mae"}),
    ],
)
def test_a_mistake_is_refused(validator, key, value):
    assert list(validator.iter_errors({**yaml.safe_load(GOOD), key: value}))


@pytest.mark.parametrize("key", ["name", "source", "frequency", "horizon"])
def test_required_keys_are_required(validator, key):
    data = yaml.safe_load(GOOD)
    del data[key]
    assert list(validator.iter_errors(data))


def wordless(schema, path="#"):
    """Keys of objects, anywhere in a schema, that have no description."""
    found = []
    if isinstance(schema, dict):
        properties = schema.get("properties", {})
        if schema.get("type") == "object":
            found += [f"{path}.{name}" for name, part in properties.items() if not part.get("description")]
        for name, part in schema.items():
            found += wordless(part, f"{path}.{name}")
    elif isinstance(schema, list):
        for number, part in enumerate(schema):
            found += wordless(part, f"{path}.{number}")
    return found


def test_every_key_has_a_description(validator):
    assert wordless(validator.schema) == []


def test_parameters_carry_the_words_of_the_plugin_and_their_defaults(validator):
    (lake,) = validator.schema["$defs"]["source"]["oneOf"]
    assert lake["properties"]["path"]["description"] == "the table."
    assert lake["properties"]["port"]["default"] == 1
    assert lake["additionalProperties"] is False


def test_a_schema_without_plugins_is_a_schema_still():
    jsonschema.Draft202012Validator.check_schema(json_schema(Host.discover(allow=[])))
