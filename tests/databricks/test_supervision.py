"""A run on Databricks: submitted once, never lost, never left running; each fault in a seeded number of trials."""

import itertools
import json
import logging
import os
import random
import signal
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastcore.engines.databricks.fetch import fetch
from forecastcore.engines.databricks.payload import Order, token
from forecastcore.engines.databricks.states import read_state
from forecastcore.engines.databricks.wait import wait
from forecastcore.errors import DatabricksRunError
from forecastcore.ports import Steps
from forecastcore.testing.databricks import Ended

LIVE = ["PENDING", "QUEUED", "BLOCKED", "WAITING_FOR_RETRY", "RUNNING", "TERMINATING"]
RESULTS = {
    "CANCELED": "cancelled",
    "DISABLED": "skipped",
    "EXCLUDED": "skipped",
    "FAILED": "failed",
    "MAXIMUM_CONCURRENT_RUNS_REACHED": "skipped",
    "SUCCESS_WITH_FAILURES": "failed",
    "TIMEDOUT": "timeout",
    "UPSTREAM_CANCELED": "cancelled",
    "UPSTREAM_FAILED": "failed",
}


def counts(quick, whole):
    """The trials that `make test` runs, and all of them for `make test-slow`."""
    return [quick, pytest.param(whole, marks=pytest.mark.slow)]


def no_orphan(workspace):
    assert workspace.live() == []
    return True


# -- submitted once


@pytest.mark.row(1, trials="trials", seed="trials")
@pytest.mark.parametrize("trials", counts(20, 100))
def test_a_lost_answer_to_a_submission_never_starts_a_second_run(caller, trials):
    chance = random.Random(trials)
    kinds = itertools.cycle(["504", "500", "reset", "504", "reset", "503"])
    boss = caller.boss()
    for trial, kind in zip(range(trials), kinds, strict=False):
        before, sent, times = len(caller.workspace.runs), len(caller.tokens), chance.randint(1, 3)
        how = {"times": times, "after": chance.random() < 0.8}
        caller.workspace.runs.semantics = chance.choice(["active-only", "any", "deleted-errors"])
        if kind == "reset":
            caller.workspace.reset("runs/submit", **how)
        else:
            caller.workspace.fault("runs/submit", int(kind), **how)
        caller.run(trial, boss=boss)
        caller.workspace.faults.clear()
        assert len(caller.workspace.runs) == before + 1, (trial, kind, how)
        assert len(set(caller.tokens[sent:])) == 1, "the same token on the wire"
    assert no_orphan(caller.workspace)


@pytest.mark.row(1)
def test_who_may_neither_list_runs_nor_ask_for_a_name_has_the_token(caller):
    caller.workspace.deny("runs/list")
    caller.workspace.fault("scim", 404, error_code="ENDPOINT_NOT_FOUND")
    caller.workspace.fault("HEAD", 501)
    caller.workspace.reset("runs/submit", after=True, times=2)
    caller.run()
    assert len(caller.workspace.runs) == 1


@pytest.mark.row(1)
def test_an_answer_that_takes_too_long_is_a_lost_one(caller):
    caller.workspace.latency("runs/submit", 0.6, after=True, times=1)
    caller.run(boss=caller.boss(request=0.3))
    assert len(caller.workspace.runs) == 1


def test_without_a_lost_answer_a_run_costs_one_submission_and_a_second_one_is_another_run(caller):
    first, second = caller.run(), caller.run()
    assert first != second
    assert len(set(caller.tokens)) == len(caller.tokens) == 2


@pytest.mark.row(2, trials=100_000)
def test_tokens_are_short_and_name_the_attempt():
    parts = itertools.product(["a", "b-1"], ["retrain", "predict"], range(50), range(1, 26), ["d1", "d2"], range(10))
    made = [
        token(Order(project=p, command=c, day=str(day), attempt=n, digest=f"{d}{x}", nonce="0" * 12))
        for p, c, day, n, d, x in parts
    ]
    assert len(made) == len(set(made)) == 100_000
    assert {len(one) for one in made} == {64}


