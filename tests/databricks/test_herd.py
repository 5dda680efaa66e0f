"""Many runs that are asked for at once, in a workspace that lets few in: none fails, and nobody is pestered."""

import itertools
import statistics
import sys
import threading
import time

import pytest

from forecastcore.errors import DatabricksRunError
from tests.databricks.test_supervision import no_orphan, together

RUNS, LIMIT, RATE = 200, 10, 5.0
#: seconds that each run takes, and between two questions
WORK, POLL = 5.0, 2.0


@pytest.mark.row(8, trials=200)
@pytest.mark.slow
def test_two_hundred_at_once_where_ten_may_run_all_come_through_in_order_of_room(caller, record_property):
    caller.workspace.runs.program = caller.program(WORK)
    caller.workspace.runs.limit, caller.workspace.runs.rate = LIMIT, RATE
    most, done = [], threading.Event()

    def watch():
        while not done.wait(0.05):
            most.append(len(caller.workspace.live()))

    bosses = [caller.boss(poll=f"{POLL}s", timeout="10min") for _ in range(RUNS)]
    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.time()
    together(lambda number: caller.run(number, boss=bosses[number]), RUNS, at_once=RUNS)
    done.set()
    watcher.join()

    runs = list(caller.workspace.runs)
    waited = sorted(run.started - begun for run in runs)
    makespan, ideal = max(run.ended for run in runs) - begun, RUNS / LIMIT * WORK
    figures = {
        "runs": len(runs),
        "most live": max(most),
        "makespan to ideal": round(makespan / ideal, 3),
        "longest turnaround to median": round((waited[-1] + WORK) / (statistics.median(waited) + WORK), 3),
        "longest wait to median": round(waited[-1] / statistics.median(waited), 3),
        "turned away": sum(one.status == 429 for one in caller.workspace.asked("runs/submit")),
    }
    record_property("figures", str(figures))
    sys.stderr.write(f"{figures}\n")
    assert (len(runs), {run.result for run in runs}) == (RUNS, {"SUCCESS"})
    assert max(most) <= LIMIT
    assert makespan <= 1.2 * ideal
    # Twenty waves of ten, none a second late, wait 0, WORK, … 19 * WORK: the last one exactly twice the median, whoever
    # is in it. What a queue of ours may add is the pause until its next question, an interval with jitter of a half: it
    # shows at the end, where a place that is free is no longer asked for at once by one of many.
    assert waited[-1] <= 2 * statistics.median(waited) + 1.5 * POLL
    polls = {}
    for request in caller.workspace.asked("runs/get"):
        polls.setdefault(request.query["run_id"], []).append(request.at)
    gaps = [b - a for asked in polls.values() for a, b in itertools.pairwise(asked[1:])]  # the first one recognises it
    assert min(gaps) >= POLL
    assert max(gaps) > 1.05 * POLL, "jitter"
    assert no_orphan(caller.workspace)


def test_a_workspace_that_is_full_is_waited_for_longer_than_one_that_is_silent(caller, monkeypatch):
    monkeypatch.setattr("forecastcore.engines.databricks.supervisor.Supervisor.asked.__defaults__", (0.2, None))
    caller.workspace.runs.program, caller.workspace.runs.limit = caller.program(0.6), 1
    caller.submit("first")
    caller.workspace.runs.program = caller.program()
    listed = len(caller.workspace.asked("runs/list"))
    assert caller.run("second") == caller.workspace.runs.newest.run_id
    turned_away = [one for one in caller.workspace.asked("runs/submit") if one.status == 429]
    assert turned_away
    assert caller.workspace.asked("runs/submit")[-1].at - turned_away[0].at > 0.2
    assert len(caller.workspace.asked("runs/list")) == listed, "whoever was turned away has no run to be looked for"


def test_the_time_in_the_queue_is_none_of_the_runs_own_time(caller):
    caller.workspace.runs.limit = 1
    caller.workspace.runs.program = caller.program(4)
    caller.submit("first")
    caller.workspace.runs.program = caller.program(4)
    assert caller.run("second", boss=caller.boss(timeout="6s")), "4 s in the queue, and 4 of the 6 that it may take"
    assert [run.result for run in caller.workspace.runs] == ["SUCCESS", "SUCCESS"]


def test_whoever_waited_longest_in_the_queue_asks_as_often_as_whoever_has_just_come(caller):
    caller.workspace.runs.limit = 1
    caller.workspace.runs.program = caller.program(60)
    caller.submit("first")
    bosses = [caller.boss(poll="200ms", timeout="60s") for _ in range(2)]
    threads = [threading.Thread(target=caller.run, args=(n,), kwargs={"boss": boss}) for n, boss in enumerate(bosses)]
    threads[0].start()
    time.sleep(4.0)
    late = time.monotonic()
    threads[1].start()
    time.sleep(6.0)
    asked = {}
    for one in caller.workspace.asked("runs/submit")[1:]:
        asked.setdefault(one.body["run_name"], []).append(one.at)
    early, new = (sum(at > late + 1 for at in times) for times in asked.values())
    assert 0.6 < early / new < 1.7, (early, new)  # 25 questions each, with jitter
    caller.workspace.runs.program = caller.program()
    (first,) = caller.workspace.live()
    caller.workspace.runs.cancel(first.run_id)
    for thread in threads:
        thread.join(30)
    assert sorted(run.result for run in caller.workspace.runs) == ["CANCELED", "SUCCESS", "SUCCESS"]


def test_a_workspace_that_stays_full_is_told_and_nothing_was_submitted(caller):
    caller.workspace.runs.program, caller.workspace.runs.limit = caller.program(60), 1
    caller.submit("first")
    with pytest.raises(DatabricksRunError, match="had no room for another run in 1s"):
        caller.run("second", boss=caller.boss(timeout="1s"))
    assert len(caller.workspace.runs) == 1
