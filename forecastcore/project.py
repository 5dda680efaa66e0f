"""A project: its file, checked against the plugins that are there, and the objects the file names."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forecastcore import config as configuration
from forecastcore.config import (
    ENSEMBLE,
    Fault,
    ModelConfig,
    PluginConfig,
    ProjectConfig,
    RangeConfig,
    TrackingConfig,
    did_you_mean,
    redact,
    resolve,
    without_value,
)
from forecastcore.ensemble import Ensemble
from forecastcore.entries import numbered, plugin_faults
from forecastcore.errors import ConfigError, PluginError, Problem, UsageError
from forecastcore.host import Host, Offer
from forecastcore.search import Search, Span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from forecastcore.api import Sink, Source
    from forecastcore.config import Resolver

__all__ = ["DEFAULT_SHELF", "DEFAULT_SINKS", "Candidate", "Project"]

#: Candidates of a project that names none, those of them that are installed: one of each line, and an ensemble of them.
#: Core names plugins here and nowhere else.
DEFAULT_SHELF = (
    ("seasonal-naive",),
    ("autoregression",),
    ("auto-theta", "theta", "ets"),
    ("mstl",),
    ("ridge",),
    ("gradient-boosting",),
)
#: Where forecasts go where the file names no sink.
DEFAULT_SINKS = (PluginConfig(type="delta", params={"path": "out/forecasts"}),)

_Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Candidate:
    """One model with its parameters set, to be compared; or several put together.

    Attributes:
        name: unique within the project: `ridge`, or `ridge-1`, `ridge-2` where there are several.
        type: the model's name.
        params: its parameters.
        members: candidates that an ensemble is made of; empty for a model.
        segments: the pattern of the segments that are each fitted by themselves; None where all series are one.
    """

    name: str
    type: str
    params: dict[str, Any]
    members: tuple[Candidate, ...] = ()
    segments: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON; that of a model makes it again with `Candidate(**data)`."""
        members = {"members": [member.name for member in self.members]} if self.members else {}
        segments = {"segments": self.segments} if self.segments else {}
        return {"name": self.name, "type": self.type, "params": {**self.params, **members}, **segments}

    def same_recipe(self, other: Candidate) -> bool:
        """Whether both are the same family with the same parameters, put together of the same."""

        def recipe(candidate: Candidate) -> Any:
            members = [json.dumps(recipe(member), sort_keys=True, default=str) for member in candidate.members]
            return [candidate.type, candidate.params, candidate.segments, sorted(members)]

        return bool(recipe(self) == recipe(other))


def _expanded(config: ProjectConfig) -> list[tuple[Candidate, ModelConfig]]:
    """Every candidate, and the entry of the file that it comes from; ensembles without members."""
    found = [
        (model, {**model.params, **dict(zip(model.grid, values, strict=True))})
        for model in config.models
        for values in itertools.product(*model.grid.values())
    ]
    names = numbered([model.type for model, _ in found])
    return [
        (Candidate(name, model.type, params, segments=config.segments if model.scope == "segment" else None), model)
        for name, (model, params) in zip(names, found, strict=True)
    ]


def _candidates(config: ProjectConfig) -> tuple[Candidate, ...]:
    found = [candidate for candidate, _ in _expanded(config)]
    models = [candidate for candidate in found if candidate.type != ENSEMBLE]
    return tuple(_with_members(c, models) if c.type == ENSEMBLE else c for c in found)


def _with_members(candidate: Candidate, models: Sequence[Candidate]) -> Candidate:
    said = Ensemble(**candidate.params)
    members = tuple(m for m in models if said.members is None or {m.name, m.type} & set(said.members))
    return replace(candidate, params={"method": said.method}, members=members)


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _discover(data: Any, root: Path, files: Sequence[str | Path], texts: Mapping[str, str] | None) -> Host:
    """The host that the raw data asks for, however wrong the rest of it is."""
    section = data.get("plugins") if isinstance(data, dict) else None
    section = section if isinstance(section, dict) else {}
    allow = section.get("allow")
    return Host.discover(
        block=_texts(section.get("block")),
        allow=_texts(allow) if isinstance(allow, list) else None,
        files=[*(root / path for path in _texts(section.get("load"))), *files],
        texts=texts,
    )


