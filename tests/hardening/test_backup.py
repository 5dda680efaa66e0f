"""Ledger, registry and store are lost; an archive brings them back, and a bad archive brings nothing."""

import json
import os
import pkgutil
import shutil
import subprocess
import sys
import zipfile
from hashlib import sha256

import pandas as pd
import pytest

import forecastcore as fc
from forecastcore import runtime
from forecastcore.errors import BackupError, SinkError, StateError, UsageError
from forecastcore.runs.archive import pack, unpack
from tests.conftest import small_history


def elsewhere(site):
    """Another machine: the project file and the data, and nothing that runs have left or that is remembered."""
    shutil.rmtree(site.folder.parent / "cache")
    folder = site.folder.parent / "elsewhere"
    folder.mkdir()
    for name in ("forecast.yaml", "history.parquet"):
        shutil.copy(site.folder / name, folder)
    return type(site)(folder, site.capsys, dict(site.settings))


def standing(site):
    store = runtime.store(site.project())
    return [entry.to_json() for entry in store.ledger()], [version.to_json() for version in store.versions()]


def same(one, other):
    volatile = ["created_at"]
    pd.testing.assert_frame_equal(one.drop(columns=volatile), other.drop(columns=volatile))


@pytest.fixture(scope="module")
def origin(tmp_path_factory, site_of, empty_store):
    """Three versions of which the second was deleted, the first is champion; two vintages."""
    folder = tmp_path_factory.mktemp("grown") / "site"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORECASTCORE_CACHE", str(folder.parent / "cache"))
        site = site_of(folder).write(small_history())
        site.retrain()
        site.predict(as_of="2024-03-09T23:00Z")
        site.retrain(promote=False)
        runtime.store(site.project())._connection.client.delete_model_version("small", "2")
        site.retrain(promote=False)
        site.predict()
    return folder


@pytest.fixture
def grown(origin, tmp_path, site_of, capsys, monkeypatch):
    """A copy to break."""
    monkeypatch.setenv("FORECASTCORE_CACHE", str(tmp_path / "cache"))
    shutil.copytree(origin.parent / "cache", tmp_path / "cache")
    site = site_of(shutil.copytree(origin, tmp_path / "site"))
    site.capsys = capsys
    return site


@pytest.mark.row(67)
@pytest.mark.slow
def test_all_is_lost_and_restored_and_the_next_forecast_is_the_same(grown):
    before, table = standing(grown), grown.table(None)
    told = grown.cli("--json", "backup").document
    assert "error" not in told, told
    assert (told["versions"], told["decisions"], told["vintages"]) == (2, len(before[0]), 2)
    site = elsewhere(grown)
    back = site.cli("--json", "restore", told["archive"], "--digest", told["digest"]).document
    assert (back["versions"], back["vintages"], back["champion"]["version"]) == (2, 2, "1")
    assert standing(site) == before
    pd.testing.assert_frame_equal(site.table(None), table)
    assert site.predict().published[0].already, "the run key is the same: model version, config and data are"
    shutil.rmtree(site.folder / "out")
    site.predict()
    same(site.table(), table[table["issued_at"] == table["issued_at"].max()].reset_index(drop=True))


