# ruff: noqa: E501 - each mistake stands on one line with the words it must give
"""A project is its file and its plugins, checked together."""

import json
import os
import pickle
import subprocess
import sys

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forecastcore.errors import ConfigError, PluginError, PluginNotFoundError, UsageError
from forecastcore.project import Project
from forecastcore.search import Span

PLUGIN = '''
from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from forecastcore.api import AssumptionSpec, ModelSpec, SinkSpec, SourceSpec, hookimpl

@dataclass(frozen=True)
class Lake:
    """Reads.

    Attributes:
        path: the table.
    """

    path: Path
    password: str = ""
    port: int = 1
    mode: Literal["fast", "slow"] = "fast"
    def __post_init__(self):
        if self.port == 13:
            raise ValueError(f"port 13 of {self.password} is unlucky")
    def schema(self): ...
    def read(self, columns): ...

@dataclass(frozen=True)
class Drop:
    path: Path
    def publish(self, vintage, run_key): ...
    def read(self, issued_at=None): ...

@dataclass(frozen=True)
class Tree:
    rate: float
    depth: int = 3
    leaves: tuple[int, ...] = ()
    order: tuple[int, int] = (1, 0)
    def __post_init__(self):
        if self.rate > 1:
            raise ValueError("rate above one")
    def fit(self, history, task): ...

@dataclass(frozen=True)
class Weather:
    days: int = 15
    def assume(self, history, future, task): ...

@dataclass(frozen=True)
class Shift:
    of: str
    add: float = 0.0
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
    yield ModelSpec(name="seasonal-naive", summary="last season", factory=Weatherless)

@dataclass(frozen=True)
class Weatherless:
    def fit(self, history, task): ...

@hookimpl
def forecastcore_assumptions():
    yield AssumptionSpec(name="weather", summary="weather", factory=Weather)
    yield AssumptionSpec(name="move", summary="another one, moved", factory=Shift, wraps=True)
'''

