import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from forecastcore_webhook import WebhookSink
from forecastcore_webhook.sink import signature

from forecastcore.errors import SinkError
from forecastcore.testing import sample_vintage

SECRET = "a-secret-of-sixteen-and-more"


@pytest.fixture
def receiver():
    """A server that answers as `answers` says, one after the other, and the last for ever; it keeps what it heard."""

    class Receiver(BaseHTTPRequestHandler):
        answers, heard = [200], []

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.heard.append((dict(self.headers), body, self.path))
            status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if status is None:
                self.connection.close()
                return
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "1")
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            return None

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    Receiver.url = f"http://127.0.0.1:{server.server_port}/hook?token=hunter2"
    yield Receiver
    server.shutdown()
    thread.join()
    server.server_close()


def sink_to(receiver, **options):
    return WebhookSink(receiver.url, SECRET, **{"pause": 0.01, **options})


def publish(sink):
    vintage = sample_vintage()
    return sink.publish(vintage, vintage["run_key"][0].as_py())


def test_a_notice_says_what_was_published_and_is_signed(receiver):
    told = publish(sink_to(receiver))
    assert (told.rows, told.already) == (48, False)
    [(headers, body, path)] = receiver.heard
    notice = json.loads(body)
    assert path == "/hook?token=hunter2"
    assert headers["Idempotency-Key"] == notice["run_key"] == sample_vintage()["run_key"][0].as_py()
    assert (notice["project"], notice["scenario"], notice["series"]) == ("sample", "base", 2)
    assert notice["issued_at"] == "2024-01-01T00:00:00+00:00"
    assert notice["status"] == {"ok": 48, "degraded": 0, "failed": 0}
    moment, signed = headers["X-Forecastcore-Signature"].split(",")
    seconds = int(moment.removeprefix("t="))
    assert abs(seconds - time.time()) < 60
    assert signed == f"v1={signature(SECRET, seconds, body)}"
    assert signed != f"v1={signature(SECRET, seconds, body + b' ')}"


def test_a_known_answer_is_signed_as_others_sign_it():
    # printf '1.{}' | openssl dgst -sha256 -hmac key
    assert signature("key", 1, b"{}") == "1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224"


def test_the_same_vintage_is_told_with_the_same_key_and_body(receiver):
    publish(sink_to(receiver))
    publish(sink_to(receiver))
    (one, first, _), (two, second, _) = receiver.heard
    assert first == second
    assert one["Idempotency-Key"] == two["Idempotency-Key"]


@pytest.mark.parametrize("status", [208, 409])
def test_a_receiver_that_knows_of_it_says_so(receiver, status):
    receiver.answers = [status]
    assert publish(sink_to(receiver)).already


@pytest.mark.parametrize("trouble", [500, 503, 429, 408, None])
def test_trouble_that_passes_is_waited_for(receiver, trouble):
    receiver.answers = [trouble, 202]
    started = time.monotonic()
    assert publish(sink_to(receiver)).rows == 48
    assert len(receiver.heard) == 2
    assert time.monotonic() - started >= (1 if trouble == 429 else 0)


def test_trouble_that_stays_is_told_without_the_url_or_the_secret(receiver):
    receiver.answers = [503]
    sink = sink_to(receiver, attempts=3)
    with pytest.raises(SinkError, match=r"http://127\.0\.0\.1:\d+ was not told: status 503") as caught:
        publish(sink)
    assert len(receiver.heard) == 3
    assert not {word for word in ("hunter2", SECRET) if word in str(caught.value) + repr(sink)}


@pytest.mark.parametrize("status", [400, 401, 404, 302])
def test_a_refusal_is_not_repeated_and_no_redirect_is_followed(receiver, status):
    receiver.answers = [status]
    with pytest.raises(SinkError, match=f"status {status}"):
        publish(sink_to(receiver))
    assert len(receiver.heard) == 1


@pytest.mark.parametrize(
    ("url", "secret", "says"),
    [
        ("http://example.com/hook", SECRET, "https"),
        ("ftp://example.com", SECRET, "https"),
        ("https://", SECRET, "https"),
        ("https://example.com", "short", "secret must have"),
    ],
)
def test_what_would_not_be_safe_is_refused(url, secret, says):
    with pytest.raises(ValueError, match=says):
        WebhookSink(url, secret)
