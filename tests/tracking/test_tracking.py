"""Runs, versions and fetching, on a real MLflow with SQLite."""

import json
import os
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastcore.errors import StateError, TrackingAway, TrackingError, UsageError
from forecastcore.messages import LedgerEntry
from forecastcore.tracking import open_store
from forecastcore.tracking.connect import mask


def crown(store, version, seq=1):
    return store.append(
        LedgerEntry(
            seq=seq,
            at=datetime(2024, 1, 1, tzinfo=UTC),
            action="first" if seq == 1 else "promote",
            version=version.version,
            champion=version.version,
            previous=None,
            digest=version.digest,
        )
    )


def python(code, *arguments, check=True, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=240,
        check=False,
    )
    assert not check or done.returncode == 0, done.stderr
    return done


class TestOpening:
    def test_reading_what_is_not_there_gives_nothing_and_makes_nothing(self, tmp_path):
        folder = tmp_path / "project"
        folder.mkdir()
        store = open_store(project="vic", uri="sqlite:///mlflow.db", experiment="vic", root=folder)
        assert (store.versions(), store.ledger(), store.resolve("champion"), store.resolve("7")) == ([], [], None, None)
        store.run("never entered", tags={})
        assert list(folder.iterdir()) == []

    def test_importing_and_opening_imports_no_mlflow(self, tmp_path):
        python(
            """
            import sys, pathlib
            from forecastcore.tracking import open_store
            root = pathlib.Path(sys.argv[1])
            store = open_store(project="vic", uri="sqlite:///mlflow.db", experiment="vic", root=root)
            assert store.versions() == []
            assert "mlflow" not in sys.modules and "pandas" not in sys.modules, sorted(sys.modules)
            """,
            tmp_path,
        )

    def test_everything_lies_beside_the_database_and_nothing_in_the_current_folder(
        self, store, home, client, tmp_path, monkeypatch
    ):
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        with store.run("retrain", tags={}) as run:
            run.json("decision", {"verdict": "first"})
        assert list(elsewhere.iterdir()) == []
        stored = home / "mlartifacts" / run.run_id / "artifacts" / "decision.json"
        assert json.loads(stored.read_text()) == {"verdict": "first"}
        assert client.get_experiment_by_name("vic").artifact_location == (home / "mlartifacts").as_uri()

    @pytest.mark.slow
    def test_four_processes_may_begin_at_once_on_a_database_that_is_not_there(self, tmp_path):
        code = """
            import sys, pathlib
            from forecastcore.tracking import open_store
            root = pathlib.Path(sys.argv[1])
            store = open_store(project="vic", uri="sqlite:///mlflow.db", experiment="vic", root=root)
            with store.run("retrain", tags={"who": sys.argv[2]}) as run:
                run.metrics({"mase": 1.0})
            """
        begun = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", textwrap.dedent(code), tmp_path, str(who)],
                stderr=subprocess.PIPE,
                text=True,
            )
            for who in range(4)
        ]
        errors = [process.communicate(timeout=200)[1] for process in begun]
        assert [process.returncode for process in begun] == [0] * 4, errors
        assert errors == [""] * 4
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
        assert sorted(e.name for e in client.search_experiments()) == ["Default", "vic"]
        runs = client.search_runs([client.get_experiment_by_name("vic").experiment_id])
        assert sorted(run.data.tags["who"] for run in runs) == ["0", "1", "2", "3"]
        assert {run.info.status for run in runs} == {"FINISHED"}

    @pytest.mark.row(68)
    def test_a_database_of_an_older_mlflow_is_brought_up_to_date_after_a_copy(self, tmp_path, fresh_database):
        old = tmp_path / "mlflow.db"
        before = _at_older_revision(old)
        store = open_store(project="vic", uri="sqlite:///mlflow.db", experiment="vic", root=tmp_path)
        with store.run("retrain", tags={}) as run:
            assert run.run_id
        assert (tmp_path / f"mlflow.db.{before}.bak").stat().st_size > 0

    @pytest.mark.parametrize("uri", ["mlruns", "file:///somewhere/mlruns", "sqlite://", "sqlite:///:memory:"])
    def test_a_uri_that_cannot_hold_a_registry_is_refused(self, uri, tmp_path):
        with pytest.raises(UsageError, match=r"tracking\.uri"):
            open_store(project="vic", uri=uri, experiment="vic", root=tmp_path)

    def test_a_deleted_experiment_is_named_with_the_way_to_restore_it(self, store, client):
        client.delete_experiment(client.create_experiment("vic"))
        with pytest.raises(TrackingError, match="mlflow experiments restore"), store.run("retrain", tags={}):
            pass


