"""Under `profile: prod` only the identity that is named is asked, whatever else the machine knows."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from forecastcore import Project
from forecastcore.engines.databricks.workspace import Workspace
from forecastcore.errors import ConfigError, DatabricksRunError, SinkError
from forecastcore.testing import sample_vintage
from forecastcore.testing.databricks.fixture import databricks, databricks_environments

__all__ = ["databricks", "databricks_environments"]

FILE = """\
name: small
profile: prod
source: {type: parquet, path: history.parquet}
frequency: h
horizon: 24
"""
PRINCIPAL = "client_id = {}\nclient_secret = {}\n"


class Listening(BaseHTTPRequestHandler):
    """Writes down who asks for what; hands out a token where it is the machine's endpoint for identities."""

    def do_GET(self):
        url = urlsplit(self.path)
        query = {name: value[0] for name, value in parse_qs(url.query).items()}
        self.server.heard.append((url.path, query, self.headers.get("Authorization")))
        answer = {"access_token": "named-token", "expires_in": "3600", "expires_on": str(int(time.time()) + 3600)}
        known = url.path == "/metadata/identity/oauth2/token" and query.get("client_id") in self.server.identities
        body = json.dumps(answer if known else {"error": "not known here"}).encode()
        self.send_response(200 if known else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_GET  # noqa: N815 - the standard library's name
    do_HEAD = do_GET  # noqa: N815 - as above
    do_POST = do_GET  # noqa: N815 - as above

    def log_message(self, *words):
        pass


@contextlib.contextmanager
def listening(*identities):
    with ThreadingHTTPServer(("127.0.0.1", 0), Listening) as server:
        server.heard, server.identities, server.daemon_threads = [], identities, True
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def decoys(tmp_path, monkeypatch):
    """Leftovers of every kind, and what was asked through them."""
    called = tmp_path / "az-was-called"
    stub = tmp_path / "bin" / "az"
    stub.parent.mkdir()
    stub.write_text(f'#!/bin/sh\ntouch {called}\necho \'{{"accessToken": "decoy", "expiresOn": "2099-01-01"}}\'\n')
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", str(stub.parent), prepend=":")
    with listening("decoy") as elsewhere:
        blob = f"DefaultEndpointsProtocol=http;AccountName=decoy;AccountKey=ZGVjb3k=;BlobEndpoint={elsewhere.url}/decoy"
        for kind in ("AZURE", "ARM"):
            for name in ("CLIENT_ID", "CLIENT_SECRET", "TENANT_ID"):
                monkeypatch.setenv(f"{kind}_{name}", "decoy")
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", blob)
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "ZGVjb3k=")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "decoy")
        yield lambda: [*elsewhere.heard, *(["az"] if called.exists() else [])]


@pytest.fixture
def machine(monkeypatch):
    """The machine's endpoint for identities; it has the one that is called `named`."""
    with listening("named") as server:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", server.url)
        yield server


def project(folder, more):
    (folder / "forecast.yaml").write_text(FILE + more)
    return Project.load(folder)


def published(project):
    vintage = sample_vintage()
    [(_, sink)] = project.sinks()
    return sink.publish(vintage, vintage["run_key"][0].as_py())


def asked(machine):
    return {query.get("client_id") for path, query, _ in machine.heard if path.endswith("/token")}


@pytest.mark.row(56)
def test_the_named_identity_is_asked_for_a_token_and_nothing_else_is_sent(tmp_path, decoys, machine):
    with listening() as account:
        where = f"path: az://container/forecasts, account_url: {account.url}/account"
        with pytest.raises(SinkError):
            published(
                project(tmp_path, f"sinks: [{{type: delta, {where}, credential: {{managed_identity: named}}}}]\n")
            )
    assert asked(machine) == {"named"}
    assert {authorization for _, _, authorization in account.heard} == {"Bearer named-token"}
    assert decoys() == []


in_azure = pytest.mark.parametrize(
    "sink",
    [
        "type: azure-blob, container: forecasts, path: water",
        "type: delta, path: az://container/forecasts",
    ],
    ids=["azure-blob", "delta"],
)


@pytest.mark.row(56)
@in_azure
def test_where_the_named_identity_fails_nobody_else_is_asked(tmp_path, decoys, machine, sink):
    rest = "account_url: https://account.blob.core.windows.net, credential: {managed_identity: gone}"
    with pytest.raises(Exception, match=r"400|identity|Identity|credential") as caught:
        published(project(tmp_path, f"sinks: [{{{sink}, {rest}}}]\n"))
    assert isinstance(caught.value, SinkError)
    assert asked(machine) == {"gone"}
    assert decoys() == []


