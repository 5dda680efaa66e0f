"""`doctor --security`: what lets others in. Servers are asked, files looked at, nothing is changed."""

from __future__ import annotations

import base64
import importlib.metadata
import ipaddress
import json
import os
import re
import socket
import stat
import tomllib
import urllib.error
import urllib.request
from contextlib import closing, suppress
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urlsplit

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from forecastcore.config.pins import pin_of
from forecastcore.config.references import REFERENCE
from forecastcore.config.words import is_secret
from forecastcore.doctor.finding import Fault, Skip
from forecastcore.doctor.machine import user, vulnerabilities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forecastcore.doctor.finding import Patient

__all__ = ["CHECKS"]

#: seconds that are waited for an answer; then once more for a server that is there, and busy
_PATIENCE: Final = (5.0, 30.0)
_CLOSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
#: files and folders that are looked at below one place
_ENTRIES: Final = 20_000
#: what MLflow's own pages told everybody for years
_DEFAULT_PASSWORDS: Final = ("password1234", "password")
_TOKEN: Final = re.compile(r"\bdapi[0-9a-f]{16,}|\bAccountKey=[\w+/=]{20,}|[?&]sig=[\w%+/=-]{20,}|\bAKIA[0-9A-Z]{16}\b")


# ---------------------------------------------------------------- asking servers


def _ask(url: str, *, who: tuple[str, str] | None = None, body: Any = None) -> tuple[int, str] | None:
    """Status and first words of an answer; None where nobody answers."""
    headers = {"Content-Type": "application/json"}
    if who:
        headers["Authorization"] = f"Basic {base64.b64encode(':'.join(who).encode()).decode()}"
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310 - the scheme is seen to by `_server`
    for patience in _PATIENCE:
        try:
            with urllib.request.urlopen(asked, timeout=patience) as answer:  # noqa: S310 - as above
                return answer.status, answer.read(10_000).decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.read(10_000).decode(errors="replace")
        except TimeoutError:  # it took the question; who cannot be reached in time is a URLError
            continue
        except (OSError, ValueError):
            return None
    return None


def _server(address: str | None) -> tuple[SplitResult, str] | None:
    """An http(s) address in parts, and as text without user, password and query; None where it is none."""
    place = urlsplit(address or "")
    if place.scheme not in {"http", "https"} or not place.hostname:
        return None
    port = f":{place.port}" if place.port else ""
    host = f"[{place.hostname}]" if ":" in place.hostname else place.hostname
    return place, f"{place.scheme}://{host}{port}{place.path.rstrip('/')}"