def _at_older_revision(path):
    """Make a database as the release before the last migration made it; returns its revision."""
    import sqlalchemy
    from alembic import command
    from alembic.script import ScriptDirectory
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    config = utils._get_alembic_config(str(engine.url))
    scripts = ScriptDirectory.from_config(config)
    revision = scripts.get_revision(scripts.get_current_head()).down_revision
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()
    return revision


class TestRuns:
    @pytest.mark.parametrize(
        ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
    )
    def test_a_run_that_breaks_ends_as_what_it_was_with_the_words_but_no_secret(self, store, client, error, status):
        words = "no luck with password=hunter2 at postgresql://me:hunter2@host/db"
        with pytest.raises(error, match="no luck"), store.run("retrain", tags={}) as run:
            raise error(words)
        told = client.get_run(run.run_id)
        assert told.info.status == status
        assert told.data.tags["forecastcore_error"].startswith(f"{error.__name__}: no luck with password=***")
        assert "hunter2" not in json.dumps(told.data.tags)

    def test_a_run_that_ends_well_is_finished_and_keeps_its_tags(self, store, client):
        with store.run("retrain", tags={"kind": "retrain"}) as run:
            assert client.get_run(run.run_id).info.status == "RUNNING"
        told = client.get_run(run.run_id)
        assert (told.info.status, told.info.run_name, told.data.tags["kind"]) == ("FINISHED", "retrain", "retrain")
        assert told.info.end_time >= told.info.start_time
        assert "forecastcore_error" not in told.data.tags

    def test_a_child_lies_under_its_parent_and_fails_alone(self, store, client):
        with store.run("retrain", tags={}) as parent:
            with pytest.raises(RuntimeError), parent.child("ets") as child:
                raise RuntimeError("did not converge")
            child_id = child.run_id
        assert client.get_run(child_id).data.tags["mlflow.parentRunId"] == parent.run_id
        assert client.get_run(child_id).info.status == "FAILED"
        assert client.get_run(parent.run_id).info.status == "FINISHED"

    def test_a_run_that_has_not_begun_has_no_id(self, store):
        with pytest.raises(UsageError, match="has not begun"):
            _ = store.run("retrain", tags={}).run_id

    def test_metrics_that_are_not_finite_are_left_out_and_many_go_in_several_calls(self, store, client):
        with store.run("retrain", tags={}) as run:
            run.metrics({"nan": float("nan"), "inf": np.inf, "none": None, "ok": np.float32(0.5)})
            run.metrics({f"m{n}": float(n) for n in range(2300)})
            run.metrics({"mase@fold": 1.0}, step=3)
        told = client.get_run(run.run_id).data.metrics
        assert len(told) == 2302
        assert told["ok"] == 0.5
        assert told["m2299"] == 2299.0
        assert [m.step for m in client.get_metric_history(run.run_id, "mase_fold")] == [3]

    def test_a_parameter_too_long_for_mlflow_is_cut_and_says_so(self, store, client):
        with store.run("retrain", tags={}) as run:
            run.params({"grid": ["x" * 7000], "rate": np.float64(0.1), **{f"p{n}": n for n in range(250)}})
        told = client.get_run(run.run_id).data.params
        assert len(told["grid"]) == 6000
        assert told["grid"].endswith("(cut)")
        assert (told["rate"], told["p249"], len(told)) == ("0.1", "249", 252)

    def test_artifacts_come_back_as_they_went(self, store, client, tmp_path):
        frame = pd.DataFrame({"unique_id": ["a", "b"], "mase": [1.0, np.nan]})
        note = tmp_path / "note.txt"
        note.write_text("hello")
        with store.run("retrain", tags={}) as run:
            run.table("backtest/series", frame)
            run.json("decision", {"gain": float("inf"), "n": np.int64(3), "at": datetime(2024, 1, 1, tzinfo=UTC)})
            run.file(note, folder="notes")
            with pytest.raises(UsageError, match="inside its run"):
                run.file(note, folder="../..")
        got = Path(client.download_artifacts(run.run_id, "", str(tmp_path)))
        pd.testing.assert_frame_equal(pd.read_parquet(got / "backtest" / "series.parquet"), frame)
        assert json.loads((got / "decision.json").read_text()) == {
            "gain": None,
            "n": 3,
            "at": "2024-01-01 00:00:00+00:00",
        }
        assert (got / "notes" / "note.txt").read_text() == "hello"

    def test_a_data_set_is_known_by_digest_schema_and_size_without_its_rows(self, store, client, example):
        frame, _ = example
        told = {"name": "history", "source": "az://user:hunter2@host/data?sig=abc", "context": "training"}
        with store.run("retrain", tags={}) as run:
            for digest in ("a" * 64, "b" * 64):
                run.dataset(frame.head(3), rows=len(frame), digest=digest, **told)
        inputs = client.get_run(run.run_id).inputs.dataset_inputs
        assert {entry.dataset.digest for entry in inputs} == {"a" * 16, "b" * 16}
        assert {tag.value for entry in inputs for tag in entry.tags} == {"training"}
        assert json.loads(inputs[0].dataset.profile) == {"num_rows": 5, "num_elements": 20}
        assert "temperature" in inputs[0].dataset.schema
        assert "hunter2" not in inputs[0].dataset.source
        assert "abc" not in inputs[0].dataset.source

    @pytest.mark.row(17)
    def test_a_run_whose_process_was_killed_is_closed_by_the_next_run(self, store, home, client):
        code = """
            import os, sys, pathlib, signal
            from forecastcore.tracking import open_store
            root = pathlib.Path(sys.argv[1])
            store = open_store(project="vic-demand", uri="sqlite:///mlflow.db", experiment="vic", root=root)
            with store.run("retrain", tags={}) as run:
                print(run.run_id, flush=True)
                os.kill(os.getpid(), signal.SIGKILL)
            """
        left = python(code, home, check=False).stdout.strip()
        assert client.get_run(left).info.status == "RUNNING"
        with store.run("retrain", tags={}) as mine, store.run("another at the same time", tags={}):
            assert client.get_run(mine.run_id).info.status == "RUNNING"
        assert client.get_run(left).info.status == "KILLED"
        assert "without a word" in client.get_run(left).data.tags["forecastcore_error"]
        assert any("without a word" in note for note in store.notes)


