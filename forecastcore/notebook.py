"""Forecasts where people look at them: the table of a project, and pictures of its series, without any server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore import runtime
from forecastcore.config.words import did_you_mean
from forecastcore.errors import UsageError
from forecastcore.markup import Html, el
from forecastcore.report.charts import draw, need_matplotlib
from forecastcore.report.views import levels_of, nominal, views_of, vintages_of
from forecastcore.runs import predict as runs

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from forecastcore.project import Project

__all__ = ["Forecasts", "Picture", "SeriesPlot", "forecasts"]

#: colours by name, in a light and a dark page; those of the report
_LIGHT = {"text": "#57606a", "past": "#6b7681", "forecast": "#0b62b8", "band": "#0b62b8", "actual": "#1b1f24"}
_LIGHT |= {"grid": "#dfe2e6", "s1": "#b04a00", "s2": "#7a3ea8", "s3": "#00735c"}
_DARK = {"text": "#a3adb8", "past": "#8b96a2", "forecast": "#6cb2ff", "band": "#6cb2ff", "actual": "#ffffff"}
_DARK |= {"grid": "#333940", "s1": "#ffa45c", "s2": "#cf9bf5", "s3": "#4fd0ae"}


class Picture:
    """A chart of one series, as SVG. A notebook shows it.

    Attributes:
        svg: the drawing, whose colours are named.
        caption: what it shows, in words.
    """

    def __init__(self, svg: str, caption: str) -> None:
        self.svg = svg
        self.caption = caption

    def __repr__(self) -> str:
        return f"<Picture: {self.caption}>"

    def _repr_html_(self) -> str:
        light, dark = (";".join(f"--{name}:{value}" for name, value in colours.items()) for colours in (_LIGHT, _DARK))
        # Notebooks tell of a dark theme by an attribute of the page.
        style = f".forecastcore-picture{{{light}}}body[data-jp-theme-light='false'] .forecastcore-picture"
        style += f",.vscode-dark .forecastcore-picture{{{dark}}}"
        figure = el("figure", Html(self.svg), el("figcaption", self.caption), style="max-width:48rem;margin:0")
        return el("div", el("style", Html(style)), figure, class_="forecastcore-picture")

    def save(self, path: str | Path) -> Path:
        """Write it as an SVG file that stands alone, in the colours of a light page.

        Args:
            path: the file; one that is there is replaced.

        Returns:
            The path.
        """
        text = re.sub(r"var\(--(\w+)\)", lambda m: _LIGHT.get(m[1], "#000000"), self.svg)
        target = Path(path)
        target.write_text(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1), encoding="utf-8")
        return target


class SeriesPlot:
    """The `plot` of a forecast table: of a series by its name, else what pandas has there."""

    def __init__(self, table: Forecasts) -> None:
        self._table = table

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Draw a series, or whatever pandas draws.

        Args:
            args: the name of a series alone, or what `DataFrame.plot` takes.
            options: what `DataFrame.plot` takes.

        Returns:
            A `Picture`, or what pandas returns.

        Raises:
            UsageError: there is no such series, or matplotlib is not installed.
        """
        if len(args) == 1 and not options and isinstance(args[0], str) and args[0] not in self._table.columns:
            return picture(self._table, args[0])
        return pd.DataFrame(self._table).plot(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(pd.DataFrame(self._table).plot, name)


class Forecasts(pd.DataFrame):
    """The forecast table: a pandas DataFrame whose `plot("series")` draws a series with its history."""

    _metadata = ["_project"]  # noqa: RUF012 - pandas' own way to hand it on
    _project: Project | None = None

    @property
    def _constructor(self) -> Callable[..., Forecasts]:
        return Forecasts

    @property
    def plot(self) -> SeriesPlot:  # type: ignore[override]  # pandas' own is behind it
        """`plot("series")` draws a series; anything else is what pandas has there."""
        return SeriesPlot(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The project stays here: what is sent elsewhere is the table alone.
        return pd.DataFrame, (pd.DataFrame(self),)


def forecasts(
    project: Project, issued_at: str | datetime | None = "latest", *, scenario: str | None = None
) -> Forecasts:
    """The delivered table, from the first sink that can be read.

    Args:
        project: whose sinks.
        issued_at: an origin, `latest` for the newest one, None for all vintages.
        scenario: only this one.

    Returns:
        The forecast table, sorted by scenario, series, origin and step; empty where nothing was delivered. Its
        `plot("series")` draws one.
    """
    found = runs.forecasts(project, issued_at, scenario=scenario)
    table = Forecasts(found)
    table.attrs = dict(found.attrs)
    table._project = project  # noqa: SLF001 - its own class
    return table


def picture(table: Forecasts, series: str) -> Picture:
    """One series of the newest vintage of a table: history, forecast, band, what-ifs, and what came.

    Args:
        table: from `forecasts`, or a part of it.
        series: its name.

    Raises:
        UsageError: there is no such series, or matplotlib is not installed.
    """
    need_matplotlib()
    project = table._project  # noqa: SLF001 - its own class
    if project is None:
        raise UsageError("this table knows no project", hint="draw what fc.forecasts(project) returns")
    rows = pd.DataFrame(table[table["unique_id"] == series])
    if rows.empty:
        known = [str(name) for name in table["unique_id"].unique()]
        hint = did_you_mean(series, known) or f"there are {len(known)}, such as {', '.join(known[:3])}"
        raise UsageError(f"no series {series!r} in this table", hint=hint)
    vintage = vintages_of(rows)[0]
    (view,) = views_of(vintage, runtime.history(project))
    zone = project.config.source.timezone
    bounds = levels_of(vintage.main)
    words = [f"{series}: forecast of {vintage.issued_at:%Y-%m-%d %H:%M} UTC by {view.model}, {view.status}"]
    words += [f"band of {nominal(bounds)}"] if bounds else []
    words += [f"scenario {name}" for name in view.scenarios]
    caption = ", ".join(words)
    return Picture(draw(view, timezone=zone, label=caption, number=0), caption)
