"""What reads from outside, for tests that damage it: of each reader a function of bytes, and some that it can read."""

from __future__ import annotations

import io
import shutil

import numpy as np
import pandas as pd
from deltalake import DeltaTable, write_deltalake  # noqa: TID253 - writes what is read
from forecastcore_delta import DeltaSource
from forecastcore_files import CsvSource, ParquetSource
from sklearn.linear_model import Ridge  # noqa: TID253 - a state to damage

from forecastcore import config, runtime
from forecastcore.runs.archive import pack, unpack
from forecastcore.state import from_files, to_files

__all__ = ["TARGETS"]

YAML = b"""\
name: vic-demand
source: {type: parquet, path: data/vic.parquet, id: unique_id, timezone: Australia/Melbourne}
quality: {gaps: fill, duplicates: error, max_missing: 0.5}
frequency: 30min
horizon: 336
quantiles: [0.1, 0.5, 0.9]
covariates:
  temperature: {assume: weather}
  promotion: {known: true}
assumptions:
  weather: &w {type: climatology, window_days: 15}
scenarios:
  heatwave: {weather: {type: shift, of: weather, add: 5.0}}
models:
  - type: seasonal-naive
  - {type: gradient-boosting, grid: {learning_rate: [0.05, 0.1]}}
backtest: {folds: 4, stride: 336, metric: mase, season: 48}
promotion: {mode: enforce, min_gain: 0.01}
sinks: [{type: delta, path: out/forecasts}, {type: sql, url: "${env:URL}"}]
engine: {type: local, workers: 2}
tracking: {uri: "sqlite:///mlflow.db", experiment: x}
plugins: {block: [], allow: null}
"""


def of_project_files(folder, _site_of):
    path = folder / "forecast.yaml"

    def read(data):
        path.write_bytes(data)
        return config.digest(config.load(path))

    return read, [YAML, b"name: a\nsource: {type: csv}\nfrequency: h\nhorizon: 1\n"]


def table():
    ds = pd.date_range("2024-03-01", periods=60, freq="h")
    return pd.DataFrame({"unique_id": "a", "ds": ds, "y": np.arange(60.0)})


def checked(source, file, site):
    """Writes a file of the source, and reads as a run does: the source, then the quality check."""
    project = site.write().project()

    def read(data):
        file.write_bytes(data)
        return runtime.history(project, source=source)

    return read


def of_csv(folder, site_of):
    path = folder / "h.csv"
    read = checked(CsvSource(path=path), path, site_of(folder))
    text = table().to_csv(index=False).encode()
    return read, [text, text.replace(b",", b";"), text.replace(b"\n", b"\r\n")]


def of_parquet(folder, site_of):
    path = folder / "h.parquet"
    read = checked(ParquetSource(path=path), path, site_of(folder))
    samples = []
    for options in ({}, {"compression": "gzip"}, {"compression": None, "version": "1.0"}):
        buffer = io.BytesIO()
        table().to_parquet(buffer, index=False, **options)
        samples.append(buffer.getvalue())
    return read, samples


def of_delta(folder, site_of):
    """The log of a Delta table is damaged; its data files are Parquet, and tried above."""
    path = folder / "h"
    for _ in range(2):
        write_deltalake(str(path), table(), mode="append")
    assert DeltaTable(str(path)).version() == 1
    log = path / "_delta_log" / "00000000000000000001.json"
    return checked(DeltaSource(path=path), log, site_of(folder)), [log.read_bytes()]


def of_states(folder, _site_of):
    files = to_files(
        {
            "a": [1, 2.5, None, "x"],
            "b": np.arange(6.0).reshape(2, 3),
            "c": pd.DataFrame({"x": pd.date_range("2024-01-01", periods=3, tz="UTC"), "y": ["a", "b", None]}),
            "d": Ridge().fit(np.eye(4), np.arange(4.0)),
        }
    )
    names = sorted(files)

    def read(data):
        name = names[data[0] % len(names)] if data else names[0]
        return from_files({**files, name: data[1:]}.__getitem__, packages={}, trusted=(), aliases={})

    return read, [bytes([number]) + files[name] for number, name in enumerate(names)]


def of_archives(folder, _site_of):
    inner, source = folder / "inner", folder / "a.zip"
    inner.mkdir()
    (inner / "x.json").write_text('{"a": 1}')
    (inner / "deep").mkdir()
    (inner / "deep" / "y").write_bytes(bytes(2000))
    pack(inner, source, {"project": "a"})
    whole = source.read_bytes()

    def read(data):
        source.write_bytes(data)
        into = folder / "into"
        try:
            return unpack(source, into)
        finally:
            shutil.rmtree(into, ignore_errors=True)

    return read, [whole]


#: each takes a folder to work in, and what makes a project in a folder
TARGETS = {
    "project file": of_project_files,
    "CSV": of_csv,
    "Parquet": of_parquet,
    "Delta log": of_delta,
    "state": of_states,
    "backup": of_archives,
}
