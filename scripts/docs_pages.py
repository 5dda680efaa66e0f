"""Pages of the documentation that come from the code; MkDocs asks for them at every build (`hooks` in mkdocs.yml)."""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

    from forecastcore.host import Offer

__all__ = ["PAGES", "formulas", "on_files", "on_page_markdown"]

Json = dict[str, Any]
_MATH = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KINDS = {"source": "Sources", "assumption": "Assumptions", "model": "Models", "sink": "Sinks"}
_CLI = "What `--help` says, of all commands. Those options that every command takes are told once."
_KEYS = """\
As `forecastcore schema` has them for your editor. What a source, sink, assumption or model takes stands in the
[plugin directory](plugin-directory.md); a commented file in [The project file](project-file.md)."""
_DIRECTORY = """\
Every model, assumption, sink and source that comes with forecastcore: its name is the `type` in the project file.
`forecastcore plugins list` shows what is installed where you are, yours too; [Write a plugin](../how-to/plugins.md)
tells how to add one. A plugin with an entry point in the group `forecastcore` needs no listing here to be found."""
_CODES = """\
Every error, every row that is not `ok`, every guard of the gate and every finding of a check has a code. `forecastcore
explain CODE` says the same, without a network."""
_WORDS = {"string": "text", "integer": "whole number", "boolean": "true, false", "object": "mapping", "array": "list"}
#: what any value may be instead of itself; told once, in The project file
_REFERENCE = r"\$\{(env|block):[^${}]+\}"


# -- the command line, from --help


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every command below a parser, groups before what is in them."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same
            for child in action.choices.values():
                yield child
                yield from commands(child)


def cli() -> str:
    """What `--help` says of every command."""
    from forecastcore.cli.parser import build

    os.environ["COLUMNS"] = "100"
    parser = build()
    parts = [
        "# Command line",
        _CLI,
    ]
    for command in (parser, *commands(parser)):
        text = command.format_help()
        if command is not parser:
            text = re.sub(r"\noptions of every command:\n(?:  .*\n)+", "", text)
        parts.append(f"## {command.prog}\n\n```text\n{text.strip()}\n```")
    return "\n\n".join(parts)


# -- the project file, from its schema


def keys() -> str:
    """Every key of the project file, one table for each section."""
    from forecastcore.host import Host
    from forecastcore.schema import json_schema

    schema = json_schema(Host.discover())
    parts = [
        "# Every key of the project file",
        _KEYS,
        _table("`forecast.yaml`", schema, schema),
    ]
    for name, entry in schema["properties"].items():
        if name not in {
            "source",
            "engine",
        }:  # several forms each: the directory has those of one, the next lines the other
            parts += list(_sections(name, entry, schema))
    for variant in schema["$defs"]["engine"]["oneOf"]:
        kind = variant["properties"]["type"]["const"]
        parts += [_table(f"`engine`: {kind}", variant, schema)]
        for key, entry in variant["properties"].items():
            parts += list(_sections(f"engine.{key}", entry, schema))
    return "\n\n".join(parts)


def _sections(path: str, entry: Json, schema: Json) -> Iterator[str]:
    """The tables of what lies below a key."""
    for part in _objects(entry, schema):
        if part.get("properties") and "oneOf" not in part:
            yield _table(f"`{path}`", part, schema)
            for name, below in part["properties"].items():
                yield from _sections(f"{path}.{name}", below, schema)


def _objects(entry: Json, schema: Json) -> list[Json]:
    """The mappings that a key may hold, itself or as the members of a list or a mapping."""
    entry = _resolved(entry, schema)
    if entry.get("properties"):
        return [entry]
    inner = [*entry.get("anyOf", []), *entry.get("oneOf", [])]
    inner += [entry[name] for name in ("items", "additionalProperties") if isinstance(entry.get(name), dict)]
    plugins = {f"#/$defs/{name}" for name in (*_KINDS, "engine")}
    return [found for part in inner if part.get("$ref") not in plugins for found in _objects(part, schema)]


def _resolved(entry: Json, schema: Json) -> Json:
    if "$ref" not in entry:
        return entry
    return schema["$defs"][entry["$ref"].removeprefix("#/$defs/")] | {k: v for k, v in entry.items() if k != "$ref"}


def _table(title: str, part: Json, schema: Json) -> str:
    required = set(part.get("required", ()))
    rows = []
    for name, entry in part["properties"].items():
        meaning = _cell(_resolved(entry, schema).get("description", ""))
        rows.append(f"| `{name}` | {_type(entry, schema)} | {_default(entry, required=name in required)} | {meaning} |")
    said = _cell(part.get("description", ""))
    return "\n".join([f"## {title}", "", said, "", *_head("key", "type", "default", "meaning"), *rows])


