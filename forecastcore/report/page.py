"""The page: what was forecast, what needs attention, how good it may be, what was decided and what was assumed."""

from __future__ import annotations

import os
import re
from importlib import resources
from typing import TYPE_CHECKING

from forecastcore import __version__
from forecastcore.errors import UsageError
from forecastcore.markup import Html, el, join
from forecastcore.report import pictures, tables, words
from forecastcore.report.charts import need_matplotlib
from forecastcore.report.views import levels_of, made_by, nominal, views_of, vintages_of
from forecastcore.report.words import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from forecastcore.frames import History
    from forecastcore.messages import LeaderboardRow, PredictReport, RetrainReport
    from forecastcore.project import Project
    from forecastcore.report.views import View, Vintage

__all__ = ["write_page"]

#: the page may fetch nothing and run nothing, whatever stands in it
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


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
    clock = Clock(history.grid.timezone, history.grid.fixed)
    name = project.config.name
    sections = [
        ("attention", "Needs attention", tables.attention(views, vintage)),
        ("forecast", "Forecast", pictures.forecast(views, vintage, clock)),
        ("series", "All series", tables.all_series(views, opened=len(views) <= pictures.CHARTS)),
        ("earlier", "An earlier forecast, and what came", pictures.earlier(vintages, vintage, history, clock)),
        ("models", "How the candidates did", tables.leaderboard(retrained, clock)),
        ("decision", "The decision", tables.decided(retrained)),
        ("assumed", "What was assumed", join([tables.assumed(predicted, project), tables.assumed_wrongly(retrained)])),
        ("delivery", "Delivery and data", tables.delivery(predicted, retrained, vintage, clock)),
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
    clock: Clock,
) -> Html:
    main, grid = vintage.main, history.grid
    horizon = int(main["step"].max())
    step = words.frequency(grid.frequency)
    span = words.duration(main["ds"].max() - vintage.issued_at)
    steps = words.count(horizon, step) if not step[0].isdigit() else f"{words.count(horizon, 'step')} of {step}"
    ahead = steps if span == steps else f"{steps} ({span})"
    sentence = join(
        [
            f"{words.count(len(views), 'series', 'series')}, {ahead} ahead from ",
            el("strong", clock(vintage.issued_at)),
            f" ({grid.timezone}), by ",
            el("strong", made_by(vintage)),
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


def _tiles(views: Sequence[View], vintage: Vintage, retrained: RetrainReport | None, clock: Clock) -> list[Html]:
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
        tiles.append(("Band held in the backtest", words.share(row.coverage), f"of actuals; {nominal(bounds)} wanted"))
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
