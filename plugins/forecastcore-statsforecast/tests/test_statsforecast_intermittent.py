from __future__ import annotations

import numpy as np
import pytest
from forecastcore_statsforecast.intermittent import Adida, Croston, Imapa, Tsb

from forecastcore.errors import HistoryTooShort

library = pytest.importorskip("statsforecast.models")

FAMILIES = {
    "classic": (Croston("classic"), library.CrostonClassic()),
    "sba": (Croston("sba"), library.CrostonSBA()),
    "optimized": (Croston("optimized"), library.CrostonOptimized()),
    "tsb": (Tsb(0.3, 0.1), library.TSB(0.3, 0.1)),
    "adida": (Adida(), library.ADIDA()),
    "imapa": (Imapa(), library.IMAPA()),
}


@pytest.fixture(params=FAMILIES, ids=list(FAMILIES))
def family(request):
    return FAMILIES[request.param]


def test_a_fit_forecasts_what_the_library_forecasts(family, rare, series, task):
    ours, theirs = family
    past, future = series(rare)
    answer = ours.predict_series(ours.fit_series(past, task()), past, future, task())
    np.testing.assert_allclose(answer, theirs.forecast(rare, 12)["mean"], rtol=1e-8)


def test_newer_data_are_smoothed_with_the_stored_rates_and_nothing_is_searched(family, rare, series, task, no_search):
    ours, _ = family
    params = ours.fit_series(series(rare[:60])[0], task())
    no_search()
    before, after = (ours.predict_series(params, *series(y), task()) for y in (rare[:60], np.r_[rare[:60], 50.0]))
    assert after[0] > before[0]


def test_a_rate_that_was_found_is_kept(rare, series, task):
    params = Croston("optimized").fit_series(series(rare[:60])[0], task())
    parts = rare[rare > 0], np.diff(np.flatnonzero(rare) + 1.0, prepend=0)
    level = [values[0] for values in parts]
    for at, rate in enumerate(params.rates):
        for value in parts[at][1:]:
            level[at] += rate * (value - level[at])
    answer = Croston("optimized").predict_series(params, *series(rare), task())
    np.testing.assert_allclose(answer, level[0] / level[1], rtol=1e-10)


def test_tsb_fades_where_demand_has_stopped_and_croston_does_not(rare, series, task):
    def answers(y):
        past, future = series(y)
        return [m.predict_series(m.fit_series(past, task()), past, future, task())[0] for m in (Tsb(), Croston())]

    tsb, croston = answers(rare)
    faded, same = answers(np.r_[rare, np.zeros(30)])
    assert faded < 0.01 * tsb
    assert same == croston


@pytest.mark.parametrize(
    "y", [np.zeros(30), np.array([0.0]), np.array([3.0]), np.r_[-np.ones(9), 0.0], np.r_[np.zeros(29), 4.0]]
)
def test_no_demand_one_row_returns_and_a_single_demand_give_numbers(family, y, series, task):
    ours, _ = family
    answer = ours.predict_series(ours.fit_series(series(y)[0], task()), *series(y), task())
    assert np.isfinite(answer).all()
    assert (answer >= 0).all()
    assert y.max() > 0 or not answer.any()


def test_a_series_below_zero_is_refused_in_words(family, series, task):
    with pytest.raises(ValueError, match="no demand to smooth"):
        family[0].fit_series(series(-np.ones(9))[0], task())


def test_no_row_at_all_is_too_short(family, series, task):
    with pytest.raises(HistoryTooShort):
        family[0].fit_series(series([])[0], task())
