"""What a run shows in Prefect: tables and words, no images; text that comes from data is never read as markup."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flow_stages import courtesy
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from forecastcore.config import has_reference
from forecastcore.tracking.connect import mask

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from forecastcore.messages import (
        LeaderboardRow,
        PredictReport,
        Publication,
        RetrainReport,
        SeriesCount,
        VersionRef,
        WorstSeries,
    )
    from forecastcore.project import Project
    from forecastcore.watching.messages import MonitorReport

__all__ = [
    "decision",
    "leaderboard",
    "plain",
    "show_monitor",
    "show_predict",
    "show_retrain",
    "summary",
    "training",
    "watched",
]

#: rows and characters that are still read by people
_ROWS, _CELL = 200, 300
#: names in a sentence
_NAMED = 10
_WORST = ("series", "mase", "times the seasonal naive", "not served by the model because")
_ACTIVE = re.compile(r"([\\`*_\[\]<>|~&@]|(?<=:)//|(?<=\bwww)\.)", re.IGNORECASE)


def show_retrain(report: RetrainReport, project: Project) -> None:
    """Put leaderboard, decision and summary of a retrain beside its flow run."""
    key = f"forecastcore-{report.project}"
    with courtesy("the leaderboard"):
        words = f"{report.folds} folds up to {report.as_of:%Y-%m-%d %H:%M} UTC, best first"
        create_table_artifact(leaderboard(report), key=f"{key}-leaderboard", description=words)
    with courtesy("the decision"):
        create_markdown_artifact(decision(report), key=f"{key}-decision", description=f"{report.decision.verdict}")
    with courtesy("the summary"):
        create_markdown_artifact(training(report, project), key=f"{key}-training", description="What was learnt")
    _show_worst(report.worst, f"{key}-worst-trained", "Series that the best candidate serves worst in the backtest")


def show_predict(report: PredictReport, project: Project) -> None:
    """Put the summary of a predict beside its flow run."""
    key = f"forecastcore-{report.project}"
    with courtesy("the summary"):
        create_markdown_artifact(summary(report, project), key=f"{key}-summary", description="What was forecast")
    words = "Series that are not ok, then those that the model was worst on in its backtest"
    _show_worst(report.worst, f"{key}-worst-forecast", words)


def _show_worst(series: Sequence[WorstSeries], key: str, words: str) -> None:
    with courtesy("the worst series"):
        lines = [dict(zip(_WORST, _worst_line(one), strict=True)) for one in series]
        rows = [{**line, **_cells({name: str(line[name]) for name in _WORST[::3]})} for line in lines]
        create_table_artifact(rows, key, words)


def show_monitor(report: MonitorReport, project: Project) -> None:
    """Put what the policies say, and the worst series, beside the flow run."""
    key = f"forecastcore-{report.project}"
    with courtesy("the summary"):
        words = "; ".join(report.advice) or "nothing to do"
        create_markdown_artifact(watched(report, project), key=f"{key}-monitor", description=words)
    with courtesy("the worst series"):
        rows = [{**one.model_dump(), **_cells({"unique_id": one.unique_id})} for one in report.worst]
        words = "Series with the largest errors, worst first"
        create_table_artifact(rows, key=f"{key}-worst-series", description=words)


def _worst_line(one: WorstSeries) -> tuple[str, float | None, float | None, str]:
    mase, times = (None if value is None else round(value, 3) for value in (one.mase, one.times_naive))
    return one.unique_id, mase, times, one.reason


def _worst(series: Sequence[WorstSeries]) -> tuple[str, str]:
    """Heading and table, as `_page` takes them."""
    lines = [["not known" if cell is None else cell for cell in _worst_line(one)] for one in series]
    return "### Worst series" if lines else "", _table(_WORST, lines)


def watched(report: MonitorReport, project: Project) -> str:
    """What the policies say, what was done, how good the vintages were, and where the errors come from."""
    said = [["fired" if p.fired else "quiet", p.do, p.when, p.reason] for p in report.policies]
    done = [[a.do, "done" if a.done else "not done", a.note] for a in report.acted]
    scores = [[s.kind, s.name, s.rows, *map(_figure, (s.mase, s.bias, s.coverage, s.skill))] for s in report.accuracy]
    promised = [
        [v.version, v.model, v.vintages, *map(_figure, (v.mase, v.promised_mase, v.coverage, v.promised_coverage))]
        for v in report.versions
    ]
    split = [[s.version, *map(_figure, (s.mase, s.model_error, s.assumption_error))] for s in report.split]
    moved = [
        [d.column, *map(_figure, (d.psi, d.usual_psi, d.ks)), "drifted" if d.drifted else "as in training"]
        for d in report.drift
    ]
    rhythm = report.schedule
    lacking = ", ".join(f"{moment:%Y-%m-%d %H:%M}" for moment in rhythm.missing[-_NAMED:]) or "none"
    return _page(
        f"## {plain(report.project)}: {plain(', '.join(report.advice)) or 'nothing to do'}",
        f"{len(report.vintages)} vintages up to {report.as_of:%Y-%m-%d %H:%M} UTC, champion "
        f"{plain(report.champion or 'none')}; {report.seconds:.1f} s.",
        _table(("policy", "asks to", "when", "because"), said),
        _table(("asked to", "", "result"), done),
        "### Accuracy",
        _table(("", "", "rows", "mase", "bias", "coverage", "skill"), scores),
        _table(("version", "model", "vintages", "mase", "promised", "coverage", "promised"), promised),
        "### Error of the model and of the assumptions" if split else "",
        _table(("version", "mase", "model", "assumptions"), split),
        "### Inputs" if moved else "",
        _table(("input", "psi", "usual", "ks", ""), moved),
        f"New series: {plain(', '.join(report.new_series[:_NAMED]))}." if report.new_series else "",
        f"Ended series: {plain(', '.join(report.ended_series[:_NAMED]))}." if report.ended_series else "",
        "" if rhythm.every is None else f"Missing vintages: {lacking}; late: {len(rhythm.late)}.",
        _mlflow(project, report.run_id),
    )


def _figure(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3f}"


def leaderboard(report: RetrainReport) -> list[dict[str, Any]]:
    """One line per candidate, best first; numbers of four decimals, None where there is none."""
    return [_line(row) for row in report.leaderboard[:_ROWS]]


def decision(report: RetrainReport) -> str:
    """The verdict in words, with gain, interval, guards, and who is champion now."""
    d = report.decision
    told = {"promote": "Promoted", "hold": "Held: the champion stays", "first": "First champion"}[d.verdict]
    applied = report.champion_after is not None and report.champion_after == report.challenger
    if d.verdict != "hold" and not applied:
        told = f"Would be: {told[0].lower()}{told[1:]}; {'deferred' if report.deferred else 'not applied'}"
    gain = [f"- gain against the champion: {_percent(d.gain)}"] if d.gain is not None else []
    if d.ci is not None:
        gain.append(f"- {d.confidence:.0%} interval: {_percent(d.ci[0])} to {_percent(d.ci[1])}")
    guards = [[g.name, "holds" if g.passed else "fails", g.detail] for g in d.guards]
    return _page(
        f"## {told}",
        plain(d.reason),
        plain(report.deferred),
        "\n".join(
            [
                *gain,
                f"- challenger: {_version(report.challenger)}",
                f"- champion before: {_version(report.champion_before)}",
                f"- champion now: {_version(report.champion_after)}",
            ]
        ),
        _table(("guard", "", "detail"), guards),
    )


def training(report: RetrainReport, project: Project) -> str:
    """What was learnt from what, counts by status, repairs, and the way to MLflow."""
    return _page(
        f"## {plain(report.project)}: learnt up to {report.as_of:%Y-%m-%d %H:%M} UTC",
        f"{len(report.leaderboard)} candidates on {report.folds} folds, {report.seconds:.1f} s.",
        _series(report.series),
        *_worst(report.worst),
        _repairs(report.quality, report.notes),
        _elsewhere(report.where),
        _mlflow(project, report.run_id),
    )


def summary(report: PredictReport, project: Project) -> str:
    """What was forecast for when and by which model, counts by status, assumptions, sinks, and the way to MLflow."""
    assumed = [[n.scenario, n.covariate, n.assumption, n.rows, n.reason or "as planned"] for n in report.assumptions]
    keys = [[scenario, key] for scenario, key in report.run_keys.items()]
    return _page(
        f"## {plain(report.project)}: forecast from {report.issued_at:%Y-%m-%d %H:%M} UTC",
        f"{project.config.horizon} steps of {plain(project.config.frequency)}, {report.rows} rows by "
        f"{plain(report.model)}, version {plain(report.model_version)}; {report.seconds:.1f} s.",
        _series(report.series),
        _table(("series", "not ok because"), [[count, reason] for reason, count in report.reasons.items()]),
        *_worst(report.worst),
        "### Assumed" if assumed else "",
        _table(("scenario", "covariate", "by", "rows", "remark"), assumed),
        "### Published",
        _table(("sink", "location", "rows", "remark"), [_delivery(p) for p in report.published]),
        _repairs(report.quality, report.notes),
        "### Run",
        _table(("scenario", "run key"), keys),
        _elsewhere(report.where),
        _mlflow(project, report.run_id),
    )


def plain(value: Any) -> str:
    """`value` as text that Markdown and HTML show as it is, in one line."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    text = text if len(text) <= _CELL else f"{text[: _CELL - 1]}…"
    return _ACTIVE.sub(lambda found: "".join(f"\\{c}" for c in found.group()), text)


