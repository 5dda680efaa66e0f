"""Stand-ins for the unknown future of covariates: from their past, from others, from a table or an archive."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import AssumptionSpec, hookimpl
from forecastcore_assumptions.analogue import Analogue
from forecastcore_assumptions.archive import Archive
from forecastcore_assumptions.chain import Chain
from forecastcore_assumptions.change import Scale, Shift
from forecastcore_assumptions.climatology import Climatology
from forecastcore_assumptions.examples import (
    archive_example,
    chain_example,
    model_example,
    scale_example,
    shift_example,
    table_example,
)
from forecastcore_assumptions.model import Model
from forecastcore_assumptions.persistence import Persistence
from forecastcore_assumptions.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "Analogue",
    "Archive",
    "Chain",
    "Climatology",
    "Model",
    "Persistence",
    "Scale",
    "Shift",
    "Table",
    "forecastcore_assumptions",
]


@hookimpl
def forecastcore_assumptions() -> Iterable[AssumptionSpec]:
    """Offer `climatology`, `persistence`, `analogue`, `model`, `archive`, `table`, `shift`, `scale` and `chain`."""
    yield AssumptionSpec(
        name="climatology",
        summary="what is usual at this time of the year and of the day",
        factory=Climatology,
        by_series=True,
    )
    yield AssumptionSpec(
        name="persistence", summary="what was last is what will be", factory=Persistence, by_series=True
    )
    yield AssumptionSpec(
        name="analogue", summary="what followed the most similar days", factory=Analogue, by_series=True
    )
    yield AssumptionSpec(
        name="model", summary="what any installed model forecasts", factory=Model, example=model_example, models=True
    )
    yield AssumptionSpec(
        name="archive",
        summary="archived forecasts, the newest at each origin",
        factory=Archive,
        example=archive_example,
    )
    yield AssumptionSpec(
        name="shift",
        summary="another assumption plus a constant",
        factory=Shift,
        example=shift_example,
        wraps=True,
        by_series=True,
    )
    yield AssumptionSpec(
        name="scale",
        summary="another assumption times a constant",
        factory=Scale,
        example=scale_example,
        wraps=True,
        by_series=True,
    )
    yield AssumptionSpec(name="table", summary="values from a file kept by hand", factory=Table, example=table_example)
    yield AssumptionSpec(
        name="chain", summary="the first of several that can say", factory=Chain, example=chain_example, wraps=True
    )
