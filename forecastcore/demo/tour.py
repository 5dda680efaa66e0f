"""A project with real data, taken through a month of its life: a first champion, a challenger, and two forecasts.

1. Retrain as of four weeks before the data ends, when the project had two candidates and two folds: the first champion.
2. Predict a week from there, whose actuals have come since.
3. Retrain on all data, with a third candidate: the winner is compared with the champion on newer origins.
4. Predict the week after the data's end, once as assumed and once in a heatwave.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

import forecastcore
from forecastcore import runtime
from forecastcore.demo import closing
from forecastcore.errors import UsageError
from forecastcore.messages import RetrainReport
from forecastcore.ports import Steps
from forecastcore.project import Project
from forecastcore.report import write_page
from forecastcore.runs.predict import forecasts, predict
from forecastcore.runs.retrain import retrain

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forecastcore.frames import History
    from forecastcore.messages import PredictReport

__all__ = ["run_demo"]

T = TypeVar("T")

#: how long before the end of the data the story begins, in horizons
_BEFORE = 4
_SCENARIOS = ("base", "heatwave")
#: the project of parts 1 and 2, before boosting came in
_AT_FIRST = ("models=[{type: seasonal-naive}, {type: ridge}]", "backtest.folds=2")


class _Chapter(Steps):
    """Tells which part of the tour a stage belongs to."""

    def __init__(self, number: int, steps: Steps) -> None:
        self._number, self._steps = number, steps

    def run(self, name: str, work: Callable[[], T]) -> T:
        """Do one stage under the chapter's number."""
        return self._steps.run(f"{self._number}/4 {name}", work)

    def progress(self, name: str, done: int, total: int) -> None:
        """Pass on how far it is."""
        self._steps.progress(f"{self._number}/4 {name}", done, total)


def run_demo(folder: Path, steps: Steps, *, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Write the demo project, retrain and predict, and say where to look.

    Run again on the same folder, it goes on there: what was trained stays, and the same forecast is not written twice.

    Args:
        folder: made where it is not there; else empty, or a demo of before.
        steps: how to watch the stages.
        overrides: `key.path=value` texts that replace what the project file says.

    Returns:
        `lines`, the text for people, and the facts behind it: `folder`, `project_file`, `retrain`, `predict`, `table`,
        `page`, `tracking`.

    Raises:
        UsageError: the folder holds something else, or what the demo needs is not installed.
    """
    folder = folder.absolute()
    _copy(folder)
    project = Project.load(folder, overrides=overrides)
    history = steps.run("read the data", lambda: runtime.history(project))
    retrained = _trained(project, history, folder / "out" / "retrain.json", steps, overrides)
    predicted = predict(project, scenarios=_SCENARIOS, steps=_Chapter(4, steps))
    table = forecasts(project, None)
    page = steps.run(
        "draw the page",
        lambda: write_page(
            folder / "out" / "report.html",
            project=project,
            history=history,
            table=table,
            retrain_report=retrained,
            predict_report=predicted,
        ),
    )
    facts = _facts(project, retrained, predicted, page)
    return {"lines": closing.lines(facts, retrained, predicted, table, history.grid, _checkout()), **facts}


def _copy(folder: Path) -> None:
    """Put the packaged project there, whatever of it is not there yet.

    Raises:
        UsageError: the folder holds something else.
    """
    if folder.is_dir() and any(folder.iterdir()) and not _is_ours(folder / "forecast.yaml"):
        raise UsageError(
            f"{folder} is not empty, and no demo project",
            hint="name a folder that is not there yet: forecastcore demo DIR",
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", hint="name a folder that is not there yet: forecastcore demo DIR")
    with resources.as_file(resources.files("forecastcore.demo") / "project") as packaged:
        for source in sorted(path for path in packaged.rglob("*") if path.is_file()):
            target = folder / source.relative_to(packaged)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


def _is_ours(file: Path) -> bool:
    packaged = (resources.files("forecastcore.demo") / "project" / "forecast.yaml").read_text(encoding="utf-8")
    try:
        there = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(there, dict) and there.get("name") == yaml.safe_load(packaged)["name"]


def _trained(project: Project, history: History, kept: Path, steps: Steps, overrides: Sequence[str]) -> RetrainReport:
    """Parts 1 to 3; a report that is kept stands for all of them."""
    if kept.is_file() and runtime.store(project).resolve("champion") is not None:
        return RetrainReport.model_validate(json.loads(kept.read_text(encoding="utf-8")))
    start = history.grid.shift(history.origin, -_BEFORE * project.config.horizon)
    at_first = Project.load(project.path, overrides=(*_AT_FIRST, *overrides))
    retrain(at_first, start, steps=_Chapter(1, steps))
    predict(at_first, start, steps=_Chapter(2, steps))
    report = retrain(project, steps=_Chapter(3, steps))
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_name(f".{kept.name}.{os.getpid()}")
    partial.write_text(json.dumps(report.to_json(), indent=1, allow_nan=False), encoding="utf-8")
    partial.replace(kept)
    return report


def _facts(project: Project, retrained: RetrainReport, predicted: PredictReport, page: Path) -> dict[str, Any]:
    return {
        "project": project.config.name,
        "folder": str(project.root),
        "project_file": str(project.path),
        "retrain": retrained.to_json(),
        "predict": predicted.to_json(),
        "table": predicted.published[0].location,
        "page": str(page),
        "tracking": str(project.tracking().uri),
        "python": sys.executable,
    }


def _checkout() -> Path | None:
    """The source tree that forecastcore runs from; None where it is installed from a wheel."""
    root = Path(forecastcore.__file__).parents[1]
    return root if (root / "flows" / "predict.py").is_file() else None
