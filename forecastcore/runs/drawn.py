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
    from forecastcore.messages import ModelVersion, PredictReport
    from forecastcore.ports import ModelStore
    from forecastcore.project import Project

__all__ = ["draw"]

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


def _trained(store: ModelStore, version: ModelVersion) -> RetrainReport | None:
    try:
        told = store.document(version.run_id, "report.json") if version.run_id else None
        return RetrainReport.model_validate(told) if told else None
    except (ForecastCoreError, ValueError) as error:  # another version's report, or MLflow is away
        _log.info("no leaderboard on the page: %s", error)
        return None
