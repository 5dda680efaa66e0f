"""An explanation in words."""

from __future__ import annotations

from typing import Any

__all__ = ["lines"]

Document = dict[str, Any]

_WHERE = {"reason": "reason of a row", "guard": "guard of the gate", "audit": "audit of a vintage"}


def lines(document: Document) -> list[str]:
    """The document of `explain` for people."""
    return _code(document) if "code" in document else _row(document)


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
