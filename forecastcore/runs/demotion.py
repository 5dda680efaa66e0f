"""Back to the predecessor, where the champion has served worse than it would have.

On origins after the champion's training both stored artefacts are scored as they would have served, and compared by the
gate's own rule: the predecessor returns only if it is better, by more than chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore import runtime
from forecastcore.backtest import fold_origins, rows_of
from forecastcore.compare import demotion
from forecastcore.errors import PluginError, StateError
from forecastcore.package import Package
from forecastcore.race import run_package
from forecastcore.results import losses_served
from forecastcore.runs.gate import origins_after_training, rules_of, training_data

if TYPE_CHECKING:
    from forecastcore.messages import Decision, ModelVersion
    from forecastcore.ports import Engine, ModelStore, Past
    from forecastcore.project import Project

__all__ = ["review"]


def review(project: Project, history: Past, engine: Engine, store: ModelStore) -> Decision | None:
    """Whether the champion's predecessor should return; `promote` is for it, None where there is nothing to compare.

    Args:
        project: whose rules and folds.
        history: checked history.
        engine: where the stored models are scored.
        store: where they are.
    """
    champion, previous = store.resolve("champion"), store.resolve("previous")
    if project.config.promotion.mode == "off" or champion is None or previous is None:
        return None
    rows = rows_of(project, history, fold_origins(history, project))
    new = origins_after_training(rows, champion)
    both = [champion, previous]
    if not new or not all(_answers(project, history, store, version) for version in both):
        return None
    if not all(guard.passed for guard in training_data(project, history, store, champion)):
        return None  # on spoilt data neither has failed
    metric, levels = project.config.backtest.metric, project.config.quantiles
    served = (run_package(project, history, store.fetch(v), engine, rows, new) for v in both)
    ours, theirs = (losses_served(rows, sheet, metric, levels)[new] for sheet in served)
    rules, overlap = rules_of(project)
    return demotion(ours, theirs, rules, overlap=overlap, names=(champion.version, previous.version))


def _answers(project: Project, history: Past, store: ModelStore, version: ModelVersion) -> bool:
    """Whether a stored model can be loaded here and answers today's question."""
    try:
        manifest = Package.load(store.fetch(version), project.host).manifest
    except (PluginError, StateError):
        return False
    return not manifest.differs(runtime.task(project, history.grid, history.origin), history.grid)
