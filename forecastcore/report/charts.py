"""A view as a small SVG picture whose colours are the page's, so that it is right in the light and in the dark."""

from __future__ import annotations

import io
import math
import re
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from forecastcore.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from forecastcore.report.views import Floats, Instants, View

__all__ = ["SCENARIO_STYLES", "draw", "need_matplotlib"]

_WIDTH, _HEIGHT = 400, 190
_FONT = 11
#: matplotlib wants colours; these stand for custom properties of the page's style sheet, put in afterwards
_INKS = {"past": "#0000a1", "forecast": "#0000a2", "band": "#0000a3", "text": "#0000a4", "grid": "#0000a5"}
_INKS |= {"actual": "#0000a6", "s1": "#0000b1", "s2": "#0000b2", "s3": "#0000b3"}
_NAMES = {ink: name for name, ink in _INKS.items()}
#: of the what-ifs in turn: colour and dashes, for eyes that see no colours too
SCENARIO_STYLES = (("s1", (5, 2)), ("s2", (2, 2)), ("s3", (7, 2, 2, 2)))
_BUCKETS = 300
_SETTINGS: Any = {"svg.fonttype": "none", "path.simplify": True, "path.simplify_threshold": 0.3, "font.size": _FONT}


def need_matplotlib() -> None:
    """Say how to install matplotlib where it is not there.

    Raises:
        UsageError: it is not there.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        message = "the report page draws its charts with matplotlib, which is not installed"
        raise UsageError(message, hint="pip install 'forecastcore[report]'") from error
    del mpl


def draw(view: View, *, timezone: str, label: str, number: int) -> str:
    """An `<svg>` element with the view's chart on the local time axis.

    Args:
        view: what to show.
        timezone: IANA zone of the time axis.
        label: what the picture says, in words.
        number: unique on the page.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**_SETTINGS, "svg.hashsalt": f"forecastcore-{number}"}):
        figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72), dpi=72)
        axes = figure.add_subplot()
        _lines(axes, view)
        left = _value_axis(axes, view)
        _time_axis(axes, view, timezone)
        axes.set_position((left / _WIDTH, 0.17, 1 - (left + 6) / _WIDTH, 0.79))
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    return _slim(out.getvalue(), label)


def _lines(axes: Axes, view: View) -> None:
    style: dict[str, Any] = {"solid_joinstyle": "round", "clip_on": False}
    if np.isfinite(view.low).any():
        edges, low, high = _thin(view.ds, view.low, view.high)
        axes.fill_between(edges, low, high, color=_INKS["band"], alpha=0.2, linewidth=0, clip_on=False)
    axes.plot(view.past_ds, view.past_y, color=_INKS["past"], linewidth=1.1, **style)
    axes.plot(view.ds, view.forecast, color=_INKS["forecast"], linewidth=1.6, **style)
    for number, values in enumerate(view.scenarios.values()):
        ink, dashes = SCENARIO_STYLES[number % len(SCENARIO_STYLES)]
        axes.plot(view.ds, values, color=_INKS[ink], linewidth=1.2, dashes=dashes, clip_on=False)
    if np.isfinite(view.actual).any():
        axes.plot(view.ds, view.actual, color=_INKS["actual"], linewidth=0.9, **style)
    for ds, values, ink in ((view.past_ds, view.past_y, "past"), (view.ds, view.forecast, "forecast")):
        if np.isfinite(values).sum() == 1:  # a line needs two points
            axes.plot(ds, values, "o", markersize=3, color=_INKS[ink], clip_on=False)


def _thin(ds: Instants, low: Floats, high: Floats) -> tuple[Instants, Floats, Floats]:
    """At most `_BUCKETS` points of a band: the widest of each bucket."""
    if len(ds) <= _BUCKETS:
        return ds, low, high
    cuts = np.linspace(0, len(ds), _BUCKETS, endpoint=False).astype(np.intp)
    return ds[cuts], np.fmin.reduceat(low, cuts), np.fmax.reduceat(high, cuts)


