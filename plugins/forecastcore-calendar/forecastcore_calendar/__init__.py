"""What the calendar and the clock say of any day, past or future."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import AssumptionSpec, Example, hookimpl
from forecastcore_calendar.assumption import Holidays
from forecastcore_calendar.features import FEATURES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["FEATURES", "Holidays", "forecastcore_assumptions"]


def _example(_folder: Path) -> Example:
    return Example(params={"country": "DE", "subdivision": "BY"}, covariates=("is_holiday", "is_weekend"))


@hookimpl
def forecastcore_assumptions() -> Iterable[AssumptionSpec]:
    """Offer `holidays`."""
    yield AssumptionSpec(
        name="holidays",
        summary="holidays, bridge days, school days and clock features of a country",
        factory=Holidays,
        example=_example,
        generates=True,
        by_series=True,
    )
