"""`plugins list`, `plugins check`, `plugins new`: what each tells, as a JSON-able document."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecastcore import known
from forecastcore.errors import PluginNotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from forecastcore.host import Host, Offer

__all__ = ["check", "listed", "new"]

_SHOWN = ("name", "kind", "distribution", "version", "source", "health", "reason", "location", "digest")


def listed(host: Host) -> list[dict[str, Any]]:
    """All plugins, those that are blocked or broken too."""
    return [
        {
            **{key: getattr(offer, key) for key in _SHOWN},
            "summary": offer.spec.summary if offer.spec else "",
            "hooks": list(offer.hooks),
            "allowed": offer.health != "blocked",
            "conformance": known.when_checked(_code(offer)),
            "tags": _tags(offer),
        }
        for offer in host.offers()
    ]


def _code(offer: Offer) -> str:
    """Names one offer of one code."""
    return f"{offer.kind} {offer.name} {offer.digest}"


def _tags(offer: Offer) -> list[str]:
    """What an offer can do, as words."""
    spec = offer.spec
    if offer.kind == "assumption":
        return [word for word in ("generates", "wraps") if getattr(spec, word)]
    if offer.kind != "model":
        return []
    able = spec.capabilities
    words = [word for word in ("covariates", "quantiles", "missing") if getattr(able, word)]
    return [able.scope, *words, *([f"min_history={able.min_history}"] if able.min_history > 1 else [])]


def check(
    host: Host, name: str | None, kind: str | None, params: Mapping[str, Any], *, quick: bool = False
) -> dict[str, Any]:
    """The conformance suite on the offers that a name means.

    Args:
        host: the plugins that are there.
        name: of a type, a distribution or an entry point; None: all that single files offer.
        kind: only offers of this kind.
        params: parameters beside those of the offer's example.
        quick: leave out what needs other processes.

    Raises:
        UsageError: neither a name nor a file is given.
        PluginNotFoundError: nobody offers that name.
    """
    started = time.perf_counter()
    offers = _meant(host, name, kind)
    checks = []
    for offer in offers:
        found = list(_checks(offer, params, quick=quick))
        checks += found
        failed = any(one["status"] == "failed" for one in found)
        if failed or not quick:
            known.note_checked(_code(offer), None if failed else datetime.now(UTC).date().isoformat())
    counts = {status: sum(one["status"] == status for one in checks) for status in ("passed", "failed", "skipped")}
    shown = ("kind", "name", "distribution", "version")
    return {
        "offers": [{key: getattr(offer, key) for key in shown} for offer in offers],
        **counts,
        "seconds": round(time.perf_counter() - started, 3),
        "checks": checks,
    }


def _meant(host: Host, name: str | None, kind: str | None) -> list[Offer]:
    from forecastcore.config.words import did_you_mean
    from forecastcore.host.finding import normal

    offers = [offer for offer in host.offers() if kind in (None, offer.kind)]
    if name is None:
        found = [offer for offer in offers if offer.source == "file"]
        if not found:
            raise UsageError("say which plugin to check", hint="plugins check NAME, or --plugin FILE plugins check")
        return found
    found = [offer for offer in offers if name == offer.name or normal(name) == normal(offer.distribution)]
    if not found:
        names = [word for offer in offers for word in (offer.name, offer.distribution)]
        hint = did_you_mean(name, names) or "forecastcore plugins list shows what there is"
        raise PluginNotFoundError(f"no plugin and no distribution is called {name!r}", hint=hint)
    return found


def _checks(offer: Offer, params: Mapping[str, Any], *, quick: bool) -> Iterator[dict[str, Any]]:
    from forecastcore.testing.checking import READY, iterate
    from forecastcore.testing.suite import Check

    about = {"kind": offer.kind, "plugin": offer.name}
    if offer.health != "ok":
        broken = Check(name=READY, status="failed", detail=f"{offer.health}: {offer.reason}")
        yield {**about, **broken.as_dict()}
        return
    for one in iterate(offer.spec, params, quick=quick):
        yield {**about, **one.as_dict()}


def parsed(pairs: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` as plain data; a value is read as YAML.

    Raises:
        UsageError: there is no `=` in one.
    """
    import yaml

    found = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not sign or not key:
            raise UsageError(f"--param {pair!r} is not KEY=VALUE", hint="for instance --param path=out/forecasts")
        found[key] = yaml.safe_load(text)
    return found


def new(kind: str, name: str, folder: str | None) -> dict[str, Any]:
    """Write a new distribution with a plugin that works, to be filled.

    Raises:
        UsageError: the name will not do, is taken, or its folder is there.
    """
    from forecastcore.host import Host
    from forecastcore.scaffold import write

    taken = [offer for offer in Host.discover().offers(kind) if offer.name == name]
    if taken:
        raise UsageError(f"the {kind} {name!r} is offered already, by {taken[0]}", hint="choose another name")
    made = write(kind, name, Path(folder) if folder else None)
    return {
        "kind": kind,
        "name": name,
        "folder": str(made),
        "files": sorted(file.relative_to(made).as_posix() for file in made.rglob("*") if file.is_file()),
    }
