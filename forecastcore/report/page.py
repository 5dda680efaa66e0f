"""The page: what was forecast, what needs attention, how good it may be, what was decided and what was assumed."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np

from forecastcore import __version__
from forecastcore.errors import UsageError
from forecastcore.report import words
from forecastcore.report.charts import SCENARIO_STYLES, draw, need_matplotlib
from forecastcore.report.markup import Html, el, join, table
from forecastcore.report.views import View, Vintage, chosen, levels_of, views_of, vintages_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from forecastcore.frames import History
    from forecastcore.messages import Decision, LeaderboardRow, PredictReport, RetrainReport, VersionRef
    from forecastcore.project import Project

__all__ = ["write_page"]

#: charts of the newest vintage, and of an earlier one with its actuals
CHARTS, EARLIER = 24, 6
#: series in the table of all series
_LISTED = 5000
_ROWS_OF_NUMBERS = 8
#: the page may fetch nothing and run nothing, whatever stands in it
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class _Clock:
    """Instants in words on the project's local clock."""

    timezone: str
    hours: bool

    def __call__(self, instant: object) -> str:
        return words.moment(instant, self.timezone, clock=self.hours)  # type: ignore[arg-type]  # whatever pandas takes


def write_page(
    path: Path,
    *,
    project: Project,
    history: History,
    table: pd.DataFrame,
    retrain_report: RetrainReport | None,
    predict_report: PredictReport | None,
) -> Path:
    """Write one self-contained HTML file about the newest vintage.

    Args:
        path: the file; its folder is made, a file that is there is replaced.
        project: whose forecast.
        history: checked history; what lies after a vintage's origin is shown as what came.
        table: the forecast table, any number of vintages.
        retrain_report: leaderboard and decision; None where there is none to show.
        predict_report: assumptions and delivery; None where there is none to show.

    Returns:
        The path.

    Raises:
        UsageError: matplotlib is not installed, or the table has no rows.
    """
    need_matplotlib()
    if table.empty:
        raise UsageError("there is no forecast to show", hint="run forecastcore predict first")
    text = _page(project, history, table, retrain_report, predict_report)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def _page(
    project: Project,
    history: History,
    rows: pd.DataFrame,
    retrained: RetrainReport | None,
    predicted: PredictReport | None,
) -> str:
    vintages = vintages_of(rows, tuple(predicted.run_keys.values()) if predicted else ())
    wanted = [v for v in vintages if predicted is None or v.issued_at == predicted.issued_at]
    vintage = (wanted or vintages)[0]
    views = views_of(vintage, history)
    clock = _Clock(history.grid.timezone, history.grid.fixed)
    name = project.config.name
    sections = [
        ("attention", "Needs attention", _attention(views)),
        ("forecast", "Forecast", _forecast(views, vintage, clock)),
        ("series", "All series", _all_series(views)),
        ("earlier", "An earlier forecast, and what came", _earlier(vintages, vintage, history, clock)),
        ("models", "How the candidates did", _leaderboard(retrained, clock)),
        ("decision", "The decision", _decision(retrained)),
        ("assumed", "What was assumed", _assumed(predicted, project)),
        ("delivery", "Delivery and data", _delivery(predicted, retrained, vintage, clock)),
    ]
    shown = [(key, title, content) for key, title, content in sections if content]
    nav = el("nav", el("ul", *(el("li", el("a", t, href=f"#{k}")) for k, t, _ in shown)), aria_label="On this page")
    main = el("main", *(_section(key, title, content) for key, title, content in shown), id="main")
    return (
        "<!doctype html>\n"
        + el(
            "html",
            _head(f"{name}: forecast from {clock(vintage.issued_at)}"),
            el(
                "body",
                el("a", "Skip to the forecast", href="#main", class_="skip"),
                el("header", _title(project, history, vintage, views, retrained, clock)),
                nav,
                main,
                el(
                    "footer",
                    el("p", f"Made by forecastcore {__version__}. This page fetches nothing and runs nothing."),
                ),
            ),
            lang="en",
        )
        + "\n"
    )


