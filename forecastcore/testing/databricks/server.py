"""A Databricks workspace on 127.0.0.1: Jobs 2.2, Files, OAuth, and what databricks-sdk asks to find its way.

What it cannot show: real throttling, real lifetimes of tokens, Unity Catalog's grants, and how long a cluster takes.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
import shutil
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from forecastcore.testing.databricks.cluster import Cluster
from forecastcore.testing.databricks.faults import Faults, Rule, kill
from forecastcore.testing.databricks.runs import ApiError, Runs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from forecastcore.testing.databricks.runs import Run

__all__ = ["FakeWorkspace", "Request"]

_FILES = "/api/2.0/fs/files"
_FOLDERS = "/api/2.0/fs/directories"
_OPEN = ("/.well-known/", "/oidc/")
_PAGE = 25
_NO_CLIENT = "invalid_client"
#: bytes that one import may have
_IMPORTED = 10 * 1024 * 1024


@dataclass(kw_only=True)
class Request:
    """One request that came in.

    Attributes:
        method: HTTP method.
        path: without its query.
        query: last value of each key.
        body: JSON document, or bytes.
        headers: by lower-case name.
        at: `time.monotonic()`.
        status: what it was answered with; 0 where the connection was dropped.
    """

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]
    at: float
    status: int = 0

    @property
    def line(self) -> str:
        """Such as `POST /api/2.2/jobs/runs/submit`."""
        return f"{self.method} {self.path}"


@dataclass(kw_only=True)
class _Answer:
    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] | None = None


class FakeWorkspace:
    """A workspace to test against; a context manager.

    Attributes:
        url: `http://127.0.0.1:PORT`, for `DATABRICKS_HOST`.
        token: for `DATABRICKS_TOKEN`.
        client: id and secret of a service principal, for `DATABRICKS_CLIENT_ID` and `DATABRICKS_CLIENT_SECRET`.
        runs: all runs; `runs.program` is what a run does, by default the submitted wheel; `runs.semantics` is what a
            token does; `runs.slots` is how many may run at once, `runs.limit` how many may be live, `runs.rate` how
            many may be submitted in a second.
        requests: all requests so far.
        clusters: runtime version of each cluster that is there.
        spark_versions: runtime versions that a new cluster may have.
        stale_first_read: the first read of a new run or file answers that it is not there.
        user: whom the workspace takes the caller for.
    """

    def __init__(self, folder: Path, *, seed: int = 0, environments: Path | None = None) -> None:
        """Make a workspace; `start` makes it answer.

        Args:
            folder: volumes and logs.
            seed: of the faults.
            environments: where virtual environments are kept; share it between workspaces to make each once.
        """
        self.folder: Path = folder.absolute()
        self.volumes: Path = self.folder / "Volumes"
        self.volumes.mkdir(parents=True, exist_ok=True)
        self.cluster: Cluster = Cluster((environments or folder / "environments").absolute(), self.volumes)
        self.runs: Runs = Runs(self.cluster)
        self.faults: Faults = Faults(seed)
        self.requests: list[Request] = []
        self.token: str = f"dapi-{secrets.token_hex(8)}"
        self.client: tuple[str, str] = ("fake-client", secrets.token_hex(8))
        self.user = "someone@example.com"
        self.lifetime = 3600
        self.stale_first_read = False
        self.clusters: dict[str, str] = {"c1": "16.4.x-scala2.12"}
        self.spark_versions: tuple[str, ...] = ("16.4.x-scala2.12", "17.3.x-scala2.13")
        self._issued: set[str] = set()
        self._fresh: set[str] = set()
        self._jobs: dict[int, dict[str, Any]] = {}
        self._server = _Server(self)
        self.url: str = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """End every run, then the server."""
        self.runs.end_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    # -- what tests arrange

    @property
    def environment(self) -> dict[str, str]:
        """Variables that lead databricks-sdk here."""
        return {"DATABRICKS_HOST": self.url, "DATABRICKS_TOKEN": self.token}

    def bring_spark(self, master: str = "local[2]", runtime: str = "16.4") -> None:
        """Let tasks find a Spark session, as they do on a Databricks runtime; a local one, so Java has to be there."""
        session = {"PYSPARK_SUBMIT_ARGS": f"--master {master} --conf spark.ui.enabled=false pyspark-shell"}
        self.cluster.environment |= {**session, "DATABRICKS_RUNTIME_VERSION": runtime, "SPARK_LOCAL_IP": "127.0.0.1"}

    def fault(self, pattern: str, status: int = 503, **how: Any) -> Rule:
        """Answer matching requests with an error; see `Rule`."""
        return self.faults.add(Rule(pattern=pattern, status=status, **how))

    def reset(self, pattern: str, **how: Any) -> Rule:
        """Drop the connection of matching requests; see `Rule`."""
        return self.faults.add(Rule(pattern=pattern, kind="reset", **how))

    def latency(self, pattern: str, seconds: float, **how: Any) -> Rule:
        """Let matching requests wait; see `Rule`."""
        return self.faults.add(Rule(pattern=pattern, kind="latency", seconds=seconds, **how))

    def rate_limit(self, pattern: str, retry_after: float | None = None, **how: Any) -> Rule:
        """Answer matching requests with 429; without `retry_after` there is no such header."""
        return self.fault(pattern, 429, retry_after=retry_after, error_code="REQUEST_LIMIT_EXCEEDED", **how)

    def kill(self, pattern: str, pid: int, nth: int = 1, *, after: bool = False) -> Rule:
        """End a process with SIGKILL at the n-th matching request, before or after that request's effect."""
        return self.faults.add(Rule(pattern=pattern, kind="kill", pid=pid, offset=nth - 1, times=1, after=after))

    def deny(self, pattern: str, words: str = "User does not have permission.", **how: Any) -> Rule:
        """Refuse matching requests."""
        return self.fault(pattern, 403, error_code="PERMISSION_DENIED", words=words, **how)

    def expire_tokens(self) -> None:
        """What was issued is not accepted any more, whatever was said of its lifetime."""
        self._issued.clear()

    def asked(self, pattern: str) -> list[Request]:
        """Requests whose `line` ends like this."""
        return [request for request in list(self.requests) if request.line.endswith(pattern)]

    def live(self) -> list[Run]:
        """Runs that still cost money."""
        return [run for run in self.runs if run.live]

    # -- what the server asks

    def answer(self, request: Request) -> _Answer | None:
        """The answer to a request after all faults; None drops the connection."""
        rules = self.faults.struck(request.line)
        struck = next((found for rule in rules if not rule.after for found in [_strike(rule)] if found), None)
        if struck is not None:
            return struck.answer
        said = self._handled(request)
        struck = next((found for rule in rules if rule.after for found in [_strike(rule)] if found), None)
        return said if struck is None else struck.answer

    def _handled(self, request: Request) -> _Answer:
        try:
            if not request.path.startswith(_OPEN):
                self._authenticate(request.headers.get("authorization", ""))
            return self._route(request)
        except ApiError as error:
            return _error(error.status, error.code, error.message)

    def _authenticate(self, header: str) -> None:
        token = header.removeprefix("Bearer ")
        if token != self.token and token not in self._issued:
            raise ApiError(401, "UNAUTHENTICATED", "Credential was not sent, is of an unsupported type or is expired.")

    def _route(self, request: Request) -> _Answer:
        if request.path.startswith((_FILES, _FOLDERS)):
            return self._file(request)
        action = re.sub(r"^/api/\d+\.\d+/", "", request.path)
        handlers: dict[str, Callable[[Request], dict[str, Any]]] = {
            "/.well-known/databricks-config": lambda _: {"oidc_endpoint": f"{self.url}/oidc"},
            "/oidc/.well-known/oauth-authorization-server": lambda _: {
                "authorization_endpoint": f"{self.url}/oidc/v1/authorize",
                "token_endpoint": f"{self.url}/oidc/v1/token",
            },
            "/oidc/v1/token": self._issue,
            "preview/scim/v2/Me": lambda _: {"userName": self.user, "id": "1"},
            "clusters/get": self._cluster,
            "clusters/spark-versions": lambda _: {
                "versions": [{"key": key, "name": key} for key in self.spark_versions]
            },
            "workspace/get-status": self._status,
            "workspace/import": self._import,
            "workspace/mkdirs": self._mkdirs,
            "jobs/create": self._create,
            "jobs/delete": self._delete,
            "jobs/run-now": self._run_now,
            "jobs/runs/submit": lambda r: {"run_id": self.runs.submit(r.body).run_id},
            "jobs/runs/get": self._get,
            "jobs/runs/get-output": self._output,
            "jobs/runs/list": self._list,
            "jobs/runs/cancel": lambda r: self.runs.cancel(r.body["run_id"]),
            "jobs/runs/delete": lambda r: self.runs.delete(r.body["run_id"]),
            "jobs/runs/repair": lambda r: self.runs.repair(r.body["run_id"]),
        }
        if action not in handlers:
            raise ApiError(404, "ENDPOINT_NOT_FOUND", f"No API found for {request.line}")
        return _Answer(body=json.dumps(handlers[action](request)).encode())

    def _issue(self, request: Request) -> dict[str, Any]:
        """Client credentials become a bearer token."""
        sent = base64.b64decode(request.headers.get("authorization", "").removeprefix("Basic ")).decode()
        if sent != ":".join(self.client):
            raise ApiError(401, _NO_CLIENT, "Client authentication failed")
        token = f"issued-{secrets.token_hex(8)}"
        self._issued.add(token)
        return {"access_token": token, "token_type": "Bearer", "expires_in": self.lifetime, "scope": "all-apis"}

    def _create(self, request: Request) -> dict[str, Any]:
        number = len(self._jobs) + 1
        self._jobs[number] = request.body
        return {"job_id": number}

    def _delete(self, request: Request) -> dict[str, Any]:
        self._jobs.pop(int(request.body["job_id"]), None)
        return {}

    def _run_now(self, request: Request) -> dict[str, Any]:
        job = self._jobs.get(int(request.body["job_id"]))
        if job is None:
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Job {request.body['job_id']} does not exist.")
        token = request.body.get("idempotency_token")
        run = self.runs.submit({**job, "run_name": job.get("name"), **({"idempotency_token": token} if token else {})})
        return {"run_id": run.run_id, "number_in_job": run.run_id}

    def _get(self, request: Request) -> dict[str, Any]:
        run = self.runs.get(request.query["run_id"])
        run.reads += 1
        if self.stale_first_read and run.reads == 1:
            raise ApiError(400, "RESOURCE_DOES_NOT_EXIST", f"Run {run.run_id} does not exist.")
        return run.as_json(self.url)

    def _output(self, request: Request) -> dict[str, Any]:
        run = self.runs.get(request.query["run_id"])
        if int(request.query["run_id"]) == run.run_id:
            words = "Retrieving the output of runs with multiple tasks is not supported: ask for the task's run."
            raise ApiError(400, "INVALID_PARAMETER_VALUE", words)
        failed = {"error": run.error, "error_trace": run.trace} if run.error else {}
        return {"metadata": run.as_json(self.url), "logs": run.logs, "logs_truncated": False, **failed}

    def _list(self, request: Request) -> dict[str, Any]:
        since = int(request.query.get("start_time_from", 0))
        found = [r for r in reversed(list(self.runs)) if r.live or request.query.get("active_only") != "true"]
        found = [run for run in found if run.started * 1000 >= since]
        first = int(request.query.get("page_token", 0))
        more = {"next_page_token": str(first + _PAGE)} if len(found) > first + _PAGE else {}
        return {"runs": [run.as_json(self.url) for run in found[first : first + _PAGE]], **more}

    def _cluster(self, request: Request) -> dict[str, Any]:
        cluster = request.query["cluster_id"]
        if cluster not in self.clusters:
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Cluster {cluster} does not exist")
        return {"cluster_id": cluster, "spark_version": self.clusters[cluster]}

    def _of_workspace(self, path: str) -> Path:
        place = (self.cluster.workspace / path.removeprefix("/Workspace").lstrip("/")).resolve()
        if not path.startswith("/") or not place.is_relative_to(self.cluster.workspace.resolve()):
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Path ({path}) doesn't start with '/'")
        return place

    def _status(self, request: Request) -> dict[str, Any]:
        place = self._of_workspace(path := request.query["path"])
        if not place.exists():
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", f"Path ({path}) doesn't exist.")
        return {"path": path, "object_type": "DIRECTORY" if place.is_dir() else "FILE"}

    def _mkdirs(self, request: Request) -> dict[str, Any]:
        self._of_workspace(request.body["path"]).mkdir(parents=True, exist_ok=True)
        return {}

    def _import(self, request: Request) -> dict[str, Any]:
        place, content = self._of_workspace(request.body["path"]), base64.b64decode(request.body["content"])
        if len(content) > _IMPORTED:
            raise ApiError(400, "MAX_NOTEBOOK_SIZE_EXCEEDED", f"content size exceeded max limit of {_IMPORTED} bytes")
        if not place.parent.is_dir():
            raise ApiError(404, "RESOURCE_DOES_NOT_EXIST", "The parent folder doesn't exist.")
        if place.exists() and not request.body.get("overwrite"):
            raise ApiError(400, "RESOURCE_ALREADY_EXISTS", f"Path ({request.body['path']}) already exists.")
        place.write_bytes(content)
        return {}

    def _file(self, request: Request) -> _Answer:
        folder = request.path.startswith(_FOLDERS)
        path = unquote(request.path.removeprefix(_FOLDERS if folder else _FILES))
        place = (self.folder / path.lstrip("/")).resolve()
        if not place.is_relative_to(self.volumes.resolve()):
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"{path} is not below /Volumes")
        if request.method == "PUT":
            return self._written(place, request, folder=folder)
        if path in self._fresh and request.method != "DELETE":
            self._fresh.discard(path)
            raise ApiError(404, "NOT_FOUND", f"{path} is not there.")
        if not (place.is_dir() if folder else place.is_file()):
            raise ApiError(404, "NOT_FOUND", f"{path} is not there.")
        if request.method == "DELETE":
            shutil.rmtree(place) if folder else place.unlink()
            return _Answer(body=b"", status=204)
        return _Answer(body=b"" if request.method == "HEAD" or folder else place.read_bytes())

    def _written(self, place: Path, request: Request, *, folder: bool) -> _Answer:
        if folder:
            place.mkdir(parents=True, exist_ok=True)
            return _Answer(body=b"", status=204)
        if place.exists() and request.query.get("overwrite") != "true":
            raise ApiError(409, "ALREADY_EXISTS", f"{place.name} is there already.")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(request.body)
        if self.stale_first_read:
            self._fresh.add(f"/{place.relative_to(self.folder.resolve()).as_posix()}")
        return _Answer(body=b"", status=204)


