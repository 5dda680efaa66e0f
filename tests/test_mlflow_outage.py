"""MLflow goes away before, during and after a run: the run does its work, and MLflow learns of it once, later."""

from contextlib import contextmanager

import pytest

from forecastcore import runtime
from forecastcore.ports import Steps
from forecastcore.runs.deferred import catch_up
from forecastcore.runs.promotion import promote
from forecastcore.runs.reconcile import reconcile
from forecastcore.tracking import connect
from tests.support import mlflow_server

#: stages of a retrain and of a predict at whose beginning MLflow goes away; none of them: after the run
RETRAIN = ["load", "review the champion", "backtest naive", "refit seasonal-naive", "register", "gate", "after"]
PREDICT = ["load", "load model", "assume base", "forecast base", "audit", "publish base", "after"]


class Line:
    """The line to MLflow: cut after so many calls, where the answer to the last one may be lost on the way."""

    def __init__(self, monkeypatch):
        self.left, self.lost, whole = None, False, connect.Connection.call

        def call(connection, what, work, **how):
            return whole(connection, what, lambda client: self.carried(lambda: work(client)), **how)

        monkeypatch.setattr(connect.Connection, "call", call)

    @contextmanager
    def cut(self, after=0, *, lost=False):
        self.left, self.lost = after, lost
        try:
            yield
        finally:
            self.left = None

    def carried(self, work):
        if self.left is None:
            return work()
        self.left -= 1
        if self.left < 0:
            if self.left == -1 and self.lost:
                work()
            raise ConnectionError("connection reset by peer")
        return work()


@pytest.fixture
def line(monkeypatch):
    return Line(monkeypatch)


def told(site, uri=""):
    """What MLflow knows: runs with the numbers of their metrics, parameters, files; versions; decisions."""
    from mlflow import MlflowClient

    uri = uri or f"sqlite:///{site.folder}/mlflow.db"
    client, name = MlflowClient(tracking_uri=uri, registry_uri=uri), site.settings["name"]
    runs = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}

    def of(run):
        tags = run.data.tags
        seen = {key: value for key, value in tags.items() if key.startswith("forecastcore.")}
        seen.pop("forecastcore.config", None)  # where MLflow is, among others
        points = {key: len(client.get_metric_history(run.info.run_id, key)) for key in run.data.metrics}
        files = sorted(file.path for file in client.list_artifacts(run.info.run_id))
        above = names.get(tags.get("mlflow.parentRunId"))
        inputs = [one.dataset.digest for one in run.inputs.dataset_inputs]
        return (run.info.run_name, above, run.info.status, run.data.params, seen, points, files, inputs)

    kept = [of(run) for run in runs if "forecastcore_kind" not in run.data.tags]
    store = runtime.store(site.project())
    versions = [(v.version, v.digest, v.aliases, names[v.run_id]) for v in store.versions()]
    decisions = [(e.seq, e.action, e.version, e.champion, e.reason, names[e.run_id]) for e in store.ledger()]
    return sorted(kept, key=repr), versions, decisions


@pytest.fixture
def trained(make_site):
    """A project with a champion, and a candidate that is better for sure."""

    def make(**settings):
        site = make_site(days=20, models=[{"type": "naive"}], backtest={"folds": 12}, **settings)
        site.retrain()
        store = runtime.store(site.project())
        store.fetch(store.resolve("champion"))  # as any predict does: at hand from now on
        return site.write(models=[{"type": "naive"}, {"type": "seasonal-naive"}])

    return make


@pytest.mark.row(16)
def test_a_retrain_without_mlflow_is_told_later_once_and_its_decision_takes_effect(trained, line):
    site, undisturbed = trained(), trained()
    with line.cut():
        answer = site.cli("--json", "retrain")
        again = site.cli("--json", "predict")
    assert answer.code == 3, answer.err
    document = answer.document
    assert document["decision"]["verdict"] == "promote"
    assert (document["challenger"], document["run_id"]) == ({"model": "seasonal-naive", "version": ""}, "")
    assert document["champion_after"] == document["champion_before"] == {"model": "naive", "version": "1"}
    assert f"it is kept in {site.folder}/.forecastcore/spool/" in document["deferred"]
    assert "promotes it if version 1 is champion still then" in document["deferred"]
    assert again.document["model_version"] == "1"
    assert any("what this run records is kept in" in note for note in again.document["notes"])

    after = site.cli("--json", "predict").document
    assert after["model_version"] == "2"
    assert any(
        "seasonal-naive is registered as version 2 and is champion now: promoted" in note for note in after["notes"]
    )
    undisturbed.predict()
    undisturbed.retrain()
    undisturbed.predict()
    assert not (site.folder / ".forecastcore" / "spool").exists()
    assert told(site) == told(undisturbed)


@pytest.mark.row(16)
def test_a_predict_without_mlflow_goes_out_from_the_copy_at_hand_and_is_recorded_later(trained, line):
    site = trained()
    with line.cut():
        told = site.cli("--json", "predict")
    assert (told.code, told.document["run_id"], len(site.table())) == (0, "", 18)
    assert any("MLflow is away: what this run records is kept in" in note for note in told.document["notes"])
    assert len(catch_up(site.project())) == 1
    assert catch_up(site.project()) == []


