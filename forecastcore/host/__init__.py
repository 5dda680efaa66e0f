"""Finds plugins, blocks them, lists them, and makes their objects; one named error per fault.

A host is made where it is needed; there is no global one. Order never chooses between plugins.
"""

from __future__ import annotations

import contextlib
import functools
import json
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from forecastcore import api, hookspecs, parameters
from forecastcore.config import ENSEMBLE
from forecastcore.config.pins import Pin, pin_of, refusal
from forecastcore.config.words import did_you_mean
from forecastcore.errors import PluginError, PluginNotFoundError
from forecastcore.host.finding import Candidate, contents, installed, normal, single_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from forecastcore.config.words import Fault

__all__ = ["Host", "Offer"]

Health = Literal["ok", "broken", "blocked", "conflict"]

_SPECS: dict[str, type[Any]] = {
    "model": api.ModelSpec,
    "assumption": api.AssumptionSpec,
    "sink": api.SinkSpec,
    "source": api.SourceSpec,
}
_METHODS = {"model": ("fit",), "assumption": ("assume",), "sink": ("publish",), "source": ("schema", "read")}
#: what plugins may raise while they are loaded or asked; only the user's own interrupt passes
_RAISED = (Exception, SystemExit)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One name that a plugin offers, or a plugin that could not be asked.

    Attributes:
        kind: `model`, `assumption`, `sink`, `source`; `plugin` where what it offers is not known.
        name: what `type:` says; the entry point's name where what it offers is not known.
        spec: the plugin's spec; None where there is none.
        distribution: distribution, or file, that it comes from.
        version: of the distribution; `0+<hash>` for a file.
        source: `installed` or `file`.
        location: the entry point, or the file's path.
        health: `ok`, `broken`, `blocked` or `conflict` (two offers of one name).
        reason: why it is not `ok`.
        digest: SHA-256 of the plugin's code; empty where it was not looked at.
        hooks: that the plugin implements; empty where it was not loaded.
    """

    kind: str
    name: str
    spec: Any = None
    distribution: str = ""
    version: str = ""
    source: str = ""
    location: str = ""
    health: Health = "ok"
    reason: str = ""
    digest: str = ""
    hooks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.distribution} {self.version} ({self.location})"


def _offer(candidate: Candidate, health: Health, reason: str, *, digest: str = "") -> Offer:
    """A plugin as a whole, before what it offers is known."""
    return Offer(
        kind="plugin",
        name=candidate.name,
        distribution=candidate.distribution,
        version=candidate.version,
        source=candidate.source,
        location=candidate.location,
        health=health,
        reason=reason,
        digest=digest,
    )


def _refused(candidate: Candidate, pins: Sequence[Pin] | None) -> str:
    """Why a plugin must not be imported; empty where it may. A file is named by the project file itself."""
    mine = [pin for pin in pins or () if pin.name == normal(candidate.distribution)]
    if pins is None or (not mine and candidate.source == "file"):
        return ""
    if not mine:
        return "not among plugins.allow"
    return refusal(mine, version=candidate.version, digest=candidate.digest())


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("forecastcore")
    manager.add_hookspecs(hookspecs)
    return manager


@contextlib.contextmanager
def _blamed(offer: Offer, hook: str) -> Iterator[None]:
    """Turn what a plugin raises into an error with its name."""
    try:
        yield
    except PluginError:
        raise
    except _RAISED as error:
        raise PluginError(_words(error), plugin=offer.name, version=offer.version, hook=hook) from error


def _judged(offers: Sequence[Offer], block: Sequence[str]) -> Iterator[Offer]:
    """Offers with those of a blocked type, and two of one name, marked as such."""
    open_ = [o for o in offers if o.health == "ok" and o.name not in block]
    for offer in offers:
        rivals = [other for other in open_ if (other.kind, other.name) == (offer.kind, offer.name)]
        if offer.health != "ok":
            yield offer
        elif offer.name in block:
            yield replace(offer, health="blocked", reason="blocked by plugins.block")
        elif len(rivals) > 1:
            who = " and ".join(str(rival) for rival in rivals)
            yield replace(offer, health="conflict", reason=f"{who} offer it; order never chooses")
        else:
            yield offer


def _spec_fault(kind: str, spec: Any) -> str:
    hook = hookspecs.KINDS[kind]
    if not isinstance(spec, _SPECS[kind]):
        return f"{hook} must yield {_SPECS[kind].__name__}, got {type(spec).__name__}"
    if (kind, spec.name) == ("model", ENSEMBLE):
        return f"the name {ENSEMBLE!r} is taken: it stands for candidates put together"
    factory = spec.factory
    if not (isinstance(factory, type) and is_dataclass(factory)):
        return f"the factory of {spec.name!r} must be a dataclass, got {factory!r}"
    missing = [method for method in _METHODS[kind] if not callable(getattr(factory, method, None))]
    if missing:
        return f"{factory.__name__}, the factory of {spec.name!r}, has no method {' and no method '.join(missing)}"
    return parameters.unreadable(factory)


class Host:
    """The plugins of one project.

    Make one with `Host.discover`.

    Attributes:
        texts: what stands in the files that are plugins, by absolute path.
    """

    def __init__(
        self,
        *,
        block: Iterable[str] = (),
        allow: Iterable[str] | None = None,
        files: Iterable[Path] = (),
        texts: Mapping[str, str] | None = None,
    ) -> None:
        self._recipe = {
            "block": sorted(block),
            "allow": None if allow is None else sorted(allow),
            "files": [str(path) for path in files],
            "texts": dict(texts or {}),
        }
        self.texts: dict[str, str] = dict(texts or {})
        self._manager = _manager()
        self._offers: tuple[Offer, ...] = ()

    def __repr__(self) -> str:
        counts = {kind: len([o for o in self.offers(kind) if o.health == "ok"]) for kind in hookspecs.KINDS}
        return f"Host({', '.join(f'{count} {kind}s' for kind, count in counts.items())})"

    @classmethod
    def discover(
        cls,
        *,
        block: Sequence[str] = (),
        allow: Sequence[str] | None = None,
        files: Sequence[str | Path] = (),
        texts: Mapping[str, str] | None = None,
    ) -> Host:
        """Find and load plugins; a faulty one is listed with its reason and stops nobody.

        Args:
            block: names of entry points, distributions, files or offered types that stay out; the first three are not
                even imported.
            allow: distributions that may be loaded, with version and hash where they are given (see `Pin`); all where
                None. Files that are named are loaded, but for one whose hash is given and is another.
            files: single Python files to load as plugins.
            texts: what stands in them, by absolute path, where they need not be on this machine; as `texts` gives it.
        """
        paths = list(dict.fromkeys(Path(path).absolute() for path in files))
        texts = contents(paths) if texts is None else texts
        host = cls(block=block, allow=allow, files=paths, texts=texts)
        singles = list(single_files({path: texts.get(str(path)) for path in paths}))
        pins = None if allow is None else [pin for pin in map(pin_of, allow) if pin is not None]
        found: list[Offer] = []
        for candidate in [*installed(), *singles]:
            if {normal(candidate.name), normal(candidate.distribution)} & {normal(name) for name in block}:
                found.append(_offer(candidate, "blocked", "blocked by plugins.block; it was not imported"))
            elif why := _refused(candidate, pins):
                found.append(_offer(candidate, "blocked", f"{why}; it was not imported", digest=candidate.digest()))
            else:
                found += host._load(candidate)
        host._offers = tuple(sorted(_judged(found, block), key=lambda o: (o.kind, o.name, o.distribution)))
        return host

    def _load(self, candidate: Candidate) -> list[Offer]:
        plugin = None
        try:
            plugin = candidate.load()
            name = f"{candidate.distribution} {candidate.version} ({candidate.location})"
            if self._manager.register(plugin, name) is None:
                return [_offer(candidate, "broken", "it was registered before")]
            self._manager.check_pending()
            offers = self._ask(candidate, plugin)
        except pluggy.PluginValidationError as error:
            reason = self._misspelt(plugin) or " ".join(str(error).split())
        except _RAISED as error:
            reason = _words(error)
        else:
            return offers
        if plugin is not None and self._manager.is_registered(plugin):
            self._manager.unregister(plugin)
        return [_offer(candidate, "broken", reason)]

    def _misspelt(self, plugin: Any) -> str:
        hooks = [name for name in vars(hookspecs) if name.startswith("forecastcore_")]
        for caller in self._manager.get_hookcallers(plugin) or ():
            if caller.name not in hooks:
                hint = did_you_mean(caller.name, hooks)
                return f"there is no hook {caller.name!r}" + (f" ({hint})" if hint else "")
        return ""

    def _ask(self, candidate: Candidate, plugin: Any) -> list[Offer]:
        """What one plugin offers.

        Raises:
            TypeError: it offers what its hook does not allow.
        """
        callers = self._manager.get_hookcallers(plugin) or []
        if not callers:
            raise TypeError("it offers nothing: no function of it is marked with @hookimpl")
        if any(impl.wrapper or impl.hookwrapper for caller in callers for impl in caller.get_hookimpls()):
            raise TypeError("a hook wrapper would change what other plugins offer; offer a name of your own instead")
        digest = candidate.digest()
        hooks = tuple(sorted(caller.name for caller in callers))
        offers = []
        for kind, hook in hookspecs.KINDS.items():
            for impl in getattr(self._manager.hook, hook).get_hookimpls():
                if impl.plugin is not plugin:
                    continue
                for spec in impl.function() or ():
                    fault = _spec_fault(kind, spec)
                    if fault:
                        raise TypeError(fault)
                    blank = _offer(candidate, "ok", "", digest=digest)
                    offers.append(replace(blank, kind=kind, name=spec.name, spec=spec, hooks=hooks))
        return offers

    def offers(self, kind: str | None = None) -> tuple[Offer, ...]:
        """All offers, or those of one kind, by kind and name; `plugin` is the kind of what could not be asked."""
        return tuple(offer for offer in self._offers if kind in (None, offer.kind))

    def offer(self, kind: str, name: str) -> Offer:
        """The offer of a name.

        Raises:
            PluginNotFoundError: nobody offers it.
            PluginError: two plugins offer it, or it is blocked.
        """
        named = [offer for offer in self.offers(kind) if offer.name == name]
        sound = [offer for offer in named if offer.health == "ok"]
        if sound:
            return sound[0]
        if named:
            hint = "plugins.block takes one of them out" if named[0].health == "conflict" else None
            raise PluginError(f"the {kind} {name!r} cannot be used: {named[0].reason}", plugin="", hint=hint)
        valid = [offer.name for offer in self.offers(kind) if offer.health == "ok"]
        lame = [f"{o.name} is {o.health}: {o.reason}" for o in self.offers("plugin") if o.health == "broken"]
        hint = did_you_mean(name, valid) or "; ".join(lame[:3]) or "install the plugin that offers it"
        there = f"there are {', '.join(valid)}" if valid else "none is installed"
        raise PluginNotFoundError(f"no plugin offers {kind} {name!r}; {there}", hint=hint)

    def check(self, kind: str, name: str, params: Mapping[str, Any], *, lax: bool = False) -> list[Fault]:
        """What is wrong with the parameters of an offer; paths start at the parameter.

        Args:
            kind: kind of plugin.
            name: what it is called.
            params: parameters as the project file gives them.
            lax: whether text stands for numbers, as it does in what the environment holds.
        """
        offer = self.offer(kind, name)
        with _blamed(offer, "parameters"):
            return parameters.check(offer.spec.factory, params, lax=lax)

    def make(
        self, kind: str, name: str, params: Mapping[str, Any], *, root: Path | None = None, lax: bool = False
    ) -> Any:
        """Make a plugin's object.

        Args:
            kind: kind of plugin.
            name: what it is called.
            params: parameters as the project file gives them.
            root: folder that relative paths start from.
            lax: whether text stands for numbers, as it does in what the environment holds.

        Raises:
            PluginError: the name or a parameter is unknown or has a wrong type, or the factory raised.
        """
        offer = self.offer(kind, name)
        faults = self.check(kind, name, params, lax=lax)
        if faults:
            words = "; ".join(f"{'.'.join(map(str, fault.path)) or 'parameters'}: {fault.message}" for fault in faults)
            raise PluginError(words, plugin=offer.name, version=offer.version, hook="parameters", hint=faults[0].hint)
        with _blamed(offer, "factory"):
            return offer.spec.factory(**parameters.values(offer.spec.factory, params, root=root, lax=lax))

    def parameter_schema(self, kind: str, name: str) -> dict[str, Any]:
        """JSON Schema of an offer's parameters, closed."""
        offer = self.offer(kind, name)
        with _blamed(offer, "parameters"):
            return parameters.json_schema(offer.spec.factory)

    def notify(self, hook: str, **arguments: Any) -> list[str]:
        """Tell every plugin that listens; what one raises is returned in words and keeps nobody else from hearing."""
        faults = []
        for impl in getattr(self._manager.hook, hook).get_hookimpls():
            try:
                impl.function(**{name: arguments[name] for name in impl.argnames})
            except _RAISED as error:
                faults.append(f"{impl.plugin_name} {hook}: {_words(error)}")
        return faults

    def spec_for_workers(self) -> dict[str, Any]:
        """A JSON-able recipe from which `from_recipe` makes the same host in another process."""
        return dict(self._recipe)

    @staticmethod
    def from_recipe(recipe: Mapping[str, Any]) -> Host:
        """The host of a recipe; made once per process."""
        return _from_recipe(json.dumps(recipe, sort_keys=True))


@functools.lru_cache(maxsize=8)
def _from_recipe(recipe: str) -> Host:
    return Host.discover(**json.loads(recipe))