def _value_axis(axes: Axes, view: View) -> float:
    """Four lines or so across, labelled; returns the room that the labels need."""
    everything = np.concatenate(
        [view.past_y, view.forecast, view.low, view.high, view.actual, *view.scenarios.values()]
    )
    values = everything[np.isfinite(everything)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if low == high:
        low, high = low - max(abs(low) * 0.05, 0.5), high + max(abs(high) * 0.05, 0.5)
    from matplotlib.ticker import MaxNLocator

    room = 0.03 * (high - low)
    ticks = np.asarray(MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high))
    ticks = ticks[(ticks >= low - room) & (ticks <= high + room)]
    axes.set_ylim(low - room, high + room)
    labels = _labels(ticks)
    axes.set_yticks(ticks, labels)
    axes.tick_params(axis="y", length=0, pad=4, labelcolor=_INKS["text"])
    axes.grid(axis="y", color=_INKS["grid"], linewidth=0.6, clip_on=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_INKS["grid"])
    axes.set_axisbelow(True)
    return 10 + 0.58 * _FONT * max(len(label) for label in labels)


def _labels(ticks: Floats) -> list[str]:
    """Tick labels with as many decimals as tell them apart; thousands and millions cut short where they can be."""
    step = float(ticks[1] - ticks[0]) if len(ticks) > 1 else max(float(np.abs(ticks).max(initial=1.0)), 1e-300)
    size, suffix = next(((s, x) for s, x in ((1e9, "G"), (1e6, "M"), (1e4, "k")) if step * 2 >= s), (1.0, ""))
    size = 1e3 if suffix == "k" else size
    decimals = max(0, -math.floor(math.log10(step / size) + 1e-9))
    if decimals > 5:  # noqa: PLR2004 - no room for so many zeros
        return [f"{value:.1e}" for value in ticks]
    return [f"{value / size + 0.0:,.{decimals}f}{suffix if value else ''}" for value in ticks]


def _time_axis(axes: Axes, view: View, timezone: str) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    instants = np.concatenate([view.past_ds, view.ds])
    zone = ZoneInfo(timezone)
    first, last = instants.min(), instants.max()
    room = (last - first) // 100 if last > first else np.timedelta64(1, "h")
    axes.set_xlim(first - room, last + room)
    locator = AutoDateLocator(tz=zone, minticks=3, maxticks=9)  # type: ignore[no-untyped-call]  # matplotlib's own
    axes.xaxis.set_major_locator(locator)
    offsets = ["", "%Y", "%b %Y", "%d %b %Y", "%d %b %Y", "%d %b %Y, %H:%M"]
    formatter = ConciseDateFormatter(locator, tz=zone, offset_formats=offsets)  # type: ignore[no-untyped-call]  # same
    axes.xaxis.set_major_formatter(formatter)
    axes.xaxis.get_offset_text().set_color(_INKS["text"])
    axes.tick_params(axis="x", length=0, pad=5, labelcolor=_INKS["text"])
    if len(view.past_ds) and len(view.ds):
        between = view.past_ds[-1] + (view.ds[0] - view.past_ds[-1]) // 2
        axes.axvline(between, color=_INKS["text"], linewidth=0.7, dashes=(1.5, 2.5), clip_on=False)


def _slim(svg: str, label: str) -> str:
    """Only the drawing: ids that clash, fonts, metadata and needless digits go; colours become the page's."""
    from forecastcore.markup import el

    body = svg[svg.index("<g id=") : svg.rindex("</svg>")]
    body = re.sub(r"<defs>\s*<style.*?</defs>", "", body, flags=re.DOTALL).replace("xlink:href", "href")
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", body)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r' d="([^"]*)"', lambda m: f' d="{_short_path(m[1])}"', body)
    body = re.sub(r"font: (?:[\w.]+ )*?([\d.]+px) [^;\"]*", r"font-size: \1", body)
    body = re.sub(r"#0000[ab]\d", lambda m: f"var(--{_NAMES[m[0]]})", body)
    body = re.sub(r">\s+<", "><", body).strip()
    opening = el("svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label)
    return opening.replace("></svg>", f">{body}</svg>")


def _short_path(path: str) -> str:
    rounded = re.sub(r"-?\d+\.\d+", lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), path)
    return re.sub(r"\s+", " ", rounded).replace(" L ", "L").replace(" z", "z").strip()
