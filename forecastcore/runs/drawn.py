"""The page for people that each forecast gets where the project file asks for one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pandas as pd

from forecastcore.errors import ForecastCoreError
from forecastcore.messages import RetrainReport
from forecastcore.report import write_page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa

    from forecastcore.frames import History
    from forecastcore.messages import ModelVersion, PredictReport, Publication
    from forecastcore.ports import ModelStore
    from forecastcore.project import Project

__all__ = ["draw", "show"]

_log = logging.getLogger(__name__)


def draw(
    path: Path,
    project: Project,
    history: History,
    tables: Sequence[pa.Table],
    version: ModelVersion,
    store: ModelStore,
    report: PredictReport,
) -> bool:
    """Write a forecast's page; what is delivered stays so where that fails, and the log says why.

    Args:
        path: the file; one that is there is replaced.
        project: whose forecast.
        history: checked history.
        tables: what was delivered, a table for each scenario.
        version: whose forecast; its retrain gives leaderboard and decision, where it can be read.
        store: where that stands.
        report: what the predict did.

    Returns:
        Whether it could be made.
    """
    try:
        write_page(
            path,
            project=project,
            history=history,
            table=pd.concat([table.to_pandas() for table in tables], ignore_index=True),
            retrain_report=_trained(store, version),
            predict_report=report,
        )
    except (ForecastCoreError, OSError) as error:
        _log.warning("the forecast is delivered, but its page could not be drawn: %s", error)
        return False
    return True


def show(page: Path, project: Project, published: Sequence[Publication]) -> None:
    """Put a page beside the table, wherever that has arrived and takes pages; one place that fails keeps no other.

    Args:
        page: the file.
        project: whose sinks.
        published: what became of the vintages in each.
    """
    lost = {told.sink for told in published if told.error}
    for label, sink in project.sinks():
        take = getattr(sink, "show", None)
        if label in lost or not callable(take):
            continue
        try:
            take(page.read_bytes())
        except Exception as error:  # noqa: BLE001 - a plugin's own; the forecast was delivered
            _log.warning("%s: the forecast is delivered, but its page is not beside it: %s", label, error)


def _trained(store: ModelStore, version: ModelVersion) -> RetrainReport | None:
    try:
        told = store.document(version.run_id, "report.json") if version.run_id else None
        return RetrainReport.model_validate(told) if told else None
    except (ForecastCoreError, ValueError) as error:  # another version's report, or MLflow is away
        _log.info("no leaderboard on the page: %s", error)
        return None
