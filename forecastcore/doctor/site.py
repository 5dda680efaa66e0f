"""Checks of a project: its file, plugins, source and sinks."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore import guard, runtime
from forecastcore.config.pins import pin_of
from forecastcore.config.references import REFERENCE
from forecastcore.doctor.finding import Fault, Skip
from forecastcore.doctor.machine import ROOM, nearest, room, user
from forecastcore.errors import ConfigError
from forecastcore.host import Host
from forecastcore.host.finding import normal
from forecastcore.project import Project
from forecastcore.runs.looking import unknown_ahead

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forecastcore.config import PluginConfig
    from forecastcore.doctor.finding import Patient

__all__ = ["CHECKS"]


def project_file(patient: Patient) -> str:
    """The project file is valid, with all its plugins' parameters."""
    if patient.path is None:
        raise Skip("there is no forecast.yaml here or above; -p names one")
    try:
        patient.project = Project.load(patient.path, overrides=patient.overrides, plugins=patient.plugins)
    except ConfigError as error:
        raise Fault(str(error), "forecastcore validate tells the same; mend the lines that are named") from error
    return f"{patient.project.path} is valid, {len(patient.project.candidates())} candidates"


def plugins(patient: Patient) -> str:
    """Every plugin that is there can be loaded, and no two offer the same."""
    host = patient.project.host if patient.project else Host.discover(files=patient.plugins)
    lame = [f"{o.kind} {o.name} of {o} is {o.health}: {o.reason}" for o in host.offers() if o.health == "broken"]
    lame += sorted({f"{o.kind} {o.name}: {o.reason}" for o in host.offers() if o.health == "conflict"})
    if lame:
        raise Fault("; ".join(lame), "install a version that works, or name it under plugins.block")
    return f"{len(host.offers())} offers of {len({o.distribution for o in host.offers()})} distributions, all sound"


def allowed(patient: Patient) -> str:
    """What `plugins.allow` and `plugins.block` name is there."""
    project = patient.need("project", "project-file")
    said = project.config.plugins
    there = {normal(word) for offer in project.host.offers() for word in (offer.name, offer.distribution)}
    named = (*said.block, *(pin.name for pin in map(pin_of, said.allow or ()) if pin))
    lost = [name for name in named if normal(name) not in there]
    if lost:
        raise Fault(
            f"plugins names {', '.join(lost)}, and nothing here is called so", "mend the name; see plugins list"
        )
    blocked = sorted({o.distribution for o in project.host.offers() if o.health == "blocked"})
    return f"blocked: {', '.join(blocked) or 'none'}; allowed: {'all' if said.allow is None else ', '.join(said.allow)}"


def references(patient: Patient) -> str:
    """Every environment variable that the file refers to is set."""
    project = patient.need("project", "project-file")
    named = REFERENCE.findall(json.dumps(project.config.model_dump(mode="json")))
    unset = sorted({name for kind, name in named if kind == "env" and not os.environ.get(name)})
    if unset:
        patient.broken.add("references")
        raise Fault(
            f"{project.path} reads {', '.join(unset)} from the environment of {user()}, where it is not set",
            f"export {unset[0]}=…",
        )
    blocks = sum(kind == "block" for kind, _ in named)
    return f"{len(named) - blocks} of the environment are set" + (
        f"; {blocks} blocks are read by flows only" if blocks else ""
    )


def _readable(patient: Patient, entry: PluginConfig) -> None:
    """Leave aside what needs a value that `references` has found missing."""
    kinds = {kind for kind, _ in REFERENCE.findall(json.dumps(entry.params, default=str))}
    if "block" in kinds or ("references" in patient.broken and kinds):
        raise Skip("needs what `references` looks at, or a Prefect block, which is read by flows only")
    if "credentials" in patient.broken and "credential" in entry.params:
        raise Skip("needs what `credentials` looks at")


def source(patient: Patient) -> str:
    """The source answers, as whoever this is."""
    project = patient.need("project", "project-file")
    _readable(patient, project.config.source)
    made = project.source()
    names = made.schema().names
    patient.source = made
    return f"{_where(project.config.source, project)}, read as {user()}: columns {', '.join(names)}"


def _where(entry: PluginConfig, project: Project) -> str:
    path = entry.params.get("path")
    return f"{entry.type} {project.resolve_path(path)}" if isinstance(path, str) else entry.type


def columns(patient: Patient) -> str:
    """The source has the columns that the file names."""
    made, project = patient.need("source", "source"), patient.need("project", "project-file")
    config = project.config
    made_up = runtime.assumptions(project).generated
    wanted = [config.source.id, config.source.time, config.source.target]
    wanted += [name for name in config.covariates if name not in made_up]
    there = made.schema().names
    missing = [name for name in wanted if name not in there]
    if missing:
        patient.source = None
        raise Fault(
            f"no column {', '.join(missing)}; there are {', '.join(there)}", "name yours under source: or covariates:"
        )
    return f"{', '.join(wanted)} are there"


