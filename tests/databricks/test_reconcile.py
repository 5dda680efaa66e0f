"""What runs leave behind: each kind is found, told, put right once, and nothing that is well is taken for it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from mlflow import MlflowClient

from forecastcore import runtime
from forecastcore.engines.databricks import answers, reconcile, wait
from forecastcore.engines.databricks.reconcile import orphans
from forecastcore.engines.databricks.wait import sign_of_life
from forecastcore.project import Project
from forecastcore.testing.databricks import Ended

ENGINE = {"type": "databricks", "serverless": True, "volume": "/Volumes/main/fc/jobs", "poll": "50ms"}
SINKS = [{"type": "parquet", "path": "out"}, {"type": "delta", "path": "delta"}]
LONG_AGO = 8 * 86400
KILLED = """
import os, signal, sys
import forecastcore as fc
from forecastcore import runtime
store = runtime.store(fc.Project.load(sys.argv[1]))
with store.run("retrain", tags={}) as run:
    print(run.run_id, flush=True)
    if "wait" in sys.argv:
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def away(make_site, databricks):
    """The small project with its engine on Databricks, and two kinds of sinks."""
    site = make_site()
    shutil.rmtree(site.folder / "mlruns", ignore_errors=True)
    return site.write(engine=ENGINE, sinks=SINKS)