def _head(title: str) -> Html:
    style = resources.files("forecastcore.report").joinpath("page.css").read_text(encoding="utf-8")
    return el(
        "head",
        el("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("style", Html(re.sub(r"\s*\n\s*", "\n", style))),
    )


def _section(key: str, title: str, content: Html) -> Html:
    return el("section", el("h2", title, id=f"{key}-title"), content, id=key, aria_labelledby=f"{key}-title")


# --- the top


def _title(
    project: Project,
    history: History,
    vintage: Vintage,
    views: Sequence[View],
    retrained: RetrainReport | None,
    clock: _Clock,
) -> Html:
    main, grid = vintage.main, history.grid
    horizon = int(main["step"].max())
    step = words.frequency(grid.frequency)
    span = words.duration(main["ds"].max() - vintage.issued_at)
    steps = words.count(horizon, step) if not step[0].isdigit() else f"{words.count(horizon, 'step')} of {step}"
    ahead = steps if span == steps else f"{steps} ({span})"
    made = sorted({(str(m), str(v)) for m, v in zip(main["model"], main["model_version"], strict=True) if m})
    served = main.loc[main["status"] == "ok", ["model", "model_version"]].drop_duplicates()
    model, version = (
        (str(served["model"].iloc[0]), str(served["model_version"].iloc[0])) if len(served) else (made or [("", "")])[0]
    )
    sentence = join(
        [
            f"{words.count(len(views), 'series', 'series')}, {ahead} ahead from ",
            el("strong", clock(vintage.issued_at)),
            f" ({grid.timezone}), by ",
            el("strong", f"{model}, version {version}"),
            ".",
        ]
    )
    return join(
        [
            el("p", "Forecast", class_="kicker"),
            el("h1", project.config.name),
            el("p", sentence, class_="lead"),
            el("dl", *_tiles(views, vintage, retrained, clock), class_="tiles"),
        ]
    )


def _tiles(views: Sequence[View], vintage: Vintage, retrained: RetrainReport | None, clock: _Clock) -> list[Html]:
    counts = {s: sum(view.status == s for view in views) for s in ("ok", "degraded", "failed")}
    off = ", ".join(f"{n} {s}" for s, n in counts.items() if n and s != "ok")
    tiles = [
        ("Served by the model", f"{counts['ok']:,} of {len(views):,}", off or "none degraded, none failed"),
        ("Until", clock(vintage.main["ds"].max()), ", ".join(["base", *list(vintage.scenarios)[1:]])),
    ]
    row = _winner(retrained, vintage)
    if row is not None and row.skill is not None:
        better = "smaller" if row.skill >= 0 else "larger"
        tiles.append(("Error in the backtest", words.share(abs(row.skill)), f"{better} than the best seasonal naive's"))
    bounds = levels_of(vintage.main)
    if row is not None and row.coverage is not None and bounds:
        tiles.append(("Band held in the backtest", words.share(row.coverage), f"of actuals; {_nominal(bounds)} wanted"))
    return [el("div", el("dt", name), el("dd", value), el("dd", note, class_="note")) for name, value, note in tiles]


def _winner(retrained: RetrainReport | None, vintage: Vintage) -> LeaderboardRow | None:
    """The leaderboard's line of the family that made the forecast, where the retrain's version is the one serving."""
    ref = retrained.challenger if retrained else None
    versions = set(vintage.main["model_version"].dropna().astype(str))
    if retrained is None or ref is None or ref.version not in versions:
        return None
    return next(
        (row for row in retrained.leaderboard if row.model == ref.model and not row.name.startswith("champion ")), None
    )


def _nominal(bounds: tuple[str, str]) -> str:
    low, high = (float(name[1:].replace("_", ".")) for name in bounds)
    return f"{high - low:g} %"


# --- what needs attention


def _attention(views: Sequence[View]) -> Html:
    wrong = [view for view in views if view.status != "ok"]
    if not wrong:
        return el("p", f"Nothing: the model served all {words.count(len(views), 'series', 'series')}.", class_="good")
    shown = wrong[:_LISTED]
    rows = [
        [view.unique_id, _badge(view.status), view.reason or words.NOTHING, view.model or words.NOTHING]
        for view in shown
    ]
    failed = sum(view.status == "failed" for view in wrong)
    told = [
        f"{words.count(len(wrong) - failed, 'series', 'series')} served by a fallback" if len(wrong) > failed else ""
    ]
    told += [f"{words.count(failed, 'series', 'series')} without a forecast" if failed else ""]
    return join(
        [
            el("p", "; ".join(filter(None, told)) + ". The other series are not touched by it."),
            table(
                "Series that the model did not serve",
                ("Series", "Status", "Reason", "Served by"),
                rows,
                hide_caption=True,
            ),
            _left_out(len(wrong), len(shown)),
        ]
    )


def _badge(status: str) -> Html:
    sign = {"ok": "✓", "degraded": "!", "failed": "✕"}.get(status, "")
    return el("span", el("span", sign, aria_hidden="true"), f" {status}", class_=f"badge {status}" if sign else "badge")


def _left_out(there: int, shown: int) -> Html | None:
    return el("p", f"And {there - shown:,} more: see the forecast table.") if there > shown else None


# --- charts


def _forecast(views: Sequence[View], vintage: Vintage, clock: _Clock) -> Html:
    picked = chosen(views, CHARTS)
    some = (
        el("p", f"{len(picked)} of {len(views):,} series: those that need attention, the most changed and the largest.")
        if len(picked) < len(views)
        else None
    )
    return join([some, _legend(picked, vintage), _charts(picked, vintage, clock, first=1)])


def _legend(views: Sequence[View], vintage: Vintage) -> Html:
    bounds = levels_of(vintage.main)
    keys = [("past", None, "history"), ("forecast", None, "forecast")]
    if bounds:
        keys.append(("band", None, f"{bounds[0]} to {bounds[1]}: {_nominal(bounds)} of actuals are expected in it"))
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


def _charts(views: Sequence[View], vintage: Vintage, clock: _Clock, *, first: int) -> Html:
    return el(
        "div", *(_figure(view, vintage, clock, number) for number, view in enumerate(views, first)), class_="charts"
    )


def _figure(view: View, vintage: Vintage, clock: _Clock, number: int) -> Html:
    label = _in_words(view, vintage, clock)
    picture = Html(draw(view, timezone=clock.timezone, label=label, number=number))
    badge = _badge(view.status) if view.status != "ok" else None
    return el(
        "article",
        el("h3", view.unique_id, " ", badge),
        el("p", view.reason, class_="reason") if view.reason else None,
        el("figure", picture, el("figcaption", _caption(view, vintage))),
        _numbers(view, vintage, clock),
    )


def _caption(view: View, vintage: Vintage) -> Html:
    span = words.duration(vintage.main["ds"].max() - vintage.issued_at)
    parts = [join(["mean ", el("b", words.number(view.level))])]
    parts.append(
        Html(f"{words.change(view.level, view.before)} on the {span} before") if np.isfinite(view.before) else Html("")
    )
    parts += [
        Html(f"{words.change(_mean(values), view.level)} if {_plain(name)}") for name, values in view.scenarios.items()
    ]
    if np.isfinite(view.error):
        parts += [Html(f"mean error {words.number(view.error)}"), Html(f"{words.share(view.inside)} in the band")]
    return join([part for part in parts if part], " · ")


def _plain(name: str) -> str:
    return join([name])


def _mean(values: object) -> float:
    numbers = np.asarray(values, dtype=float)
    fine = numbers[np.isfinite(numbers)]
    return float(fine.mean()) if len(fine) else float("nan")


def _in_words(view: View, vintage: Vintage, clock: _Clock) -> str:
    """The picture's text alternative: its message with its numbers."""
    said = [f"Line chart of {view.unique_id}."]
    if np.isfinite(view.past_y).any():
        said.append(f"History from {clock(view.past_ds[0])}: mean {words.number(_mean(view.past_y))}.")
    if np.isfinite(view.forecast).any():
        low, high = int(np.nanargmin(view.forecast)), int(np.nanargmax(view.forecast))
        said.append(
            f"Forecast until {clock(view.ds[-1])}: mean {words.number(view.level)}, lowest {words.number(view.forecast[low])}"
            f" on {clock(view.ds[low])}, highest {words.number(view.forecast[high])} on {clock(view.ds[high])}."
        )
    else:
        said.append(f"No forecast: {view.reason}.")
    bounds = levels_of(vintage.main)
    if bounds and np.isfinite(view.low).any():
        said.append(
            f"On average {words.number(_mean(view.low))} at {bounds[0]} and {words.number(_mean(view.high))} at {bounds[1]}."
        )
    said += [
        f"Scenario {name}: mean {words.number(_mean(v))} ({words.change(_mean(v), view.level)})."
        for name, v in view.scenarios.items()
    ]
    if np.isfinite(view.error):
        said.append(
            f"What came: mean {words.number(_mean(view.actual))}, mean absolute error {words.number(view.error)}."
        )
    return " ".join(said)


def _numbers(view: View, vintage: Vintage, clock: _Clock) -> Html:
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


# --- tables of all series


def _all_series(views: Sequence[View]) -> Html:
    shown = list(views[:_LISTED])
    names = list(shown[0].scenarios) if shown else []
    head = ("Series", "Status", "Mean", "Change", "Band", *(f"If {name}" for name in names), "Reason")
    rows = [
        [
            view.unique_id,
            _badge(view.status),
            words.number(view.level),
            words.change(view.level, view.before),
            f"{words.number(_mean(view.low))} to {words.number(_mean(view.high))}"
            if np.isfinite(view.low).any()
            else words.NOTHING,
            *(
                words.change(_mean(view.scenarios[name]), view.level) if name in view.scenarios else words.NOTHING
                for name in names
            ),
            view.reason,
        ]
        for view in shown
    ]
    if not any(view.reason for view in shown):
        head, rows = head[:-1], [row[:-1] for row in rows]
    note = "Means over the horizon; the change is against as many values before the origin, the band the mean of the outermost quantiles."
    listed = table(
        f"{words.count(len(shown), 'series', 'series')}. {note}", head, rows, numeric=range(2, 5 + len(names))
    )
    return el(
        "details",
        el("summary", f"Means of {words.count(len(shown), 'series', 'series')}"),
        listed,
        _left_out(len(views), len(shown)),
        open=len(views) <= CHARTS,
    )


def _earlier(vintages: Sequence[Vintage], newest: Vintage, history: History, clock: _Clock) -> Html:
    """The newest earlier vintage whose actuals have come, all of them if there is one."""
    before = [v for v in vintages if v.issued_at < newest.issued_at]
    done = [v for v in before if v.main["ds"].max() <= history.origin]
    vintage = next(iter(done or [v for v in before if v.main["ds"].min() <= history.origin]), None)
    if vintage is None:
        return Html("")
    main_only = Vintage(vintage.issued_at, dict(list(vintage.scenarios.items())[:1]))
    views = [view for view in views_of(main_only, history) if np.isfinite(view.error)]
    if not views:
        return Html("")
    made = " and ".join(
        sorted(
            {
                f"{m}, version {v}"
                for m, v in zip(vintage.main["model"], vintage.main["model_version"], strict=True)
                if m
            }
        )
    )
    held = _mean([view.inside for view in views])
    bounds = levels_of(vintage.main)
    band = (
        f" {words.share(held)} of the actuals fell into the band; {_nominal(bounds)} were expected to."
        if bounds and np.isfinite(held)
        else ""
    )
    picked = sorted(views, key=lambda v: -v.error / (abs(v.before) or np.inf) if np.isfinite(v.before) else 0.0)[
        :EARLIER
    ]
    fewer = (
        f" Shown: the {len(picked)} of {len(views):,} series with the largest errors for their size."
        if len(picked) < len(views)
        else ""
    )
    return join(
        [
            el("p", f"From {clock(vintage.issued_at)}, by {made}.{band}{fewer}"),
            _legend(picked, main_only),
            _charts(picked, main_only, clock, first=CHARTS + 1),
        ]
    )


# --- models


def _leaderboard(retrained: RetrainReport | None, clock: _Clock) -> Html:
    if retrained is None:
        return Html("")
    head = ("Candidate", "Status", "MASE", "RMSSE", "WQL", "Bias", "In the band", "Skill", "Seconds", "Remark")
    rows = [
        [
            row.name,
            _badge(row.status),
            *(f"{value:.3f}" if value is not None else words.NOTHING for value in (row.mase, row.rmsse, row.wql)),
            words.share(row.bias, 1),
            words.share(row.coverage),
            words.share(row.skill),
            words.number(row.seconds),
            row.reason,
        ]
        for row in retrained.leaderboard
    ]
    folds = words.count(retrained.folds, "past origin")
    caption = f"Leaderboard, best first: {folds} before {clock(retrained.as_of)}"
    explained = (
        "Every candidate forecast the same rows, with only what was known at each origin. MASE and RMSSE: error in units of"
        " the seasonal naive's error on the training data. WQL: loss of the quantiles. Skill: how much smaller the MASE is"
        " than the best seasonal naive's."
    )
    return join([table(caption, head, rows, numeric=range(2, 9)), el("p", explained, class_="note")])


def _decision(retrained: RetrainReport | None) -> Html:
    if retrained is None:
        return Html("")
    decision = retrained.decision
    verdict = {"first": "First champion", "promote": "Promoted", "hold": "Held"}[decision.verdict]
    said = decision.reason.split(": ", 1)
    reason = said[1] if len(said) > 1 and said[0] in {"first", "promoted", "held"} else decision.reason
    facts = [
        ("Champion before", _ref(retrained.champion_before)),
        ("Challenger", _ref(retrained.challenger)),
        ("Champion now", _ref(retrained.champion_after)),
    ]
    return join(
        [
            el("p", el("strong", f"{verdict}. "), f"{reason[:1].upper()}{reason[1:]}.", class_="lead"),
            *(el("p", note) for note in retrained.notes),
            el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in facts), class_="facts"),
            _guards(decision),
        ]
    )


