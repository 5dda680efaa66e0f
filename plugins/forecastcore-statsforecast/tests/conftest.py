from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from forecastcore.api import Series, Task


@pytest.fixture
def series():
    """Make a series of values, and the rows that follow it, on a monthly grid."""

    def make(y, ahead=12, x=None, x_ahead=None):
        y = np.asarray(y, dtype=float)
        ds = pd.date_range("2000-01-01", periods=len(y) + ahead, freq="MS").to_numpy(dtype="datetime64[ns]")
        x = np.empty((len(y), 0)) if x is None else x
        x_ahead = np.empty((ahead, x.shape[1])) if x_ahead is None else x_ahead
        return Series("a", ds[: len(y)], y, x), Series("a", ds[len(y) :], np.empty(0), x_ahead)

    return make


@pytest.fixture
def task():
    """A task on a monthly grid."""

    def make(season=12, **changes):
        origin = pd.Timestamp("2020-01-01", tz="UTC")
        given = {"frequency": "MS", "horizon": 12, "season": season, "seasons": (season,), **changes}
        return Task(origin=origin, **given)

    return make


@pytest.fixture
def demand():
    """Monthly demand with season, trend and noise; positive."""

    def make(rows=84, seed=1):
        t = np.arange(rows)
        noise = np.random.default_rng(seed).normal(scale=3.0, size=rows)
        return 100 + 0.3 * t + 15 * np.sin(2 * np.pi * t / 12) + np.convolve(noise, [1, 0.6, 0.3])[:rows]

    return make


@pytest.fixture
def rare():
    """Demand in one row of four or so."""
    rng = np.random.default_rng(2)
    return np.where(rng.random(97) < 0.27, rng.integers(1, 9, 97), 0).astype(float)


@pytest.fixture
def no_search(monkeypatch):
    """Forbid every optimiser, of scipy and of the library, to be called once something was fitted."""
    import scipy.optimize
    from statsforecast import arima, ces, ets, models, theta

    class Forbidding:
        """The library's compiled module, without what searches."""

        def __init__(self, module):
            self._module = module

        def __getattr__(self, name):
            if name.startswith(("optimize", "golden")):
                raise AssertionError(f"predict searched: {name}")
            return getattr(self._module, name)

    def refuse(*_, **__):
        raise AssertionError("predict searched")

    def forbid():
        for name in ("minimize", "minimize_scalar", "fmin_l_bfgs_b", "fmin"):
            monkeypatch.setattr(scipy.optimize, name, refuse)
        monkeypatch.setattr(arima, "minimize", refuse)
        from statsforecast import _lib

        for module, name in ((ets, "_ets"), (ces, "_ces"), (theta, "_theta"), (models, "_ses_lib"), (_lib, "ses")):
            monkeypatch.setattr(module, name, Forbidding(getattr(module, name)))

    return forbid