def tracked(site, *words):
    """A process that makes an MLflow run and is killed in it, at once or when its standard input ends."""
    command = [sys.executable, "-c", KILLED, site.folder / "forecast.yaml", *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def client(site):
    return MlflowClient(tracking_uri=f"sqlite:///{site.folder}/mlflow.db")


def aged(path, seconds=LONG_AGO):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def state(site):
    """Every file of the project and of its MLflow database, with what it holds."""
    return {path: path.read_bytes() for path in site.folder.rglob("*") if path.is_file()}


def kinds(told):
    return sorted(one["kind"] for one in told.document["orphans"])


PLANTED = [
    "answers-of-no-run",
    "delivery-broken-off",
    "delivery-broken-off",
    "mlflow-run-without-process",
    "mlflow-run-without-process",
    "run-without-owner",
    "ticket-without-run",
]


@pytest.mark.row(19, trials=7)
@pytest.mark.slow
def test_every_kind_that_is_planted_is_found_and_put_right_once(away, caller, forks, until):
    caller.root = away.folder
    away.write(engine={"type": "local", "workers": 0}).cli("retrain")
    assert away.cli("predict").code == 0, "both sinks have a vintage"
    away.write(engine=ENGINE)

    caller.workspace.runs.program = lambda run: run.pause(120)  # 1: a live run whose caller was killed
    child = forks.begin(away.folder, "dead")
    forks.go()
    orphan = until(lambda: caller.workspace.live() and caller.workspace.live()[0])
    until(lambda: orphan.reads)
    os.kill(child, signal.SIGKILL)
    forks.ended()

    caller.workspace.runs.program = caller.program()  # 2: a run that is over, and was never fetched
    boss = caller.boss()
    over = caller.submit("over", boss)
    caller.workspace.runs.get(over.run_id).done.wait(5)
    boss.tickets.write(over.having(pid=2**22 + 1))

    killed = tracked(away)  # 3: an MLflow run whose process was killed here
    left = killed.communicate()[0].strip()
    runs = client(away)
    (experiment,) = (e for e in runs.search_experiments() if e.name == "small")
    tags = {"forecastcore_project": "small", "forecastcore_host": "a-driver", "forecastcore_process": "1/1"}
    there = runs.create_run(experiment.experiment_id, tags={**tags, "forecastcore_job": over.nonce})  # and on a cluster

    run_key = "ab" * 32
    half = aged(away.folder / "out/.staging" / f"{run_key}.{'0' * 32}")  # 4: deliveries that were broken off
    part = aged(away.folder / "delta" / f"part-{run_key}-{'0' * 32}.parquet")
    kept = aged(away.folder / ".forecastcore/kept" / ("c" * 64))  # 5: an answer that nobody came back for

    before = state(away)
    told = away.cli("--json", "reconcile")
    assert (told.code, kinds(told), told.document["unasked"]) == (1, PLANTED, [])
    assert {one["run_id"] for one in told.document["orphans"]} == {
        None,
        orphan.run_id,
        over.run_id,
        left,
        there.info.run_id,
    }
    assert (state(away), len(caller.workspace.live())) == (before, 1), "nothing was changed"
    assert "--fix does it" in away.cli("reconcile").out

    told = away.cli("--json", "reconcile", "--fix")
    assert (told.code, kinds(told), told.document["left"]) == (0, PLANTED, 0)
    assert all(one["fixed"] for one in told.document["orphans"])
    assert caller.workspace.live() == []
    for run_id, why in ((left, "without a word"), (there.info.run_id, "on Databricks is over")):
        closed = runs.get_run(run_id)
        assert (closed.info.status, why in closed.data.tags["forecastcore_error"]) == ("KILLED", True)
    assert [path.exists() for path in (half, part, kept)] == [False] * 3
    assert len(away.table()) > 0, "what was delivered is still there"

    before = state(away)
    again = away.cli("--json", "reconcile", "--fix")
    assert (again.code, again.document["orphans"], state(away) == before) == (0, [], True)
    assert away.cli("reconcile").out.strip() == "nothing is left over"


@pytest.mark.row(19, trials=100)
@pytest.mark.slow
def test_a_hundred_runs_that_are_well_are_taken_for_no_orphan(away, caller, until):
    caller.root = away.folder
    away.write(engine={"type": "local", "workers": 0}).cli("retrain")
    assert away.cli("predict").code == 0
    away.write(engine=ENGINE)
    caller.workspace.runs.program = lambda run: run.pause(300)
    boss = caller.boss()
    for number in range(100):
        sign_of_life(boss, caller.submit(number, boss))
    caller.submit("just now", boss)  # nobody has said yet that he waits for it
    alive = tracked(away, "wait")
    run_id = alive.stdout.readline().strip()
    runs = client(away)
    (experiment,) = (e for e in runs.search_experiments() if e.name == "small")
    tags = {"forecastcore_project": "small", "forecastcore_host": "a-driver", "forecastcore_process": "1/1"}
    nonce = boss.tickets.read("predict-7").nonce
    runs.create_run(experiment.experiment_id, tags={**tags, "forecastcore_job": nonce})  # on a cluster, and at work
    runs.create_run(experiment.experiment_id, tags=tags)  # on another machine
    aged(away.folder / "out/.staging" / f"{'ab' * 32}.{'0' * 32}", 60)  # is being delivered
    aged(away.folder / "delta" / f"part-{'ab' * 32}-{'0' * 32}.parquet", 60)
    aged(away.folder / ".forecastcore/kept" / ("c" * 64), 86400)  # of a run that may go on
    aged(away.folder / ".forecastcore/kept" / f"{'d' * 64}.12", 60)  # is being written
    for command in (("reconcile",), ("reconcile", "--fix")):
        told = away.cli("--json", *command)
        assert (told.code, told.document["orphans"], told.document["unasked"]) == (0, [], [])
    assert len(caller.workspace.live()) == 101
    assert runs.get_run(run_id).info.status == "RUNNING"
    alive.stdin.close()
    alive.wait(10)
    alive.stdout.close()


@pytest.mark.row(3)
def test_what_a_dead_process_had_sent_away_is_no_orphan_where_somebody_takes_it_up(caller, forks, until):
    caller.workspace.runs.program = caller.program(60)
    child = forks.begin(caller.root, "goes on")
    forks.go()
    until(lambda: caller.workspace.live() and caller.workspace.live()[0].reads)
    os.kill(child, signal.SIGKILL)
    forks.ended()
    caller.workspace.runs.program = caller.program()
    boss = caller.boss()
    over = caller.submit("over", boss)
    caller.workspace.runs.get(over.run_id).done.wait(5)
    boss.tickets.write(over.having(pid=child))
    assert [one.kind for one in orphans(boss)] == ["run-without-owner", "ticket-without-run"]
    assert orphans(boss, {child}) == []
    assert len(orphans(boss, {child + 2**22})) == 2


@pytest.mark.row(7, 19)
def test_after_an_outage_no_run_is_an_orphan_whose_owner_is_about_to_ask_for_it(caller, monkeypatch, until):
    """The run is there, its owner never heard so, and was silent for long: on clocks ten times as fast."""
    assert answers._LONGEST * 1.5 <= wait.BEAT, "whoever asks again is heard while he is listened for"
    fast = wait.BEAT / 10
    for module in (wait, reconcile):
        monkeypatch.setattr(module, "BEAT", fast)
    monkeypatch.setattr(answers, "_LONGEST", answers._LONGEST / 10)
    caller.workspace.runs.program = caller.program(20)
    boss, there = caller.boss(poll="1s"), caller.boss()
    submitted = caller.workspace.fault("runs/submit", 503, after=True)
    owner = threading.Thread(target=caller.run, kwargs={"boss": boss})
    owner.start()
    until(lambda: submitted.struck)
    caller.workspace.fault(".", 503)
    time.sleep(6.0)
    caller.workspace.faults.clear()
    assert orphans(there) == []
    assert len(caller.workspace.live()) == 1
    owner.join(60)
    assert [run.result for run in caller.workspace.runs] == ["SUCCESS"]


@pytest.mark.row(5)
@pytest.mark.slow
def test_a_run_whose_owner_on_another_machine_fell_silent_is_cancelled_within_two_minutes(
    away, caller, monkeypatch, record_property
):
    """Looked for once a minute, as the deployment does, and first when it is a moment too early to suspect anything."""
    caller.root, caller.workspace.runs.program = away.folder, lambda run: run.pause(300)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(socket, "gethostname", lambda: "elsewhere")
        boss = caller.boss(timeout="10min")
        lost, well = caller.submit("lost", boss), caller.submit("well", boss)
        sign_of_life(boss, lost)
    said = time.time()
    began, done = time.monotonic(), threading.Event()

    def live_on():  # as slowly as one who polls once per sign of life does at most
        place = caller.workspace.cluster.place(f"{well.folder}/owner.json")
        while True:
            life = {"host": "elsewhere", "pid": 1, "at": time.time(), "beat": 15.0}
            part = place.with_suffix(".part")
            part.write_text(json.dumps(life))
            part.replace(place)
            if done.wait(2.25 * 15.0):
                return

    owner = threading.Thread(target=live_on)
    owner.start()
    try:
        found = []
        for look in (26, 86):
            time.sleep(max(0.0, began + look - time.monotonic()))
            found += away.cli("--json", "reconcile", "--fix").document["orphans"]
    finally:
        done.set()
        owner.join()
    took = round(caller.workspace.runs.get(lost.run_id).ended - said, 1)
    record_property("seconds", took)
    sys.stderr.write(f"seconds from the last sign of life to the end of the run: {took}\n")
    assert [one["run_id"] for one in found] == [lost.run_id]
    assert [run.run_id for run in caller.workspace.live()] == [well.run_id]
    assert took + 10 <= 120, "a worker takes some seconds to begin"


@pytest.mark.row(19)
def test_a_place_that_cannot_be_looked_at_is_told_and_hides_no_other(away, databricks, monkeypatch):
    kept = aged(away.folder / ".forecastcore/kept" / ("c" * 64))
    monkeypatch.setenv("DATABRICKS_TOKEN", "dapi-old")
    told = away.cli("--json", "reconcile", "--fix")
    assert (told.code, kinds(told), kept.exists()) == (1, ["answers-of-no-run"], False)
    (words,) = told.document["unasked"]
    assert words.startswith("Databricks: ")
    assert "sign in again" in words
    assert "could not be looked at: Databricks: " in away.cli("reconcile").out


def test_a_run_that_somebody_else_has_ended_meanwhile_stays_as_it_ended(make_site):
    project = Project.load(make_site().folder / "forecast.yaml")
    store = runtime.store(project)
    with store.run("retrain", tags={}) as run:
        pass
    assert store.close(run.run_id, "late") is False
    assert client_status(project, run.run_id) == "FINISHED"


def client_status(project, run_id):
    return MlflowClient(tracking_uri=f"sqlite:///{project.root}/mlflow.db").get_run(run_id).info.status


@pytest.mark.row(17)
def test_an_mlflow_run_of_a_cluster_that_died_is_closed_with_the_command_that_waited(away, databricks):
    def program(run):
        run.enter("RUNNING")
        tags = {"forecastcore_project": "small", "forecastcore_host": "a-driver", "forecastcore_process": "1/1"}
        nonce = run.payload["run_name"].rpartition("/")[2]
        jobs = (nonce, "0" * 12)  # and another one's, of which nobody knows whether it is over
        left.extend(runs.create_run(experiment, tags={**tags, "forecastcore_job": job}).info.run_id for job in jobs)
        raise Ended("FAILED", "The spark driver has stopped unexpectedly", code="DRIVER_ERROR")

    left, runs = [], client(away)
    experiment = runs.create_experiment("small")
    databricks.runs.program = program
    told = away.cli("retrain")
    assert (told.code, "ran out of memory" in told.err) == (1, True)
    assert [runs.get_run(one).info.status for one in left] == ["KILLED", "RUNNING"]
    assert "its run on Databricks is over" in runs.get_run(left[0]).data.tags["forecastcore_error"]


TRAINS = """
import os, pathlib, signal
from dataclasses import dataclass
from forecastcore.api import ModelSpec, hookimpl

@dataclass(frozen=True)
class Dies:
    def fit(self, history, task):
        if pathlib.Path({flag!r}).exists():
            os.kill(os.getpid(), signal.SIGKILL)  # in the command's own process: workers: 0
        raise ValueError("mended")

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="dies", summary="ends its process", factory=Dies, capabilities={{"scope": "global"}})
"""


@pytest.mark.row(17)
@pytest.mark.slow
@pytest.mark.parametrize("closer", ["reconcile", "retrain"])
def test_an_mlflow_run_whose_process_was_killed_in_training_is_closed_with_the_reason(make_site, closer):
    site = make_site()
    flag = site.folder / "flag"
    flag.touch()
    site.plugin(TRAINS.format(flag=str(flag))).write(
        engine={"type": "local", "workers": 0}, models=[{"type": "seasonal-naive"}, {"type": "dies"}]
    )
    command = [sys.executable, "-m", "forecastcore.cli", "-p", site.folder / "forecast.yaml", "retrain"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    runs = client(site)
    (experiment,) = (e for e in runs.search_experiments() if e.name == "small")

    def running():
        return runs.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")

    left = [run.info.run_id for run in running()]
    assert left, "the kill leaves some"
    flag.unlink()
    started = time.monotonic()
    told = site.cli(*(("--json", "reconcile", "--fix") if closer == "reconcile" else ("--json", "retrain")))
    assert told.code == 0, told.out
    assert running() == []
    assert time.monotonic() - started < 600
    for run_id in left:
        closed = runs.get_run(run_id)
        assert closed.info.status == "KILLED"
        assert "its process ended without a word" in closed.data.tags["forecastcore_error"]