GOOD = """\
name: demo
source:
  type: lake
  path: data/a.parquet
  mode: slow
frequency: h
horizon: 24
covariates:
  temperature: {assume: sky}
assumptions:
  sky: {type: weather, days: 10}
  warmer: {type: move, of: sky, add: 2}
scenarios:
  heat: {sky: {type: move, of: sky, add: 5.0}}
models:
  - {type: tree, rate: 0.1}
  - {type: tree, grid: {rate: [0.2, 0.3], depth: [4, 5]}}
  - type: seasonal-naive
sinks:
  - {type: drop, path: out/a}
  - {type: drop, path: "abfss://c@a/x"}
plugins: {allow: [], load: [plugin.py]}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "forecast.yaml").write_text(GOOD)
    return tmp_path


def load(folder, old="", new="", **more):
    text = (folder / "forecast.yaml").read_text()
    assert old in text
    (folder / "forecast.yaml").write_text(text.replace(old, new, 1))
    return Project.load(folder / "forecast.yaml", **more)


def problems(folder, *change, **more):
    with pytest.raises(ConfigError) as caught:
        load(folder, *change, **more)
    return [str(problem).removeprefix(f"{folder / 'forecast.yaml'}:") for problem in caught.value.problems]


def test_objects_are_made_with_paths_that_start_at_the_file(folder):
    project = load(folder)
    assert project.root == folder
    assert project.source().path == folder / "data/a.parquet"
    assert project.source().mode == "slow"
    (first, a), (second, b) = project.sinks()
    assert (first, second) == ("drop-1", "drop-2")
    assert (a.path, str(b.path)) == (folder / "out/a", "abfss://c@a/x")


def test_a_scenario_replaces_assumptions_of_its_name(folder):
    project = load(folder)
    offer, base = project.assumption("sky")
    assert (offer.spec.wraps, base.days) == (False, 10)
    offer, heat = project.assumption("sky", "heat")
    assert (offer.spec.wraps, heat.of, heat.add) == (True, "sky", 5.0)
    assert project.assumption("warmer", "heat")[1].add == 2.0


def test_unknown_scenarios_and_assumptions_are_told_with_the_nearest_name(folder):
    project = load(folder)
    with pytest.raises(UsageError, match=r"no scenario 'heatt'; there are base, heat \(did you mean 'heat'\?\)"):
        project.assumption("sky", "heatt")
    with pytest.raises(UsageError, match="no assumption 'skye'"):
        project.assumption("skye")


def test_grids_are_expanded_in_the_order_of_the_file(folder):
    got = [(c.name, c.params) for c in load(folder).candidates()]
    assert got == [
        ("tree-1", {"rate": 0.1}),
        ("tree-2", {"rate": 0.2, "depth": 4}),
        ("tree-3", {"rate": 0.2, "depth": 5}),
        ("tree-4", {"rate": 0.3, "depth": 4}),
        ("tree-5", {"rate": 0.3, "depth": 5}),
        ("seasonal-naive", {}),
    ]


def test_an_ensemble_is_made_of_all_other_candidates_or_of_those_named_by_name_or_type(folder):
    text = yaml.safe_load(GOOD)
    tree = {"type": "tree", "grid": {"rate": [0.1, 0.2]}}
    ensembles = [{"type": "ensemble"}, {"type": "ensemble", "method": "mean", "members": ["tree"]}]
    text["models"] = [*ensembles, tree, {"type": "seasonal-naive"}, {"type": "ensemble", "members": ["tree-2"]}]
    (folder / "forecast.yaml").write_text(yaml.safe_dump(text))
    found = {c.name: (c.params, [m.name for m in c.members]) for c in load(folder).candidates() if c.members}
    assert found == {
        "ensemble-1": ({"method": "greedy"}, ["tree-1", "tree-2", "seasonal-naive"]),
        "ensemble-2": ({"method": "mean"}, ["tree-1", "tree-2"]),
        "ensemble-3": ({"method": "greedy"}, ["tree-2"]),
    }


def test_a_search_has_the_budget_of_the_project_or_its_own_and_whole_numbers_where_the_parameter_does(folder):
    text = yaml.safe_load(GOOD)
    space = {"rate": {"low": 0, "high": 1}, "depth": {"low": 1, "high": 8, "log": True}, "order": [[1, 0], [2, 1]]}
    text["models"] = [
        {"type": "tree", "search": {"space": space}},
        {"type": "tree", "rate": 0.1, "search": {"space": {"depth": [1]}, "trials": 5, "seconds": 9.5}},
    ]
    text["search"] = {"trials": 7, "seconds": 60}
    (folder / "forecast.yaml").write_text(yaml.safe_dump(text))
    searches = load(folder).searches()
    assert {name: (s.trials, s.seconds) for name, s in searches.items()} == {"tree-1": (7, 60.0), "tree-2": (5, 9.5)}
    assert searches["tree-1"].space == {
        "rate": Span(low=0, high=1),
        "depth": Span(low=1, high=8, log=True, whole=True),
        "order": [[1, 0], [2, 1]],
    }


def test_a_project_without_models_gets_those_of_the_shelf_that_are_there(folder):
    text = yaml.safe_load(GOOD)
    del text["models"], text["sinks"]
    (folder / "forecast.yaml").write_text(yaml.safe_dump(text))
    project = load(folder)
    assert [c.name for c in project.candidates()] == ["seasonal-naive"]
    assert [(s.type, s.params) for s in project.config.sinks] == [("delta", {"path": "out/forecasts"})]
    with pytest.raises(PluginNotFoundError, match="sink 'delta'; there are drop"):
        project.sinks()


def test_a_project_without_models_and_without_the_shelf_is_told_so(folder):
    (folder / "plugin.py").write_text(PLUGIN.replace('"seasonal-naive"', '"bush"'))
    text = yaml.safe_load(GOOD)
    del text["models"]
    (folder / "forecast.yaml").write_text(yaml.safe_dump(text))
    (problem,) = problems(folder)
    assert "models: names no model, and none of the default shelf" in problem


MISTAKES = [
    ("  type: lake", "  type: lak", "3:9: source.type: no plugin offers source 'lak'; there are lake (did you mean 'lake'?)"),
    ("  path: data/a.parquet", "  pth: data/a.parquet", "4:3: source.pth: is no parameter; there are path, password, port, mode (did you mean 'path'?)"),
    ("  path: data/a.parquet", "  pth: data/a.parquet", "2:1: source.path: is required"),
    ("  mode: slow", "  tiem: a", "5:3: source.tiem: is no parameter; there are path, password, port, mode (did you mean 'time'?)"),
    ("  mode: slow", "  mode: slw", "5:9: source.mode: expected one of fast, slow; got 'slw' (did you mean 'slow'?)"),
    ("  mode: slow", "  port: 13", "2:1: source: lake 0+"),
    ("  mode: slow", "  port: '13'", "5:9: source.port: expected a whole number, got '13' (write 13 without quotes)"),
    ("days: 10", "days: 1.5", "11:30: assumptions.sky.days: expected a whole number, got 1.5"),
    ("type: weather, days: 10", "type: wether", "11:15: assumptions.sky.type: no plugin offers assumption 'wether'"),
    ("of: sky, add: 2}", "of: skye}", "12:28: assumptions.warmer.of: no assumption is called 'skye'; there are sky, warmer (did you mean 'sky'?)"),
    ("  - {type: tree, rate: 0.1}", "  - {type: tree, rate: 0.1}\n  - {type: ensembel}", "17:12: models.1.type: no plugin offers model 'ensembel'; there are seasonal-naive, tree (did you mean 'ensemble'?)"),
    ("  - {type: tree, rate: 0.1}", "  - {type: ensemble, methd: mean}", "16:22: models.0.methd: is no parameter; there are method, members (did you mean 'method'?)"),
    ("  - {type: tree, rate: 0.1}", "  - {type: ensemble, method: men}", "16:30: models.0.method: expected one of mean, median, greedy, per-series; got 'men' (did you mean 'mean'?)"),
    ("  - {type: tree, rate: 0.1}", "  - {type: ensemble, members: [tree, seasonal]}", "16:38: models.0.members.1: 'seasonal' is no candidate of this file; there are tree, seasonal-naive (did you mean 'seasonal-naive'?)"),
    ("  - {type: tree, rate: 0.1}", "  - {type: ensemble, grid: {members: [[tree-9]]}}", "16:40: models.0.grid.members.0.0: 'tree-9' is no candidate"),
    ("  - {type: tree, rate: 0.1}", "  - {type: ensemble, members: [ensemble]}", "16:32: models.0.members.0: an ensemble is not made of ensembles"),
    ("  - {type: tree, rate: 0.1}", "  - {type: ensemble, members: []}", "16:31: models.0.members: needs at least one entry"),
    ("  - {type: tree, rate: 0.1}", "  - {type: ensemble, search: {space: {method: [mean]}}}", "16:22: models.0.search: an ensemble has no parameters to search"),
    ("  - {type: tree, rate: 0.1}", "  - {type: tree, search: {space: {rate: {low: 0.1, high: x}}}}", "16:58: models.0.search.space.rate.high: expected a number, got 'x'"),
    ("  - {type: tree, rate: 0.1}", "  - {type: tree, search: {space: {rate: {low: 0.1}}}}", "16:35: models.0.search.space.rate.high: is required"),
    ("  - {type: tree, rate: 0.1}", "  - {type: tree, search: {space: {rate: {low: 0.2, high: 0.1}}}}", "16:41: models.0.search.space.rate: low must be below high, got 0.2 and 0.1"),
    ("  - {type: tree, rate: 0.1}", "  - {type: tree, search: {space: {rate: {low: 0, high: 0.1, log: true}}}}", "16:41: models.0.search.space.rate: low must be above 0 where log is true, got 0"),
    ("  - {type: tree, rate: 0.1}", "  - {type: tree, search: {space: {rate: {low: 0.1, high: 2.0}}}}", "16:52: models.0.search.space.rate.high: tree 0+"),
    ("  - {type: tree, rate: 0.1}", "  - {type: tree, rate: 1, search: {space: {depth: {low: 1, high: 2.5}}}}", "16:66: models.0.search.space.depth.high: expected a whole number, got 2.5"),
    ("  - {type: tree, rate: 0.1}", "  - {type: tree, search: {space: {rate: [0.1], dept: [1]}}}", "16:48: models.0.search.space.dept: is no parameter; there are rate, depth, leaves, order (did you mean 'depth'?)"),
    ("  - {type: tree, rate: 0.1}", "  - {type: tree, search: {space: {rate: [0.1, a]}}}", "16:47: models.0.search.space.rate.1: expected a number, got 'a'"),
    ("  - {type: tree, rate: 0.1}", "  - {type: tree, rate: 0.1, search: {space: {rate: [0.1]}}}", "16:46: models.0.search.space.rate: 'rate' is set outside of the search too (keep one of them)"),
    ("  - {type: tree, rate: 0.1}", "  - {type: tree, search: {space: {rate: 0.1}}}", "16:41: models.0.search.space.rate: expected a list of values or a range, got 0.1"),
    ("  - {type: tree, rate: 0.1}", "  - {type: tree, search: {trails: 3, space: {rate: [1]}}}", "16:27: models.0.search.trails: is not a known key; expected one of space, trials, seconds (did you mean 'trials'?)"),
    ("frequency: h", "frequency: h\nsearch: {trials: 3}", "7:1: search: is a budget, and no model is searched"),
    ("of: sky, add: 2}", "of: warmer}", "12:28: assumptions.warmer.of: goes round in a circle: warmer → warmer"),
    ("sky: {type: weather, days: 10}", "sky: {type: move, of: warmer}", "11:25: assumptions.sky.of: goes round in a circle: sky → warmer → sky"),
    ("add: 5.0", "ad: 5.0", "14:37: scenarios.heat.sky.ad: is no parameter; there are of, add (did you mean 'add'?)"),
    ("of: sky, add: 5.0", "add: 5.0", "14:10: scenarios.heat.sky.of: is required"),
    ("- type: seasonal-naive", "- type: seasonal_naive", "18:11: models.2.type: no plugin offers model 'seasonal_naive'; there are seasonal-naive, tree (did you mean 'seasonal-naive'?)"),
    ("{type: tree, rate: 0.1}", "{type: tree}", "16:5: models.0.rate: is required"),
    ("{type: tree, rate: 0.1}", "{type: tree, rate: 0.1, leaves: [1, x]}", "16:41: models.0.leaves.1: expected a whole number, got 'x'"),
    ("{type: tree, rate: 0.1}", "{type: tree, rate: 2}", "16:5: models.0: tree 0+"),
    ("{type: tree, rate: 0.1}", "{type: tree, rate: 0.1, gird: {}}", "16:29: models.0.gird: is no parameter; there are rate, depth, leaves, order (did you mean 'grid'?)"),
    ("rate: [0.2, 0.3]", "rate: [0.2, x]", "17:37: models.1.grid.rate.1: expected a number, got 'x'"),
    ("rate: [0.2, 0.3]", "rate: [0.2, 3]", "17:37: models.1.grid.rate.1: tree 0+"),
    ("depth: [4, 5]", "order: [[1, 2], [3]]", "17:59: models.1.grid.order.1.1: is required"),
    ("depth: [4, 5]", "dept: [4, 5]", "17:43: models.1.grid.dept: is no parameter; there are rate, depth, leaves, order (did you mean 'depth'?)"),
    ("path: out/a", "path: 3", "20:24: sinks.0.path: expected text, got 3"),
    ("type: drop, path: out/a", "type: dorp, path: out/a", "20:12: sinks.0.type: no plugin offers sink 'dorp'; there are drop (did you mean 'drop'?)"),
    ("load: [plugin.py]", "load: [plugn.py]", "22:29: plugins.load.0: ImportError: there is no file"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES, ids=[m[2][:40] for m in MISTAKES])
def test_a_wrong_plugin_entry_is_told_with_its_place(folder, old, new, expected):
    told = problems(folder, old, new)
    assert any(text.startswith(expected) for text in told), told


def test_a_secret_that_stands_in_the_file_is_not_repeated(folder):
    (problem,) = problems(folder, "  mode: slow", "  password: [hunter2]")
    assert problem == "5:13: source.password: expected text"


def test_faults_of_the_file_and_of_plugins_are_told_at_once(folder):
    told = problems(folder, "horizon: 24", "horizon: 0", overrides=["models.2.type=sesonal-naive"], plugins=[])
    assert [text.split(": ")[1] for text in told] == ["horizon", "models.2.type"]


def test_a_fault_of_an_override_names_the_override(folder):
    told = problems(folder, overrides=["models=[{type: tree, rat: 1}]"])
    assert told[-1].startswith("--set models: models.0.rat: is no parameter")


def test_a_plugin_file_of_the_command_line_is_loaded_too(folder):
    (folder / "more.py").write_text(PLUGIN.replace('"tree"', '"bush"').replace('"', "'").replace("'''", '"""'))
    text = (folder / "forecast.yaml").read_text().replace("load: [plugin.py]", "load: []")
    (folder / "forecast.yaml").write_text(text.replace("type: tree", "type: bush"))
    assert load(folder, plugins=[folder / "more.py"]).candidates()[0].type == "bush"