@pytest.mark.row(67)
@pytest.mark.slow
def test_the_alias_is_made_again_from_the_ledger_and_mlflow_itself_serves_the_champion(grown):
    told = fc.backup(grown.project())
    site = elsewhere(grown)
    fc.restore(site.project(), told["archive"])
    store = runtime.store(site.project())
    aliases = store._registry.aliases()
    assert aliases["champion"] == store.ledger()[-1].champion == "1"
    assert store.astray() == {}
    code = (
        "import mlflow; served = mlflow.pyfunc.load_model('models:/small@champion');"
        "print(len(served.predict(served.input_example)))"
    )
    uri = f"sqlite:///{site.folder}/mlflow.db"
    env = {**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert int(told.stdout.split()[-1]) > 0


@pytest.mark.slow
def test_a_restore_over_the_same_state_changes_nothing_and_over_another_needs_yes(grown):
    told = fc.backup(grown.project())
    before = standing(grown)
    assert fc.restore(grown.project(), told["archive"])["vintages"] == 0
    assert standing(grown) == before
    grown.cli("models", "promote", "3")
    refused = grown.cli("restore", told["archive"])
    assert (refused.code, "--yes" in refused.err) == (2, True)
    assert len(standing(grown)[0]) == len(before[0]) + 1
    assert grown.cli("restore", told["archive"], "--yes").code == 0
    assert standing(grown) == before


@pytest.mark.row(67)
@pytest.mark.slow
@pytest.mark.parametrize("point", ["register", "ledger", "publish"])
def test_a_restore_that_was_interrupted_is_carried_on_by_the_next(grown, monkeypatch, point):
    told, before, table = fc.backup(grown.project()), standing(grown), grown.table(None)
    site = elsewhere(grown)
    target = {
        "register": "forecastcore.tracking.registry._tags",
        "ledger": "forecastcore.tracking.ledger.Ledger.append",
        "publish": "forecastcore_files.parquet_sink.ParquetSink.publish",
    }[point]
    place, _, name = target.rpartition(".")
    owner = pkgutil.resolve_name(place)
    real, calls = getattr(owner, name), []

    def once(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    project = site.project()
    monkeypatch.setattr(owner, name, once)
    with pytest.raises(KeyboardInterrupt):
        fc.restore(project, told["archive"])
    fc.restore(site.project(), told["archive"])
    assert standing(site) == before
    pd.testing.assert_frame_equal(site.table(None), table)


def rewritten(archive, change):
    """The archive with its members changed by `change(name → bytes)`, listing untouched unless it changes it."""
    with zipfile.ZipFile(archive) as old:
        members = {info.filename: old.read(info) for info in old.infolist()}
    members = change(members) or members
    with zipfile.ZipFile(archive, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)


def relisted(members, **files):
    """Members with more files, and a listing that vouches for them."""
    listing = json.loads(members["manifest.json"])
    for name, data in files.items():
        listing["files"][name] = {"sha256": sha256(data).hexdigest(), "size": len(data)}
        members[name] = data
    members["manifest.json"] = json.dumps(listing).encode()
    return members


def flip(members):
    name = next(name for name in members if name.endswith("model.json"))
    members[name] = members[name][:-1] + b"!"


def short(members):
    listing = json.loads(members["manifest.json"])
    next(iter(listing["files"].values()))["size"] = 1
    members["manifest.json"] = json.dumps(listing).encode()


OUTSIDE = ["../evil", "/tmp/evil", "a/../../evil", "a\\..\\evil", "C:evil", "./evil", "a//b", "x\0y", "a/\u202e"]
HARM = {
    "a byte changed": flip,
    "a file is missing": lambda members: members.pop("ledger.json") and None,
    "a file more": lambda members: members.update({"more": b"x"}),
    "no listing": lambda members: members.pop("manifest.json") and None,
    "a listing that is none": lambda members: members.update({"manifest.json": b"[]"}),
    "more bytes than listed": short,
    **{f"a path outside: {name!r}": lambda m, name=name: relisted(m, **{name: b"x"}) for name in OUTSIDE},
}


@pytest.mark.row(67)
@pytest.mark.parametrize("harm", HARM)
def test_an_archive_that_is_not_what_was_packed_is_refused_before_anything_is_written(tmp_path, harm):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "ledger.json").write_text("[]")
    (tmp_path / "in" / "sub" / "model.json").write_text("{}" * 1000)
    archive = tmp_path / "a.zip"
    pack(tmp_path / "in", archive, {"schema": "x"})
    rewritten(archive, HARM[harm])
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    with pytest.raises(BackupError):
        unpack(archive, inside)
    assert not list(tmp_path.rglob("*evil*")) + [p for p in (tmp_path / "deep").iterdir() if p != inside]


@pytest.mark.row(48)
def test_a_bomb_is_not_unpacked_further_than_its_listing_says(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "zeros").write_bytes(bytes(100_000_000))
    archive = tmp_path / "bomb.zip"
    pack(tmp_path / "in", archive, {})
    rewritten(archive, short)
    (tmp_path / "into").mkdir()
    with pytest.raises(BackupError, match="not what was packed"):
        unpack(archive, tmp_path / "into")
    assert (tmp_path / "into" / "zeros").stat().st_size <= 2


@pytest.mark.parametrize("content", [b"", b"PK\3\4nonsense", b"x" * 1000])
def test_what_is_no_archive_is_refused_in_words(tmp_path, content):
    (tmp_path / "no.zip").write_bytes(content)
    (tmp_path / "into").mkdir()
    with pytest.raises(BackupError):
        unpack(tmp_path / "no.zip", tmp_path / "into")


@pytest.mark.slow
def test_archives_are_private_never_overwritten_and_of_one_project(grown, tmp_path, make_site):
    told = fc.backup(grown.project(), tmp_path / "a.zip")
    assert (tmp_path / "a.zip").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="there already"):
        fc.backup(grown.project(), tmp_path / "a.zip")
    assert not list(tmp_path.glob(".a.zip*"))
    with pytest.raises(UsageError, match="of project 'small'"):
        fc.restore(make_site(name="other").project(), told["archive"])
    with pytest.raises(BackupError, match="was asked for"):
        fc.restore(grown.project(), told["archive"], digest="0" * 64)


@pytest.mark.slow
def test_a_model_swapped_in_an_archive_whose_listing_vouches_for_it_is_not_registered(grown):
    told = fc.backup(grown.project())
    site = elsewhere(grown)

    def swap(members):
        name = next(n for n in members if n.startswith("models/1/packed/") and n.endswith("state.json"))
        return relisted(members, **{name: members[name] + b" "})

    rewritten(told["archive"], swap)
    with pytest.raises(StateError, match=r"not what was sealed|bytes"):
        fc.restore(site.project(), told["archive"])
    assert standing(site) == ([], [])


@pytest.mark.slow
def test_a_sink_that_is_gone_is_noted_and_one_that_fails_says_so(grown, monkeypatch):
    told = fc.backup(grown.project())
    site = elsewhere(grown)
    site.write(sinks=[{"type": "csv", "path": "out/table"}])
    assert "parquet" in fc.restore(site.project(), told["archive"])["notes"][0]
    site.write(sinks=[{"type": "parquet", "path": "out/forecasts"}])
    (site.folder / "out").mkdir(exist_ok=True)
    (site.folder / "out" / "forecasts").write_text("in the way")
    with pytest.raises(SinkError, match="parquet"):
        fc.restore(site.project(), told["archive"])