@dataclass
class _Struck:
    answer: _Answer | None


def _strike(rule: Rule) -> _Struck | None:
    """What a rule makes of the answer; None leaves it as it is."""
    if rule.kind == "kill":
        kill(rule.pid)
        return _Struck(None)
    if rule.kind == "latency":
        time.sleep(rule.seconds)
        return None
    if rule.kind == "reset":
        return _Struck(None)
    headers = {} if rule.retry_after is None else {"Retry-After": f"{rule.retry_after:g}"}
    code = rule.error_code or ("TEMPORARILY_UNAVAILABLE" if rule.status == 503 else "INTERNAL_ERROR")  # noqa: PLR2004 - HTTP
    return _Struck(_error(rule.status, code, rule.words, headers))


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> _Answer:
    said = {"error_code": code, "message": message}
    if code == _NO_CLIENT:  # the endpoint of tokens words it as RFC 6749 does
        said = {"error": code, "error_description": message}
    return _Answer(body=json.dumps(said).encode(), status=status, headers=headers)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, workspace: FakeWorkspace) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.workspace = workspace

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one piece
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class calls it that
        """Nothing on the console."""

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        sent = (
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "chunked" not in (self.headers.get("Transfer-Encoding") or "")
            else self._chunks()
        )
        body: Any = sent
        if sent and "json" in (self.headers.get("Content-Type") or ""):
            with contextlib.suppress(ValueError):
                body = json.loads(sent)
        request = Request(
            method=self.command,
            path=parts.path,
            query={key: values[-1] for key, values in parse_qs(parts.query).items()},
            body=body,
            headers={name.lower(): value for name, value in self.headers.items()},
            at=time.monotonic(),
        )
        workspace = self.server.workspace
        workspace.requests.append(request)
        answer = workspace.answer(request)
        if answer is None:
            self._drop()
            return
        request.status = answer.status
        self.send_response(answer.status)
        for name, value in (answer.headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        self.wfile.flush()

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _drop(self) -> None:
        """A reset, not a polite end."""
        with contextlib.suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve  # noqa: N815 - the base class looks for these names
