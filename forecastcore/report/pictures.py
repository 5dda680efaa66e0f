"""Charts with their words: the newest forecast, and an earlier one with what came."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from forecastcore.markup import Html, badge, el, join, table
from forecastcore.report import words
from forecastcore.report.charts import SCENARIO_STYLES, draw
from forecastcore.report.views import View, Vintage, chosen, levels_of, made_by, mean, nominal, views_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forecastcore.frames import History
    from forecastcore.report.words import Clock

__all__ = ["CHARTS", "earlier", "forecast"]

#: charts of the newest vintage, and of an earlier one with its actuals
CHARTS, EARLIER = 24, 6
_ROWS_OF_NUMBERS = 8


def forecast(views: Sequence[View], vintage: Vintage, clock: Clock) -> Html:
    """Charts of all series, or of those that matter most."""
    picked = chosen(views, CHARTS)
    some = (
        el("p", f"{len(picked)} of {len(views):,} series: those that need attention, the most changed and the largest.")
        if len(picked) < len(views)
        else None
    )
    return join([some, _legend(picked, vintage), _charts(picked, vintage, clock, first=1)])


def _legend(views: Sequence[View], vintage: Vintage) -> Html:
    bounds = levels_of(vintage.main)
    keys: list[tuple[str, str | None, str]] = [("past", None, "history"), ("forecast", None, "forecast")]
    if bounds:
        keys.append(("band", None, f"{bounds[0]} to {bounds[1]}: {nominal(bounds)} of actuals are expected in it"))
    if any(np.isfinite(view.actual).any() for view in views):
        keys.append(("actual", None, "what came"))
    keys += [
        (ink, ",".join(map(str, dashes)), f"scenario {name}")
        for name, (ink, dashes) in zip(
            list(vintage.scenarios)[1:], SCENARIO_STYLES * len(vintage.scenarios), strict=False
        )
    ]
    return el("ul", *(el("li", _swatch(ink, dashes), label) for ink, dashes, label in keys), class_="legend")


def _swatch(ink: str, dashes: str | None) -> Html:
    width = "10" if ink == "band" else "2"
    line = el(
        "path",
        d="M0 6H26",
        style=f"stroke:var(--{ink});stroke-width:{width};{'opacity:.3;' if ink == 'band' else ''}",
        stroke_dasharray=dashes,
    )
    return el("svg", line, viewBox="0 0 26 12", aria_hidden="true")


def _charts(views: Sequence[View], vintage: Vintage, clock: Clock, *, first: int) -> Html:
    return el(
        "div", *(_figure(view, vintage, clock, number) for number, view in enumerate(views, first)), class_="charts"
    )


def _figure(view: View, vintage: Vintage, clock: Clock, number: int) -> Html:
    label = _in_words(view, vintage, clock)
    picture = Html(draw(view, timezone=clock.timezone, label=label, number=number))
    mark = badge(view.status) if view.status != "ok" else None
    return el(
        "article",
        el("h3", view.unique_id, " ", mark),
        el("p", view.reason, class_="reason") if view.reason else None,
        el("figure", picture, el("figcaption", _caption(view, vintage))),
        _numbers(view, vintage, clock),
    )


def _caption(view: View, vintage: Vintage) -> Html:
    if not np.isfinite(view.level):
        return join(["no forecast"])
    span = words.duration(vintage.main["ds"].max() - vintage.issued_at)
    parts: list[object] = [join(["mean ", el("b", words.number(view.level))])]
    if np.isfinite(view.before):
        parts.append(f"{words.change(view.level, view.before)} on the {span} before")
    parts += [f"{words.change(mean(values), view.level)} if {name}" for name, values in view.scenarios.items()]
    if np.isfinite(view.error):
        parts.append(f"mean error {words.number(view.error)}")
    if np.isfinite(view.inside):
        parts.append(f"{words.share(view.inside)} in the band")
    return join(parts, " \N{MIDDLE DOT} ")


def _in_words(view: View, vintage: Vintage, clock: Clock) -> str:
    """The picture's text alternative: its message with its numbers."""
    said = [f"Line chart of {view.unique_id}."]
    if np.isfinite(view.past_y).any():
        said.append(f"History from {clock(view.past_ds[0])}: mean {words.number(mean(view.past_y))}.")
    if np.isfinite(view.forecast).any():
        low, high = int(np.nanargmin(view.forecast)), int(np.nanargmax(view.forecast))
        said += [
            f"Forecast until {clock(view.ds[-1])}: mean {words.number(view.level)},",
            f"lowest {words.number(view.forecast[low])} on {clock(view.ds[low])},",
            f"highest {words.number(view.forecast[high])} on {clock(view.ds[high])}.",
        ]
    else:
        said.append(f"No forecast: {view.reason}.")
    bounds = levels_of(vintage.main)
    if bounds and np.isfinite(view.low).any():
        said.append(f"On average {words.number(mean(view.low))} at {bounds[0]},")
        said.append(f"{words.number(mean(view.high))} at {bounds[1]}.")
    said += [
        f"Scenario {name}: mean {words.number(mean(v))} ({words.change(mean(v), view.level)})."
        for name, v in view.scenarios.items()
    ]
    if np.isfinite(view.error):
        said.append(
            f"What came: mean {words.number(mean(view.actual))}, mean absolute error {words.number(view.error)}."
        )
    return " ".join(said)


