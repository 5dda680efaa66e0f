"""JSON Schema of `forecast.yaml`, installed plugins' own parameters included; for editors and `forecastcore schema`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from forecastcore import parameters
from forecastcore.config import ENSEMBLE, ProjectConfig, RangeConfig, SearchConfig, SourceConfig
from forecastcore.config.engines import ENGINES
from forecastcore.config.models import ModelConfig, PluginConfig
from forecastcore.ensemble import Ensemble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic import BaseModel

    from forecastcore.host import Host, Offer

__all__ = ["json_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE = {
    "type": "string",
    "pattern": r"\$\{(env|block):[^${}]+\}",
    "description": "A reference, read when needed.",
}
_WHAT = {
    "source": "Where history comes from.",
    "sink": "A place that forecasts are delivered to.",
    "assumption": "A stand-in for the unknown future of covariates.",
    "model": "A candidate, or several where `grid` lists values.",
}

Json = dict[str, Any]


def _referable(schema: Json) -> Json:
    """A parameter that may also be a reference to the environment or a block."""
    if schema.get("type") == "string" and "pattern" not in schema and "enum" not in schema:
        return schema
    outer: Json = {key: schema[key] for key in ("description", "default") if key in schema}
    return {**outer, "anyOf": [{key: value for key, value in schema.items() if key not in outer}, _REFERENCE]}


def _hoisted(schema: Any, prefix: str, defs: Json) -> Any:
    """The schema with its own definitions moved to `defs`, under names that no other plugin has."""
    if isinstance(schema, list):
        return [_hoisted(part, prefix, defs) for part in schema]
    if not isinstance(schema, dict):
        return schema
    for name, definition in schema.get("$defs", {}).items():
        defs[f"{prefix}.{name}"] = _hoisted(definition, prefix, defs)
    moved = {key: _hoisted(value, prefix, defs) for key, value in schema.items() if key != "$defs"}
    if isinstance(moved.get("$ref"), str):
        moved["$ref"] = moved["$ref"].replace("#/$defs/", f"#/$defs/{prefix}.")
    return moved


def _own_keys(model: type[BaseModel]) -> Json:
    """The keys that an entry has beside its plugin's parameters."""
    properties: Json = model.model_json_schema()["properties"]
    return {name: _plain(entry) for name, entry in properties.items() if name not in {"type", "params"}}


def _plain(schema: Any) -> Any:
    """Without pydantic's titles, which say what the keys say."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if isinstance(schema, dict):
        drop = isinstance(schema.get("title"), str)
        return {key: _plain(value) for key, value in schema.items() if not (drop and key == "title")}
    return schema


def _grid(own: Json, properties: Json) -> Json:
    """The values that are tried of each parameter."""
    values = {
        name: {"type": "array", "minItems": 1, "items": schema, "description": f"Values of {name} to try."}
        for name, schema in properties.items()
    }
    return {**own["grid"], "properties": values, "additionalProperties": False}


def _search(own: Json, grid: Json) -> Json:
    """The space of each parameter: values as in a grid, or a range."""
    reach = {"$ref": "#/$defs/RangeConfig"}
    spaces = {
        name: {"description": schema["description"], "anyOf": [schema, reach]}
        for name, schema in grid["properties"].items()
    }
    settings = _plain(SearchConfig.model_json_schema())
    settings["properties"]["space"] |= {"properties": spaces, "additionalProperties": False}
    return {**settings, "description": own["search"]["description"]}


def _model_variant(offer: Offer, own: Json, properties: Json, required: list[str]) -> Json:
    """A model's entry: what `grid` or `search` tries need not be set beside it."""
    grid = _grid(own, properties)
    needs: Json = {"required": ["type"]}
    if required:
        needs["allOf"] = [{"anyOf": [{"required": [name]}, *_elsewhere(name)]} for name in required]
    kind = {"const": offer.name, "description": offer.spec.summary}
    return {"properties": {"type": kind, "grid": grid, "search": _search(own, grid), **properties}, **needs}


def _elsewhere(name: str) -> list[Json]:
    """That a parameter stands in the grid, or in the space that is searched."""
    space = {"properties": {"space": {"required": [name]}}}
    return [
        {"required": ["grid"], "properties": {"grid": {"required": [name]}}},
        {"required": ["search"], "properties": {"search": space}},
    ]


