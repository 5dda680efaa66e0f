"""A flow run asks its server whether it is still wanted: seldom, whatever the answer, and it ends where it is not."""

import itertools
import json
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from uuid import uuid4

import pytest

ROOT = Path(__file__).parents[1]
EVERY = 0.2


class Told(BaseException):
    """What SIGTERM raises here, as Prefect's engine has it."""


@pytest.fixture
def flow_watch(monkeypatch):
    """The module on faster clocks, where a SIGTERM does no harm."""
    monkeypatch.syspath_prepend(ROOT / "flows")
    import flow_watch

    def told(*_):
        raise Told

    for name, seconds in (("_EVERY", EVERY), ("_FIRST", 0.05), ("_AGAIN", 0.5)):
        monkeypatch.setattr(flow_watch, name, seconds)
    before = signal.signal(signal.SIGTERM, told)
    yield flow_watch
    signal.signal(signal.SIGTERM, before)


class Api:
    """A Prefect server that knows one flow run, and says of it what it is told to."""

    def __init__(self):
        from prefect.client.schemas.objects import FlowRun

        self.run, self.status, self.state, self.asked = FlowRun(id=uuid4(), flow_id=uuid4()), 200, "RUNNING", []

    def answer(self, path):
        self.asked.append(time.monotonic())
        assert path.endswith(f"/flow_runs/{self.run.id}")
        told = json.loads(self.run.model_dump_json(exclude={"state"}))
        return {**told, "state": {"type": self.state, "name": self.state.title(), "id": str(uuid4())}}


@pytest.fixture
def api():
    from prefect.settings import PREFECT_API_URL, temporary_settings

    told = Api()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(told.answer(self.path)).encode()
            self.send_response(told.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.server_port}/api"}):
        yield told
    server.shutdown()
    server.server_close()


def broken_off(watch, work):
    """Whether the work of the main thread is ended, within some seconds."""
    try:
        with watch:
            work()
            time.sleep(10)
    except Told:
        return watch.struck
    return False


def asked(api, times):
    end = time.monotonic() + 20
    while len(api.asked) < times:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("state", ["CANCELLING", "CANCELLED"])
def test_a_run_that_the_server_wants_cancelled_is_told_so_once_it_has_asked(flow_watch, api, state):
    def work():
        asked(api, 2)
        api.state = state

    assert broken_off(flow_watch.Watch(api.run), work)


def test_a_server_that_fails_or_has_never_heard_of_the_run_is_asked_on_at_the_same_pace(flow_watch, api):
    def work():
        for status in (503, 429, 404, 500):
            api.status = status
            asked(api, len(api.asked) + 2)
        api.status, api.state = 200, "CANCELLING"

    assert broken_off(flow_watch.Watch(api.run), work)
    gaps = [later - earlier for earlier, later in itertools.pairwise(api.asked)]
    assert min(gaps) >= EVERY
    assert len({round(gap, 4) for gap in gaps}) > 1, "jitter"


def test_a_run_that_swallows_what_it_is_told_is_told_again(flow_watch, api):
    def work():
        with pytest.raises(Told):
            time.sleep(10)

    api.state = "CANCELLING"
    assert broken_off(flow_watch.Watch(api.run), work)


@pytest.mark.parametrize("state", ["RUNNING", "CANCELLING"])
def test_what_is_over_is_not_told_any_more(flow_watch, api, monkeypatch, state):
    api.state = state
    monkeypatch.setattr(flow_watch, "_FIRST", 60.0)
    with flow_watch.Watch(api.run) as watch:
        asked(api, 1)
    time.sleep(3 * EVERY)
    assert (watch.struck, len(api.asked)) == (False, 1)


def test_a_run_below_another_one_and_one_of_another_thread_are_not_watched(flow_watch, api):
    below = api.run.model_copy(update={"parent_task_run_id": uuid4()})
    with flow_watch.Watch(below), flow_watch.Watch(None):
        time.sleep(3 * EVERY)

    def elsewhere():
        with flow_watch.Watch(api.run):
            time.sleep(3 * EVERY)

    other = threading.Thread(target=elsewhere)
    other.start()
    other.join()
    assert api.asked == []


def test_the_clocks_keep_within_one_question_in_ten_seconds_and_a_quarter_of_a_minute_to_the_end(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "flows")
    import flow_watch

    assert flow_watch._EVERY >= 10
    assert 1.1 * flow_watch._EVERY + flow_watch._FIRST <= 13.5