def _broken_files(host: Host, files: Sequence[str | Path]) -> list[Problem]:
    broken = {offer.location: offer.reason for offer in host.offers("plugin") if offer.health == "broken"}
    named = {str(Path(file).absolute()): file for file in files}
    return [Problem(message=broken[path], file=f"--plugin {named[path]}") for path in named.keys() & broken.keys()]


def _shelf_faults(host: Host, data: Any) -> list[Fault]:
    there = {offer.name for offer in host.offers("model") if offer.health == "ok"}
    shelf = [name for line in DEFAULT_SHELF for name in line]
    if not isinstance(data, dict) or "models" in data or there & set(shelf):
        return []
    message = f"names no model, and none of the default shelf ({', '.join(shelf)}) is installed"
    return [
        Fault(path=("models",), message=message, hint="list `models:`, or install forecastcore[shelf]", at_key=True)
    ]


def _with_defaults(config: ProjectConfig, host: Host) -> ProjectConfig:
    there = {offer.name for offer in host.offers("model") if offer.health == "ok"}
    shelf = [next(name for name in line if name in there) for line in DEFAULT_SHELF if there & set(line)]
    names = [*shelf, ENSEMBLE] if len(shelf) > 1 else shelf
    models = config.models or tuple(configuration.ModelConfig(type=name) for name in names)
    return config.model_copy(update={"models": models, "sinks": config.sinks or DEFAULT_SINKS})


def _importable(resolver: Resolver) -> str | None:
    """`module:function` of a resolver, or None where that would not find it again."""
    module, name = getattr(resolver, "__module__", "") or "", getattr(resolver, "__qualname__", "")
    found = getattr(sys.modules.get(module), name, None)
    return f"{module}:{name}" if found is resolver and module != "__main__" else None


def _imported(name: str) -> Resolver | None:
    """The resolver of a name; None where its module is not to be had, as on a worker of a cluster."""
    module, _, function = name.partition(":")
    try:
        resolver: Resolver = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError:
        return None
    return resolver


