"""A tiny project on disk, for tests that run the use cases from outside."""

import json

import pytest

from forecastcore.testing import sample_history


@pytest.fixture(scope="session")
def make_project():
    """`make_project(folder, **changes)` writes data and project file; returns the file's path."""

    def make(folder, *, data=None, **changes):
        folder.mkdir(parents=True, exist_ok=True)
        rows = sample_history(rows=30 * 24) if data is None else data
        rows.to_parquet(folder / "data.parquet", index=False)
        settings = {
            "name": "tiny",
            "source": {"type": "parquet", "path": "data.parquet"},
            "frequency": "h",
            "horizon": 24,
            "models": [{"type": "seasonal-naive"}, {"type": "theta"}],
            "backtest": {"folds": 2, "season": 24},
            "sinks": [{"type": "parquet", "path": "out"}],
            "engine": {"type": "local", "workers": 1},
            **changes,
        }
        path = folder / "forecast.yaml"
        path.write_text(json.dumps(settings))
        return path

    return make
