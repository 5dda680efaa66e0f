"""Checks of services beside the run: Prefect and Databricks, where they are configured."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from forecastcore.doctor.finding import Fault, Skip

if TYPE_CHECKING:
    from forecastcore.doctor.finding import Patient

__all__ = ["CHECKS"]

_PATIENCE = 2.0


def _get(url: str, headers: dict[str, str], mend: str) -> bytes:
    place = urlsplit(url)
    if place.scheme not in {"http", "https"} or not place.hostname:
        raise Fault(f"{place.hostname or 'the address'} is not reached: it is no http(s) address", mend)
    asked = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme is seen to above
    where = f"{place.scheme}://{place.hostname}{place.path}"
    try:
        with urllib.request.urlopen(asked, timeout=_PATIENCE) as answer:  # noqa: S310 - as above
            got: bytes = answer.read(100_000)
    except urllib.error.HTTPError as error:
        raise Fault(f"GET {where} was answered {error.code} {error.reason}", mend) from error
    except (OSError, ValueError) as error:
        raise Fault(f"GET {where}: {getattr(error, 'reason', None) or error}", mend) from error
    return got


def prefect(_: Patient) -> str:
    """The Prefect API that the environment names is well."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        raise Skip("PREFECT_API_URL is not set")
    key = os.environ.get("PREFECT_API_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    _get(f"{url.rstrip('/')}/health", headers, "prefect server start, or mend PREFECT_API_URL and PREFECT_API_KEY")
    return f"{urlsplit(url).hostname} is well, asked {'with a key' if key else 'without a key'}"


def databricks(patient: Patient) -> str:
    """The workspace knows whom it is asked as."""
    project = patient.project
    wanted = project is not None and (
        project.config.engine.type == "databricks" or str(project.config.tracking.uri).startswith("databricks")
    )
    host, token = os.environ.get("DATABRICKS_HOST"), os.environ.get("DATABRICKS_TOKEN")
    if not host and not wanted:
        raise Skip("neither the project nor DATABRICKS_HOST names a workspace")
    if not host:
        if project is not None and project.config.engine.params.get("profile"):
            raise Skip("the workspace is that of a profile, which databricks-sdk reads when it is used")
        raise Fault(
            "the project wants Databricks, and DATABRICKS_HOST is not set",
            "export DATABRICKS_HOST=https://adb-….azuredatabricks.net",
        )
    if not token:
        who = os.environ.get("DATABRICKS_CLIENT_ID")
        raise Skip(f"{host}: identity {who or 'of the machine'} is asked for by databricks-sdk when it is used")
    address = host if "://" in host else f"https://{host}"
    mend = "mend DATABRICKS_HOST and DATABRICKS_TOKEN"
    said = _get(f"{address.rstrip('/')}/api/2.0/preview/scim/v2/Me", {"Authorization": f"Bearer {token}"}, mend)
    try:
        who = json.loads(said).get("userName")
    except (ValueError, AttributeError) as error:
        raise Fault(f"{host} does not answer like a workspace", mend) from error
    return f"{host} knows this as {who}"


CHECKS = (("prefect", prefect), ("databricks", databricks))
