"""Rows of a backtest that lie in a file, of which some are read at a time, tell what those in memory do."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from forecastcore import sheet
from forecastcore.sheet import Sheet, spans
from tests.test_predict_on_spark import assert_same
from tests.test_retrain_on_spark import MODELS, close, facts, hard_site, served

SHAPE = (7, 2, 3, 4)
#: rows of a part, of about 250
FEW = 40


def test_parts_are_neighbours_that_together_are_all():
    assert spans(7, 10, 25) == [(0, 2), (2, 4), (4, 6), (6, 7)]
    assert spans(2, 1000, 25) == [(0, 1), (1, 2)]
    assert spans(0, 10) == []


@pytest.mark.parametrize("rows", [6, 12, 1000])
def test_what_is_written_is_read_and_nothing_else_is_a_number(rows, monkeypatch):
    monkeypatch.setattr(sheet, "ROWS", rows)
    kept, wanted = Sheet(*SHAPE), np.full(SHAPE, np.nan)
    rng = np.random.default_rng(0)
    for begin, count in ((5, 2), (0, 3), (2, 2)):
        values = rng.normal(size=(count, *SHAPE[1:]))
        kept.write(begin, values)
        wanted[begin : begin + count] = values
    np.testing.assert_array_equal(kept.read(0, 7), wanted)
    np.testing.assert_array_equal(kept.read(3, 6), wanted[3:6])
    assert np.isnan(kept.read(4, 5)).all()


def test_a_file_is_gone_with_its_sheet(monkeypatch, tmp_path):
    monkeypatch.setattr(sheet, "ROWS", 6)
    monkeypatch.setattr(sheet.tempfile, "tempdir", str(tmp_path))
    kept = Sheet(*SHAPE)
    file = kept._file
    assert not file.closed
    del kept
    gc.collect()
    assert file.closed
    assert not [*tmp_path.iterdir()]


def test_a_retrain_in_parts_learns_and_decides_what_it_does_with_all_rows_at_once(make_site, monkeypatch):
    blends = [{"type": "ensemble", "method": how} for how in ("median", "greedy", "per-series")]
    sites = [hard_site(make_site).write(models=[*MODELS, *blends]) for _ in range(2)]
    whole = sites[0].retrain()
    taken, read = [], Sheet.read
    with monkeypatch.context() as patch:
        patch.setattr(sheet, "ROWS", FEW)
        patch.setattr(Sheet, "read", lambda self, a, b: taken.append(read(self, a, b)) or taken[-1])
        parts = sites[1].retrain()
    assert taken
    assert all(len(values) == 1 or values[..., 0].size <= FEW for values in taken), "no more than a part"
    assert whole.decision.verdict in {"promote", "hold"}
    close(facts(whole), facts(parts))
    assert_same(served(sites[1]).assign(run_key=""), served(sites[0]).assign(run_key=""))
