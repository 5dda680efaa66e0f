"""Plugins are found, blocked, listed and made; one named error per fault."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from forecastcore.errors import PluginError, PluginNotFoundError
from forecastcore.host import Host

HEAD = """
from __future__ import annotations
from dataclasses import dataclass, field
from pathlib import Path
from forecastcore.api import AssumptionSpec, ModelSpec, SinkSpec, SourceSpec, hookimpl
"""

MODEL = (
    HEAD
    + '''
@dataclass(frozen=True)
class Flat:
    """A constant.

    Attributes:
        level: what it always says,
            on every day.
        folder: where it lies.
    """

    level: float
    times: int = 1
    names: tuple[str, ...] = ()
    folder: Path | None = None
    schema: str = "public"
    kept: dict = field(default_factory=dict, init=False)

    def __post_init__(self):
        if self.level < 0:
            raise ValueError("level below zero")

    def fit(self, history, task):
        return self

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="flat", summary="a constant", factory=Flat)
'''
)


class Site:
    """A folder on `sys.path` that looks like site-packages, so that nothing has to be installed."""

    def __init__(self, folder: Path):
        self.folder = folder

    def add(self, dist: str, text: str, version: str = "1.2.3", module: str | None = None, entry: str | None = None):
        module = module or dist.replace("-", "_")
        (self.folder / f"{module}.py").write_text(text)
        info = self.folder / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[forecastcore]\n{dist} = {entry or module}\n")


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def listed(host: Host, name: str):
    return [offer for offer in host.offers() if name in (offer.name, offer.distribution)]


def test_an_installed_plugin_is_found_with_its_distribution_version_and_digest(site):
    site.add("acme-flat", MODEL)
    offer = Host.discover().offer("model", "flat")
    assert (offer.distribution, offer.version, offer.health, offer.source) == (
        "acme-flat",
        "1.2.3",
        "ok",
        "installed",
    )
    assert len(offer.digest) == 64


def test_the_digest_follows_the_content_of_the_files(site, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MODEL)
    first = Host.discover(files=[file]).offer("model", "flat")
    file.write_text(MODEL + "\n# changed\n")
    second = Host.discover(files=[file]).offer("model", "flat")
    assert first.digest != second.digest
    assert first.version != second.version
    assert second.version.startswith("0+")


def test_a_package_is_hashed_as_a_whole(site):
    package = site.folder / "acme_pack"
    (package / "deep").mkdir(parents=True)
    site.add("acme-pack", "", module="other", entry="acme_pack")
    (package / "__init__.py").write_text(MODEL)
    (package / "deep" / "more.py").write_text("A = 1\n")
    before = Host.discover().offer("model", "flat").digest
    (package / "deep" / "more.py").write_text("A = 2\n")
    assert Host.discover().offer("model", "flat").digest != before


@pytest.mark.row(60)
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import nonsense_that_is_not_there", "ModuleNotFoundError: No module named 'nonsense_that_is_not_there'"),
        ("def (", "SyntaxError"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("X = 1", "offers nothing: no function of it is marked with @hookimpl"),
        (MODEL.replace("def forecastcore_models", "def forecastcore_model"), "did you mean 'forecastcore_models'?"),
        (MODEL.replace("forecastcore_models():", "forecastcore_models(task):"), "task"),
        (MODEL.replace("yield ModelSpec", "raise RuntimeError('boom')\n    yield ModelSpec"), "RuntimeError: boom"),
        (MODEL.replace("yield ModelSpec(", "yield dict("), "forecastcore_models must yield ModelSpec, got dict"),
        (MODEL.replace("yield ModelSpec(", "yield SinkSpec("), "must yield ModelSpec, got SinkSpec"),
        (MODEL.replace("factory=Flat", "factory=print"), "the factory of 'flat' must be a dataclass"),
        (MODEL.replace("def fit", "def fitt"), "Flat, the factory of 'flat', has no method fit"),
        (MODEL.replace('name="flat"', 'name="Flat Model"'), "must be lowercase words joined by dashes"),
        (MODEL.replace("level: float\n", "level: Missing\n"), "import it outside of TYPE_CHECKING"),
        (
            MODEL.replace("yield ModelSpec", "return 5\n    yield ModelSpec").replace("return 5\n    yield", "return"),
            "not iterable",
        ),
        (MODEL.replace("@hookimpl", "@hookimpl(wrapper=True)"), "hook wrapper"),
    ],
)
def test_a_broken_plugin_is_listed_with_its_reason_and_stops_nobody(site, text, reason):
    site.add("acme-bad", text)
    site.add("acme-good", MODEL.replace('"flat"', '"sound"'))
    host = Host.discover()
    (bad,) = listed(host, "acme-bad")
    assert (bad.kind, bad.health) == ("plugin", "broken")
    assert reason in bad.reason
    assert host.offer("model", "sound").health == "ok"


@pytest.mark.parametrize("block", ["acme-evil", "Acme_Evil"])
def test_a_blocked_plugin_is_not_even_imported(site, tmp_path, block):
    canary = tmp_path / "canary"
    site.add("acme-evil", f"open({str(canary)!r}, 'w').close()")
    (offer,) = listed(Host.discover(block=[block]), "acme-evil")
    assert (offer.health, canary.exists()) == ("blocked", False)


def test_a_plugin_that_is_not_allowed_is_not_imported(site, tmp_path):
    canary = tmp_path / "canary"
    site.add("acme-evil", f"open({str(canary)!r}, 'w').close()")
    site.add("acme-good", MODEL)
    host = Host.discover(allow=["acme_good"])
    assert [o.health for o in listed(host, "acme-evil")] == ["blocked"]
    assert not canary.exists()
    assert host.offer("model", "flat").health == "ok"
    assert not Host.discover(allow=[]).offers("model")


def test_one_offered_name_can_be_blocked(site):
    site.add("acme-flat", MODEL)
    host = Host.discover(block=["flat"])
    assert [o.health for o in host.offers("model") if o.name == "flat"] == ["blocked"]
    with pytest.raises(PluginError, match=r"'flat' cannot be used: blocked by plugins\.block"):
        host.offer("model", "flat")


def test_two_offers_of_one_name_are_a_conflict_that_names_both(site):
    site.add("acme-one", MODEL)
    site.add("acme-two", MODEL, version="7.0")
    host = Host.discover()
    assert [o.health for o in host.offers("model") if o.name == "flat"] == ["conflict", "conflict"]
    with pytest.raises(PluginError, match=r"acme-one 1\.2\.3 .* and acme-two 7\.0"):
        host.make("model", "flat", {"level": 1.0})
    assert Host.discover(block=["acme-one"]).offer("model", "flat").distribution == "acme-two"


def test_an_unknown_name_is_answered_with_the_nearest_one(site):
    site.add("acme-flat", MODEL)
    with pytest.raises(PluginNotFoundError, match=r"no plugin offers model 'flatt'.*did you mean 'flat'\?"):
        Host.discover().offer("model", "flatt")


def test_an_unknown_name_tells_which_plugin_is_broken(site):
    site.add("acme-bad", "import nonsense_that_is_not_there")
    with pytest.raises(PluginNotFoundError, match="nonsense_that_is_not_there"):
        Host.discover(allow=["acme-bad"]).offer("model", "zzz")


def test_parameters_are_converted_and_paths_start_at_the_root(site, tmp_path):
    site.add("acme-flat", MODEL)
    host = Host.discover()
    made = host.make("model", "flat", {"level": 2, "names": ["a"], "folder": "data"}, root=tmp_path)
    assert (made.level, made.names, made.folder, made.kept) == (2.0, ("a",), tmp_path / "data", {})
    assert isinstance(made.level, float)


def test_absolute_paths_and_urls_stay_as_they_are(site, tmp_path):
    site.add("acme-flat", MODEL)
    host = Host.discover()
    made = host.make("model", "flat", {"level": 2, "folder": str(tmp_path / "x")}, root=Path("elsewhere"))
    assert made.folder == tmp_path / "x"
    made = host.make("model", "flat", {"level": 2, "folder": "abfss://c@a/x"}, root=tmp_path)
    assert str(made.folder) == "abfss://c@a/x"
    assert host.make("model", "flat", {"level": 2}, root=tmp_path).folder is None


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"level": 1.0, "tims": 2}, r"tims: is no parameter.*did you mean 'times'\?"),
        ({}, "level: is required"),
        ({"level": "x"}, "level: expected a number, got 'x'"),
        ({"level": 1.0, "times": "2"}, "times: expected a whole number, got '2'"),
        ({"level": 1.0, "times": True}, "times: expected a whole number, got true"),
        ({"level": 1.0, "kept": {}}, "kept: is no parameter"),
        ({"level": -1.0}, "ValueError: level below zero"),
    ],
)
def test_wrong_parameters_are_told_with_the_plugin_and_the_key(site, params, words):
    site.add("acme-flat", MODEL)
    with pytest.raises(PluginError, match=words) as caught:
        Host.discover().make("model", "flat", params)
    assert (caught.value.plugin, caught.value.version) == ("flat", "1.2.3")


def test_the_schema_of_parameters_has_defaults_and_the_words_of_the_docstring(site):
    site.add("acme-flat", MODEL)
    schema = Host.discover().parameter_schema("model", "flat")
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["level"]
    assert list(schema["properties"]) == ["level", "times", "names", "folder", "schema"]
    assert schema["properties"]["times"] == {"type": "integer", "default": 1, "description": "Parameter times."}
    assert schema["properties"]["level"]["description"] == "what it always says, on every day."


@pytest.mark.row(60)
def test_listeners_are_told_one_by_one_and_what_they_raise_is_returned(site, tmp_path):
    told = tmp_path / "told"
    site.add("acme-deaf", HEAD + "@hookimpl\ndef forecastcore_run_finished(report):\n    raise RuntimeError('deaf')\n")
    site.add("acme-exit", HEAD + "@hookimpl\ndef forecastcore_run_finished():\n    raise SystemExit(1)\n")
    site.add(
        "acme-ear",
        HEAD + f"@hookimpl\ndef forecastcore_run_finished(report):\n    Path({str(told)!r}).write_text(report)\n",
    )
    faults = Host.discover(allow=["acme-deaf", "acme-exit", "acme-ear"]).notify(
        "forecastcore_run_finished", report="done"
    )
    assert told.read_text() == "done"
    assert len(faults) == 2
    assert any("acme-deaf" in fault and "RuntimeError: deaf" in fault for fault in faults)


def test_a_single_file_is_a_plugin(tmp_path):
    file = tmp_path / "my model.py"
    file.write_text(MODEL)
    host = Host.discover(files=[file])
    offer = host.offer("model", "flat")
    assert (offer.distribution, offer.source, offer.location) == ("my model.py", "file", str(file))
    assert host.make("model", "flat", {"level": 1}).level == 1.0
    assert Host.discover(files=[file]).offer("model", "flat").spec.factory is offer.spec.factory
    assert [o.health for o in listed(Host.discover(files=[file], block=["my model"]), "my model.py")] == ["blocked"]


def test_a_file_that_is_named_twice_is_one_plugin_and_two_of_one_name_are_two(tmp_path):
    (tmp_path / "a").mkdir()
    first, second = tmp_path / "mine.py", tmp_path / "a" / "mine.py"
    first.write_text(MODEL)
    second.write_text(MODEL.replace('"flat"', '"steep"'))
    host = Host.discover(files=[first, second, str(first)])
    flat, steep = host.offer("model", "flat"), host.offer("model", "steep")
    assert flat.spec.factory.__module__ != steep.spec.factory.__module__


def test_damaged_metadata_stops_nobody(site):
    site.add("acme-flat", MODEL)
    (site.folder / "acme_flat-1.2.3.dist-info" / "METADATA").unlink()
    assert Host.discover().offer("model", "flat").health == "ok"


def test_a_file_that_is_missing_or_fails_is_listed_as_broken(tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("1 / 0")
    host = Host.discover(files=[tmp_path / "none.py", bad])
    assert "there is no file" in listed(host, "none")[0].reason
    assert listed(host, "bad")[0].reason == "ZeroDivisionError: division by zero"
    assert not [name for name in sys.modules if name.startswith("forecastcore_file_bad")]


def test_a_worker_process_makes_the_same_host_from_its_recipe(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MODEL)
    host = Host.discover(files=[file], block=["nothing"])
    recipe = json.dumps(host.spec_for_workers())
    code = (
        "import json, sys; from forecastcore.host import Host; r = json.loads(sys.argv[1]); h = Host.from_recipe(r); "
        "assert h is Host.from_recipe(r); print(h.offer('model', 'flat').digest)"
    )
    done = subprocess.run([sys.executable, "-c", code, recipe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == host.offer("model", "flat").digest


def test_discovering_plugins_imports_no_heavy_library():
    code = (
        "import sys; from forecastcore.host import Host; Host.discover(); "
        "print([m for m in ('sklearn', 'statsmodels', 'mlflow', 'prefect', 'deltalake', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_built_in_plugin_is_sound():
    assert [str(offer) for offer in Host.discover().offers() if offer.health != "ok"] == []