def _line(row: LeaderboardRow) -> dict[str, Any]:
    numbers = {k: getattr(row, k) for k in ("mase", "rmsse", "wql", "bias", "coverage", "skill", "seconds", "premium")}
    rounded = {name: None if value is None else round(value, 4) for name, value in numbers.items()}
    params = ", ".join(f"{name}={value}" for name, value in row.params.items())
    texts = {"candidate": row.name, "model": row.model, "status": row.status}
    return {**_cells(texts), **rounded, **_cells({"parameters": params, "remark": row.reason})}


def _cells(texts: dict[str, str]) -> dict[str, str]:
    # a table's cells are plain text but for links, which a space breaks
    return {name: text[:_CELL].replace("](", "] (") for name, text in texts.items()}


def _page(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(plain(cell) for cell in row)} |" for row in rows]
    rest = [f"… and {len(lines) - _ROWS} more"] if len(lines) > _ROWS else []
    rule = f"|{'---|' * len(head)}"
    return "\n".join([f"| {' | '.join(head)} |", rule, *lines[:_ROWS], *rest]) if lines else ""


def _series(series: SeriesCount) -> str:
    return _table(("series", "ok", "degraded", "failed"), [[series.total, series.ok, series.degraded, series.failed]])


def _repairs(quality: dict[str, int], notes: Sequence[str]) -> str:
    lines = [f"- {plain(name)}: {count}" for name, count in quality.items()] + [f"- {plain(note)}" for note in notes]
    return "\n".join(["### Quality check", "", *lines[:_ROWS]]) if lines else ""


