"""What earlier releases left behind serves under this one: champion, decisions, tables (see `states/keep.py`)."""

from __future__ import annotations

import contextlib
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import forecastcore as fc
from tests.conftest import Site

STATES = sorted((Path(__file__).parent / "states").glob("*.zip"))
ORIGINS = ["2024-03-24T23:00Z", "2024-03-26T23:00Z", "2024-03-28T23:00Z"]
KEY = ["unique_id", "scenario", "ds"]

pytestmark = [pytest.mark.slow, pytest.mark.row(68)]


@pytest.fixture(params=STATES, ids=lambda path: path.stem)
def kept(request, tmp_path, capsys):
    """A project as a release left it, moved here."""
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    before = (tmp_path / "made-in.txt").read_text(encoding="utf-8")
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, kind, *_ in database.execute(f"PRAGMA table_info({table})").fetchall():
                if kind.startswith(("VARCHAR", "TEXT")):
                    change = f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE instr({column}, ?)"
                    database.execute(change, (before, str(tmp_path), before))
        database.commit()
    return Site(tmp_path, capsys)


def told(site, *words, code=0):
    answer = site.cli("--json", *words)
    assert answer.code == code, answer.out + answer.err
    return answer.document


def test_there_are_states_of_two_releases():
    assert len(STATES) == 2


def test_a_champion_of_then_forecasts_what_it_forecast_then(kept):
    versions = told(kept, "models", "list")["models"]
    assert {one["version"]: one["aliases"] for one in versions} == {
        "1": ["previous"],
        "2": ["champion"],
        "3": ["challenger"],
    }
    project = kept.project()
    for origin in ORIGINS[1:]:
        before = fc.forecasts(project, issued_at=origin).set_index(KEY).sort_index()
        assert told(kept, "predict", "--as-of", origin)["model_version"] == "2"
        after = fc.forecasts(project, issued_at=origin).sort_values("created_at").drop_duplicates(KEY, keep="last")
        after = after.set_index(KEY).sort_index()
        assert (after["created_at"] > before["created_at"]).all(), "another release is another vintage"
        for column in ("forecast", "q10", "q50", "q90"):
            np.testing.assert_allclose(after[column], before[column], rtol=1e-9)
        assert (after["status"] == "ok").all()
    challenger = told(kept, "predict", "--as-of", ORIGINS[2], "--model", "challenger")
    assert (challenger["model_version"], challenger["series"]["ok"]) == ("3", 3)


def test_its_decisions_go_on(kept):
    history = told(kept, "models", "history")["ledger"]
    retrained = told(kept, "retrain")
    decision = retrained["decision"]
    assert decision["verdict"] in {"promote", "hold"}
    assert decision["gain"] is not None, decision["reason"]
    assert told(kept, "models", "history")["ledger"][: len(history)] == history
    champion = retrained["champion_after"]["version"]
    back = told(kept, "models", "rollback")
    assert (back["champion_before"], back["champion_after"]) == (champion, {"2": "1", "4": "2"}[champion])
    assert told(kept, "predict")["model_version"] == back["champion_after"]


@pytest.mark.parametrize("sink", ["{type: parquet, path: out/forecasts}", "{type: delta, path: table/forecasts}"])
def test_its_tables_are_read_compared_and_taken_back(kept, sink):
    project = kept.project(f"sinks=[{sink}]")
    before = fc.forecasts(project, issued_at=None)
    assert sorted(before["issued_at"].unique()) == [pd.Timestamp(origin) for origin in ORIGINS]
    told(kept, "monitor")
    told(kept, "backup", str(kept.folder / "all.zip"))
    told(kept, "rollback-vintage")
    after = fc.forecasts(project, issued_at=None)
    assert sorted(after["issued_at"].unique()) == [pd.Timestamp(origin) for origin in ORIGINS[:2]]
    assert told(kept, "reconcile")["orphans"] == []
