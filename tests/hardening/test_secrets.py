"""Twelve canaries, looked for wherever runs write: raw, url-encoded and base64; in good runs and bad ones."""

import base64
import json
import logging
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, quote_plus

import pandas as pd
import pytest

from forecastcore.testing.databricks.fixture import databricks, databricks_environments
from tests.conftest import small_history

__all__ = ["databricks", "databricks_environments"]

ROOT = Path(__file__).parents[2]
#: where a secret may stand, by the name of the variable that holds it
CANARIES = {
    "SOURCE_DSN_PASSWORD": "cnry01-source+dsn=p4ss",
    "SINK_DSN_PASSWORD": "cnry02-sink+dsn=p4ss",
    "HOOK_TOKEN": "cnry03-T0KEN-of-the-hook-address",
    "HOOK_SECRET": "cnry04/signing+key=of@hook",
    "STORE_KEY": base64.b64encode(b"cnry05 account key of the blob store, 64 bytes long or about that").decode(),
    "STORE_SAS": "sv=2024-01-01&ss=b&sig=cnry06%2FSIGNATURE%2Bof%2Fthe%2Fstore%3D",
    "TRACKING_DSN_PASSWORD": "cnry07-tracking+dsn=p4ss",
    "MLFLOW_TRACKING_PASSWORD": "cnry08/mlflow+basic@p4ss",
    "DATABRICKS_TOKEN": "dapi0123456789abcdef0123456789abc009",
    "DATABRICKS_CLIENT_SECRET": "dose0123456789abcdef0123456789abc010",
    "AZURE_CLIENT_SECRET": "cnry11~Azure.client-secret_of~app",
    "PREFECT_API_KEY": "pnu_cnry12aPrefectKeyOfTheCloud0123456789",
}
GONE = "127.0.0.1:9"
SINKS = [
    {"type": "parquet", "path": "out/forecasts"},
    {"type": "csv", "path": "out/csv"},
    {"type": "sql", "url": "postgresql+psycopg://me:${env:SINK_DSN_PASSWORD}@" + GONE + "/x"},
    {
        "type": "webhook",
        "url": f"http://{GONE}/${{env:HOOK_TOKEN}}",
        "secret": "${env:HOOK_SECRET}",
        "attempts": 1,
        "timeout": 1.0,
    },
]
#: Azure's client tries again for a quarter of a minute each
BLOBS = [
    {"type": "azure-blob", "container": "first", "credential": {"connection_string": text}}
    for text in (
        f"DefaultEndpointsProtocol=http;AccountName=me;AccountKey=${{env:STORE_KEY}};BlobEndpoint=http://{GONE}/me",
        f"BlobEndpoint=http://{GONE}/me;SharedAccessSignature=${{env:STORE_SAS}}",
    )
]
#: the libraries may have nothing to say at DEBUG; that the log was listening to the end is known by this
LISTENED = "the log was listening"
LISTENER = """
import json, pathlib
from forecastcore.api import hookimpl

@hookimpl
def forecastcore_run_finished(report):
    with (pathlib.Path(__file__).parent / "notified.txt").open("a") as file:
        file.write(json.dumps(report.to_json()) + repr(report))
"""


def forms(secret):
    """How a secret may be written: raw, url-encoded, and as base64 at each of its three alignments."""
    raw = secret.encode()
    found = {raw, quote(secret, safe="").encode(), quote(secret).encode(), quote_plus(secret).encode()}
    found |= {quote(secret.lower(), safe="").encode()} if secret.islower() else set()
    for shift in range(3):
        written = base64.b64encode(b"\0" * shift + raw)
        found |= {written[4:-4], written[4:-4].replace(b"+", b"-").replace(b"/", b"_")}
    return found


FORMS = {name: forms(secret) for name, secret in CANARIES.items()}


def contents(path):
    """The bytes of a file, and what is in it where it is compressed or a database."""
    data = path.read_bytes()
    if path.suffix == ".parquet":
        data += pd.read_parquet(path).to_csv().encode()
    if data[:15] == b"SQLite format 3":
        with closing(sqlite3.connect(path)) as base:
            data += "\n".join(base.iterdump()).encode()
    return data


def below(*folders):
    files = (file for folder in folders for file in sorted(Path(folder).rglob("*")))
    return b"\0".join(contents(file) for file in files if file.is_file() and not file.is_symlink())


