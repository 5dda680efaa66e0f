"""What MLflow is told of a retrain: the setting, a child run per candidate, tables instead of thousands of metrics."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore import __version__, runtime
from forecastcore.foresight import error_table
from forecastcore.metrics import group_mean
from forecastcore.runs.leaderboard import by_series

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from forecastcore.backtest import Backtest
    from forecastcore.ensemble import Blend
    from forecastcore.messages import AssumptionError, LeaderboardRow
    from forecastcore.ports import Past, Run
    from forecastcore.project import Candidate, Project
    from forecastcore.results import Result
    from forecastcore.runs.contest import Contest
    from forecastcore.runs.searching import Trial

__all__ = ["log_contest", "log_setting", "tags_of"]

METRICS = ("mase", "rmsse", "smape", "wql", "bias", "coverage", "skill", "skill_gm", "win_rate", "seconds", "premium")
#: rows of which MLflow infers the schema
_SHOWN = 100
#: covariates whose assumption error is a metric of its own; the table has all
_MEASURED = 5


def tags_of(project: Project, history: Past, command: str) -> dict[str, str]:
    """What a run is about: project, origin, digests of settings and data, plugins with version and content hash."""
    plugins = {
        f"forecastcore.plugin.{offer.kind}.{offer.name}": f"{offer.distribution} {offer.version} {offer.digest[:12]}"
        for offer in runtime.used_offers(project)
    }
    return {
        "forecastcore.project": project.config.name,
        "forecastcore.command": command,
        "forecastcore.origin": history.origin.isoformat(),
        "forecastcore.version": __version__,
        "forecastcore.config": project.digest(),
        "forecastcore.data": history.digest,
        **plugins,
    }


def log_setting(tracked: Run, project: Project, history: Past, folds: list[pd.Timestamp]) -> None:
    """The project file with its references unread, the quality check's counts, the data set."""
    config, rows = project.config, int(history.sizes.sum())
    tracked.params(
        {
            "as_of": history.origin.isoformat(),
            "frequency": config.frequency,
            "horizon": config.horizon,
            "folds": len(folds),
            "first_fold": folds[0].isoformat(),
            "metric": config.backtest.metric,
            "series": len(history.ids),
            "rows": rows,
        }
    )
    tracked.json("config.json", config.model_dump(mode="json"))
    tracked.json("quality.json", dict(history.counts))
    shown = history.of(history.ids[:1]).here.panel.head(_SHOWN)
    about = {"name": config.name, "source": config.source.type, "context": "retrain"}
    tracked.dataset(shown, rows=rows, digest=history.digest, **about)


def log_contest(tracked: Run, contest: Contest) -> None:
    """A child run per candidate, and the winner's numbers on the parent."""
    lines = {row.name: row for row in contest.leaderboard}
    for result in contest.results:
        name = result.candidate.name
        _log_candidate(tracked, contest, result, lines[name])
    tracked.metrics({f"best_{name}": value for name, value in _numbers(contest.winner).items()})
    if contest.assumption_errors:
        _log_assumptions(tracked, contest.assumption_errors)
    board = [
        {"name": row.name, "status": row.status, "reason": row.reason, **_numbers(row)} for row in contest.leaderboard
    ]
    tracked.table("leaderboard.parquet", pd.DataFrame(board))


def _log_assumptions(tracked: Run, errors: Sequence[AssumptionError]) -> None:
    """How good the assumptions were: a table by covariate and step, and in short a metric each."""
    tracked.table("assumption_errors.parquet", error_table(errors))
    short = {f"assumption_error.{error.covariate}": error.scaled for error in errors[:_MEASURED]}
    tracked.metrics({name: value for name, value in short.items() if value is not None})


def _log_candidate(tracked: Run, contest: Contest, result: Result, line: LeaderboardRow) -> None:
    rows, searched = contest.rows, contest.searched.get(line.name)
    with tracked.child(line.name) as child:
        child.params({"model": line.model, **{f"param.{name}": value for name, value in line.params.items()}})
        child.tags({"forecastcore.status": line.status, "forecastcore.reason": line.reason})
        child.metrics(_numbers(line))
        for fold, loss in enumerate(result.origin_losses(), 1):
            child.metrics({"fold_mase": float(loss)}, step=fold)
        slices = contest.slices[line.name].items()
        child.table("metrics.parquet", pd.DataFrame([{"slice": name, **one} for name, one in slices]))
        child.table("series.parquet", _per_series(rows, result))
        if result.blend is not None:
            _log_weights(child, result.candidate, result.blend)
        if searched is not None:
            _log_trials(child, line, searched.trials)


def _log_weights(child: Run, ensemble: Candidate, blend: Blend) -> None:
    """How much each member counts: as parameters, and as a table, by series where each has its own."""
    names = [member.name for member in ensemble.members]
    child.params({f"weight.{name}": float(share) for name, share in zip(names, blend.shares, strict=True)})
    child.table("weights.parquet", pd.DataFrame({"member": names, "weight": blend.shares}))
    if blend.choices:
        chosen = [names[number] for number in blend.choices.values()]
        child.table("choices.parquet", pd.DataFrame({"unique_id": list(blend.choices), "member": chosen}))


def _log_trials(child: Run, line: LeaderboardRow, trials: Sequence[Trial]) -> None:
    """A run below the candidate's for each trial, and one table of all."""
    for number, trial in enumerate(trials, 1):
        with child.child(f"{line.name} trial {number}") as run:
            run.params({"model": line.model, **{f"param.{name}": value for name, value in trial.params.items()}})
            run.tags({"forecastcore.state": trial.state, "forecastcore.reason": trial.reason})
            run.metrics({"trial_seconds": trial.seconds, **(_numbers(trial.row) if trial.row else {})})
    table = [
        {
            "params": json.dumps(t.params, default=str),
            "state": t.state,
            "loss": t.loss,
            "seconds": t.seconds,
            "reason": t.reason,
        }
        for t in trials
    ]
    child.table("trials.parquet", pd.DataFrame(table))


def _numbers(row: LeaderboardRow) -> dict[str, float]:
    return {name: value for name in METRICS if (value := getattr(row, name)) is not None}


def _per_series(rows: Backtest, result: Result) -> pd.DataFrame:
    numbers: dict[str, list[npt.NDArray[np.float64]]] = {"mase": [], "mae": [], "bias": []}
    for part in result.parts():
        error, series, count = part.forecast - part.rows.y, part.rows.series, len(part.rows.ids)
        numbers["mase"].append(by_series(part.rows, part.forecast))
        numbers["mae"].append(group_mean(np.abs(error), series, count))
        numbers["bias"].append(group_mean(error, series, count))
    return pd.DataFrame(
        {
            "unique_id": rows.ids,
            **{name: np.concatenate(values) for name, values in numbers.items()},
            "reason": [rows.screened.get(uid, result.failures.get(uid, "")) for uid in rows.ids],
        }
    )
