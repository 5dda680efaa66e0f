"""What the demo says at the end: what happened, the first numbers, where things are, and what to try next."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from forecastcore.report import words

if TYPE_CHECKING:
    from forecastcore.messages import PredictReport, RetrainReport
    from forecastcore.timegrid import TimeGrid

__all__ = ["command", "lines", "shown_path"]

_ROWS = 6
_PORT = 5000


def lines(
    facts: dict[str, Any],
    retrained: RetrainReport,
    predicted: PredictReport,
    table: pd.DataFrame,
    grid: TimeGrid,
    checkout: Path | None,
) -> list[str]:
    """The closing words, at most 80 characters a line but for paths.

    Args:
        facts: what `run_demo` returns.
        retrained: of the retrain on all data.
        predicted: of the last predict.
        table: all vintages.
        grid: of the project.
        checkout: the source tree, where there is one.
    """
    return [
        "",
        *_contest(retrained, grid),
        "",
        *_forecast(predicted, table, grid),
        "",
        *_places(facts, predicted),
        "",
        *_servers(facts, checkout),
        "",
        *_next(facts, checkout),
    ]


def command(name: str) -> str:
    """How to call a script of this environment from where the user stands: `.venv/bin/forecastcore`."""
    script = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if found and Path(found).absolute() == script.absolute():
        return name
    return shlex.quote(shown_path(script))


def shown_path(path: Path | str) -> str:
    """A path relative to the working directory where it is below it."""
    path = Path(path)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _contest(report: RetrainReport, grid: TimeGrid) -> list[str]:
    board = pd.DataFrame(
        [
            {
                "candidate": row.name,
                "mase": row.mase,
                "wql": row.wql,
                "bias": row.bias,
                "coverage": row.coverage,
                "skill": row.skill,
                "seconds": row.seconds,
                "status": row.status,
            }
            for row in report.leaderboard
        ]
    ).astype(dict.fromkeys(("mase", "wql", "bias", "coverage", "skill", "seconds"), float))
    until = words.moment(report.as_of, grid.timezone)
    champion = report.champion_after
    return [
        f"Retrain: {words.count(len(board), 'candidate')} on {report.folds} origins before {until}, best first",
        *_aligned(board),
        "",
        *_wrapped(f"Decision: {report.decision.reason}"),
        f"Champion: {champion.model}, version {champion.version}" if champion else "Champion: none",
    ]


def _forecast(report: PredictReport, table: pd.DataFrame, grid: TimeGrid) -> list[str]:
    ours = table[table["run_key"].isin(list(report.run_keys.values()))]
    base = ours[ours["scenario"] == "base"].reset_index(drop=True)
    head = base[base["unique_id"] == base["unique_id"].iloc[0]].head(_ROWS)
    rows = pd.DataFrame(
        {
            "unique_id": head["unique_id"],
            f"ds ({grid.timezone})": head["ds"].dt.tz_convert(grid.timezone).dt.strftime("%Y-%m-%d %H:%M"),
            **{name: head[name] for name in ("step", "forecast", "q10", "q90") if name in head},
        }
    )
    for name in report.scenarios[1:]:
        other = ours[ours["scenario"] == name].set_index(["unique_id", "step"])["forecast"]
        rows[f"if {name}"] = other.reindex(pd.MultiIndex.from_frame(head[["unique_id", "step"]])).to_numpy()
    rows["status"] = head["status"]
    origin = words.moment(report.issued_at, grid.timezone)
    again = ", there before: nothing was written twice" if all(p.already for p in report.published) else ""
    made = f"{words.count(report.series.total, 'series', 'series')}, {report.rows:,} rows{again}"
    told = f"Predict from {origin} by {report.model}, version {report.model_version}: {made}"
    return [*_wrapped(told), *_aligned(rows)]


def _aligned(frame: pd.DataFrame) -> list[str]:
    """Columns side by side under their names: text to the left, numbers to the right."""
    columns = []
    for name in frame:
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        cells = [str(name), *(_cell(value) for value in frame[name])]
        width = max(map(len, cells))
        columns.append([cell.rjust(width) if numeric else cell.ljust(width) for cell in cells])
    return ["  " + "  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if math.isfinite(value) else "-"
    return str(value)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _places(facts: dict[str, Any], report: PredictReport) -> list[str]:
    sink = report.published[0].sink
    database = facts["tracking"].removeprefix("sqlite:///")
    return [
        "Look at it",
        f"  picture  {shown_path(facts['page'])}  (one file; open it in a browser)",
        f"  table    {shown_path(facts['table'])}  ({sink})",
        f"  models   {shown_path(database)}  (MLflow: runs, versions, who was champion when)",
    ]


def _servers(facts: dict[str, Any], checkout: Path | None) -> list[str]:
    uri = shlex.quote(facts["tracking"])
    told = [
        "See every candidate, metric and decision in MLflow",
        f"  {command('mlflow')} ui --backend-store-uri {uri} --host 127.0.0.1 --port {_PORT}",
        f"  http://127.0.0.1:{_PORT}/#/experiments?workflowType=machine_learning",
        "",
    ]
    if checkout is None:
        return [
            *told,
            "Under Prefect: the flows are in the folder flows/ of the source tree, in no wheel; take them from there.",
        ]
    prefect, python = command("prefect"), command(Path(sys.executable).name)
    flow, file = (
        shlex.quote(shown_path(checkout / "flows" / "predict.py")),
        shlex.quote(shown_path(facts["project_file"])),
    )
    return [
        *told,
        "Run it under Prefect: a server, and in a second terminal a flow",
        f"  {prefect} server start --host 127.0.0.1 --port 4200",
        f"  PREFECT_API_URL=http://127.0.0.1:4200/api {python} {flow} --project {file}",
        "  http://127.0.0.1:4200/runs",
    ]


def _next(facts: dict[str, Any], checkout: Path | None) -> list[str]:
    called, file = command("forecastcore"), shlex.quote(shown_path(facts["project_file"]))
    readme = f", and {shown_path(checkout / 'README.md')} for a project of your own" if checkout else ""
    return [
        "What next",
        f"  {called} predict -p {file}          the same again: nothing is written twice",
        f"  {called} models history -p {file}   who was champion when, and why",
        f"  Change {shown_path(facts['project_file'])} and retrain{readme}.",
    ]