def test_a_broken_plugin_file_of_the_command_line_is_told(folder):
    told = problems(folder, plugins=[folder / "none.py"])
    assert told == [f"--plugin {folder / 'none.py'}: ImportError: there is no file {folder / 'none.py'}"]


def test_references_are_resolved_when_the_object_is_made(folder, monkeypatch):
    monkeypatch.setenv("LAKE_PASSWORD", "s3cret-canary")
    monkeypatch.setenv("LAKE_PORT", "99")
    project = load(folder, "  mode: slow", '  password: "${env:LAKE_PASSWORD}"\n  port: ${env:LAKE_PORT}')
    assert (project.source().password, project.source().port) == ("s3cret-canary", 99)
    everywhere = [
        repr(project),
        repr(project.config),
        project.config.model_dump_json(),
        project.recipe(),
        repr(vars(project)),
    ]
    assert not [text for text in everywhere if "canary" in text]


def test_a_missing_variable_is_told_with_its_place_when_it_is_needed(folder, monkeypatch):
    monkeypatch.delenv("LAKE_PASSWORD", raising=False)
    project = load(folder, "  mode: slow", '  password: "${env:LAKE_PASSWORD}"')
    with pytest.raises(ConfigError) as caught:
        project.source()
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.key) == (5, 13, "source.password")
    assert problem.message == "the environment variable LAKE_PASSWORD is not set"