def history(patient: Patient) -> str:
    """The data passes the quality check."""
    patient.need("source", "source")
    project = patient.need("project", "project-file")
    found = patient.history = runtime.history(project, source=patient.source)
    screened = guard.screen(found.panel, project.config.quality.max_missing)
    served = f"; {len(screened)} will be served by the fallback" if screened else ""
    return f"{len(found.ids)} series, {len(found.panel)} rows until {found.origin.isoformat()}{served}"


def freshness(patient: Patient) -> str:
    """The newest value is as new as `audit.max_age` asks, and not of the future."""
    found, project = patient.need("history", "history"), patient.need("project", "project-file")
    age = pd.Timestamp(datetime.now(UTC)) - found.origin
    limit = project.config.audit.max_age
    if age < -pd.Timedelta(days=1):
        raise Fault(
            f"the newest value is of {found.origin.isoformat()}, which is still to come",
            "is source.timezone right, and the clock?",
        )
    if limit and age > pd.Timedelta(limit):
        raise Fault(
            f"the newest value is of {found.origin.isoformat()}, {age.round('min')} ago; audit.max_age is {limit}",
            "load newer data",
        )
    return f"the newest value is {age.round('min')} old; limit {limit or 'none (audit.max_age)'}"


def known_ahead(patient: Patient) -> str:
    """Covariates that are `known: true` are known up to the horizon."""
    found, project = patient.need("history", "history"), patient.need("project", "project-file")
    if not any(rule.known for rule in project.config.covariates.values()):
        raise Skip("no covariate is known: true")
    notes = (one.told(name) for name, one in unknown_ahead(project, found).items())
    if said := "; ".join(filter(None, notes)):
        raise Fault(said, "load what is planned, or give the covariate an assumption")
    return f"all {project.config.horizon} steps after the origin are known"


def sinks(patient: Patient) -> str:
    """Every sink can be written, as far as that is seen without writing."""
    project = patient.need("project", "project-file")
    told = []
    for entry in project.config.sinks:
        _readable(patient, entry)
    for entry, (label, sink) in zip(project.config.sinks, project.sinks(), strict=True):
        told.append(f"{label} {_reached(entry, label, sink)}")
    return "; ".join(told)


def _reached(entry: PluginConfig, label: str, sink: Any) -> str:
    path = entry.params.get("path")
    local = getattr(sink, "path", None)
    if isinstance(path, str) and "://" not in path and isinstance(local, Path) and not entry.params.get("credential"):
        there = nearest(local)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise Fault(
                f"{label}: {local} cannot be written as {user()}: {there} stands in the way",
                "change sinks.path, or the folder's owner",
            )
        return f"{local} can be written as {user()}"
    look = next((m for name in ("vintages", "read") if callable(m := getattr(sink, name, None))), None)
    if look is None:
        return "was not asked: it could only be told a forecast"
    look()
    return "answers; whether it takes rows is seen when some are published"


def credentials(patient: Patient) -> str:
    """Every place that has to be asked as somebody has a credential."""
    project = patient.need("project", "project-file")
    entries = [(where, e) for where, e in _entries(project) if "credential" in e.params]
    if not entries:
        raise Skip("no source and no sink names a credential")
    for where, entry in entries:
        _readable(patient, entry)
        given = project.resolved(entry.params["credential"], (where,))
        if not given or (isinstance(given, dict) and not all(given.values())):
            patient.broken.add("credentials")
            raise Fault(f"{where} {entry.type}: its credential is empty", "fill it: managed-identity, or ${env:NAME}")
    return ", ".join(f"{where} {e.type} names who asks" for where, e in entries)


def _entries(project: Project) -> Iterator[tuple[str, PluginConfig]]:
    yield "source", project.config.source
    yield from ((f"sinks[{number}]", sink) for number, sink in enumerate(project.config.sinks))


def disk(patient: Patient) -> str:
    """There is room beside the project file."""
    return room(patient.need("project", "project-file").root, ROOM)


def engine(patient: Patient) -> str:
    """The engine can be run."""
    project = patient.need("project", "project-file")
    if project.config.engine.type == "databricks":
        from forecastcore.engines.databricks import settings_of

        return f"databricks, through {settings_of(project).volume}"
    runtime.engine(project)
    kind = project.config.engine.type
    return f"{kind}, {runtime.threads()} processors" if kind == "local" else kind


CHECKS = (
    ("project-file", project_file),
    ("plugins", plugins),
    ("plugins-allowed", allowed),
    ("references", references),
    ("credentials", credentials),
    ("source", source),
    ("source-columns", columns),
    ("history", history),
    ("freshness", freshness),
    ("known-ahead", known_ahead),
    ("sinks", sinks),
    ("disk", disk),
    ("engine", engine),
)