class TestVersions:
    def test_the_newest_version_is_the_challenger_and_says_what_it_is(self, registered, store, client):
        registered(2.0, "ets")
        second = registered(1.0, "ridge")
        newest, oldest = store.versions()
        assert newest == second
        assert (newest.version, newest.model, newest.aliases) == ("2", "ridge", ("challenger",))
        assert newest.metrics == {"mase": 1.0}
        assert newest.trained_until == datetime(2024, 1, 1, 2, tzinfo=UTC)
        assert (oldest.version, oldest.model, oldest.aliases) == ("1", "ets", ())
        aliases = client.get_registered_model("vic-demand").aliases
        assert {alias: str(version) for alias, version in aliases.items()} == {"challenger": "2"}

    def test_a_version_is_found_by_alias_number_and_run(self, registered, store):
        first, second = registered(2.0), registered(1.0)
        assert store.resolve("challenger") == second
        assert store.resolve("1").version == "1"
        assert store.resolve(first.run_id).version == "1"
        assert store.resolve("champion") is None
        assert store.resolve("99") is None
        assert store.resolve("' or 1=1 --") is None

    def test_registering_leaves_mlflows_global_state_alone(self, registered):
        import mlflow

        before = (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), os.environ.get("MLFLOW_TRACKING_URI"))
        registered()
        assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), os.environ.get("MLFLOW_TRACKING_URI")) == before
        assert mlflow.active_run() is None

    def test_a_folder_that_is_not_what_was_sealed_is_not_registered(self, store, pack, example):
        folder = pack()
        (folder / "state" / "level.json").write_text("2.0")
        with store.run("retrain", tags={}) as run, pytest.raises(StateError, match="level"):
            store.register(run, folder, example=example)
        assert store.versions() == []

    def test_the_champion_loads_in_a_fresh_process_that_may_not_unpickle(
        self, registered, store, home, tmp_path, example
    ):
        crown(store, registered(7.0))
        example[0].to_parquet(tmp_path / "given.parquet")
        # The stand-in reads the same folder as the real `Package`; the rest, loading included, is MLflow's and ours.
        code = """
            import json, sys, types
            import pandas as pd
            from forecastcore.state import verify

            class Package:
                @classmethod
                def load(cls, folder):
                    verify(folder)
                    made = cls()
                    made.level = json.loads((folder / "state" / "level.json").read_text())
                    return made

                def predict(self, frame):
                    ahead = frame[frame["y"].isna()]
                    return ahead[["unique_id", "ds"]].assign(forecast=self.level)

            stand_in = types.ModuleType("forecastcore.package")
            stand_in.Package = Package
            sys.modules["forecastcore.package"] = stand_in
            import warnings
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # MLflow's own modules warn when imported
                import mlflow.pyfunc
            mlflow.set_tracking_uri(sys.argv[1])
            model = mlflow.pyfunc.load_model("models:/vic-demand@champion")
            given = pd.read_parquet(sys.argv[2])
            for ds in (given["ds"], given["ds"].dt.tz_localize(None)):
                answer = model.predict(given.assign(ds=ds))
                assert answer["forecast"].tolist() == [7.0, 7.0], answer
                assert answer["ds"].tolist() == ds[3:].tolist()
            assert model.metadata.signature.outputs.input_names()[:4] == ["unique_id", "ds", "step", "forecast"]
            try:
                model.predict(given.drop(columns="temperature"))
            except Exception as error:
                assert "temperature" in str(error)
            else:
                raise AssertionError("a missing covariate passed")
            """
        python(
            code,
            f"sqlite:///{home}/mlflow.db",
            tmp_path / "given.parquet",
            MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false",
            MLFLOW_DISABLE_TELEMETRY="true",
        )

    def test_the_stored_model_names_its_packages_and_holds_no_pickle(self, registered, home):
        registered()
        (stored,) = home.glob("mlartifacts/models/*/artifacts")
        packages = (stored / "requirements.txt").read_text().split()
        assert packages[1:] == ["forecastcore==0.1.0", "forecastcore-baseline==0.1.0"]
        assert packages[0].startswith("mlflow==")  # MLflow's own
        names = {path.suffix for path in stored.rglob("*") if path.is_file()}
        assert not names & {".pkl", ".pickle", ".joblib"}