def test_a_block_is_read_by_the_resolver_that_was_given(folder):
    project = load(folder, "  mode: slow", '  password: "${block:secret/lake}"', resolvers={"block": str.upper})
    assert project.source().password == "SECRET/LAKE"
    with pytest.raises(ConfigError, match="can be read only inside a flow"):
        Project.load(folder).source()


@pytest.mark.parametrize("port", ["13", "canary", "9" * 100 + "canary"])
def test_what_a_plugin_says_of_a_secret_is_not_passed_on(folder, monkeypatch, port):
    monkeypatch.setenv("LAKE_PASSWORD", "s3cret-canary")
    monkeypatch.setenv("LAKE_PORT", port)
    project = load(folder, "  mode: slow", '  password: "${env:LAKE_PASSWORD}"\n  port: ${env:LAKE_PORT}')
    with pytest.raises((PluginError, ConfigError)) as caught:
        project.source()
    told = str(caught.value)
    assert "canary" not in told
    assert "999" not in told
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_tracking_is_absolute_and_resolved(folder, monkeypatch):
    assert load(folder).config.tracking.uri == f"sqlite:///{folder}/mlflow.db"
    monkeypatch.setenv("TRACKING", "sqlite:///other.db")
    project = load(folder, overrides=["tracking.uri='${env:TRACKING}'"])
    assert project.config.tracking.uri == "${env:TRACKING}"
    assert project.tracking().uri == f"sqlite:///{folder}/other.db"
    assert project.tracking().experiment == "demo"