def matrix(places):
    """Canary by place: how often it was found; printed, so that it can be read."""
    table = pd.DataFrame(
        {
            place: {name: sum(data.count(form) for form in FORMS[name]) for name in CANARIES}
            for place, data in places.items()
        }
    )
    hits = int(table.to_numpy().sum())
    sys.stdout.write(f"\n{table.to_string()}\n{len(table)} canaries x {len(table.columns)} places: {hits} hits\n")
    return table


@pytest.fixture
def armed(make_site, monkeypatch, tmp_path):
    """A project full of references, its environment, everything logged at DEBUG, and temporary files that stay."""
    for name, secret in CANARIES.items():
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("DATABRICKS_HOST", f"http://{GONE}")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    site = make_site(small_history(series=1), sinks=SINKS).plugin(LISTENER, "listener.py")
    handler = logging.FileHandler(tmp_path / "debug.log")
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield site
    root.removeHandler(handler)
    root.setLevel(level)
    handler.close()


def everywhere(site, told):
    """All that can be read after these command lines."""
    here = site.folder
    own = {here / "forecast.yaml", here / "history.parquet"}
    logging.getLogger(__name__).debug(LISTENED)
    return {
        "stdout": "\0".join(one.out for one in told if not one.out.startswith("{")).encode(),
        "--json": "\0".join(one.out for one in told if one.out.startswith("{")).encode(),
        "stderr and tracebacks": "\0".join(one.err for one in told).encode(),
        "debug log": (here.parent / "debug.log").read_bytes(),
        "MLflow database": contents(here / "mlflow.db"),
        "MLflow files": below(here / "mlartifacts"),
        "delivered tables": below(here / "out"),
        "notifications": b"".join(file.read_bytes() for file in here.glob("notified.txt")),
        "model cache": below(here.parent / "cache"),
        "temporary files": below(here.parent / "temporary"),
        "the project's folder": b"\0".join(contents(f) for f in here.iterdir() if f.is_file() and f not in own),
    }


def test_the_search_finds_what_is_there(tmp_path):
    for number, (name, secret) in enumerate(CANARIES.items()):
        for wrapped in (
            secret.encode(),
            quote(secret, safe="").encode(),
            base64.b64encode(b"x" * number + secret.encode()),
        ):
            (tmp_path / name).write_bytes(b"before " + wrapped + b" after")
            hits = matrix({"here": below(tmp_path)})["here"]
            assert hits[name] >= 1
            (tmp_path / name).unlink()


@pytest.mark.row(55, trials=132)
def test_runs_that_deliver_and_sinks_that_fail_write_no_secret(armed):
    told = [armed.cli("-v", "retrain"), armed.cli("-v", "predict"), armed.cli("--json", "predict")]
    assert [one.code for one in told] == [0, 1, 1], "two sinks fail, the others are delivered to"
    errors = [sink["error"] for sink in told[-1].document["published"] if sink["error"]]
    assert len(errors) == 2, "the sinks that need a secret were tried, and told why they failed"
    places = everywhere(armed, told)
    assert all(
        places[name] for name in ("stdout", "--json", "debug log", "MLflow files", "notifications", "delivered tables")
    )
    hits = matrix(places)
    assert not hits.to_numpy().any()


BAD = {
    "a source that refuses": {
        "source": {
            "type": "sql",
            "url": "postgresql+psycopg://me:${env:SOURCE_DSN_PASSWORD}@" + GONE + "/x",
            "table": "history",
        }
    },
    "a store that refuses": {
        "tracking": {"uri": "postgresql+psycopg2://me:${env:TRACKING_DSN_PASSWORD}@" + GONE + "/x"}
    },
    "a secret in the wrong place": {
        "sinks": [{"type": "webhook", "url": "${env:HOOK_SECRET}", "secret": "${env:HOOK_SECRET}"}]
    },
    "only sinks that fail": {"sinks": [*SINKS[2:], *BLOBS]},
    "an engine that refuses": {
        "engine": {"type": "databricks", "serverless": True, "volume": "/Volumes/a/b/c", "timeout": "1m"},
        "tracking": {"uri": "databricks"},
    },
}


