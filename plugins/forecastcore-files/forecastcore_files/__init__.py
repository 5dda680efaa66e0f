"""Parquet and CSV files, as sources of history and as sinks of forecasts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import SinkSpec, SourceSpec, hookimpl
from forecastcore_files.csv_sink import CsvSink
from forecastcore_files.csv_source import CsvSource
from forecastcore_files.examples import csv_example, parquet_example
from forecastcore_files.excel_sink import ExcelSink
from forecastcore_files.parquet_sink import ParquetSink
from forecastcore_files.parquet_source import ParquetSource

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["CsvSink", "CsvSource", "ExcelSink", "ParquetSink", "ParquetSource"]


@hookimpl
def forecastcore_sources() -> Iterable[SourceSpec]:
    """Offer the sources `parquet` and `csv`."""
    yield SourceSpec(
        name="parquet",
        summary="a Parquet file, a folder of them, or a pattern",
        factory=ParquetSource,
        example=parquet_example,
    )
    yield SourceSpec(name="csv", summary="a CSV file, or a folder of them", factory=CsvSource, example=csv_example)


@hookimpl
def forecastcore_sinks() -> Iterable[SinkSpec]:
    """Offer the sinks `parquet`, `csv` and `excel`."""
    yield SinkSpec(name="parquet", summary="a folder with one Parquet file per vintage", factory=ParquetSink)
    yield SinkSpec(name="csv", summary="a folder with one CSV file per vintage, safe to open in Excel", factory=CsvSink)
    yield SinkSpec(
        name="excel",
        summary="a workbook of the newest forecast for people, beside a folder with one Parquet file per vintage",
        factory=ExcelSink,
    )
