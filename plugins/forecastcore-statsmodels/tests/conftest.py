from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from forecastcore.api import Series, Task

# Quarterly visitor nights of Australia 1999-2015 and oil production of Saudi Arabia 1965-2013: the data sets of the R
# package fpp2 on which statsmodels and R's forecast publish their ETS results.
AUSTOURISTS = """
30.052513 19.148496 25.317692 27.591437 32.076456 23.487961 28.47594 35.123753 36.838485 25.007017 30.72223 28.693759
36.640986 23.824609 29.311683 31.770309 35.177877 19.775244 29.60175 34.538842 41.273599 26.655862 28.279859 35.191153
42.20566386 24.64917133 32.66733514 37.25735401 45.24246027 29.35048127 36.34420728 41.78208136 49.27659843 31.27540139
37.85062549 38.83704413 51.23690034 31.83855162 41.32342126 42.79900337 55.70835836 33.40714492 42.31663797 45.15712257
59.57607996 34.83733016 44.84168072 46.9712496 60.01903094 38.37117851 46.97586413 50.73379646 61.64687319 39.29956937
52.67120908 54.33231689 66.83435838 40.87118847 51.82853579 57.49190993 65.25146985 43.06120822 54.76075713 59.83447494
73.25702747 47.69662373 61.09776802 66.05576122
"""
OIL = """
111.0091346 130.8284341 141.2870879 154.2277747 162.7408654 192.1664835 240.7997253 304.2173901 384.0045673 429.6621566
359.3169299 437.2518544 468.4007898 424.4353365 487.9794299 509.8284478 506.3472527 340.1842374 240.258921 219.0327876
172.0746632 252.5900922 221.0710774 276.5187735 271.1479517 342.6186005 428.3558357 442.3945534 432.7851482 437.2497186
437.2091599 445.3640981 453.1950104 454.409641 422.3789058 456.0371217 440.3866047 425.1943725 486.2051735 500.4290861
521.2759092 508.947617 488.8888577 509.870575 456.7229123 473.8166029 525.9508706 549.8338076 542.3404698
"""
# Monthly airline passengers 1949-1960, series G of Box & Jenkins.
AIRLINE = """
112 118 132 129 121 135 148 148 136 119 104 118 115 126 141 135 125 149 170 170 158 133 114 140 145 150 178 163 172 178
199 199 184 162 146 166 171 180 193 181 183 218 230 242 209 191 172 194 196 196 236 235 229 243 264 272 237 211 180 201
204 188 235 227 234 264 302 293 259 229 203 229 242 233 267 269 270 315 364 347 312 274 237 278 284 277 317 313 318 374
413 405 355 306 271 306 315 301 356 348 355 422 465 467 404 347 305 336 340 318 362 348 363 435 491 505 404 359 310 337
360 342 406 396 420 472 548 559 463 407 362 405 417 391 419 461 472 535 622 606 508 461 390 432
"""


def numbers(text):
    return np.array(text.split(), dtype=float)


@pytest.fixture
def austourists():
    return numbers(AUSTOURISTS)


@pytest.fixture
def oil():
    return numbers(OIL)


@pytest.fixture
def airline():
    return numbers(AIRLINE)


@pytest.fixture
def series():
    """Make a series of values, and the rows that follow it, on a monthly grid."""

    def make(y, ahead=12, x=None, x_ahead=None, first="2000-01-01"):
        y = np.asarray(y, dtype=float)
        ds = pd.date_range(first, periods=len(y) + ahead, freq="MS").to_numpy(dtype="datetime64[ns]")
        x = np.empty((len(y), 0)) if x is None else np.asarray(x, dtype=float)
        x_ahead = np.empty((ahead, x.shape[1])) if x_ahead is None else np.asarray(x_ahead, dtype=float)
        return Series("a", ds[: len(y)], y, x), Series("a", ds[len(y) :], np.empty(0), x_ahead)

    return make


@pytest.fixture
def monthly():
    """A task on a monthly grid."""

    def make(season=12, horizon=12, **changes):
        origin = pd.Timestamp("2020-01-01", tz="UTC")
        return Task(origin=origin, frequency="MS", horizon=horizon, season=season, seasons=(season,), **changes)

    return make


@pytest.fixture
def no_search(monkeypatch):
    """Forbid every optimiser and every `fit`, to be called once something was fitted."""
    import scipy.optimize
    from statsmodels.base.optimizer import Optimizer
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel
    from statsmodels.tsa.statespace.mlemodel import MLEModel
    from statsmodels.tsa.statespace.sarimax import SARIMAX

    def refuse(*_, **__):
        raise AssertionError("predict estimated something")

    def forbid():
        for name in ("minimize", "minimize_scalar", "fmin_l_bfgs_b", "fmin", "fmin_powell", "fmin_bfgs", "brute"):
            monkeypatch.setattr(scipy.optimize, name, refuse)
        for owner in (Optimizer, ETSModel, MLEModel, SARIMAX):
            for name in {"fit", "_fit"} & set(dir(owner)):
                monkeypatch.setattr(owner, name, refuse)

    return forbid


ODD = {
    "constant": np.full(60, 7.0),
    "all zero": np.zeros(60),
    "one point": np.array([3.0]),
    "four points": np.array([3.0, 1.0, 2.0, 5.0]),
    "eight points": np.array([3.0, 1.0, 2.0, 5.0, 4.0, 3.0, 2.0, 6.0]),
    "a perfect line": np.arange(60.0),
    "a perfect falling line": 10.0 - np.arange(60.0),
    "a perfect season": np.tile(np.arange(12.0), 6),
    "one step": np.r_[np.zeros(30), np.ones(30)],
    "one spike": np.r_[np.zeros(40), 1e6, np.zeros(19)],
    "rare demand": (np.arange(80) % 7 == 0) * 3.0,
    "alternating signs": (-1.0) ** np.arange(60) * np.arange(60),
    "level far above noise": 1e9 + np.sin(np.arange(60) * 1.7),
    "exponential growth": 1.4 ** np.arange(60),
}


#: nothing depends on the unit or the sign
SCALES = {1.0: (), 1e12: pytest.mark.slow, 1e-12: pytest.mark.slow, -1.0: pytest.mark.slow}


@pytest.fixture(params=[pytest.param(scale, marks=marks, id=f"x{scale:g}") for scale, marks in SCALES.items()])
def scale(request):
    return request.param


@pytest.fixture(params=ODD, ids=list(ODD))
def odd(request, scale):
    return ODD[request.param] * scale


@pytest.fixture
def demand():
    """Monthly demand with season, trend and noise."""

    def make(rows=84, seed=1):
        t = np.arange(rows)
        noise = np.random.default_rng(seed).normal(scale=3.0, size=rows)
        return 100 + 0.3 * t + 15 * np.sin(2 * np.pi * t / 12) + np.convolve(noise, [1, 0.6, 0.3])[:rows]

    return make
