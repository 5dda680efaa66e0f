"""The champion changes while a forecast is being made: all rows of the vintage are of one model."""

from __future__ import annotations

import pytest

from forecastcore import runtime
from forecastcore.ports import Steps
from forecastcore.runs.promotion import promote


class Restless(Steps):
    """Before each stage another version is made champion."""

    def __init__(self, project):
        self.project, self.flips = project, 0

    def run(self, name, work):
        self.flips += 1
        promote(self.project, str(1 + self.flips % 2))
        return work()


@pytest.mark.row(31, trials="vintages", seed="none drawn")
@pytest.mark.parametrize("vintages", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_vintage_is_of_one_version_however_often_the_champion_changes(vintages, make_site):
    site = make_site(models=[{"type": "naive"}])
    site.retrain()
    site.retrain("models=[{type: seasonal-naive}]", promote=False)
    for number in range(vintages):
        steps = Restless(site.project())
        report = site.predict(as_of=f"2024-03-{10 - number}T12:00Z", steps=steps)
        assert steps.flips >= 5
        rows = site.table(report.issued_at)
        assert len(rows) == 3 * 6
        assert set(rows["model_version"]) == {report.model_version}
        assert set(rows["model"]) == {"naive" if report.model_version == "1" else "seasonal-naive"}
        store = runtime.store(site.project())
        assert store.astray() == {}
        assert store.resolve("champion").version == store.ledger()[-1].champion
