"""Checks of services beside the run: Prefect, where it is configured."""

from __future__ import annotations

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


CHECKS = (("prefect", prefect),)