@pytest.mark.row(55, trials=132)
@pytest.mark.parametrize(
    "how", [pytest.param(h, marks=() if h.startswith("a source") else pytest.mark.slow) for h in BAD]
)
def test_runs_that_fail_write_no_secret(how, armed):
    words = "predict" if "sinks" in BAD[how] else "retrain"
    if words == "predict":
        armed.retrain()
    armed.write(**BAD[how])
    commands = [("-v", words), ("--json", words), ("--json", "doctor", "--security")]
    if how == "an engine that refuses":
        commands = [("-v", "plan", words), ("--json", "plan", words), ("--json", "doctor", "--security")]
    told = [armed.cli(*command) for command in commands]
    assert how == "an engine that refuses" or told[0].code in {1, 2, 3, 4}  # 3: the store is told later
    assert not matrix(everywhere(armed, told)).to_numpy().any()


@pytest.mark.row(55, trials=156)
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_flows_leave_no_secret_with_prefect(armed, tmp_path):
    """In its database and its logs, at DEBUG, after a flow that delivers and one that fails."""
    assert armed.cli("retrain").code == 0
    environment = {
        **os.environ,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_API_KEY": "",
        "TMPDIR": str(tmp_path / "temporary"),
    }
    environment.pop("PREFECT_API_URL", None)

    def flow():
        command = [sys.executable, ROOT / "flows" / "predict.py", "--project", armed.folder / "forecast.yaml"]
        return subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, check=False, timeout=400)

    told = [flow()]
    armed.write(**BAD["a source that refuses"])
    told.append(flow())
    assert told[1].returncode == 4, "the source's database is not there: held"
    written = below(tmp_path / "prefect")
    assert b"predict" in written
    places = {
        "Prefect's database and logs": written,
        "what flows say": b"\0".join(one.stdout + one.stderr for one in told),
    }
    assert not matrix({**everywhere(armed, []), **places}).to_numpy().any()


RULES = """
import os, sys
from dataclasses import dataclass
from forecastcore.api import ModelSpec, hookimpl

@dataclass(frozen=True)
class Level:
    level: float
    def predict(self, context, future, task):
        return future[["unique_id", "ds", "step"]].assign(forecast=self.level)

@dataclass(frozen=True)
class Mean:
    def fit(self, history, task):
        return Level(float(history["y"].mean()))

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="mean", summary="one mean for all", factory=Mean, capabilities={"scope": "global"})
"""


@pytest.mark.row(55, trials=168)
@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["delivers", "fails there"])
def test_a_run_on_databricks_and_its_page_hold_no_secret(way, armed, databricks, monkeypatch, tmp_path):
    """In what is sent to the workspace and kept in its volume, in what the cluster says, and in the report's page."""
    databricks.token = CANARIES["DATABRICKS_TOKEN"]
    monkeypatch.setenv("DATABRICKS_TOKEN", databricks.token)
    # the others as a cluster has them from its secret scopes
    databricks.cluster.environment |= {name: secret for name, secret in CANARIES.items() if "DATABRICKS" not in name}
    engine = {"type": "databricks", "serverless": True, "volume": "/Volumes/main/fc/jobs", "poll": "100ms"}
    armed.plugin(RULES, "rules.py").write(engine=engine, models=[{"type": "mean"}], report="out/forecast.html")
    sinks = SINKS if way == "fails there" else SINKS[:2]
    told = [armed.cli("-v", "retrain"), armed.write(sinks=sinks).cli("-v", "predict"), armed.cli("--json", "predict")]
    assert [one.code for one in told] == ([0, 1, 1] if way == "fails there" else [0, 0, 0]), told[1].err
    page = armed.folder / "out" / "forecast.html"
    used = [databricks.token in request.headers.get("authorization", "") for request in databricks.requests]
    assert used.count(True) > 5, "the token is what opens the workspace"
    sent = [f"{request.line} {json.dumps(request.body, default=str)}" for request in databricks.requests]
    places = {
        **everywhere(armed, told),
        "cluster payloads": "\0".join(sent).encode(),
        "volume and what the cluster says": below(tmp_path / "databricks"),
        "report": page.read_bytes() if page.exists() else b"",
    }
    assert places["cluster payloads"]
    assert places["report"] or way == "fails there"
    assert not matrix(places).to_numpy().any()


@pytest.mark.parametrize("password", ["half@of-it", "half/of@it", "half@of/it"])
def test_no_half_of_a_password_is_told_as_a_host(password):
    from forecastcore_sql.database import url_of

    with pytest.raises(ValueError, match=r"write %40 and %2F") as refused:
        url_of(f"postgresql://me:{password}@127.0.0.1:9/x")
    assert not any(part in str(refused.value) for part in ("half", "of-it", "of@it", "of/it"))
