"""HTML in which text is escaped unless it was made here; so an id from the data can never become markup."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Html", "badge", "card", "el", "join", "table"]

_VOID = {"br", "meta"}
#: control characters and lone surrogates, which no file may hold, and those that turn the direction of what follows
_UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def _escaped(text: str) -> str:
    return html.escape(_UNFIT.sub("\N{REPLACEMENT CHARACTER}", text), quote=True)


def _markup(child: object) -> str:
    return child if isinstance(child, Html) else _escaped(str(child))


def join(parts: Iterable[object], between: str = "") -> Html:
    """Parts one after the other; what is not `Html` is escaped."""
    return Html(_escaped(between).join(_markup(part) for part in parts if part is not None))


def el(name: str, /, *children: object, **attributes: str | bool | None) -> Html:
    """An element.

    Args:
        name: of the tag.
        children: text, which is escaped, or `Html`; None is left out.
        attributes: `class_` is `class`, `aria_label` is `aria-label`; None and False are left out, True stands alone.
    """
    told = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_escaped(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{name}{told}>" if name in _VOID else f"<{name}{told}>{join(children)}</{name}>")


def table(
    caption: str,
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numeric: Iterable[int] = (),
    hide_caption: bool = False,
) -> Html:
    """A table that scrolls sideways on a narrow screen, by keyboard too.

    Args:
        caption: what it shows.
        head: titles of the columns.
        rows: cells; the first of each row is its heading.
        numeric: columns that stand to the right.
        hide_caption: for screen readers only, where a heading right above says the same.
    """
    right = set(numeric)

    def cell(tag: str, position: int, value: object, scope: str | None) -> Html:
        return el(tag, value, scope=scope, class_="n" if position in right else None)

    top = el("tr", *(cell("th", i, title, "col") for i, title in enumerate(head)))
    body = join(
        el("tr", *(cell("th" if i == 0 else "td", i, v, "row" if i == 0 else None) for i, v in enumerate(row)))
        for row in rows
    )
    shown = el(
        "table",
        el("caption", el("span", caption), class_="unseen" if hide_caption else None),
        el("thead", top),
        el("tbody", body),
    )
    return el("div", shown, class_="scroll", tabindex="0", role="region", aria_label=caption)


def badge(status: str, word: str = "") -> Html:
    """A status as a sign and a word, so that no colour is needed to tell."""
    sign = {"ok": "✓", "degraded": "!", "failed": "✕"}.get(status, "")
    return el(
        "span",
        el("span", sign, aria_hidden="true"),
        f" {word or status}",
        class_=f"badge {status}" if sign else "badge",
    )


def card(title: str, facts: Mapping[str, object], *parts: object) -> Html:
    """What a notebook shows of an object: a title, facts in two columns, then what else there is.

    Args:
        title: in bold.
        facts: by name; those that are None or empty are left out.
        parts: `Html` below.
    """
    rows = [
        el("tr", el("th", name, scope="row", style="text-align:left"), el("td", value, style="text-align:left"))
        for name, value in facts.items()
        if value is not None and value != ""
    ]
    return el("div", el("p", el("b", title)), el("table", el("tbody", *rows)) if rows else None, *parts)
