"""What is asked of a history adds up: of all series at once it is what is asked of some of them at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from forecastcore import foresight, runtime
from forecastcore.backtest import fold_origins, rows_of
from forecastcore.continuity import Limits, compare
from forecastcore.engines.local import LocalEngine
from forecastcore.engines.spark.panel import Spans, SpreadPanel
from forecastcore.frames import History, data_digest
from forecastcore.profile import profile
from forecastcore.sheet import Sheet
from forecastcore.units import chunks
from forecastcore.watching import drift
from tests.conftest import small_history
from tests.test_poisoned import POISONS, clean, late, settings


@dataclass(frozen=True)
class InParts:
    """A history that answers for a few series at a time, as workers do."""

    whole: History
    cuts: tuple[int, ...]

    def __getattr__(self, name):
        return getattr(self.whole, name)

    def ask(self, question):
        edges = pairwise([0, *self.cuts, len(self.whole.ids)])
        return (question(self.whole.of(self.whole.ids[a:b])) for a, b in edges)


def both(history):
    """A history, and the same in parts."""
    return history, InParts(history, tuple(range(1, len(history.ids), 2)))


def assert_same(one, other):
    """Dataclasses of arrays and plain values."""
    for name in (field.name for field in fields(one)):
        here, there = getattr(one, name), getattr(other, name)
        if isinstance(here, Sheet):
            here, there = (sheet.read(0, len(one.ids)) for sheet in (here, there))
        if isinstance(here, np.ndarray) and here.dtype.kind == "f":
            np.testing.assert_allclose(there, here, rtol=1e-12, err_msg=name)
        elif isinstance(here, float):
            assert there == pytest.approx(here, rel=1e-12), name
        else:
            np.testing.assert_array_equal(there, here, err_msg=name)


@pytest.fixture
def site(make_site):
    """Series that begin at different times, with holes; one without a value, one that never changes."""
    rng = np.random.default_rng(3)
    whole = small_history(7, 20)
    whole = whole[(whole["unique_id"] != "e") | (whole["ds"] >= "2024-03-09T05:00")]
    whole = whole[(whole["unique_id"] != "b") | (whole["ds"] >= "2024-03-20T12:00")]  # younger than an origin
    whole.loc[whole["unique_id"] == "c", "y"] = 5.0
    whole.loc[whole["unique_id"] == "d", "y"] = np.nan
    whole.loc[rng.random(len(whole)) < 0.05, ["y", "temp"]] = np.nan
    return make_site(
        whole[rng.random(len(whole)) > 0.02],
        backtest={"folds": 3, "stride": 9},
        covariates={"temp": {"assume": "w"}, "promo": {"known": True}},
        assumptions={"w": {"type": "persistence"}},
        bare=True,
    )


def test_rows_profile_inputs_and_errors_of_assumptions_are_those_of_the_whole(site, monkeypatch):
    project = site.project()
    whole, parts = both(runtime.history(project))
    origins = fold_origins(whole, project)
    assert fold_origins(parts, project) == origins
    rows = rows_of(project, whole, origins)
    assert len(rows.y) < len(origins) * len(whole.ids) * project.config.horizon
    assert_same(rows, rows_of(project, parts, origins))
    task = runtime.task(project, whole.grid, whole.origin)
    assert_same(profile(whole, task), profile(parts, task))
    assert_same(drift.inputs_of(whole, task), drift.inputs_of(parts, task))
    monkeypatch.setattr(drift, "_PLENTY", 500)  # by lot, and the same lot
    drawn = drift.inputs_of(whole, task)
    assert_same(drawn, drift.inputs_of(parts, task))
    errors = [foresight.assumption_errors(project, one, LocalEngine(0), origins) for one in (whole, parts)]
    for name, value in errors[0][0].model_dump().items():
        assert getattr(errors[1][0], name) == (value if isinstance(value, str) else pytest.approx(value, rel=1e-12))
    before = whole.panel[whole.panel["ds"] <= origins[0]]
    assert errors[0][0].spread == pytest.approx(before["temp"].std(), rel=1e-12)
    assert chunks(parts, 700) == chunks(whole, 700)


def test_a_lot_of_the_rows_tells_the_distribution_of_all(site, monkeypatch):
    project = site.project()
    history = runtime.history(project)
    task = runtime.task(project, history.grid, history.origin)
    whole = drift.inputs_of(history, task)
    monkeypatch.setattr(drift, "_PLENTY", 1000)
    drawn = drift.inputs_of(history, task)
    assert np.abs(drawn.grid - whole.grid)[:, 10:91].max() < 0.3  # of a standard deviation
    assert not np.array_equal(drawn.grid, whole.grid)


@pytest.mark.parametrize("poison", [None, *POISONS])
def test_a_history_is_compared_with_a_champions_as_the_whole_is(poison, make_site):
    frame = clean()
    spoilt = frame if poison is None else POISONS[poison][1](frame)
    old, new = (make_site(one, bare=True, **settings()).project() for one in (frame[~late(frame)], spoilt))
    before, (whole, parts) = runtime.history(old), both(runtime.history(new))
    known = profile(before, runtime.task(old, before.grid, before.origin))
    task = runtime.task(new, whole.grid, whole.origin)
    assert compare(known, parts, task, Limits()) == compare(known, whole, task, Limits())


def test_a_panel_in_pieces_says_which_rows_of_which_a_series_is():
    panel = SpreadPanel(
        shards=None,
        pieces=("p", "q", "r"),
        begins=(0, 30, 40, 90),
        spans=Spans(["a", "b", "c", "d"], np.array([0, 10, 30, 40, 90])),
        ids=["a", "b", "c", "d"],
        columns=3,
        digest="",
    )
    assert dict(panel.spans) == {"a": (0, 10), "b": (10, 30), "c": (30, 40), "d": (40, 90)}
    assert panel.rows() == {"p": [(0, 30)], "q": [(0, 10)], "r": [(0, 50)]}
    assert panel.rows(["b", "d"]) == {"p": [(10, 30)], "r": [(0, 50)]}
    some = panel.of({"c", "a"})
    assert (some.ids, some.sizes.tolist(), some.rows()) == (["a", "c"], [10, 10], {"p": [(0, 10)], "q": [(0, 10)]})
    assert panel.of({"a"}).digest != some.digest != panel.digest


def test_a_few_series_keep_the_first_instant_of_all(site):
    whole = runtime.history(site.project())
    few = whole.of(["e"])
    assert (few.ids, few.first, few.panel["ds"].min() > few.first) == (["e"], whole.first, True)
    assert few.digest == data_digest(whole.panel[whole.panel["unique_id"] == "e"])
    assert replace(few, since=None).first == few.panel["ds"].min()
    assert whole.newest == whole.panel.loc[whole.panel["y"].notna(), "ds"].max()
    assert replace(whole, panel=whole.panel.assign(y=np.nan)).newest is None
    assert isinstance(whole.newest, pd.Timestamp)