def test_the_file_is_found_in_a_folder_above(folder):
    deep = folder / "a" / "b"
    deep.mkdir(parents=True)
    assert Project.find(deep) == folder / "forecast.yaml"
    (folder / "forecast.yaml").unlink()
    with pytest.raises(UsageError, match=r"there is no forecast\.yaml in .*forecastcore init"):
        Project.find(deep)


def read_block(name):
    return f"value of {name}"


def test_a_worker_process_makes_the_same_project_though_the_file_has_changed(folder):
    project = load(folder, overrides=["horizon=7"])
    recipe = project.recipe()
    (folder / "forecast.yaml").write_text("broken: [")
    code = "import sys; from forecastcore.project import Project; p = Project.from_recipe(sys.argv[1]); print(p.digest(), p.root)"
    env = {**os.environ, "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-c", code, recipe], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.split() == [project.digest(), str(folder)]
    assert Project.from_recipe(recipe).config == project.config


def test_resolvers_travel_by_name_where_they_have_one(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, read_block.__module__, sys.modules.get(read_block.__module__))
    project = load(folder, "  mode: slow", '  password: "${block:a/b}"', resolvers={"block": os.path.basename})
    assert Project.from_recipe(project.recipe()).source().password == "b"
    nameless = Project.load(folder, resolvers={"block": lambda name: name})
    assert json.loads(nameless.recipe())["resolvers"] == {}


def test_objects_of_a_single_file_plugin_can_be_pickled(folder):
    source = load(folder).source()
    assert pickle.loads(pickle.dumps(source)) == source


names = st.sampled_from(
    ["lake", "drop", "tree", "weather", "move", "sky", "of", "rate", "path", "type", "grid", "load", "block"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.dictionaries(st.sampled_from(list(yaml.safe_load(GOOD))), values, max_size=4))
def test_random_projects_load_or_raise_a_config_error(folder, data):
    text = yaml.safe_dump({**yaml.safe_load(GOOD), **data}, allow_unicode=True)
    (folder / "forecast.yaml").write_bytes(text.encode("utf-8", "replace"))
    told = ()
    try:
        project = Project.load(folder)
    except ConfigError as error:
        told = error.problems
    assert told or project.candidates()


def test_the_representation_says_what_the_project_does(folder):
    assert repr(load(folder)).startswith("<Project demo: lake → 6 candidates → drop, drop; 24 steps of h; ")