class Project:
    """A checked project file and its plugins.

    Attributes:
        config: what the file says, defaults filled in, references unresolved.
        root: folder of the file; relative paths start here.
        path: the file.
        host: the plugins.
    """

    def __init__(
        self,
        reading: configuration.Reading,
        config: ProjectConfig,
        host: Host,
        resolvers: Mapping[str, Resolver] | None = None,
        recipe: Mapping[str, Any] | None = None,
    ) -> None:
        self._reading = reading
        self._recipe = dict(recipe or {})
        self._resolvers = dict(resolvers or {})
        self.config = config
        self.path: Path = reading.path
        self.root: Path = reading.path.parent
        self.host = host

    def __repr__(self) -> str:
        c = self.config
        way = f"{c.source.type} → {len(self.candidates())} candidates → {', '.join(sink.type for sink in c.sinks)}"
        return f"<Project {c.name}: {way}; {c.horizon} steps of {c.frequency}; {self.path}>"

    def _repr_html_(self) -> str:
        from forecastcore.markup import card

        c = self.config
        covariates = {name: one.assume or "known ahead" for name, one in c.covariates.items()}
        return card(
            c.name,
            {
                "source": c.source.type,
                "forecast": f"{c.horizon} steps of {c.frequency}",
                "covariates": ", ".join(f"{name} ({future})" for name, future in covariates.items()),
                "candidates": ", ".join(candidate.name for candidate in self.candidates()),
                "scenarios": ", ".join(("base", *c.scenarios)),
                "sinks": ", ".join(sink.type for sink in c.sinks),
                "engine": c.engine.type,
                "file": str(self.path),
            },
        )

    @classmethod
    def load(
        cls,
        path: str | Path = configuration.FILE_NAME,
        *,
        overrides: Sequence[str] = (),
        plugins: Sequence[str | Path] = (),
        resolvers: Mapping[str, Resolver] | None = None,
    ) -> Project:
        """Read a project file and check all of it, its plugins' parameters too.

        Args:
            path: the file, or the folder that holds `forecast.yaml`.
            overrides: `key.path=value` texts that replace what the file says.
            plugins: single Python files to load as plugins, beside those of `plugins.load`.
            resolvers: how references are read, by kind: `{"block": read_block}`; `env` is there.

        Raises:
            ConfigError: with every fault of the file.
        """
        return cls._checked(configuration.read(path, overrides), overrides, plugins, resolvers)

    @classmethod
    def _checked(
        cls,
        reading: configuration.Reading,
        overrides: Sequence[str],
        plugins: Sequence[str | Path],
        resolvers: Mapping[str, Resolver] | None,
        texts: Mapping[str, str] | None = None,
    ) -> Project:
        document = reading.document
        root = reading.path.parent
        if document.is_spoilt(()):
            raise ConfigError(configuration.in_order(document.problems))
        host = _discover(document.data, root, plugins, texts)
        document.add(plugin_faults(host, document.data, root))
        document.add(_shelf_faults(host, document.data))
        document.problems += _broken_files(host, plugins)
        if document.problems or reading.config is None:
            raise ConfigError(configuration.in_order(document.problems))
        recipe = {
            "path": str(reading.path),
            "text": document.text,
            "overrides": list(overrides),
            "plugins": [str(Path(file).absolute()) for file in plugins],
            "texts": host.texts,
            "resolvers": {kind: name for kind, read in (resolvers or {}).items() if (name := _importable(read))},
        }
        return cls(reading, _with_defaults(reading.config, host), host, resolvers, recipe)

    def recipe(self) -> str:
        """JSON from which `from_recipe` makes the same project in another process; it holds no secret.

        Resolvers travel by name, so they must be functions of a module that is there too; others are missing there.
        """
        return json.dumps(self._recipe, sort_keys=True)

    @classmethod
    def from_recipe(cls, recipe: str) -> Project:
        """The project of a recipe, as its file and its plugins' files were when the recipe was written."""
        r = json.loads(recipe)
        reading = configuration.read(r["path"], r["overrides"], text=r["text"])
        resolvers = {kind: read for kind, name in r["resolvers"].items() if (read := _imported(name))}
        return cls._checked(reading, r["overrides"], r["plugins"], resolvers, r["texts"])

    @staticmethod
    def find(start: str | Path = ".") -> Path:
        """The nearest `forecast.yaml` in `start` or a folder above it.

        Raises:
            UsageError: there is none.
        """
        folder = Path(start).absolute()
        for candidate in (folder, *folder.parents):
            if (candidate / configuration.FILE_NAME).is_file():
                return candidate / configuration.FILE_NAME
        raise UsageError(
            f"there is no {configuration.FILE_NAME} in {folder} or a folder above it",
            hint="`forecastcore init DIR` writes one; -p names another file",
        )

    def _raise(self, faults: Sequence[Fault], known: Mapping[str, str]) -> None:
        if faults:
            document = self._reading.document
            told = [replace(fault, message=redact(fault.message, known)) for fault in faults]
            raise ConfigError([document.problem(fault) for fault in told])

    def resolved(self, value: Any, path: _Path) -> Any:
        """`value` with its references replaced by what they stand for.

        Args:
            value: text, or lists and mappings of it.
            path: where it stands in the file.

        Raises:
            ConfigError: a reference cannot be read.
        """
        plain, known, faults = resolve(value, self._resolvers, path)
        self._raise(faults, known)
        return plain

    def _make(self, kind: str, entry: PluginConfig, path: _Path) -> Any:
        params, known, faults = resolve(entry.params, self._resolvers, path)
        if self.config.profile == "prod":
            faults += configuration.no_identity(params.get("credential"), (*path, "credential"))
        self._raise(faults, known)
        if not known:
            return self.host.make(kind, entry.type, params, root=self.root)
        checked = self.host.check(kind, entry.type, params, lax=True)
        told = [replace(f, path=(*path, *f.path), message=without_value(f.message)) for f in checked]
        self._raise(told, known)
        try:
            return self.host.make(kind, entry.type, params, root=self.root, lax=True)
        except PluginError as error:  # its words and those of its causes may hold what must not be told
            words = redact(error.message, known)
        raise PluginError(words)

    def source(self) -> Source:
        """The place that history comes from."""
        made: Source = self._make("source", self.config.source, ("source",))
        return made

    def sinks(self) -> list[tuple[str, Sink]]:
        """The places that forecasts go to, with a label each: the sink's name, numbered where there are several."""
        totals = Counter(sink.type for sink in self.config.sinks)
        made = []
        numbers: Counter[str] = Counter()
        for position, sink in enumerate(self.config.sinks):
            numbers[sink.type] += 1
            label = sink.type if totals[sink.type] == 1 else f"{sink.type}-{numbers[sink.type]}"
            made.append((label, self._make("sink", sink, ("sinks", position))))
        return made

    def assumptions(self, scenario: str = "base") -> dict[str, PluginConfig]:
        """What each assumption is in a scenario.

        Raises:
            UsageError: there is no such scenario.
        """
        if scenario != "base" and scenario not in self.config.scenarios:
            names = ("base", *self.config.scenarios)
            hint = did_you_mean(scenario, names)
            raise UsageError(f"there is no scenario {scenario!r}; there are {', '.join(names)}", hint=hint)
        return {**self.config.assumptions, **self.config.scenarios.get(scenario, {})}

    def assumption(self, name: str, scenario: str = "base") -> tuple[Offer, Any]:
        """An assumption's offer and its object, as it is in a scenario.

        Raises:
            UsageError: there is no such assumption or scenario.
        """
        there = self.assumptions(scenario)
        if name not in there:
            raise UsageError(f"there is no assumption {name!r}", hint=did_you_mean(name, there))
        changed = name in self.config.scenarios.get(scenario, {})
        path = ("scenarios", scenario, name) if changed else ("assumptions", name)
        return self.host.offer("assumption", there[name].type), self._make("assumption", there[name], path)

    def candidates(self) -> tuple[Candidate, ...]:
        """The models to compare, grids expanded, always in the same order."""
        return _candidates(self.config)

    def searches(self) -> dict[str, Search]:
        """What is searched, by the name of the candidate whose other parameters are set."""
        budget = self.config.search
        return {
            candidate.name: Search(
                space={key: self._space(candidate, key, values) for key, values in asked.space.items()},
                trials=asked.trials or budget.trials,
                seconds=asked.seconds or budget.seconds,
            )
            for candidate, asked in ((candidate, model.search) for candidate, model in _expanded(self.config))
            if asked
        }

    def _space(self, candidate: Candidate, key: str, values: Any) -> list[Any] | Span:
        if not isinstance(values, dict):
            return list(values)
        ends = RangeConfig(**values)
        between = ends.low + (ends.high - ends.low) * math.sqrt(0.5)  # no whole number, whatever the ends are
        faults = self.host.check("model", candidate.type, {**candidate.params, key: between})
        whole = any(fault.path[:1] == (key,) for fault in faults)
        return Span(low=ends.low, high=ends.high, log=ends.log, whole=whole)

    def tracking(self) -> TrackingConfig:
        """Where runs are recorded, with references read and paths absolute."""
        plain = self.resolved(self.config.tracking.model_dump(), ("tracking",))
        return TrackingConfig(**{**plain, "uri": configuration.absolute_uri(plain["uri"], self.root)})

    def engine_params(self) -> dict[str, Any]:
        """The engine's parameters with references read."""
        return dict(self.resolved(self.config.engine.params, ("engine",)))

    def resolve_path(self, path: str) -> str:
        """A path of the file as an absolute one; URLs stay as they are."""
        return path if "://" in path else str(self.root / path)

    def digest(self) -> str:
        """SHA-256 of all in the file that shapes a forecast."""
        return configuration.digest(self.config)
