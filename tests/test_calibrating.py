"""A stored model's bands know more horizons than its backtest had folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from forecastcore import runtime
from forecastcore.intervals import Errors, calibrate
from forecastcore.ports import Steps
from forecastcore.runs import calibrating
from forecastcore.runs.calibrating import calibration_errors
from forecastcore.runs.contest import hold_contest

FOLDS, HORIZON = 2, 24
MEAN = {"type": "ensemble", "method": "mean", "members": ["naive", "seasonal-naive"]}


def learned(site, **settings):
    site.write(horizon=HORIZON, backtest={"folds": FOLDS}, **settings)
    project = site.project()
    history = runtime.history(project)
    contest = hold_contest(project, history, runtime.engine(project), Steps())
    return history, contest, whole(calibration_errors(project, history, contest, runtime.engine(project)))


def whole(pool):
    """The errors of a pool, all at once."""
    parts = [replace(part, series=known[part.series]) for known, part in pool.parts()]
    names = ("y", "forecast", "own", "made", "step", "series", "fold")
    rows = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Errors(**rows, ids=pool.ids, noise=pool.noise, season=pool.season, place=pool.place)


def test_earlier_origins_are_added_and_what_they_err_by_is_what_the_model_would_have(site):
    history, contest, errors = learned(site, models=[{"type": "naive"}])
    own = len(contest.best.errors.y)
    assert np.array_equal(errors.y[:own], contest.best.errors.y, equal_nan=True)
    count = len(np.unique(errors.fold)) - FOLDS
    assert 2 <= count <= 16
    assert not set(errors.fold[own:]) & set(errors.fold[:own])
    for number, uid in enumerate(errors.ids):
        panel = history.panel[history.panel["unique_id"] == uid].set_index("ds")["y"]
        for back in range(count, 0, -1):
            origin = history.grid.shift(contest.rows.origins[0], -back * HORIZON)
            hit = (errors.series == number) & (errors.fold == FOLDS + count - back)
            ahead = panel[panel.index > origin].iloc[:HORIZON]
            assert ahead.index.max() <= contest.rows.origins[0]
            np.testing.assert_allclose(errors.y[hit], ahead)
            np.testing.assert_allclose(errors.forecast[hit], panel[panel.index <= origin].ffill().iloc[-1])


def test_those_of_an_ensemble_are_its_members_put_together(site):
    models = [{"type": "naive"}, {"type": "seasonal-naive"}]
    _, _, naive = learned(site, models=models[:1])
    _, _, seasonal = learned(site, models=models[1:])
    site.write(horizon=HORIZON, backtest={"folds": FOLDS}, models=[*models, MEAN])
    project = site.project()
    history = runtime.history(project)
    contest = hold_contest(project, history, runtime.engine(project), Steps())
    mean = next(result for result in contest.results if result.candidate.members)
    errors = whole(calibration_errors(project, history, replace(contest, best=mean), runtime.engine(project)))
    np.testing.assert_allclose(errors.forecast, (naive.forecast + seasonal.forecast) / 2)


def test_a_history_that_is_used_up_by_the_backtest_adds_none(site):
    every = runtime.history(site.project())
    site.write(horizon=30, backtest={"folds": FOLDS}, models=[{"type": "naive"}])
    project = site.project()
    history = runtime.history(project, every.grid.shift(every.panel["ds"].min(), 80))
    contest = hold_contest(project, history, runtime.engine(project), Steps())
    errors = whole(calibration_errors(project, history, contest, runtime.engine(project)))
    np.testing.assert_array_equal(errors.forecast, contest.best.forecast)
    assert len(errors.place) == len(contest.rows.origins)


def test_of_many_series_some_tell_for_all_where_each_has_a_fit_of_its_own(site, monkeypatch):
    models = [{"type": "naive"}]
    _, _, every = learned(site, models=models)
    monkeypatch.setattr(calibrating, "_SERIES", 1)
    history, contest, some = learned(site, models=models)
    assert list(some.ids) == list(every.ids) == history.ids
    first = (every.fold < FOLDS) | (every.series == 0)
    for name in ("y", "forecast", "step", "series", "fold"):
        np.testing.assert_array_equal(getattr(some, name), getattr(every, name)[first])
    np.testing.assert_array_equal(some.noise[:, 0], every.noise[:, 0])
    band = calibrate(some, HORIZON, (0.1, 0.9))
    assert np.isfinite(band.plain).all()
    assert np.isfinite(band.sizes).all()
    assert len(contest.best.errors.y) < len(some.y)


def test_a_model_of_all_series_is_fitted_on_all(site, monkeypatch):
    _, _, every = learned(site, models=[{"type": "ridge"}])
    monkeypatch.setattr(calibrating, "_SERIES", 1)
    _, _, same = learned(site, models=[{"type": "ridge"}])
    np.testing.assert_array_equal(same.forecast, every.forecast)
