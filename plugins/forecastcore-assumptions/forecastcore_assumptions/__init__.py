"""Stand-ins for the unknown future of covariates: from their past, from another assumption, from a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import AssumptionSpec, hookimpl
from forecastcore_assumptions.analogue import Analogue
from forecastcore_assumptions.change import Scale, Shift
from forecastcore_assumptions.climatology import Climatology
from forecastcore_assumptions.examples import scale_example, shift_example, table_example
from forecastcore_assumptions.persistence import Persistence
from forecastcore_assumptions.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Analogue", "Climatology", "Persistence", "Scale", "Shift", "Table", "forecastcore_assumptions"]


@hookimpl
def forecastcore_assumptions() -> Iterable[AssumptionSpec]:
    """Offer `climatology`, `persistence`, `analogue`, `shift`, `scale` and `table`."""
    yield AssumptionSpec(
        name="climatology", summary="what is usual at this time of the year and of the day", factory=Climatology
    )
    yield AssumptionSpec(name="persistence", summary="what was last is what will be", factory=Persistence)
    yield AssumptionSpec(name="analogue", summary="what followed the most similar days", factory=Analogue)
    yield AssumptionSpec(
        name="shift", summary="another assumption plus a constant", factory=Shift, example=shift_example, wraps=True
    )
    yield AssumptionSpec(
        name="scale", summary="another assumption times a constant", factory=Scale, example=scale_example, wraps=True
    )
    yield AssumptionSpec(name="table", summary="values from a file kept by hand", factory=Table, example=table_example)
