"""docs/reliability.md says of every row which tests claim it, and what a run of them told; nothing by hand."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.reliability.claims import claims

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("reliability_script", ROOT / "scripts" / "reliability.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_pages_are_those_that_the_claims_and_the_kept_figures_make(script):
    told = script.kept()
    assert script.PAGE.read_text() == script.page(told["tests"], claims()), "run scripts/reliability.py"
    assert script.CERTIFICATE.read_text() == script.certificate(told["kills"]), "run scripts/reliability.py"


def test_every_figure_has_a_test_that_claims_it_and_every_claim_a_row(script):
    claimed = claims()
    assert set(script.kept()["tests"]) <= {claim.test for claim in claimed}
    parts = tomllib.loads((ROOT / "tests" / "reliability" / "rows.toml").read_text())["part"]
    rows = [int(key) for part in parts for key in part if key != "title"]
    assert rows == list(range(1, 70))
    assert {row for claim in claimed for row in claim.rows} <= set(rows)


RUN = """
import pytest

@pytest.mark.row(1, trials="n", seed="n")
@pytest.mark.parametrize("n", [2, 3])
def test_cases(n):
    assert n < 3

@pytest.mark.row(1, 2)
def test_told_in_the_end(record_property):
    record_property("trials", 40)

@pytest.mark.row(3)
def test_left_out():
    pytest.skip("no such machine")

def test_of_no_row():
    pass
"""


def test_a_run_is_counted_by_what_its_cases_say_and_what_was_skipped_is_no_trial(script, tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(RUN)
    (tmp_path / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    row(*n): rows\n    slow: slow\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--row", "0", "--junitxml=run.xml"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "1 failed, 2 passed, 1 skipped, 1 deselected" in done.stdout, done.stdout + done.stderr
    figures, kills = script.read([tmp_path / "run.xml"], "a machine")
    told = {test.partition("::")[2]: (one["trials"], one["violations"], one["seeds"]) for test, one in figures.items()}
    assert told == {"test_cases": (5, 1, ["2", "3"]), "test_told_in_the_end": (40, 0, [])}
    assert kills == []
    claimed = claims(tmp_path)
    assert {claim.rows for claim in claimed} == {(1,), (1, 2), (3,)}
    page = script.page(figures, claimed)
    assert "| 1 | the answer to a submission is lost: one run, not two | 45 | 1 | 2-3 |" in page
    assert "no test claims it" in page
    assert "not yet run" in page