class TestFetching:
    def test_the_files_come_back_byte_for_byte_in_a_folder_of_ones_own(self, registered, store, pack, cache):
        previous = os.umask(0)
        try:
            version = registered(3.0)
            folder = store.fetch(version)
        finally:
            os.umask(previous)
        assert (folder / "state" / "level.json").read_text() == "3.0"
        modes = {path.stat().st_mode & 0o777 for path in [cache, *cache.rglob("*")]}
        assert modes <= {0o700, 0o600}

    @pytest.mark.parametrize("deed", ["change", "add", "remove", "link", "listing"])
    def test_a_tampered_version_is_refused_and_nothing_is_kept(self, registered, store, home, cache, deed):
        version = registered()
        (model,) = home.glob("mlartifacts/models/*/artifacts/artifacts/model")
        level = model / "state" / "level.json"
        if deed == "change":
            level.write_text("9.9")
        elif deed == "add":
            (model / "state" / "extra.pkl").write_bytes(b"x")
        elif deed == "remove":
            level.unlink()
        elif deed == "link":
            level.unlink()
            level.symlink_to("/etc/hostname")
        else:
            from forecastcore.state import seal

            level.write_text("9.9")
            seal(model)
        with pytest.raises((StateError, TrackingError)):
            store.fetch(version)
        assert list((cache / "models").iterdir()) == []
        assert list((cache / "incoming").iterdir()) == []

    def test_what_was_fetched_is_at_hand_while_the_artifact_store_is_down(self, registered, store, home):
        version = registered(3.0)
        first = store.fetch(version)
        (home / "mlartifacts").rename(home / "gone")
        assert store.fetch(version) == first
        (first / "state" / "level.json").write_text("4.0")
        with pytest.raises(TrackingError, match="fetch version 1"):
            store.fetch(version)
        (home / "gone").rename(home / "mlartifacts")
        assert (store.fetch(version) / "state" / "level.json").read_text() == "3.0"

    def test_a_shared_folder_named_as_cache_stays_as_it_is_and_what_is_in_it_is_private(
        self, registered, store, tmp_path, monkeypatch
    ):
        shared = tmp_path / "shared"
        shared.mkdir()
        shared.chmod(0o777)
        monkeypatch.setenv("FORECASTCORE_CACHE", str(shared))
        store.fetch(registered())
        assert shared.stat().st_mode & 0o777 == 0o777
        assert {path.stat().st_mode & 0o777 for path in shared.rglob("*")} <= {0o700, 0o600}

    def test_a_cache_that_leads_elsewhere_is_not_used(self, registered, store, tmp_path, cache):
        cache.mkdir()
        (cache / "models").symlink_to(tmp_path)
        with pytest.raises(StateError, match="not a folder of yours"):
            store.fetch(registered())

    def test_a_champion_whose_registered_digest_was_changed_is_refused(self, registered, store, client, home):
        version, other = registered(1.0), registered(2.0)
        crown(store, version)
        client.set_model_version_tag("vic-demand", "1", "forecastcore_digest", other.digest)
        again = open_store(project="vic-demand", uri="sqlite:///mlflow.db", experiment="vic", root=home)
        assert again.resolve("champion").digest == version.digest
        assert (again.fetch(again.resolve("champion")) / "state" / "level.json").read_text() == "1.0"
        with pytest.raises(StateError, match="changed afterwards"):
            again.fetch(again.resolve("1"))


