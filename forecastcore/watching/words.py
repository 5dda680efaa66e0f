"""A monitor's document in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Document = dict[str, Any]
    Table = Callable[[Sequence[str], Iterable[Sequence[Any]]], str]

__all__ = ["lines"]

_SHOWN = 5


def lines(document: Document, table: Table) -> list[str]:
    """The report for people, what was decided first.

    Args:
        document: as `--json` prints it.
        table: how a table is drawn: head and rows to text.
    """
    count, champion = len(document["vintages"]), document["champion"] or "none"
    advice = ", ".join(document["advice"]) or "nothing to do"
    return [
        f"{document['project']} as of {document['as_of']}: {count} vintages, champion {champion}: {advice}",
        *(_policy(policy) for policy in document["policies"]),
        *(f"  {'done' if a['done'] else 'not done'}: {a['do']}: {a['note']}" for a in document["acted"]),
        "",
        *_accuracy(document, table),
        *_versions(document, table),
        *_split(document),
        *_inputs(document, table),
        *_schedule(document),
        *_worst(document, table),
        *document["notes"],
        f"table {document['table']}{' (there already)' if document['already'] else ''}",
        f"run {document['run_id']}, {document['seconds']:.1f} s",
    ]


def _policy(policy: Document) -> str:
    state = "FIRED" if policy["fired"] else "quiet"
    return f"  {state}  {policy['do']} when {policy['when']}: {policy['reason']}"


def _accuracy(document: Document, table: Table) -> list[str]:
    head = ("delivered", "rows", "mase", "rmsse", "bias", "coverage", "skill")
    rows = [
        [one["name"] if one["kind"] != "model" else f"by {one['name']}", *(one[key] for key in head[1:])]
        for one in document["accuracy"]
    ]
    return [table(head, rows), ""]


def _versions(document: Document, table: Table) -> list[str]:
    head = ("version", "model", "vintages", "mase", "promised", "skill", "promised", "coverage", "promised")
    keys = ("mase", "promised_mase", "skill", "promised_skill", "coverage", "promised_coverage")
    rows = [[v["version"], v["model"], v["vintages"], *(v[key] for key in keys)] for v in document["versions"]]
    return [table(head, rows), ""]


def _split(document: Document) -> list[str]:
    told = [
        f"version {one['version']}: error {_number(one['mase'])} = {_number(one['model_error'])} of the model"
        f" {_signed(one['assumption_error'])} of the assumptions"
        for one in document["split"]
    ]
    told += [
        f"  {e['covariate']} by {e['assumption']}: off by {_number(e['mae'])} on average"
        f" ({_number(e['scaled'])} of its spread), bias {_signed(e['bias'])}"
        for e in document["assumption_errors"]
    ]
    return [*told, ""] if told else []


def _inputs(document: Document, table: Table) -> list[str]:
    head = ("input", "rows", "psi", "usual", "ks", "usual", "")
    keys = ("column", "rows", "psi", "usual_psi", "ks", "usual_ks")
    state = {True: "DRIFTED", False: "as in training"}
    rows = [[*(one[key] for key in keys), state[one["drifted"]]] for one in document["drift"]]
    told = [table(head, rows)] if rows else []
    told += [f"new series: {_names(document['new_series'])}"] if document["new_series"] else []
    told += [f"ended series: {_names(document['ended_series'])}"] if document["ended_series"] else []
    return [*told, ""] if told else []


def _schedule(document: Document) -> list[str]:
    rhythm = document["schedule"]
    if rhythm["every"] is None:
        return []
    told = f"a vintage every {rhythm['every'] / 3600:g} h: {len(rhythm['missing'])} missing, {len(rhythm['late'])} late"
    named = _names([moment[:16] for moment in rhythm["missing"][-_SHOWN:]])
    return [told + (f"; missing {named}" if rhythm["missing"] else ""), ""]


def _worst(document: Document, table: Table) -> list[str]:
    head = ("worst series", "rows", "mase", "skill", "bias")
    keys = ("unique_id", "rows", "mase", "skill", "bias")
    return [table(head, [[one[key] for key in keys] for one in document["worst"][:_SHOWN]]), ""]


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.3f}"
