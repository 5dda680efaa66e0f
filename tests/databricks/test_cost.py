"""What a run takes is told with the rates that were given, and a budget is not passed."""

import math

import pytest

from forecastcore.config.engines import DatabricksEngine
from forecastcore.engines.databricks.cost import affordable, cost_of
from forecastcore.errors import DatabricksRunError, UsageError

VOLUME = "/Volumes/main/fc/jobs"
CLUSTER = {"spark_version": "16.4.x-scala2.12", "node_type": "Standard_D4ds_v5", "workers": 3, "spot": True}
RATES = {"dbu_per_node_hour": 0.5, "currency_per_dbu": 0.4, "currency_per_node_hour": 0.3, "currency": "EUR"}


def settings(**engine):
    return DatabricksEngine.model_validate({"volume": VOLUME, "cluster": CLUSTER, **engine})


def test_with_rates_there_is_a_price_and_without_them_only_node_hours():
    told = cost_of(settings(cost=RATES), 1800.0, 500)
    assert (told.nodes, told.spot_share, told.node_hours, told.dbu) == (4, 0.75, 2.0, 1.0)
    assert (told.amount, told.currency) == (pytest.approx(2 * (0.5 * 0.4 + 0.3)), "EUR")
    assert told.per_1000_series == pytest.approx(2.0)
    bare = cost_of(settings(), 1800.0, 500)
    assert (bare.node_hours, bare.dbu, bare.amount, bare.currency, bare.per_1000_series) == (2.0, None, None, "", None)
    assert cost_of(settings(), 1800.0, 500, {"ridge": 3.0, "naive": 1.0}).by_candidate == {"ridge": 0.75, "naive": 0.25}
    elsewhere = cost_of(settings(cluster=None, serverless=True, cost=RATES), 1800.0, 500)
    assert (elsewhere.seconds, elsewhere.nodes, elsewhere.node_hours, elsewhere.amount) == (1800.0, None, None, None)


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [({"node_hours": 2}, 1800), ({"dbu": 1}, 1800), ({"currency": 1.0}, 1800)],
)
def test_a_budget_is_so_many_seconds_of_the_most_machines(budget, seconds):
    assert affordable(settings(cost=RATES, budget=budget)) == pytest.approx(seconds)
    grows = {**CLUSTER, "workers": None, "autoscale": {"min": 1, "max": 7}}
    assert affordable(settings(cluster=grows, cost=RATES, budget=budget)) == pytest.approx(seconds / 2)
    assert affordable(settings(cost=RATES)) == math.inf


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        ({"budget": {"dbu": 1}}, "cannot be kept without rates"),
        ({"budget": {"currency": 1}, "cost": {"currency": "EUR"}}, "cannot be kept without rates"),
        ({"budget": {"node_hours": 0.01}}, "nothing was submitted"),
        ({"budget": {"node_hours": 1}, "cluster": None, "serverless": True}, "known only of engine.cluster"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused_before_anything_is_sent(make_site, databricks, engine, words):
    engine = {"type": "databricks", "volume": VOLUME, "cluster": CLUSTER, **engine}
    site = make_site().write(engine={key: value for key, value in engine.items() if value is not None})
    for command in (("retrain",), ("plan", "retrain")):
        told = site.cli(*command)
        assert (told.code, words in told.err) == (2, True), told.err
    assert databricks.asked("runs/submit") == []
    with pytest.raises(UsageError):
        affordable(settings(**{key: value for key, value in engine.items() if key != "type"}))


def test_the_payload_ends_with_the_budget_and_plan_says_the_most(make_site):
    engine = {"type": "databricks", "volume": VOLUME, "cluster": CLUSTER, "cost": RATES, "budget": {"currency": 1.0}}
    site = make_site().write(engine=engine)
    plan = site.cli("--json", "plan", "retrain").document
    assert plan["submits"]["payload"]["timeout_seconds"] == 1800
    assert plan["costs"]["at_most"]["amount"] == pytest.approx(1.0)
    words = "at most 1800 s of 4 nodes, 75% spot: 2 node hours, about 1 DBU, about 1 EUR"
    assert words in site.cli("plan", "retrain").out


def test_whoever_waits_cancels_before_the_budget_is_passed(caller, monkeypatch):
    def work(run):
        run.enter("RUNNING")
        run.pause(30)

    caller.workspace.runs.program = work
    # no minute for a test
    monkeypatch.setattr("forecastcore.engines.databricks.wait.affordable", lambda _: 8.0)
    with pytest.raises(DatabricksRunError, match=r"before it would pass engine\.budget") as told:
        caller.run("a", boss=caller.boss(poll="2s"))
    assert told.value.fault == "budget"
    run = caller.workspace.runs.get(told.value.run_id)
    assert run.result == "CANCELED"
    assert 2.0 < run.ended - run.started <= 8.0, "before, and not at once"


@pytest.mark.slow
def test_what_a_run_took_is_in_its_report_and_on_its_mlflow_run(make_site, databricks):
    from forecastcore import runtime
    from forecastcore.project import Project

    engine = {"type": "databricks", "volume": VOLUME, "cluster": CLUSTER, "cost": RATES, "poll": "50ms"}
    site = make_site().write(engine=engine)
    told = site.cli("--json", "retrain")
    assert told.code == 0, told.out
    cost = told.document["cost"]
    assert (cost["nodes"], cost["currency"], cost["spot_share"]) == (4, "EUR", 0.75)
    assert 0 < cost["seconds"] < 600
    assert cost["node_hours"] == pytest.approx(4 * cost["seconds"] / 3600)
    assert cost["per_1000_series"] == pytest.approx(cost["amount"] / told.document["series"]["total"] * 1000)
    store = runtime.store(Project.load(site.folder / "forecast.yaml"))
    run = store._connection.call("look", lambda client: client.get_run(told.document["run_id"]))
    assert run.data.metrics["cost.node_hours"] == pytest.approx(cost["node_hours"])
    assert run.data.metrics["cost.amount"] == pytest.approx(cost["amount"])
    assert run.data.metrics["cost.per_1000_series"] == pytest.approx(cost["per_1000_series"])
    for name in ("seconds", "nodes", "spot_share", "dbu"):
        assert run.data.metrics[f"cost.{name}"] == pytest.approx(cost[name])
    shares = cost["by_candidate"]
    assert (set(shares), sum(shares.values())) == ({"seasonal-naive", "naive"}, pytest.approx(1.0))
    assert run.data.metrics["cost.share.naive"] == pytest.approx(shares["naive"])
    assert run.data.tags["forecastcore.cost.currency"] == "EUR"
    assert run.info.status == "FINISHED"