@pytest.mark.row(56)
@in_azure
def test_an_identity_that_the_environment_would_choose_is_refused(tmp_path, decoys, machine, monkeypatch, sink):
    for name in ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"):
        monkeypatch.setenv(name, "decoy")
    rest = "account_url: https://account.blob.core.windows.net, credential: managed-identity"
    with pytest.raises(SinkError, match=r"managed-identity names none.*write") as caught:
        published(project(tmp_path, f"sinks: [{{{sink}, {rest}}}]\n"))
    assert "{managed_identity: CLIENT_ID}" in str(caught.value)
    assert (machine.heard, decoys()) == ([], [])


def test_a_credential_that_is_left_out_is_not_looked_for(tmp_path, decoys, machine):
    with pytest.raises(SinkError, match="needs a credential"):
        published(project(tmp_path, "sinks: [{type: delta, path: az://container/forecasts}]\n"))
    assert (machine.heard, decoys()) == ([], [])


@pytest.mark.row(56)
def test_an_accounts_key_is_refused_at_its_line(tmp_path, monkeypatch):
    monkeypatch.setenv("STORE", "AccountName=a;AccountKey=hunter2")
    key = "credential: {connection_string: '${env:STORE}'}"
    sink = f"sinks:\n  - {{type: azure-blob, container: forecasts, path: x, {key}}}\n"
    with pytest.raises(ConfigError, match=r"7:\d+: sinks.0.credential: is an account's key") as caught:
        project(tmp_path, sink)
    assert "hunter2" not in str(caught.value)
    (tmp_path / "forecast.yaml").write_text(FILE.replace("prod", "dev") + sink)
    assert Project.load(tmp_path).sinks()


def test_a_block_that_holds_an_accounts_key_is_refused_when_it_is_read(tmp_path):
    block = json.dumps({"connection_string": "AccountName=a;AccountKey=hunter2"})
    given = "'${block:azure-blob-storage-credentials/x}'"
    (tmp_path / "forecast.yaml").write_text(
        FILE + f"sinks: [{{type: azure-blob, container: forecasts, path: x, credential: {given}}}]\n"
    )
    loaded = Project.load(tmp_path, resolvers={"block": lambda name: block})
    with pytest.raises(ConfigError, match="is an account's key") as caught:
        loaded.sinks()
    assert "hunter2" not in str(caught.value)


def test_an_engine_without_a_profile_is_refused(tmp_path):
    engine = "engine: {type: databricks, existing_cluster: x, volume: /Volumes/a/b/c}\n"
    with pytest.raises(ConfigError, match="engine: names no identity, and under profile: prod"):
        project(tmp_path, engine)
    assert project(tmp_path, engine.replace("}", ", profile: prod}")).config.engine.params["profile"] == "prod"


@pytest.fixture
def section(tmp_path, monkeypatch, databricks):
    """Writes the profile `prod`; a token of somebody else is left over in the environment."""
    monkeypatch.setenv("DATABRICKS_TOKEN", databricks.token)
    monkeypatch.setenv("DATABRICKS_HOST", "http://127.0.0.1:9")

    def write(text):
        monkeypatch.setenv("DATABRICKS_CONFIG_FILE", str(tmp_path / "databrickscfg"))
        (tmp_path / "databrickscfg").write_text(f"[prod]\nhost = {databricks.url}\n{text}")

    return write


@pytest.mark.row(56)
def test_databricks_is_asked_as_the_profiles_principal_whatever_the_environment_holds(section, databricks, decoys):
    section(PRINCIPAL.format(*databricks.client))
    there = Workspace("prod", only_identities=True)
    assert there.host == databricks.url
    assert there._client.config.authenticate()["Authorization"].startswith("Bearer issued-")
    assert decoys() == []


def test_databricks_is_asked_as_the_managed_identity_that_the_profile_names(section, machine, decoys):
    section("azure_use_msi = true\nazure_client_id = named\n")
    with pytest.raises(DatabricksRunError, match="asking who this is"):  # the stand-in knows no Azure tokens
        Workspace("prod", only_identities=True)
    assert asked(machine) == {"named"}
    assert decoys() == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no credential of its own"),
        ("token = dapi-old\n", "signs in by pat, not as an identity"),
        ("auth_type = azure-cli\n", "signs in by azure-cli, not as an identity"),
        (PRINCIPAL.format("a", "b") + "token = dapi-old\n", "names oauth-m2m and pat"),
    ],
)
def test_a_profile_that_names_no_identity_is_refused_and_nobody_is_asked(section, decoys, machine, text, says):
    section(text)
    with pytest.raises(DatabricksRunError, match=says) as caught:
        Workspace("prod", only_identities=True)
    assert "dapi-old" not in str(caught.value)
    assert (machine.heard, decoys()) == ([], [])


def test_a_profile_that_is_not_there_is_told(section):
    section("token = x\n")
    with pytest.raises(DatabricksRunError, match="has no profile 'staging'") as caught:
        Workspace("staging")
    assert caught.value.hint == "it has prod"
