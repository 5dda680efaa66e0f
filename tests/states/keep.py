"""Makes the state that a release leaves behind, for tests of later ones: `RELEASE/.venv/bin/python keep.py NAME.zip`.

To be run with each release, in its own environment; it uses nothing but the command line.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

PROJECT = """
name: kept
source: {type: parquet, path: history.parquet}
frequency: h
horizon: 6
covariates:
  temp: {assume: weather}
  promo: {known: true}
assumptions: {weather: {type: climatology}}
models:
  - {type: ridge}
  - {type: auto-theta}
  - {type: ensemble, method: mean, members: [ridge, auto-theta]}
backtest: {folds: 2}
sinks:
  - {type: parquet, path: out/forecasts}
  - {type: delta, path: table/forecasts}
"""
#: what is done, in this order: a champion, one that takes its place, and a challenger that waits
COMMANDS = (
    ("retrain", "--as-of", "2024-03-24T23:00Z", "--set", "models=[{type: seasonal-naive}]"),
    ("predict", "--as-of", "2024-03-24T23:00Z"),
    ("retrain", "--as-of", "2024-03-26T23:00Z"),
    ("models", "promote", "2"),
    ("predict", "--as-of", "2024-03-26T23:00Z"),
    ("retrain", "--as-of", "2024-03-27T23:00Z", "--no-promote", "--set", "models=[{type: gradient-boosting}]"),
    ("predict", "--as-of", "2024-03-28T23:00Z"),
)


def history():
    """Three hourly series of thirty days, and two covariates that matter."""
    hours = 24 * 30
    ds, blocks = pd.date_range("2024-03-01", periods=hours, freq="h"), []
    for number in range(3):
        rng = np.random.default_rng(number)
        temp, promo = rng.normal(size=hours), (rng.random(hours) < 0.2).astype(float)
        wave = 10 * np.sin(2 * np.pi * np.arange(hours) / 24)
        y = 50.0 * (number + 1) + wave + 3 * temp + 8 * promo + rng.normal(scale=0.5, size=hours)
        blocks.append(pd.DataFrame({"unique_id": "abc"[number], "ds": ds, "y": y, "temp": temp, "promo": promo}))
    return pd.concat(blocks, ignore_index=True)


def main(archive):
    """Make a project, do what is done with it, and pack it."""
    command = Path(sys.executable).with_name("forecastcore")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "kept"
        folder.mkdir()
        (folder / "forecast.yaml").write_text(PROJECT.lstrip(), encoding="utf-8")
        history().to_parquet(folder / "history.parquet", index=False)
        for words in COMMANDS:
            subprocess.run([command, "-p", folder, *words], check=True)
        (folder / "made-in.txt").write_text(str(folder), encoding="utf-8")
        shutil.make_archive(archive.removesuffix(".zip"), "zip", folder)


if __name__ == "__main__":
    main(sys.argv[1])
