"""Plugins are allowed by name, version and hash before they are imported, and a model meets the code that made it."""

import sys

import pytest

from forecastcore.errors import ConfigError, PluginError
from forecastcore.host import Host
from forecastcore.host.finding import package_digest
from tests.conftest import small_history
from tests.test_host import MODEL, Site, listed

PACKAGES = ["forecastcore-baseline", "forecastcore-files"]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder on `sys.path` that looks like site-packages, with a plugin that leaves a trace when it is imported."""
    folder = tmp_path / "packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    found = Site(folder)
    found.canary = tmp_path / "canary"
    found.add("acme-flat", MODEL + f"\nopen({str(found.canary)!r}, 'w').close()\n")
    yield found
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def health(place, *allow):
    (offer,) = listed(Host.discover(allow=allow), "acme-flat")
    return offer.health, offer.reason, place.canary.exists()


def test_a_hash_is_taken_without_an_import(place):
    before = package_digest("acme_flat")
    assert len(before) == 64
    assert "acme_flat" not in sys.modules
    with (place.folder / "acme_flat.py").open("a") as file:
        file.write("# one byte more\n")
    assert package_digest("acme_flat") != before
    assert not place.canary.exists()


@pytest.mark.row(58)
@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("acme-other", "not among plugins.allow"),
        ("acme-flat==1.2.4", "allows other versions only, here is 1.2.3"),
        (
            "acme-flat==1.2.3 --hash=sha256:" + 64 * "0",
            "its code is not what plugins.allow names: here its hash is sha256:",
        ),
        ("acme-flat --hash=sha256:" + 64 * "0", "its code is not what plugins.allow names"),
        ("acme-flat==", "not among plugins.allow"),
        ("acme-flat --hash=md5:0", "not among plugins.allow"),
    ],
)
def test_what_is_not_allowed_by_name_version_and_hash_is_listed_as_blocked_and_never_imported(entry, words, place):
    state, reason, imported = health(place, entry)
    assert (state, imported) == ("blocked", False)
    assert words in reason
    assert "it was not imported" in reason


@pytest.mark.parametrize("form", ["acme-flat", "Acme_Flat==1.2.3", "acme-flat==1.2.3 --hash=sha256:{}"])
def test_what_is_allowed_is_imported(form, place):
    assert health(place, form.format(package_digest("acme_flat"))) == ("ok", "", True)


def test_one_of_several_entries_of_a_name_is_enough(place):
    entry = "acme-flat==1.2.3 --hash=sha256:"
    assert health(place, entry + 64 * "0", entry + package_digest("acme_flat"))[0] == "ok"


@pytest.mark.row(58)
@pytest.mark.parametrize("harm", ["a byte", "a file", "a compiled file", "a file of a folder below"])
def test_every_file_that_could_be_run_counts(harm, place):
    package = place.folder / "acme_pack"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text(MODEL + f"\nopen({str(place.canary)!r}, 'w').close()\n")
    (package / "deep" / "more.py").write_text("A = 1\n")
    place.add("acme-pack", "", module="other", entry="acme_pack")
    pin = f"acme-pack --hash=sha256:{package_digest('acme_pack')}"
    target = {"a byte": "__init__.py", "a file": "new.py", "a compiled file": "fast.so"}.get(harm, "deep/more.py")
    with (package / target).open("a") as file:
        file.write("\n")
    (offer,) = listed(Host.discover(allow=[pin]), "acme-pack")
    assert (offer.health, place.canary.exists()) == ("blocked", False)


@pytest.mark.row(58)
def test_a_file_whose_hash_is_given_must_have_it(tmp_path):
    file, canary = tmp_path / "mine.py", tmp_path / "canary"
    file.write_text(MODEL + f"\nopen({str(canary)!r}, 'w').close()\n")
    pin = f"mine.py --hash=sha256:{64 * '0'}"
    (offer,) = listed(Host.discover(allow=[pin], files=[file]), "mine.py")
    assert (offer.health, canary.exists()) == ("blocked", False)


def test_the_project_file_blocks_lists_and_refuses_in_words(place, make_site):
    wrong = f"acme-flat==1.2.3 --hash=sha256:{64 * '0'}"
    site = make_site(plugins={"allow": [*PACKAGES, wrong]})
    (line,) = (p for p in site.cli("--json", "plugins", "list").document["plugins"] if p["distribution"] == "acme-flat")
    assert (line["health"], line["allowed"], len(line["digest"])) == ("blocked", False, 64)
    site.write(models=[{"type": "flat", "level": 1.0}])
    told = site.cli("validate")
    assert told.code == 2
    assert "flat" in told.err
    right = f"acme-flat==1.2.3 --hash=sha256:{line['digest']}"
    assert not place.canary.exists()
    site.write(plugins={"allow": [*PACKAGES, right]})
    assert site.cli("validate").code == 0


def test_an_entry_that_is_none_is_told_with_its_place(make_site):
    site = make_site(plugins={"allow": ["acme-flat >= 1.2"]})
    with pytest.raises(ConfigError, match=r"plugins\.allow.*expected NAME, NAME==VERSION"):
        site.project()


LEVEL = """
from dataclasses import dataclass
import numpy as np
from forecastcore.api import ModelSpec, hookimpl, per_series

@per_series
@dataclass(frozen=True)
class Flat:
    def fit_series(self, series, task):
        return {"level": float(series.y.mean())}

    def predict_series(self, params, series, future, task):
        return np.full(len(future.ds), params["level"])

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="flat-level", summary="a constant", factory=Flat)
"""


@pytest.mark.row(59)
def test_an_installed_plugin_with_other_bytes_under_the_same_version_is_refused_at_predict(place, make_site):
    place.add("acme-level", LEVEL)
    site = make_site(small_history(series=1), models=[{"type": "flat-level"}])
    site.retrain()
    assert site.predict().model == "flat-level"
    (place.folder / "acme_level.py").write_text(LEVEL.replace(".mean()", ".mean() * 1.1"))
    told = site.cli("predict")
    assert told.code == 1
    assert "made by acme-level 1.2.3 with other code than is here now" in told.err
    assert "pip install --force-reinstall 'acme-level==1.2.3'" in told.err
    assert "forecastcore retrain" in told.err
    (place.folder / "acme_level.py").write_text(LEVEL)
    assert site.predict().model == "flat-level", "the bytes that made it serve again"


@pytest.mark.row(59)
@pytest.mark.slow
def test_a_file_that_was_edited_is_refused_at_predict_and_a_retrain_mends_it(make_site):
    site = make_site(small_history(series=1), models=[{"type": "flat-level"}]).plugin(LEVEL)
    site.retrain()
    site.plugin(LEVEL + "# an afterthought\n")
    with pytest.raises(PluginError, match=r"put own\.py back as it was; forecastcore retrain"):
        site.predict()
    site.retrain()
    assert site.predict().model_version == "2"


@pytest.mark.row(59)
@pytest.mark.slow
def test_every_run_records_name_version_and_hash_of_each_plugin(make_site):
    site = make_site(small_history(series=1))
    report = site.retrain()
    from forecastcore import runtime

    store = runtime.store(site.project())
    tags = store._connection.client.get_run(report.run_id).data.tags
    for offer in runtime.used_offers(site.project()):
        assert f"{offer.distribution} {offer.version} {offer.digest[:12]}" in tags.values()
