"""Model files are data: thirteen malicious models, planted three ways each, run nothing and are refused with a mend."""

import contextlib
import gzip
import io
import json
import os
import pickle
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

from forecastcore import runtime
from forecastcore.errors import StateError
from forecastcore.runs.promotion import promote
from forecastcore.state import seal
from forecastcore.tracking.cache import ModelCache
from tests.conftest import small_history

CODE = "import os\nos.system({touch!r})\ndef _load_pyfunc(path):\n    os.system({touch!r})\n"
FITTED = Path("state/00000/fitted")


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, touch):
        self.touch = touch

    def __reduce__(self):
        return (os.system, (self.touch,))


def mlmodel(flavour, **python_function):
    """What MLflow reads first of a model; its pyfunc loader would follow it."""
    pyfunc = {"env": {}, "python_version": "3.11.0", **python_function}
    return json.dumps({"flavors": {"python_function": pyfunc, **flavour}, "mlflow_version": "3.0.0"}).encode()


def torch_archive(payload):
    """As `torch.save` writes: a zip whose `data.pkl` is unpickled."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("model/data.pkl", pickle.dumps(payload))
        archive.writestr("model/version", "3\n")
    return sink.getvalue()


def skops_operator(touch):
    """A skops file that calls a method of `os` through `operator`, as in CVE-2025-54412."""
    call = {"__class__": "methodcaller", "__module__": "operator", "__loader__": "OperatorFuncNode", "__id__": 1}
    attrs = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "__id__": 2}
    words = [
        {"__loader__": "JsonNode", "__class__": "str", "__module__": "builtins", "content": json.dumps(word)}
        for word in ("system", touch)
    ]
    schema = {**call, "attrs": {**attrs, "content": words}, "protocol": 2, "_skops_version": "0.13.0"}
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    return sink.getvalue()


def estimator_state():
    tree = {"$": "estimator", "file": "estimator-0.skops"}
    return json.dumps({"format": 1, "types": [], "buffers": [], "tree": tree}).encode()


def object_array(payload):
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=True, **{"buffer-0": np.array([payload], dtype=object)})
    return sink.getvalue()


def joblib_bytes(payload):
    import joblib

    sink = io.BytesIO()
    joblib.dump(payload, sink)
    return sink.getvalue()


#: name -> (command that leaves a trace, payload) -> files of a model folder
CORPUS = {
    "pickle": lambda _, p: {FITTED / "state.json": pickle.dumps(p)},
    "array of pickled objects": lambda _, p: {FITTED / "arrays.npz": object_array(p)},
    "cloudpickle": lambda _, p: {
        "python_model.pkl": cloudpickle.dumps(p),
        "MLmodel": mlmodel({}, loader_module="mlflow.pyfunc.model", python_model="python_model.pkl"),
    },
    "pkl.gz": lambda _, p: {FITTED / "model.pkl.gz": gzip.compress(pickle.dumps(p))},
    "joblib": lambda _, p: {"conformal.npz": joblib_bytes(p)},
    "loader_module": lambda touch, _: {
        "evil.py": CODE.format(touch=touch).encode(),
        "MLmodel": mlmodel({}, loader_module="evil", code="."),
    },
    "code path": lambda touch, _: {
        "code/sitecustomize.py": CODE.format(touch=touch).encode(),
        "code/forecastcore_baseline/__init__.py": CODE.format(touch=touch).encode(),
        "MLmodel": mlmodel({}, loader_module="forecastcore_baseline", code="code"),
    },
    "statsmodels flavour": lambda _, p: {
        "model.statsmodels": pickle.dumps(p),
        "MLmodel": mlmodel(
            {"statsmodels": {"data": "model.statsmodels", "statsmodels_version": "0.14"}},
            loader_module="mlflow.statsmodels",
            data="model.statsmodels",
        ),
    },
    "torch flavour": lambda _, p: {
        "data/model.pth": torch_archive(p),
        "data/pickle_module_info.txt": b"pickle",
        "MLmodel": mlmodel({"pytorch": {"model_data": "data"}}, loader_module="mlflow.pytorch", data="data"),
    },
    "skops operator": lambda touch, _: {
        FITTED / "state.json": estimator_state(),
        FITTED / "estimator-0.skops": skops_operator(touch),
    },
    "path upwards": lambda _, p: {
        "../escaped.pkl": pickle.dumps(p),
        "MLmodel": mlmodel({"sklearn": {"pickled_model": "../escaped.pkl"}}, loader_module="mlflow.sklearn"),
        FITTED / "state.json": json.dumps(
            {"format": 1, "types": [], "buffers": [], "tree": {"$": "frame", "file": "../../../../escaped.pkl"}}
        ).encode(),
    },
    "swapped MLmodel": lambda _, p: {
        "model.pkl": pickle.dumps(p),
        "MLmodel": mlmodel(
            {"sklearn": {"pickled_model": "model.pkl", "serialization_format": "pickle"}},
            loader_module="mlflow.sklearn",
            model_path="model.pkl",
        ),
    },
    "a class of the standard library": lambda touch, _: {
        FITTED / "state.json": json.dumps(
            {
                "format": 1,
                "types": [{"class": "subprocess:Popen", "fields": ["args"]}],
                "buffers": [],
                "tree": {"$": "data", "type": 0, "values": [touch]},
            }
        ).encode()
    },
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, site_of, empty_store):
    """A project with one champion."""
    folder = tmp_path_factory.mktemp("trained") / "site"
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORECASTCORE_CACHE", str(folder.parent / "cache"))
        site = site_of(folder).write(small_history(series=1))
        site.retrain()
    return site


class Scene:
    """The champion's files, as they were before each test, and a canary that must not be there after it."""

    def __init__(self, site, scratch):
        self.site, self.scratch = site, scratch
        (self.stored,) = (site.folder / "mlartifacts" / "models").glob("*/artifacts")
        self.canary = scratch / "canary"
        self.touch = f"touch {self.canary}"

    def plant(self, case, stored):
        """Put a case's files into a model as MLflow keeps it: beside `MLmodel`, and into the packed model itself."""
        for top in (stored, stored / "artifacts" / "model"):
            for name, data in CORPUS[case](self.touch, Payload(self.touch)).items():
                file = top / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.unlink(missing_ok=True)
                file.write_bytes(data)

    @property
    def store(self):
        return runtime.store(self.site.project())

    def stranger(self, case):
        """Somebody who may write to MLflow, and not to the ledger, registers a copy with its own true digest."""
        theirs = Path(shutil.copytree(self.stored, self.scratch / "theirs" / "artifacts"))
        if case:
            self.plant(case, theirs)
        tags = {"forecastcore_digest": seal(theirs / "artifacts" / "model"), "forecastcore_model": "naive"}
        client = self.store._connection.client
        made = client.create_model_version("small", theirs.as_uri(), tags=tags)
        client.set_registered_model_alias("small", "champion", made.version)
        return str(made.version)