@pytest.mark.row(16, 29)
def test_where_nothing_can_be_kept_either_the_forecast_goes_out_and_a_retrain_says_so(trained, line):
    site = trained()
    (site.folder / ".forecastcore" / "spool").write_text("in the way")
    with line.cut():
        told = site.cli("--json", "predict")
        assert (told.code, len(site.table())) == (0, 18)
        assert any("this run is not recorded in MLflow: " in note for note in told.document["notes"])
        retrained = site.cli("--json", "retrain")
    assert retrained.code == 1
    assert "cannot be kept in" in retrained.document["error"]["message"]


@pytest.mark.row(16)
def test_a_champion_that_came_meanwhile_holds_a_deferred_promotion(trained, line):
    site = trained()
    with line.cut():
        site.retrain()
    promote(site.project(), "1", reason="by hand")
    store = runtime.store(site.project())
    with store.run("another", tags={}) as run:
        other = store.register(run, store.fetch(store.resolve("1")), example=example(site))
    promote(site.project(), other.version)
    (words,) = catch_up(site.project())
    assert (
        "seasonal-naive is registered as version 3: held: version 2 became champion while version 1 was compared"
        in words
    )
    assert store.resolve("champion").version == "2"


def example(site):
    from forecastcore.runs.retrain import example_of

    project = site.project()
    store = runtime.store(project)
    return example_of(project, runtime.history(project, None, Steps()), store.fetch(store.resolve("1")))


@pytest.mark.row(16)
def test_where_nobody_knows_the_champion_the_first_of_all_waits_too(make_site, line):
    site = make_site()
    with line.cut():
        report = site.retrain()
    assert report.decision.verdict == "first"
    assert "promotes it if there is no champion yet then" in report.deferred
    assert any("the champion is not at hand" in note for note in report.notes)
    assert len(catch_up(site.project())) == 1
    assert runtime.store(site.project()).resolve("champion").version == "1"


def test_reconcile_names_what_waits_and_tells_it(trained, line):
    site = trained()
    with line.cut():
        site.retrain()
    (orphan,) = reconcile(site.project()).orphans
    assert orphan["kind"] == "run-not-told"
    assert "1 run could not tell MLflow" in orphan["what"]
    with line.cut():
        assert reconcile(site.project(), fix=True).left
    assert not reconcile(site.project(), fix=True).left
    assert not reconcile(site.project()).orphans
    assert runtime.store(site.project()).resolve("champion").version == "2"


def test_on_a_cluster_nothing_is_kept_for_its_disk_goes_with_the_run(trained, line, monkeypatch):
    site = trained()
    monkeypatch.setenv("FORECASTCORE_JOB", "job-1")
    with line.cut():
        answer = site.cli("--json", "retrain")
    assert answer.code == 1
    assert "connection reset" in answer.document["error"]["message"]
    assert not (site.folder / ".forecastcore" / "spool").exists()


@pytest.mark.row(16)
@pytest.mark.slow
@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("calls", [*range(1, 60, 3)])
def test_wherever_the_line_is_cut_and_cut_again_mlflow_knows_the_same_in_the_end(trained, line, calls, lost):
    site, undisturbed = trained(), trained()
    undisturbed.retrain()
    with line.cut(calls, lost=lost):
        report = site.retrain()
    for again in (0, 2, 5, 11):
        with line.cut(again, lost=lost):
            catch_up(site.project())
    catch_up(site.project())
    assert runtime.store(site.project()).behind() == []
    assert bool(report.deferred) == (report.champion_after.version == "1")
    assert told(site) == told(undisturbed)


class Outage(Steps):
    """A server that dies when a stage begins."""

    def __init__(self, server, at):
        self.server, self.at = server, at

    def run(self, name, work):
        if name == self.at:
            self.server.kill()
        return work()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with mlflow_server.running(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.mark.row(16)
@pytest.mark.slow
@pytest.mark.parametrize("at", RETRAIN)
def test_a_server_that_dies_in_a_retrain_learns_of_it_when_it_is_back(server, trained, monkeypatch, at):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    name = f"retrain-{at.replace(' ', '-')}"
    site, undisturbed = trained(name=name, tracking={"uri": server.uri}), trained(name=name)
    undisturbed.retrain()
    report = site.retrain(steps=Outage(server, at))
    server.kill()
    assert report.decision.verdict == "promote"
    assert bool(report.deferred) == (at != "after")
    server.start()
    catch_up(site.project())
    assert told(site, server.uri) == told(undisturbed)


@pytest.mark.row(16)
@pytest.mark.slow
@pytest.mark.parametrize("at", PREDICT)
def test_a_server_that_dies_in_a_predict_takes_no_forecast_with_it_and_learns_of_it(server, trained, monkeypatch, at):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    name = f"predict-{at.replace(' ', '-')}"
    site, undisturbed = trained(name=name, tracking={"uri": server.uri}), trained(name=name)
    undisturbed.predict()
    site.predict(as_of="2024-03-19T00:00Z")
    report = site.predict(steps=Outage(server, at))
    server.kill()
    assert (report.series.ok, len(site.table())) == (3, 18)
    server.start()
    catch_up(site.project())
    runs, *rest = told(site, server.uri)
    assert [[run for run in runs if run[0] != "predict 2024-03-19 00:00"], *rest] == [*told(undisturbed)]