def _guards(decision: Decision) -> Html | None:
    if not decision.guards:
        return None
    rows = [[guard.name, _badge_of_guard(passed=guard.passed), guard.detail] for guard in decision.guards]
    return table("Conditions that all have to hold for a promotion", ("Condition", "Holds", "Found"), rows)


def _badge_of_guard(*, passed: bool) -> Html:
    sign, word, colour = ("✓", "holds", "ok") if passed else ("✕", "fails", "failed")
    return el("span", el("span", sign, aria_hidden="true"), f" {word}", class_=f"badge {colour}")


def _ref(ref: VersionRef | None) -> str:
    return f"{ref.model}, version {ref.version}" if ref else "none"


# --- assumptions, delivery


def _assumed(predicted: PredictReport | None, project: Project) -> Html:
    if predicted is None:
        return Html("")
    if not predicted.assumptions:
        return el("p", "Nothing: the project has no covariates.")
    types = {name: a.type for name, a in project.config.assumptions.items()}
    listed = ", ".join(f"{name} is {kind}" for name, kind in types.items() if name != kind)
    rows = [
        [note.covariate, note.scenario, note.assumption, f"{note.rows:,}", note.reason or words.NOTHING]
        for note in predicted.assumptions
    ]
    if not any(note.reason for note in predicted.assumptions):
        rows = [row[:-1] for row in rows]
    head = ("Covariate", "Scenario", "Filled by", "Rows", "Fell back because")[: len(rows[0])]
    return join(
        [
            table("What stood in for the unknown future of the covariates", head, rows, numeric=(3,)),
            el("p", f"In the project file {listed}.", class_="note") if listed else None,
        ]
    )


