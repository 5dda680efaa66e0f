"""The project file: found, read, overridden, checked."""

from __future__ import annotations

import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from forecastcore.config.checks import cross_check
from forecastcore.config.document import MAX_BYTES, Document, apply_overrides, parse
from forecastcore.config.models import (
    CovariateConfig,
    EngineConfig,
    ModelConfig,
    PluginConfig,
    ProjectConfig,
    SourceConfig,
)
from forecastcore.config.references import has_reference
from forecastcore.config.words import Fault, did_you_mean, explain
from forecastcore.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FILE_NAME", "Reading", "absolute_uri", "load", "read"]

FILE_NAME = "forecast.yaml"
#: what a required key may say
_EXAMPLES: dict[tuple[str | int, ...], str] = {
    ("name",): "such as name: my-project",
    ("source",): "such as source: {type: csv, path: sales.csv}",
    ("source", "type"): "such as type: csv",
    ("frequency",): "such as frequency: h",
    ("horizon",): "such as horizon: 24",
}


@dataclass(frozen=True)
class Reading:
    """A project file as it was read.

    Attributes:
        path: the file, absolute.
        document: its data with places, and what is wrong with it.
        config: the checked project; None where something is wrong.
    """

    path: Path
    document: Document
    config: ProjectConfig | None