def _type(entry: Json, schema: Json) -> str:
    entry = _resolved(entry, schema)
    if "const" in entry or "enum" in entry:
        return " \\| ".join(f"`{value}`" for value in entry.get("enum") or [entry["const"]])
    if "oneOf" in entry:
        return "mapping with a `type`"
    if "anyOf" in entry:
        shown = [_type(part, schema) for part in entry["anyOf"] if part.get("pattern") != _REFERENCE]
        return " or ".join(dict.fromkeys(shown))
    kind = str(entry.get("type", "anything"))
    items = entry.get("items")
    return f"list of {_type(items, schema)}" if isinstance(items, dict) else _WORDS.get(kind, kind)


def _default(entry: Json, *, required: bool) -> str:
    if required:
        return "**required**"
    value = entry.get("default")
    return f"`{json.dumps(value, ensure_ascii=False)}`" if "default" in entry and value not in (None, {}, []) else ""


def _head(*titles: str) -> list[str]:
    return [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


# -- what is installed, from the plugins themselves


def plugin_directory() -> str:
    """Every plugin of this repository with its parameters."""
    from forecastcore.host import Host

    host = Host.discover()
    parts = [
        "# Plugin directory",
        _DIRECTORY,
    ]
    for kind, title in _KINDS.items():
        offers = sorted((o for o in host.offers(kind) if o.health == "ok"), key=lambda offer: offer.name)
        parts.append(f"## {title}")
        schemas = {offer.name: host.parameter_schema(kind, offer.name) for offer in offers}
        schemas = {name: schema for name, schema in schemas.items() if schema.get("properties")}
        rows = [_offer_row(kind, offer, linked=offer.name in schemas) for offer in offers]
        parts.append("\n".join([*_head("type", "what it is", "distribution"), *rows]))
        for offer in offers:
            if offer.name in schemas:
                schema = schemas[offer.name] | {"description": offer.spec.summary}
                parts.append("#" + _table(f"{kind} `{offer.name}`", schema, schema))
    return "\n\n".join(parts)


def _offer_row(kind: str, offer: Offer, *, linked: bool) -> str:
    name = f"[`{offer.name}`](#{kind}-{offer.name})" if linked else f"`{offer.name}`"
    return f"| {name} | {_cell(offer.spec.summary)} | `{offer.distribution}` |"


# -- codes and rules, from the texts that the commands show


def codes() -> str:
    """Every code with cause and mend."""
    from forecastcore.explaining.codes import codes as all_codes

    rows = [
        f"| `{name}` | {code.where} | {_cell(code.cause)} | {_cell(code.mend)} | {_code(code.example)} |"
        for name, code in sorted(all_codes().items())
    ]
    return "\n".join(
        [
            "# Codes of errors and reasons",
            "",
            _CODES,
            "",
            *_head("code", "told by", "what has happened", "what to do", "such as"),
            *rows,
        ]
    )


def _code(text: str) -> str:
    return f"`{' '.join(text.split())}`".replace("|", "\\|")


def conformance() -> str:
    """Every rule that a plugin has to keep to."""
    from forecastcore.testing.page import page

    return page()


def licences() -> str:
    """What the locks install, and under which licence."""
    spec = importlib.util.spec_from_file_location("sbom", Path(__file__).with_name("sbom.py"))
    if spec is None or spec.loader is None:  # it stands beside this script
        raise FileNotFoundError("sbom.py")
    sbom = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sbom)
    return str(sbom.page())


PAGES: dict[str, Callable[[], str]] = {
    "reference/cli.md": cli,
    "reference/keys.md": keys,
    "reference/plugin-directory.md": plugin_directory,
    "reference/codes.md": codes,
    "reference/conformance.md": conformance,
    "reference/licences.md": licences,
}


# -- what MkDocs calls


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that no file holds."""
    from mkdocs.structure.files import File

    logging.getLogger("markdown").setLevel(logging.WARNING)
    for uri, make in PAGES.items():
        files.append(File.generated(config, uri, content=make()))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Formulas become MathML, which browsers draw themselves."""
    return formulas(markdown)


def formulas(markdown: str) -> str:
    """The text with its `math` blocks as MathML."""
    from latex2mathml.converter import convert

    return _MATH.sub(
        lambda m: f'<div class="formula">{convert(" ".join(m[1].split()), display="block")}</div>', markdown
    )