@pytest.fixture
def scene(trained, tmp_path, monkeypatch):
    """An empty cache; afterwards the champion's files and the registry are as they were."""
    monkeypatch.setenv("FORECASTCORE_CACHE", str(tmp_path / "cache"))
    found = Scene(trained, tmp_path)
    shutil.copytree(found.stored, tmp_path / "kept")
    shutil.copy(trained.folder / "mlflow.db", tmp_path / "kept.db")
    yield found
    shutil.rmtree(found.stored)
    shutil.copytree(tmp_path / "kept", found.stored)
    shutil.copy(tmp_path / "kept.db", trained.folder / "mlflow.db")


def test_the_corpus_is_live_a_loader_that_trusts_would_run_it(tmp_path):
    payload = Payload(f"touch {tmp_path / 'canary'}")
    pickle.loads(pickle.dumps(payload))
    assert (tmp_path / "canary").exists()


@pytest.mark.row(49)
@pytest.mark.parametrize("case", CORPUS)
def test_files_that_are_not_those_of_the_ledger_are_refused_unread(case, scene):
    store, packed = scene.store, scene.stored / "artifacts" / "model"
    champion = store.resolve("champion")
    scene.plant(case, scene.stored)
    for harm in ("as it is", "sealed again"):
        with pytest.raises(StateError, match=r"sealed|registered|not there when|no file") as refused:
            store.fetch(champion)
        assert refused.value.hint, harm
        seal(packed)
    assert not scene.canary.exists()


def test_what_is_refused_is_told_with_its_mend_and_a_stand_in_serves(scene):
    tampered(scene, "pickle")


@pytest.mark.row(49)
@pytest.mark.slow
@pytest.mark.parametrize("sealed", [False, True], ids=["as it is", "sealed again"])
@pytest.mark.parametrize("case", CORPUS)
def test_a_champion_that_was_tampered_with_after_its_promotion_is_refused_unread(case, sealed, scene):
    tampered(scene, case, sealed=sealed)


