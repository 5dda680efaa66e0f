"""An explanation in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Table = Callable[[Sequence[str], Iterable[Sequence[Any]]], str]

__all__ = ["diff_lines", "lines"]

Document = dict[str, Any]

_LISTED = {"come": "new", "gone": "gone"}
_BY = {
    "data": "the data that has come",
    "assumption": "what is assumed",
    "model": "the model",
    "code": "other code, or data that was revised",
}
_WHERE = {"reason": "reason of a row", "guard": "guard of the gate", "audit": "audit of a vintage"}


def lines(document: Document) -> list[str]:
    """The document of `explain` for people."""
    return _code(document) if "code" in document else _row(document)


def diff_lines(document: Document, table: Table) -> list[str]:
    """The document of `diff` for people.

    Args:
        document: as `--json` prints it.
        table: how a table is drawn: head and rows to text.
    """
    rows, series, change = document["rows"], document["series"], document["change"]
    head = ("series", "old", "new", "change", "data", "assumption", "model", "code")
    movers = [
        [m["unique_id"], m["old"], m["new"], m["change"], *(m["parts"] or dict.fromkeys(head[4:])).values()]
        for m in document["movers"]
    ]
    share = "" if change["share"] is None else f" ({change['share']:.1%})"
    told = [
        *(
            f"{side}  from {_minute(document[side]['issued_at'])} UTC by version {document[side]['model_version']},"
            f" run key {document[side]['run_key'][:12]}"
            for side in ("old", "new")
        ),
        f"{rows['both']} rows in both, {rows['only_old']} only in the old, {rows['only_new']} only in the new",
        f"mean change {_figure(change['mean'])}, mean absolute change {_figure(change['mean_absolute'])}{share}",
    ]
    told += [f"{word} series: {', '.join(series[key][:10])}" for key, word in _LISTED.items() if series[key]]
    return [*told, "", table(head, movers), *map(_sentence, document["movers"][:3]), *document["notes"]]


def _sentence(mover: Document) -> str:
    """A mover in words, its largest part first."""
    share = "" if mover["share"] is None else f" ({mover['share']:+.1%})"
    said = f"{mover['unique_id']}: {_figure(mover['old'])} is now {_figure(mover['new'])}{share}"
    parts = sorted((mover["parts"] or {}).items(), key=lambda part: -abs(part[1]))
    scale = max((abs(value) for _, value in parts), default=0.0)
    told = [f"{value:+.4g} by {_BY[name]}" for name, value in parts if scale and abs(value) > 0.01 * scale]
    return f"{said}: {', '.join(told)}" if told else said


def _code(document: Document) -> list[str]:
    where = _WHERE.get(document["where"], document["where"])
    words = (("cause", document["cause"]), ("mend", document["mend"]), ("example", document["example"]))
    return [f"{document['code']} ({where})", *(f"{name:9}{text}" for name, text in words)]


def _row(document: Document) -> list[str]:
    row, model = document["row"], document["model"]
    band = " ".join(f"{name} {_figure(row[name])}" for name in row if name[:1] == "q" and name[1:2].isdigit())
    told = [
        f"{row['unique_id']} at {_minute(row['ds'])} UTC, step {row['step']} from {_minute(row['issued_at'])} UTC",
        f"forecast   {_figure(row['forecast'])} {band}",
        f"made by    {row['model']}, version {row['model_version']}, {row['status']}",
    ]
    if model:
        params = ", ".join(f"{name} {value}" for name, value in model["params"].items()) or "no parameters"
        told.append(f"model      {params}; trained until {_minute(model['trained_until'])}")
    told += _inputs(document["inputs"])
    told += [f"assumed    {row['assumed_by']}"] if row["assumed_by"] else []
    told += [f"fallback   {words}" for words in document["fallbacks"]]
    if document["contributions"]:
        groups = {**document["contributions"]["groups"], "sum": document["replayed"]}
        told += [f"because    {name:9}{_figure(share):>10}" for name, share in groups.items()]
        told.append(f"           {document['contributions']['method']}")
    return [*told, *document["notes"]]


def _inputs(inputs: Document | None) -> list[str]:
    if inputs is None:
        return []
    last, before = _figure(inputs["last"]), _figure(inputs["last_season"])
    told = [f"inputs     {inputs['values']} values, the last {last}, a season before {before}"]
    return told + [
        f"           {name} {_figure(one['value'])} by {one['by']}, usually {_figure(one['usual'])}"
        for name, one in inputs["covariates"].items()
    ]


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.5g}"


def _minute(text: str | None) -> str:
    return text[:16].replace("T", " ") if text else "unknown"