def _delivery(publication: Publication) -> list[Any]:
    remark = "there already: nothing written" if publication.already else "written"
    remark = f"FAILED: {publication.error}" if publication.error else remark
    return [publication.sink, publication.location, publication.rows, remark]


def _percent(share: float | None) -> str:
    return "not known" if share is None else f"{share:+.1%}"


def _version(ref: VersionRef | None) -> str:
    number = f"version {plain(ref.version)}" if ref and ref.version else "not registered yet"
    return f"{plain(ref.model)}, {number}" if ref else "none"


def _elsewhere(where: str) -> str:
    """The way to the run on Databricks, where it was done there."""
    safe = urlsplit(where).scheme in {"http", "https"} and not re.search(r"[<>\s]", where)
    return f"### Databricks\n\n[the run](<{where}>)" if safe else ""


def _mlflow(project: Project, run_id: str) -> str:
    """The way to the run: a link, or the command that opens the database."""
    if not run_id:
        return "### MLflow\n\nthis run is not recorded: MLflow could not be asked"
    uri = project.tracking().uri or ""
    place = f"#/runs/{run_id}?workflowType=machine_learning"
    parts = urlsplit(uri)
    if parts.scheme in {"http", "https"}:
        server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
        return f"### MLflow\n\n[run {run_id}](<{server}/{place}>)"
    shown = project.config.tracking.uri if has_reference(project.config.tracking.uri) else mask(uri)
    if uri.startswith("databricks"):
        return f"### MLflow\n\nrun {run_id} in the workspace that `{shown}` names"
    command = f"mlflow ui --backend-store-uri {shlex.quote(str(shown))} --host 127.0.0.1 --port 5000"
    link = f"[run {run_id}](<http://127.0.0.1:5000/{place}>)"
    return f"### MLflow\n\n    {' '.join(command.split())}\n\nthen {link}"