@pytest.mark.row(2, trials=25)
@given(st.tuples(*[st.text(max_size=5)] * 3), st.tuples(*[st.text(max_size=5)] * 3))
def test_tokens_do_not_run_into_each_other(one, two):
    made = [token(Order(project=p, command=c, day=d, attempt=1, digest="", nonce="")) for p, c, d in (one, two)]
    assert (made[0] == made[1]) == (one == two)


@pytest.mark.row(2, trials="trials")
@pytest.mark.parametrize("trials", counts(8, 17))
@pytest.mark.parametrize("semantics", ["active-only", "any", "deleted-errors"])
def test_a_failed_attempt_is_never_taken_for_the_next_one(caller, semantics, tmp_path, trials):
    caller.workspace.runs.semantics = semantics
    for trial in range(trials):
        caller.workspace.runs.program = lambda run: (_ for _ in ()).throw(Ended("FAILED", "first attempt"))
        with pytest.raises(DatabricksRunError, match="first attempt"):
            caller.run(trial)
        caller.workspace.runs.program = caller.program()
        root = caller.root if trial % 2 else tmp_path / f"another-disk-{trial}"  # which knows of no first attempt
        number = caller.run(trial, boss=caller.boss(root))
        assert caller.workspace.runs.get(number).result == "SUCCESS"
    assert len(caller.workspace.runs) == 2 * trials


def test_another_disk_joins_the_run_that_goes_on_instead_of_starting_a_second_one(caller, tmp_path):
    caller.workspace.runs.program = caller.program(0.5)
    found = []
    there = threading.Thread(target=lambda: found.append(caller.run(boss=caller.boss(tmp_path / "other"))))
    there.start()
    found.append(caller.run())
    there.join()
    assert found[0] == found[1]
    assert len(caller.workspace.runs) == 1


@pytest.mark.row(2)
def test_the_token_of_a_deleted_run_is_a_typed_error_and_the_next_attempt_is_another(caller, tmp_path):
    caller.workspace.runs.semantics = "deleted-errors"
    number = caller.run()
    caller.workspace.runs.delete(number)
    boss = caller.boss(tmp_path / "another-disk")
    with pytest.raises(DatabricksRunError, match=r"refused the submission.*deleted.*run it again"):
        caller.run(boss=boss)
    assert caller.run(boss=boss) != number


# -- never lost


def test_the_run_is_on_the_disk_before_it_is_asked_for(caller):
    seen = []
    caller.workspace.runs.program = caller.program(0.2)
    boss = caller.boss()
    look = boss.look

    def watched(run_id):
        seen.append(boss.tickets.read("predict-a"))
        return look(run_id)

    boss.look = watched
    number = caller.run(boss=boss)
    assert {ticket.run_id for ticket in seen} == {number}


#: where the caller dies: the request, which of its kind, and whether after its effect
POINTS = [
    ("scim", 1, False),
    ("PUT .*request.json", 1, False),
    ("PUT .*request.json", 1, True),
    ("PUT .*owner.json", 1, True),
    ("runs/submit", 1, False),
    ("runs/submit", 1, True),
    ("runs/get$", 1, False),
    ("runs/get$", 1, True),
    ("PUT .*owner.json", 2, True),
    ("runs/get$", 2, False),
    ("runs/get$", 4, True),
    ("GET .*report.json", 1, False),
    ("GET .*report.json", 1, True),
]