def _ensemble(own: Json) -> Json:
    """The entry of an ensemble."""
    properties = parameters.json_schema(Ensemble)["properties"]
    summary = "Candidates put together."
    kind = {"const": ENSEMBLE, "description": summary}
    return {
        "type": "object",
        "description": summary,
        "properties": {"type": kind, "grid": _grid(own, properties), **properties},
        "required": ["type"],
        "additionalProperties": False,
    }


def _variant(host: Host, offer: Offer, own: Json, defs: Json) -> Json:
    """The schema of an entry that names this offer."""
    params = _hoisted(host.parameter_schema(offer.kind, offer.name), f"{offer.kind}.{offer.name}", defs)
    properties = {name: schema for name, schema in params.get("properties", {}).items() if name not in {"type", *own}}
    required = [name for name in params.get("required", []) if name in properties]
    if offer.kind == "model":
        body = _model_variant(offer, own, properties, required)
    else:
        kind = {"const": offer.name, "description": offer.spec.summary}
        referable = {name: _referable(schema) for name, schema in properties.items()}
        body = {"properties": {"type": kind, **own, **referable}, "required": ["type", *required]}
    return {"type": "object", "description": offer.spec.summary, **body, "additionalProperties": False}


def _one_of(variants: list[Json], description: str) -> Json:
    if not variants:
        return {
            "type": "object",
            "description": f"{description} No plugin of this kind is installed.",
            "required": ["type"],
        }
    return {"description": description, "type": "object", "required": ["type"], "oneOf": variants}


def _plugins(host: Host, kind: str, own: Json, defs: Json) -> Json:
    offers = [offer for offer in host.offers(kind) if offer.health == "ok"]
    more = [_ensemble(own)] if kind == "model" and offers else []
    return _one_of([*(_variant(host, offer, own, defs) for offer in offers), *more], _WHAT[kind])


def _engine(defs: Json) -> Json:
    variants = []
    for name, model in ENGINES.items():
        schema = _hoisted(_plain(model.model_json_schema()), f"engine.{name}", defs)
        properties = {key: _referable(value) for key, value in schema.get("properties", {}).items()}
        kind = {"const": name, "description": schema["description"]}
        needs = {} if name == "local" else {"required": ["type"]}
        variants.append(
            {
                "type": "object",
                "description": schema["description"],
                "properties": {"type": kind, **properties},
                **needs,
                "additionalProperties": False,
            }
        )
    return {"description": "What the work runs on.", "oneOf": variants}


def json_schema(host: Host) -> Json:
    """JSON Schema (draft 2020-12) of the project file for the plugins that are installed.

    Every key has a description; unknown keys are refused. Names that refer to each other (a covariate's assumption) are
    beyond it: `forecastcore validate` checks those.
    """
    schema = ProjectConfig.model_json_schema()
    written_out = ("PluginConfig", "EngineConfig", "SourceConfig", "ModelConfig", "SearchConfig")
    defs: Json = {name: _plain(part) for name, part in schema["$defs"].items() if not name.endswith(written_out)}
    defs["RangeConfig"] = _plain(RangeConfig.model_json_schema())
    properties = _plain(schema["properties"])
    entries: Mapping[str, Callable[[], Json]] = {
        "source": lambda: _plugins(host, "source", _own_keys(SourceConfig), defs),
        "sink": lambda: _plugins(host, "sink", _own_keys(PluginConfig), defs),
        "assumption": lambda: _plugins(host, "assumption", _own_keys(PluginConfig), defs),
        "model": lambda: _plugins(host, "model", _own_keys(ModelConfig), defs),
        "engine": lambda: _engine(defs),
    }
    defs |= {name: make() for name, make in entries.items()}
    refs = {name: {"$ref": f"#/$defs/{name}"} for name in entries}
    properties |= {"source": refs["source"], "engine": refs["engine"]}
    properties["assumptions"]["additionalProperties"] = refs["assumption"]
    properties["scenarios"]["additionalProperties"] = {"type": "object", "additionalProperties": refs["assumption"]}
    for key, name in (("models", "model"), ("sinks", "sink")):
        properties[key] = {"type": "array", "minItems": 1, "items": refs[name]}
    for name, field in ProjectConfig.model_fields.items():  # pydantic leaves out what the section says too
        properties[name] = {"description": field.description, **properties[name]}
    return {
        "$schema": _DIALECT,
        "title": "forecast.yaml",
        "description": "A forecasting project of forecastcore.",
        "type": "object",
        "properties": properties,
        "required": schema["required"],
        "additionalProperties": False,
        "$defs": defs,
    }
