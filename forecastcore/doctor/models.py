"""Checks of the model store: reached, consistent, its champion sound. A SQLite file is looked at through a copy."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from forecastcore import runtime
from forecastcore.doctor.finding import Fault, Seen, Skip
from forecastcore.errors import ConfigError
from forecastcore.package import Package
from forecastcore.tracking.connect import mask

if TYPE_CHECKING:
    from forecastcore.doctor.finding import Patient

__all__ = ["CHECKS"]

#: clocks may differ by so much
_SLACK = timedelta(minutes=5)


def tracking(patient: Patient) -> str:
    """The model store answers."""
    project = patient.need("project", "project-file")
    try:
        uri = mask((project.tracking().uri or "").partition("?")[0])
        store = patient.closing.enter_context(runtime.look_only(project))
        seen = patient.store = Seen(store, store.versions(), store.ledger(), store.astray())
    except ConfigError as error:
        raise Skip(f"needs what `references` looks at: {error.problems[0].message}") from error
    return f"{uri}: {len(seen.versions)} versions, {len(seen.ledger)} decisions"


def registry(patient: Patient) -> str:
    """The aliases say what the ledger says, and its champion is there."""
    seen = patient.need("store", "tracking")
    if not seen.ledger:
        raise Skip("no decision is on record yet")
    champion = seen.ledger[-1].champion
    if champion is not None and champion not in {version.version for version in seen.versions}:
        patient.broken.add("registry")
        raise Fault(
            f"version {champion} is the champion by the ledger, and is not registered any more",
            "forecastcore models promote another, or restore a backup",
        )
    if seen.astray:
        words = (f"{alias} should be {number or 'nobody'}" for alias, number in seen.astray.items())
        raise Fault(
            f"aliases do not say what the ledger says: {', '.join(words)}",
            "the next retrain or predict puts them right; find out who set them",
        )
    return f"champion {champion or 'none'} by decision {seen.ledger[-1].seq}, and by its alias"


def champion(patient: Patient) -> str:
    """The champion's files are those that were registered, and its plugin is here to serve it."""
    seen, project = patient.need("store", "tracking"), patient.need("project", "project-file")
    if "registry" in patient.broken:
        raise Skip("needs what `registry` looks at")
    version = next((version for version in seen.versions if "champion" in version.aliases), None)
    if version is None:
        raise Skip("there is no champion yet: forecastcore retrain makes the first")
    with tempfile.TemporaryDirectory(prefix="forecastcore-") as scratch:
        package = Package.load(seen.store.examine(version, Path(scratch)), project.host)
    return f"version {version.version} ({package.manifest.name}) loads, digest {package.digest[:12]}…"


def clock(patient: Patient) -> str:
    """Nothing in the store is of the future."""
    seen, now = patient.need("store", "tracking"), datetime.now(UTC)
    newest = max((*(e.at for e in seen.ledger), *(v.created_at for v in seen.versions)), default=None)
    if newest is None:
        raise Skip("nothing is on record yet")
    if newest > now + _SLACK:
        raise Fault(
            f"this machine's clock says {now:%Y-%m-%d %H:%M} UTC, the store has entries of {newest:%Y-%m-%d %H:%M}",
            "set the clock (NTP), here or where the store was written",
        )
    return f"{now:%Y-%m-%d %H:%M} UTC, the store's newest entry is of {newest:%Y-%m-%d %H:%M}"


CHECKS = (("tracking", tracking), ("registry", registry), ("champion", champion), ("clock", clock))
