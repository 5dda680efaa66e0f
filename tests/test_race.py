"""Candidates share the workers: one queue for all of them, and each gets what it would get alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from forecastcore import runtime
from forecastcore.backtest import fold_origins, rows_of
from forecastcore.engines.local import LocalEngine
from forecastcore.ports import Steps
from forecastcore.race import Race, run
from forecastcore.runs.contest import hold_contest

MODELS = [{"type": "naive"}, {"type": "ridge"}, {"type": "seasonal-naive"}]


@dataclass
class Counting:
    """The local engine, and what it was asked."""

    asked: list = field(default_factory=list)

    def map(self, work, panel, units):
        self.asked.append([unit.ids for unit in units])
        return LocalEngine(0).map(work, panel, units)


class Told(Steps):
    """Keeps the stages, and the last word on how far each is."""

    def __init__(self):
        self.stages, self.progressed = [], {}

    def run(self, name, work):
        self.stages.append(name)
        return work()

    def progress(self, name, done, total):
        self.progressed[name] = (done, total)


def test_all_candidates_are_one_queue_the_whole_panel_first_and_answer_in_any_order_as_they_would_alone(make_site):
    project = make_site(models=MODELS).project()
    history = runtime.history(project)
    rows = rows_of(project, history, fold_origins(history, project))
    engine = Counting()
    with Race(project, history, project.candidates(), engine, rows) as race:
        got = {c.name: race.result(c) for c in reversed(project.candidates())}
    assert engine.asked == [[None, None, ("a", "b", "c"), ("a", "b", "c")]]
    for candidate in project.candidates():
        (alone,) = run(project, history, [candidate], LocalEngine(0), rows)
        assert np.array_equal(got[candidate.name].forecast, alone.forecast)
        assert np.array_equal(got[candidate.name].quantiles, alone.quantiles, equal_nan=True)


def test_a_contest_has_a_stage_for_each_candidate_that_tells_how_far_it_is(make_site):
    project = make_site(models=MODELS).project()
    told, engine = Told(), Counting()
    hold_contest(project, runtime.history(project), engine, told)
    assert told.stages[:3] == ["backtest ridge", "backtest naive", "backtest seasonal-naive"], "as their work begins"
    assert told.progressed == {"backtest naive": (1, 1), "backtest ridge": (2, 2), "backtest seasonal-naive": (1, 1)}
    assert len([units for units in engine.asked if len(units) > 1]) == 1