@pytest.mark.row(3, trials=13)
@pytest.mark.parametrize("rounds", counts(1, 10))
def test_a_caller_that_dies_anywhere_finds_its_run_again(caller, forks, rounds):
    def program(run):
        run.enter("RUNNING")
        while run.reads < 5:  # so that the fourth question comes while it goes on, however slow the machine is
            run.pause(0.02)
        caller.leave_report(run)

    caller.workspace.runs.program = program
    for trial, (pattern, nth, after) in enumerate(POINTS * rounds):
        before, root = len(caller.workspace.runs), caller.root / f"trial-{trial}"
        caller.workspace.kill(pattern, forks.begin(root, trial), nth, after=after)
        forks.go()
        assert forks.ended() == -signal.SIGKILL, (pattern, nth)
        caller.workspace.faults.clear()
        forks.begin(root, trial)
        started = time.monotonic()
        forks.go()
        assert forks.ended() == 0, (pattern, nth)
        assert time.monotonic() - started < 60
        made = [run.payload["run_name"] for run in list(caller.workspace.runs)[before:]]
        assert len(made) == 1, (pattern, nth, made)
    assert no_orphan(caller.workspace)


@pytest.mark.row(4)
def test_every_state_on_the_way_is_waited_for_and_one_from_the_future_warned_of_once(caller, caplog):
    def program(run):
        for life in [*LIVE, "HIBERNATING", "HIBERNATING", "RUNNING"]:
            run.enter(life)
            run.pause(0.08)
        caller.leave_report(run)

    caller.workspace.runs.program = program
    with caplog.at_level(logging.WARNING):
        caller.run()
    assert len(caller.workspace.runs) == 1
    assert [r.message for r in caplog.records if "HIBERNATING" in r.message] == [
        f"Databricks run {next(iter(caller.workspace.runs)).run_id} is HIBERNATING: not known, waiting on"
    ]


@pytest.mark.row(4)
@pytest.mark.parametrize("life", [*LIVE, "HIBERNATING", "TERMINATED", "SKIPPED", "INTERNAL_ERROR"])
@pytest.mark.parametrize("result", [None, "SUCCESS", *RESULTS])
def test_every_state_and_result_means_one_thing(life, result):
    state = read_state({"state": {"life_cycle_state": life, **({"result_state": result} if result else {})}})
    assert state.over == (life in {"TERMINATED", "SKIPPED", "INTERNAL_ERROR"})
    assert state.good == (state.over and result == "SUCCESS")
    assert state.known == (life != "HIBERNATING")
    if life == "TERMINATED" and result in RESULTS:
        assert state.fault() == RESULTS[result]


def test_the_newer_form_of_a_state_is_understood_alone():
    over = read_state({"status": {"state": "TERMINATED", "termination_details": {"code": "SUCCESS"}}})
    assert over.good
    assert not read_state({"status": {"state": "WAITING"}}).over
    failed = read_state({"status": {"state": "TERMINATED", "termination_details": {"code": "DRIVER_ERROR"}}})
    assert (failed.good, failed.fault()) == (False, "memory")