def _read_text(path: Path, file: str) -> str | Problem:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Problem(
            message="there is no such file", file=file, hint="`forecastcore init DIR` writes one; -p names another"
        )
    except (OSError, ValueError) as error:
        return Problem(message=f"cannot be read: {getattr(error, 'strerror', None) or error}", file=file)
    try:
        return content[: MAX_BYTES + 1].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(content) > MAX_BYTES:
            return content.decode("utf-8", "replace")  # refused for its size
        before = content[: error.start].decode("utf-8-sig", "replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return Problem(message="is not UTF-8 text", file=file, line=line, column=column, hint="save it as UTF-8")


def _split(entry: Any, model: type[BaseModel]) -> Any:
    """Move a plugin's own parameters from beside `type` into `params`."""
    if not isinstance(entry, dict):
        return entry
    own = set(model.model_fields) - {"params"}
    rest = {key: value for key, value in entry.items() if key not in own}
    return {**{key: value for key, value in entry.items() if key in own}, "params": rest}


def _shape(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data as `ProjectConfig` takes it; what has a wrong shape is left for it to refuse."""

    def each(entries: Any, model: type[BaseModel]) -> Any:
        if isinstance(entries, list):
            return [_split(entry, model) for entry in entries]
        return {key: _split(entry, model) for key, entry in entries.items()} if isinstance(entries, dict) else entries

    shaped = dict(data)
    alone: dict[str, type[BaseModel]] = {"source": SourceConfig, "engine": EngineConfig}
    listed: dict[str, type[BaseModel]] = {"sinks": PluginConfig, "models": ModelConfig}
    for key in alone.keys() & shaped.keys():
        shaped[key] = _split(shaped[key], alone[key])
    for key in listed.keys() & shaped.keys():
        if isinstance(shaped[key], list):
            shaped[key] = each(shaped[key], listed[key])
    if isinstance(shaped.get("assumptions"), dict):
        shaped["assumptions"] = each(shaped["assumptions"], PluginConfig)
    if isinstance(shaped.get("scenarios"), dict):
        shaped["scenarios"] = {name: each(changes, PluginConfig) for name, changes in shaped["scenarios"].items()}
    return shaped


def _model_at(path: Sequence[str | int]) -> type[BaseModel] | None:
    """The model of the section at `path`, for the names it knows."""
    here: Any = ProjectConfig
    for part in path:
        if isinstance(here, type) and issubclass(here, BaseModel):
            here = here.model_fields[str(part)].annotation if str(part) in here.model_fields else None
        else:
            here = next((a for a in reversed(get_args(here)) if a not in (Ellipsis, type(None))), None)
        while get_origin(here) is types.UnionType:
            here = next(a for a in get_args(here) if a is not type(None))
    return here if isinstance(here, type) and issubclass(here, BaseModel) else None


def _unknown_key(path: tuple[str | int, ...]) -> Fault:
    name = str(path[-1])
    model = _model_at(path[:-1])
    valid = [key for key in model.model_fields if key != "params"] if model else []
    hint = did_you_mean(name, valid)
    homes = [
        section for section in ProjectConfig.model_fields if name in getattr(_model_at((section,)), "model_fields", {})
    ]
    if len(path) == 1 and homes and not hint:
        hint = f"it belongs under `{homes[0]}:`"
    return Fault(path=path, message=f"is not a known key; expected one of {', '.join(valid)}", hint=hint, at_key=True)


def _written_out(word: str, section: type[BaseModel]) -> str | None:
    """How the one word that stands where keys belong may have been meant."""
    if section is CovariateConfig:
        return f"write {{assume: {word}}}"
    if section is SourceConfig and set(word) & {".", "/"}:
        kind = Path(word).suffix.removeprefix(".")
        return f"write {{type: {kind if kind in {'csv', 'parquet'} else 'TYPE'}, path: {word}}}"
    return f"write {{type: {word}}}" if issubclass(section, PluginConfig) else None


def _fault(error: Mapping[str, Any]) -> Fault:
    path = tuple(part for part in error["loc"] if part != "[key]")
    if error["type"] == "extra_forbidden":
        return _unknown_key(path)
    message, hint = explain(error)
    section = _model_at(path)
    if error["type"] in {"model_type", "dict_type"} and isinstance(error["input"], str) and section:
        hint = _written_out(error["input"][:60], section) or hint
    if error["type"] == "missing":
        hint = _EXAMPLES.get(path)
    if path == ("horizon",) and error["type"] == "int_type":
        hint = hint or "it counts steps of `frequency`"
    return Fault(path=path, message=message, hint=hint, at_key=error["type"] == "missing")


def absolute_uri(uri: str, root: Path) -> str:
    """A tracking URI whose relative path, if it has one, starts at `root`."""
    if uri.startswith("sqlite:///"):
        path = uri.removeprefix("sqlite:///")
        return uri if path.startswith(("/", ":")) else f"sqlite:///{(root / path).as_posix()}"
    if "://" in uri or uri in {"databricks", "databricks-uc", "uc"}:
        return uri
    return str(root / uri.removeprefix("file:"))


def _completed(config: ProjectConfig, root: Path) -> ProjectConfig:
    tracking = config.tracking
    uri = tracking.uri or "sqlite:///mlflow.db"
    changed = {
        "uri": uri if has_reference(uri) else absolute_uri(uri, root),
        "experiment": tracking.experiment or config.name,
    }
    backtest = config.backtest.model_copy(update={"stride": config.backtest.stride or config.horizon})
    return config.model_copy(update={"tracking": tracking.model_copy(update=changed), "backtest": backtest})


def _check(document: Document, root: Path) -> ProjectConfig | None:
    if document.is_spoilt(()):
        return None
    if not isinstance(document.data, dict):
        what = "is empty" if document.data is None else "is not a list of keys with values"
        document.add([Fault(path=(), message=what, hint="`forecastcore init DIR` writes an example")])
        return None
    config = None
    document.add(cross_check(document.data))
    try:
        config = ProjectConfig.model_validate(_shape(document.data))
    except ValidationError as error:
        document.add(_fault(fault) for fault in error.errors(include_url=False))
    return None if document.problems or config is None else _completed(config, root)


def read(path: str | Path = FILE_NAME, overrides: Sequence[str] = (), *, text: str | None = None) -> Reading:
    """Read a project file and find all that is wrong with it, without raising.

    Args:
        path: the file, or the folder that holds `forecast.yaml`.
        overrides: `key.path=value` texts, values as YAML; they apply before anything is checked.
        text: what the file holds, where it is known already.
    """
    named = Path(path)
    if text is None and named.is_dir():
        named = named / FILE_NAME
    absolute = named.absolute()
    content = _read_text(named, str(named)) if text is None else text
    if isinstance(content, Problem):
        return Reading(absolute, Document(str(named), problems=[content], spoilt={()}), None)
    document = parse(content, str(named))
    if not document.is_spoilt(()):
        apply_overrides(document, overrides)
    return Reading(absolute, document, _check(document, absolute.parent))


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Problems as one reads the file, those of `--set` last."""
    return sorted(problems, key=lambda problem: (problem.file.startswith("--"), problem.line or 0, problem.column or 0))


def load(path: str | Path = FILE_NAME, overrides: Sequence[str] = ()) -> ProjectConfig:
    """Read and check a project file.

    Raises:
        ConfigError: with every fault of the file.
    """
    reading = read(path, overrides)
    if reading.config is None:
        raise ConfigError(in_order(reading.document.problems))
    return reading.config