def _numbers(view: View, vintage: Vintage, clock: Clock) -> Html:
    """Some of the chart's numbers, to be opened."""
    places = np.unique(np.linspace(0, len(view.ds) - 1, _ROWS_OF_NUMBERS).round().astype(int))
    bounds = levels_of(vintage.main)
    columns = [("Forecast", view.forecast)]
    columns += [(bounds[0], view.low), (bounds[1], view.high)] if bounds else []
    columns += [(name, values) for name, values in view.scenarios.items()]
    columns += [("Came", view.actual)] if np.isfinite(view.actual).any() else []
    rows = [[clock(view.ds[p]), *(words.number(float(values[p])) for _, values in columns)] for p in places]
    caption = f"{view.unique_id}: {len(places)} of {words.count(len(view.ds), 'step')}"
    head = ("Time", *(name for name, _ in columns))
    return el(
        "details",
        el("summary", "Numbers", el("span", f" of {view.unique_id}", class_="unseen")),
        table(caption, head, rows, numeric=range(1, len(head))),
    )


def earlier(vintages: Sequence[Vintage], newest: Vintage, history: History, clock: Clock) -> Html:
    """The newest earlier vintage whose actuals have come, all of them if there is one; empty where none have."""
    before = [v for v in vintages if v.issued_at < newest.issued_at]
    done = [v for v in before if v.main["ds"].max() <= history.origin]
    vintage = next(iter(done or [v for v in before if v.main["ds"].min() <= history.origin]), None)
    if vintage is None:
        return Html("")
    main_only = Vintage(vintage.issued_at, dict(list(vintage.scenarios.items())[:1]))
    views = [view for view in views_of(main_only, history) if np.isfinite(view.error)]
    if not views:
        return Html("")
    picked = sorted(views, key=_relative_error, reverse=True)[:EARLIER]
    said = [f"From {clock(vintage.issued_at)}, by {made_by(vintage)}."]
    bounds, held = levels_of(vintage.main), mean(np.array([view.inside for view in views]))
    if bounds and np.isfinite(held):
        said.append(f"{words.share(held)} of the actuals fell into the band; {nominal(bounds)} were expected to.")
    if len(picked) < len(views):
        said.append(f"Shown: the {len(picked)} of {len(views):,} series with the largest errors for their size.")
    return join(
        [
            el("p", " ".join(said)),
            _legend(picked, main_only),
            _charts(picked, main_only, clock, first=CHARTS + 1),
        ]
    )


def _relative_error(view: View) -> float:
    level = abs(view.before)
    return view.error / level if np.isfinite(level) and level > 0 else 0.0