def tampered(scene, case, *, sealed=False):
    """Plant a case in the champion, forecast, and look at what is told."""
    scene.plant(case, scene.stored)
    if sealed:
        seal(scene.stored / "artifacts" / "model")
    report = scene.site.predict()
    assert not scene.canary.exists()
    assert (report.model_version, report.series.ok) == ("none", 0), "a stand-in serves, and says so in every row"
    (said,) = (note for note in report.notes if note.startswith("champion-unavailable"))
    assert "the champion cannot be loaded" in said
    assert "fetch the model again, or retrain" in said
    with pytest.raises(StateError, match=r"sealed|registered|not there when|no file"):
        scene.site.predict(model="1")
    assert not scene.canary.exists()


@pytest.mark.row(49)
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c == "skops operator" else pytest.mark.slow) for c in CORPUS]
)
def test_a_version_that_a_stranger_registered_is_refused_even_where_somebody_vouches_for_it(case, scene):
    number = scene.stranger(case)
    assert scene.site.predict().model_version == "1", "the ledger says who is champion, and not the alias"
    for name in (number, "challenger"):
        with pytest.raises(StateError, match="promotion ledger has no decision about it") as refused:
            scene.site.predict(model=name)
        assert "find out who did" in refused.value.hint
    promote(scene.site.project(), number, reason="fooled")
    with contextlib.suppress(StateError):  # what is not read at all harms nobody
        scene.site.predict()
    assert not scene.canary.exists(), "whatever is in it is data"


def test_a_version_of_another_kind_holds_nothing_that_is_read(scene):
    native = scene.scratch / "native"
    native.mkdir()
    (native / "MLmodel").write_bytes(
        mlmodel({"sklearn": {"pickled_model": "model.pkl"}}, loader_module="mlflow.sklearn")
    )
    (native / "model.pkl").write_bytes(pickle.dumps(Payload(scene.touch)))
    made = scene.store._connection.client.create_model_version("small", native.as_uri())
    with pytest.raises(StateError, match="no decision about it"):
        scene.site.predict(model=str(made.version))
    promote(scene.site.project(), str(made.version), reason="fooled")
    report = scene.site.predict()
    assert report.model_version == "1", "the champion before serves"
    assert any("cannot be loaded" in note for note in report.notes)
    assert not scene.canary.exists()


@pytest.mark.row(50)
@pytest.mark.parametrize("when", ["after it was checked", "after its outline was read"])
def test_a_file_swapped_between_its_check_and_its_reading_is_refused(when, scene, monkeypatch):
    payload = pickle.dumps(Payload(scene.touch))

    def swap(folder):
        (folder / FITTED / "state.json").write_bytes(payload)

    if when == "after it was checked":
        check = ModelCache.put

        def put(self, digest, download):
            folder = check(self, digest, download)
            swap(folder)
            return folder

        monkeypatch.setattr(ModelCache, "put", put)
    else:
        from forecastcore.package import Package

        outline = Package.outline.__func__

        def read(cls, folder, *rest):
            found = outline(cls, folder, *rest)
            swap(folder)
            return found

        monkeypatch.setattr(Package, "outline", classmethod(read))
    with pytest.raises(StateError, match=r"not what was sealed|bytes, \d+ were sealed"):
        scene.site.predict()
    assert not scene.canary.exists()


@pytest.mark.row(50)
@pytest.mark.parametrize("mask", [0o000, pytest.param(0o011, marks=pytest.mark.slow)])
def test_nothing_that_a_run_writes_can_be_written_by_others_where_everything_could(mask, make_site, monkeypatch):
    site = make_site(small_history(series=1))
    temporary = site.folder.parent / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    loose = set()

    def watch(path, *_):
        loose.update(entry for entry in Path(path).rglob("*") if writable(entry))

    remove = shutil.rmtree
    monkeypatch.setattr(shutil, "rmtree", lambda path, *rest, **more: (watch(path), remove(path, *rest, **more)))
    before = os.umask(mask)
    mine = {path for path in site.folder.rglob("*") if writable(path)}
    try:
        assert site.cli("retrain").code == 0
        assert site.cli("predict").code == 0
    finally:
        os.umask(before)
    for place in (site.folder, site.folder.parent / "cache", temporary):
        watch(place)
    assert loose - mine == set()


def writable(path):
    mode = path.lstat().st_mode
    return not stat.S_ISLNK(mode) and bool(mode & (stat.S_IWGRP | stat.S_IWOTH))