def _is_here(host: str) -> bool:
    """Whether a host is this machine, reached in a way that no other machine can."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _mlflow(patient: Patient) -> tuple[SplitResult, str]:
    """The tracking server.

    Raises:
        Skip: there is none.
    """
    project = patient.need("project", "project-file")
    given = str(project.config.tracking.uri or "")
    found = _server(project.resolved(given, ("tracking",)) if given else os.environ.get("MLFLOW_TRACKING_URI"))
    if found is None:
        raise Skip("MLflow is no server here, but a database")
    return found


def _prefect() -> tuple[SplitResult, str]:
    found = _server(_prefect_setting("PREFECT_API_URL"))
    if found is None:
        raise Skip("PREFECT_API_URL names no server")
    return found


def _servers(patient: Patient) -> Iterator[tuple[str, SplitResult, str]]:
    """Name, parts and address of each server that is configured."""
    with suppress(Skip):
        yield ("MLflow", *_mlflow(patient))
    with suppress(Skip):
        yield ("Prefect", *_prefect())


def _prefect_setting(*names: str) -> str:
    """A setting of Prefect: of the environment, else of the active profile."""
    for name in names:
        if os.environ.get(name):
            return os.environ[name]
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    try:
        told = tomllib.loads((home / "profiles.toml").read_text(encoding="utf-8"))
        profile = told["profiles"][os.environ.get("PREFECT_PROFILE") or told["active"]]
    except (OSError, ValueError, KeyError):
        return ""
    return next((str(profile[name]) for name in names if name in profile), "")


def _own_addresses() -> Iterator[str]:
    """Addresses of this machine under which a server answers only where it listens to others too."""
    yield "127.0.0.2"  # on Linux, all of 127/8 is this machine, but only 127.0.0.1 is listened to
    try:
        told = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    except OSError:
        return
    yield from sorted(address for address in told if not address.startswith("127."))


def _open_to_others(place: SplitResult) -> str:
    """The address under which a server of this machine answers to more than this machine; empty where there is none."""
    host, port = str(place.hostname), place.port or (443 if place.scheme == "https" else 80)
    if not _is_here(host):
        return ""
    for address in _own_addresses():
        if address == host:
            continue
        try:
            with closing(socket.create_connection((address, port), timeout=1.0)):
                return f"{address}:{port}"
        except OSError:
            continue
    return ""


# ---------------------------------------------------------------- checks


def listening(patient: Patient) -> str:
    """Servers of this machine listen to this machine."""
    looked = []
    for name, place, shown in _servers(patient):
        looked.append(f"{name} {shown}")
        if other := _open_to_others(place):
            raise Fault(
                f"{name} at {shown} answers at {other} too: it listens to every network of this machine",
                "start it with --host 127.0.0.1; others reach it through a proxy that asks who they are",
            )
    if not looked:
        raise Skip("neither MLflow nor Prefect is a server here")
    return f"{', '.join(looked)}: no other address of this machine answers"


def transport(patient: Patient) -> str:
    """What is sent to other machines cannot be read on the way."""
    looked = []
    for name, place, shown in _servers(patient):
        looked.append(shown)
        if place.scheme == "http" and not _is_here(str(place.hostname)):
            raise Fault(f"{name} at {shown} is asked in the clear, passwords and models too", "ask it through https://")
    if not looked:
        raise Skip("neither MLflow nor Prefect is a server here")
    return f"{', '.join(looked)}: on this machine, or through https"


def mlflow_password(patient: Patient) -> str:
    """MLflow's first password is nobody's any more."""
    place, shown = _mlflow(patient)
    mend = "set another with `mlflow.server.auth.client.AuthServiceClient(URI).update_user_password(…)`"
    used = {os.environ.get("MLFLOW_TRACKING_PASSWORD"), place.password}
    if used & set(_DEFAULT_PASSWORDS):
        raise Fault(f"MLflow at {shown} is asked with the password that everybody knows from its pages", mend)
    for password in _DEFAULT_PASSWORDS[:1]:
        answer = _ask(f"{shown}/api/2.0/mlflow/users/get?username=admin", who=("admin", password))
        if answer is None:
            raise Skip(f"MLflow at {shown} does not answer")
        if answer[0] == HTTPStatus.OK:
            raise Fault(f"MLflow at {shown} lets admin in with the password that everybody knows from its pages", mend)
    return f"MLflow at {shown} does not take its first password"


def mlflow_open(patient: Patient) -> str:
    """A tracking server that others reach asks who they are."""
    place, shown = _mlflow(patient)
    answer = _ask(f"{shown}/api/2.0/mlflow/experiments/get?experiment_id=0")
    if answer is None:
        raise Skip(f"MLflow at {shown} does not answer")
    others = "" if _is_here(str(place.hostname)) else place.hostname
    asks = answer[0] in _CLOSED
    if not asks and (others := others or _open_to_others(place)):
        raise Fault(
            f"MLflow at {shown} is reached from elsewhere ({others}), and asks nobody who they are: whoever reaches it "
            "registers models",
            "start it with --app-name basic-auth and a password of your own, or put it behind what asks",
        )
    return f"MLflow at {shown} {'asks who one is' if asks else 'is for this machine only'}"


def mlflow_jobs(patient: Patient) -> str:
    """The tracking server runs no code for those who ask (CVE-2026-0545)."""
    _, shown = _mlflow(patient)
    # without its parameters, the job cannot be run: where jobs are, that is what it is refused for
    answer = _ask(f"{shown}/ajax-api/3.0/jobs/", body={"job_name": "invoke_scorer", "params": {}})
    if answer is None:
        raise Skip(f"MLflow at {shown} does not answer")
    if answer[0] in _CLOSED | {404, 405} or re.search("not enabled|not satisfied", answer[1]):
        return f"MLflow at {shown} runs no jobs for whoever asks"
    raise Fault(
        f"MLflow at {shown} runs jobs for those who ask, and let in who was not asked (CVE-2026-0545)",
        "start it with MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false",
    )


def prefect_csrf(_: Patient) -> str:
    """A page that is open in a browser cannot start runs."""
    shown = _prefect()[1]
    answer = _ask(f"{shown}/csrf-token?client=forecastcore-doctor")
    if answer is None:
        raise Skip(f"Prefect at {shown} does not answer")
    if answer[0] == HTTPStatus.UNPROCESSABLE_ENTITY:
        raise Fault(
            f"Prefect at {shown} takes requests from any page that is open in a browser: CSRF protection is off",
            "start the server with PREFECT_SERVER_CSRF_PROTECTION_ENABLED=true",
        )
    return f"Prefect at {shown} {'hands out CSRF tokens' if answer[0] == HTTPStatus.OK else 'asks who one is first'}"


def prefect_open(_: Patient) -> str:
    """A Prefect server that others reach asks who they are."""
    place, shown = _prefect()
    answer = _ask(f"{shown}/admin/version")
    if answer is None:
        raise Skip(f"Prefect at {shown} does not answer")
    others = "" if _is_here(str(place.hostname)) else place.hostname
    if answer[0] == HTTPStatus.OK and (others := others or _open_to_others(place)):
        raise Fault(
            f"Prefect at {shown} is reached from elsewhere ({others}), and asks nobody who they are: "
            "whoever reaches it starts runs on your workers",
            "start the server with PREFECT_SERVER_API_AUTH_STRING=USER:PASSWORD; workers get PREFECT_API_AUTH_STRING",
        )
    return f"Prefect at {shown} {'asks who one is' if answer[0] in _CLOSED else 'is for this machine only'}"


def prefect_results(_: Patient) -> str:
    """Prefect stores no result as a pickle, which runs code when it is read."""
    serializer = _prefect_setting("PREFECT_RESULTS_DEFAULT_SERIALIZER")
    stored = _prefect_setting("PREFECT_RESULTS_PERSIST_BY_DEFAULT").lower() in {"1", "true", "yes"}
    if serializer.endswith("pickle") or (stored and not serializer):
        raise Fault(
            "Prefect stores results as pickles, and whoever can write there runs code in what reads them",
            "export PREFECT_RESULTS_DEFAULT_SERIALIZER=json",
        )
    return f"results of flows: {serializer or 'not stored, unless a flow asks for it; those of forecastcore do not'}"


def secrets_in_file(patient: Patient) -> str:
    """The project file holds references, and no secret."""
    project = patient.need("project", "project-file")
    for path, text in _texts(project.config.model_dump(mode="json", exclude_none=True)):
        plain = REFERENCE.sub("", text)
        password = "://" in plain and urlsplit(plain).password
        named = is_secret(path.rpartition(".")[2]) and plain.strip() and plain not in {"managed-identity", "anonymous"}
        if password or _TOKEN.search(plain) or (named and plain == text):
            raise Fault(
                f"{path} in {project.path} looks like a secret written out",
                "write ${env:NAME} or ${block:TYPE/NAME} there, and give the secret a new value: it has been in a file",
            )
    return f"{project.path} holds no secret that is known as one"


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield path, value
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from _texts(child, f"{path}.{key}" if path else str(key))


def folders(patient: Patient) -> str:
    """Project, plugins, model store and delivered tables can be written by this user, and not by everybody."""
    project = patient.need("project", "project-file")
    database = re.fullmatch(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)", str(project.config.tracking.uri or ""))
    store = project.root / (database["path"] if database else "mlflow.db")
    sinks = [
        project.root / str(s.params["path"]) for s in project.config.sinks if isinstance(s.params.get("path"), str)
    ]
    files = [project.root / name for name in project.config.plugins.load]
    places = [project.root, project.path, *files, store, store.parent / "mlartifacts", *sinks]
    looked = 0
    for place in dict.fromkeys(places):
        for path in islice((place, *(() if place == project.root else place.rglob("*"))), _ENTRIES):
            try:
                mode = path.lstat().st_mode
            except OSError:
                continue
            looked += 1
            sticky = stat.S_ISDIR(mode) and mode & stat.S_ISVTX
            if mode & stat.S_IWOTH and not stat.S_ISLNK(mode) and not sticky:
                raise Fault(
                    f"{path} can be written by everybody on this machine (mode {stat.S_IMODE(mode):o})",
                    f"chmod -R o-w {place if place.exists() else path}",
                )
    return f"{looked} files and folders, none of which everybody may write; looked at as {user()}"


def plugins_pinned(patient: Patient) -> str:
    """Plugins of others are named under `plugins.allow`, with the hash of their code."""
    project = patient.need("project", "project-file")
    needs = map(Requirement, importlib.metadata.requires("forecastcore") or ())
    ours = {canonicalize_name(need.name) for need in needs} | {"forecastcore"}
    loaded = {o.distribution: o for o in project.host.offers() if o.source == "installed" and o.health != "blocked"}
    others = {name: o for name, o in loaded.items() if canonicalize_name(name) not in ours}
    pinned = {pin.name for pin in map(pin_of, project.config.plugins.allow or ()) if pin and pin.hash}
    loose = sorted(name for name in others if canonicalize_name(name) not in pinned)
    if loose:
        pins = (f"{name}=={others[name].version} --hash=sha256:{others[name].digest}" for name in loose)
        raise Fault(
            f"imported whatever the code says, for nothing names its hash: {', '.join(loose)}",
            f"look at the code, then add to plugins.allow: {', '.join(map(repr, pins))}",
        )
    return f"{len(loaded)} distributions, {len(others)} of them not ours, each with its hash under plugins.allow"


def requirements(patient: Patient) -> str:
    """What the project installs is named with its hash."""
    project = patient.need("project", "project-file")
    files = sorted({*project.root.glob("requirements*.txt"), *project.root.glob("requirements/*.txt")})
    if not files:
        raise Skip(f"there is no requirements file in {project.root}")
    for file in files:
        text = file.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
        for line in text.splitlines():
            wanted = line.partition(" #")[0].strip()
            if wanted and not wanted.startswith(("#", "-")) and not ("==" in wanted and "--hash=" in wanted):
                raise Fault(
                    f"{file} asks for {wanted.split()[0][:80]!r} without version and hash: any code will do",
                    f"uv pip compile --generate-hashes {file.name} -o {file.name}, and pip install --require-hashes",
                )
    return f"{', '.join(file.name for file in files)}: every line has version and hash"


CHECKS: Final = (
    ("known-holes", vulnerabilities),
    ("secrets-in-file", secrets_in_file),
    ("open-folders", folders),
    ("plugins-pinned", plugins_pinned),
    ("requirements-pinned", requirements),
    ("listening", listening),
    ("transport", transport),
    ("mlflow-password", mlflow_password),
    ("mlflow-open", mlflow_open),
    ("mlflow-jobs", mlflow_jobs),
    ("prefect-csrf", prefect_csrf),
    ("prefect-open", prefect_open),
    ("prefect-results", prefect_results),
)