def together(work, trials, at_once=16):
    """Many runs at a time, as many flows would; what any of them raises is raised."""
    errors, numbers = [], iter(range(trials))
    lock = threading.Lock()

    def some():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                work(number)
            except Exception as error:  # noqa: BLE001 - told below
                errors.append((number, error))

    threads = [threading.Thread(target=some) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.row(7, trials="trials")
@pytest.mark.parametrize("trials", counts(6, 50))
def test_a_third_of_all_polls_may_fail_and_no_run_does(caller, trials):
    caller.workspace.runs.program = caller.program(0.3)
    for kind in (500, 502, 503, 504):
        caller.workspace.fault("runs/(get|submit|list)", kind, share=0.06)
    caller.workspace.rate_limit("runs/(get|submit)", share=0.05)
    caller.workspace.reset("runs/|fs/files", share=0.05)
    together(caller.run, trials)
    assert len(caller.workspace.runs) == trials
    assert no_orphan(caller.workspace)


@pytest.mark.row(7)
def test_a_total_outage_is_waited_out(caller):
    caller.workspace.runs.program = caller.program(0.1)
    boss = caller.boss()
    ticket = caller.submit(boss=boss)
    rule = caller.workspace.fault(".", 503)
    threading.Timer(2.0, caller.workspace.faults.clear).start()  # a hundred polls long
    assert fetch(boss, ticket, wait(boss, ticket, Steps())).report["run"] == ticket.run_id
    assert rule.struck >= 2


@pytest.mark.row(7)
def test_a_report_that_cannot_be_fetched_is_no_report_that_is_missing(caller, monkeypatch):
    caller.workspace.runs.program = caller.program()
    boss = caller.boss()
    ticket = caller.submit(boss=boss)
    state = wait(boss, ticket, Steps())
    caller.workspace.fault("GET .*report.json", 503)
    with monkeypatch.context() as hasty:
        hasty.setattr("forecastcore.engines.databricks.supervisor.Supervisor.asked.__defaults__", (0.3, None))
        with pytest.raises(DatabricksRunError, match="does not answer") as told:
            fetch(boss, ticket, state)
    assert "run the same command again to fetch its report" in told.value.hint
    caller.workspace.faults.clear()
    assert caller.run() == ticket.run_id


@pytest.mark.row(7)
def test_retry_after_is_obeyed(caller):
    caller.workspace.runs.program = caller.program(0.2)
    for pattern in ("runs/submit", "runs/get$"):
        caller.workspace.rate_limit(pattern, retry_after=1, times=1, offset=0 if "submit" in pattern else 2)
    caller.run()
    for path in ("runs/submit", "runs/get"):
        asked = caller.workspace.asked(path)
        limited = next(i for i, request in enumerate(asked) if request.status == 429)
        assert asked[limited + 1].at - asked[limited].at >= 1


def test_a_submission_takes_less_than_a_second(caller):
    caller.workspace.runs.program = caller.program()
    took = []
    for number in range(3):  # the best of them: on a busy machine the others tell of the neighbours
        started = time.monotonic()
        caller.submit(str(number), boss=caller.boss())
        took.append(time.monotonic() - started)
    assert min(took) < 1


def test_there_is_at_most_one_poll_per_interval_and_little_else_before(caller):
    caller.workspace.runs.program = caller.program(1.5)
    boss = caller.boss(poll="200ms")
    ticket = caller.submit(boss=boss)
    wait(boss, ticket, Steps())
    polls = [request.at for request in caller.workspace.asked("runs/get")]
    assert min(b - a for a, b in itertools.pairwise(polls)) >= 0.2
    assert len(polls) >= 5


@pytest.mark.row(18, trials="trials")
@pytest.mark.parametrize("trials", counts(20, 100))
def test_what_was_just_written_may_not_be_there_yet(caller, trials):
    caller.workspace.stale_first_read = True
    together(caller.run, trials)
    assert len(caller.workspace.runs) == trials


@pytest.mark.row(57, trials="trials")
@pytest.mark.parametrize("trials", counts(6, 30))
def test_tokens_that_expire_in_the_middle_are_replaced(caller, monkeypatch, trials):
    name, secret = caller.workspace.client
    monkeypatch.delenv("DATABRICKS_TOKEN")
    monkeypatch.setenv("DATABRICKS_CLIENT_ID", name)
    monkeypatch.setenv("DATABRICKS_CLIENT_SECRET", secret)
    caller.workspace.runs.program = caller.program(0.4)

    timers = [threading.Timer(0.1 * n, caller.workspace.expire_tokens) for n in (1, 2, 3)]
    for timer in timers:
        timer.start()
    together(caller.run, trials, at_once=trials)
    caller.workspace.runs.program = lambda run: (caller.leave_report(run), caller.workspace.expire_tokens())
    boss = caller.boss()
    ticket = caller.submit("late", boss)
    state = wait(boss, ticket, Steps())
    caller.workspace.expire_tokens()
    assert fetch(boss, ticket, state).report["run"] == ticket.run_id
    refused = [request for request in caller.workspace.requests if request.status == 401]
    assert "GET" in {request.method for request in refused if request.path.endswith("report.json")}
    assert len(caller.workspace.runs) == trials + 1


# -- never left running


@pytest.mark.row(5, trials="trials")
@pytest.mark.parametrize("trials", counts(6, 50))
def test_a_signal_to_the_caller_cancels_the_run(caller, forks, until, trials):
    took = []
    for trial in range(trials):
        caller.workspace.runs.program = caller.program(60)
        child = forks.begin(caller.root / f"trial-{trial}", trial)
        forks.go()
        run = until(lambda trial=trial: len(caller.workspace.runs) > trial and list(caller.workspace.runs)[-1])
        until(lambda run=run: run.reads > 1)
        started = time.monotonic()
        os.kill(child, [signal.SIGTERM, signal.SIGINT][trial % 2])
        assert run.done.wait(15)
        took.append(time.monotonic() - started)
        assert (forks.ended(), run.result) == (130, "CANCELED")
    assert max(took) < 15


@pytest.mark.row(5)
def test_a_second_signal_does_not_break_off_what_the_first_has_begun(caller, forks, until):
    caller.workspace.runs.program = caller.program(60)
    cancel = caller.workspace.latency("runs/cancel", 1.0)
    child = forks.begin(caller.root)
    forks.go()
    run = until(lambda: len(caller.workspace.runs) and caller.workspace.runs.newest)
    until(lambda: run.reads > 1)
    os.kill(child, signal.SIGTERM)
    until(lambda: cancel.struck)
    os.kill(child, signal.SIGTERM)
    assert run.done.wait(15)
    assert (forks.ended(), run.result) == (130, "CANCELED")
    assert [ticket.outcome for ticket in caller.boss().tickets.all()] == ["cancelled"]


@pytest.mark.row(5)
@pytest.mark.parametrize("point", ["before", "after"])
def test_an_interrupt_while_nobody_knows_whether_it_was_submitted_cancels_too(caller, monkeypatch, point):
    caller.workspace.runs.program = caller.program(60)
    boss = caller.boss()
    call = boss.workspace.call

    def interrupted(method, path, **request):
        if path.endswith("submit"):
            if point == "after":
                call(method, path, **request)
            raise KeyboardInterrupt
        return call(method, path, **request)

    boss.workspace.call = interrupted
    with pytest.raises(KeyboardInterrupt):
        caller.run(boss=boss)
    assert no_orphan(caller.workspace)
    assert [run.result for run in caller.workspace.runs] == (["CANCELED"] if point == "after" else [])
    assert not boss.tickets.read("predict-a").open


@pytest.mark.parametrize(("stage", "late"), [("submit", True), ("Databricks run", False)])
def test_whatever_else_comes_between_cancels_the_run(caller, stage, late):
    class Stopped(BaseException):
        """As Prefect stops a flow."""

    class Stopping(Steps):
        def run(self, name, work):
            if name.startswith(stage):
                if late:
                    work()
                raise Stopped
            return work()

    caller.workspace.runs.program = caller.program(60)
    with pytest.raises(Stopped):
        caller.run(steps=Stopping())
    assert no_orphan(caller.workspace)
    assert [run.result for run in caller.workspace.runs] == ["CANCELED"]


@pytest.mark.row(6, trials="trials")
@pytest.mark.parametrize("trials", counts(2, 50))
def test_a_job_that_takes_too_long_is_ended_by_databricks_or_by_us(caller, trials):
    def times_out(words):
        def run(number):
            with pytest.raises(DatabricksRunError, match=words) as told:
                caller.run(f"{len(words)}-{number}", boss=caller.boss(timeout="1s"))
            assert told.value.fault == "timeout"

        return run

    caller.workspace.runs.program = caller.program(60)
    together(times_out("took too long"), trials // 2, at_once=5)
    assert no_orphan(caller.workspace)

    def never_ends(run):
        run.enter("RUNNING")
        run.payload["timeout_seconds"] = 0  # a service that forgets it
        run.pause(60)

    caller.workspace.runs.program = never_ends
    together(times_out("takes longer than 1s: cancelled"), trials // 2, at_once=5)
    assert no_orphan(caller.workspace)
    assert len(caller.workspace.runs) == trials


def test_an_interrupt_after_the_run_is_over_loses_no_report(caller):
    class Interrupted(Steps):
        def run(self, name, work):
            if name.startswith("fetch"):
                raise KeyboardInterrupt
            return work()

    with pytest.raises(KeyboardInterrupt):
        caller.run(steps=Interrupted())
    (run,) = caller.workspace.runs
    assert (run.result, caller.run()) == ("SUCCESS", run.run_id)


def test_progress_of_the_run_is_told_as_it_comes(caller):
    class Watching(Steps):
        def progress(self, name, done, total):
            told.append((name, done, total))

    def program(run):
        place = caller.workspace.cluster.place(run.parameters[3]).with_name("progress.json")
        for done in range(3):
            place.write_text(json.dumps({"stage": "backtest ridge", "done": done, "total": 2}))
            deadline = time.monotonic() + 30
            while ("backtest ridge", done, 2) not in told and time.monotonic() < deadline:
                run.pause(0.02)
        caller.leave_report(run)

    told, caller.workspace.runs.program = [], program
    caller.run(steps=Watching())
    assert set(told) == {("backtest ridge", done, 2) for done in range(3)}


def test_a_detached_job_goes_on_and_the_same_command_waits_for_it_again(caller):
    caller.workspace.runs.program = caller.program(1.5)
    boss = caller.boss(timeout="1s", on_timeout="detach")
    with pytest.raises(DatabricksRunError, match="goes on: run the same command again"):
        caller.run(boss=boss)
    (run,) = caller.workspace.live()
    assert caller.run(boss=caller.boss(on_timeout="detach")) == run.run_id


@pytest.mark.row(6, 19)
def test_a_job_that_is_detached_while_the_workspace_stumbles_is_no_orphan(caller):
    caller.workspace.runs.program = caller.program(60)
    boss = caller.boss(timeout="5s", on_timeout="detach")
    stumbles = caller.workspace.fault("PUT .*owner.json", 500, offset=2, times=3)  # not of submitting, nor of waiting
    with pytest.raises(DatabricksRunError, match="goes on: run the same command again"):
        caller.run(boss=boss)
    assert stumbles.struck == 3
    ticket = boss.tickets.read("predict-a")
    assert boss.workspace.read_json(f"{ticket.folder}/owner.json")["detached"] is True
    assert len(caller.workspace.live()) == 1


@pytest.mark.row(6)
def test_every_payload_has_an_end(caller):
    for way in ("cancel", "detach"):
        caller.run(way, boss=caller.boss(on_timeout=way))
    bodies = [request.body for request in caller.workspace.asked("runs/submit")]
    assert [(b["timeout_seconds"], b["tasks"][0]["timeout_seconds"]) for b in bodies] == [(60, 60), (120, 120)]


def test_a_run_that_was_over_long_before_anybody_asked_again_is_not_taken_for_the_new_one(caller):
    boss = caller.boss()
    ticket = caller.submit(boss=boss)
    run = caller.workspace.runs.get(ticket.run_id)
    run.done.wait(5)
    run.ended -= 7200
    assert caller.run() != ticket.run_id


def test_a_run_that_was_deleted_under_way_is_told_and_the_next_one_is_new(caller):
    boss = caller.boss()
    ticket = caller.submit(boss=boss)
    caller.workspace.runs.get(ticket.run_id).done.wait(5)
    caller.workspace.runs.delete(ticket.run_id)
    with pytest.raises(DatabricksRunError, match="is gone"):
        wait(boss, ticket, Steps())
    assert caller.run() != ticket.run_id