def _delivery(
    predicted: PredictReport | None, retrained: RetrainReport | None, vintage: Vintage, clock: _Clock
) -> Html:
    report = predicted or retrained
    parts: list[Html | None] = []
    if predicted:
        rows = [
            [
                p.sink,
                el("code", p.location),
                f"{p.rows:,}",
                f"FAILED: {p.error}" if p.error else "there already" if p.already else "written",
            ]
            for p in predicted.published
        ]
        parts.append(
            table("Where the table went", ("Sink", "Location", "Rows", "State"), rows, numeric=(2,)) if rows else None
        )
    if report:
        repairs = ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in report.quality.items())
        parts += [
            el("p", f"Quality check: {repairs or 'nothing to repair'}."),
            *(el("p", note) for note in report.notes),
        ]
    keys = {name: str(rows["run_key"].iloc[0]) for name, rows in vintage.scenarios.items()}
    facts = [(f"Run key, {name}", el("code", key)) for name, key in keys.items()]
    facts += [("MLflow run of predict", el("code", predicted.run_id))] if predicted else []
    facts += [("MLflow run of retrain", el("code", retrained.run_id))] if retrained else []
    facts.append(("Made", Html(words.moment(vintage.main["created_at"].max(), clock.timezone))))
    parts.append(el("dl", *(el("div", el("dt", name), el("dd", value)) for name, value in facts), class_="facts"))
    return join(parts)