class TestFailures:
    @pytest.mark.parametrize("uri", ["databricks", "databricks://away"])
    def test_a_workspace_that_is_away_is_named_in_bounded_time(self, uri, tmp_path, monkeypatch):
        """databricks-sdk alone would ask for five minutes, twice a call."""
        (tmp_path / "cfg").write_text("[away]\nhost = http://127.0.0.1:9/\ntoken = dapi0\n")
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "cfg"))
        if uri == "databricks":
            monkeypatch.setenv("DATABRICKS_HOST", "http://127.0.0.1:9")
            monkeypatch.setenv("DATABRICKS_TOKEN", "dapi0")
        store = open_store(project="vic", uri=uri, experiment="vic", root=tmp_path)
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(TrackingAway, match=f"MLflow at {uri} could not"):
                store.versions()
        assert time.monotonic() - began < 30

    @pytest.mark.parametrize("uri", ["http://me:hunter2@127.0.0.1:9", "postgresql://me:hunter2@127.0.0.1:9/db"])
    def test_a_server_that_is_down_is_named_in_bounded_time_without_its_password(self, uri, tmp_path, monkeypatch):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        store = open_store(project="vic", uri=uri, experiment="vic", root=tmp_path)
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(TrackingError, match=r"MLflow at \w+://\*\*\*@127\.0\.0\.1:9") as caught:
                store.versions()
        assert time.monotonic() - began < 30
        assert "hunter2" not in str(caught.value)
        assert caught.value.hint

    @given(st.text("abcXYZ019+/=_-", min_size=6))
    def test_no_secret_survives_the_mask(self, secret):
        for text in (
            f"postgresql://user:{secret}@host/db",
            f"password={secret} host=h",
            f'{{"token": "{secret}"}}',
            f"https://host/c?sig={secret}&se=1",
            f"AccountKey={secret};EndpointSuffix=x",
            f"Authorization: Bearer {secret}",
        ):
            assert secret not in mask(text).replace("EndpointSuffix", "").replace("Authorization", "")

    @given(st.text("abc XYZ.,:()"))
    def test_plain_words_pass_the_mask_unchanged(self, words):
        assert mask(words) == words
