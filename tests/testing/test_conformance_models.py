"""The suite passes an honest model, and fails a bad one by the check that names its fault."""

import sys
from pathlib import Path

import pytest

from forecastcore.testing import check

sys.path.insert(0, str(Path(__file__).parent))
import models_on_trial as on_trial

sys.path.pop(0)


def failed(checks):
    return [f"{one.name}: {one.detail}" for one in checks if one.status == "failed"]


def names(checks):
    return [one.name for one in checks if one.status == "failed"]


@pytest.mark.slow
def test_an_honest_model_passes_every_check_that_it_can_be_given():
    checks = check(on_trial.spec(on_trial.Honest))
    assert not failed(checks)
    assert len([one for one in checks if one.status == "passed"]) >= 50
    assert {one.name: one.detail for one in checks if one.status == "skipped"}.keys() <= {
        "what-was-assumed-is-what-it-learns-from",
        "secrets-stay-out-of-repr",
    }


def test_an_honest_model_passes_a_quick_run():
    checks = check(on_trial.spec(on_trial.Honest), quick=True)
    assert not failed(checks)
    assert len([one for one in checks if one.status == "passed"]) >= 40


@pytest.mark.row(60)
@pytest.mark.parametrize("fault", on_trial.BAD)
def test_a_bad_model_fails_exactly_the_check_that_names_its_fault(fault):
    model, name = on_trial.BAD[fault]
    checks = check(on_trial.spec(model), quick=True)
    assert names(checks) == [name], failed(checks)


@pytest.mark.row(60)
@pytest.mark.slow
@pytest.mark.parametrize("fault", on_trial.BAD_GUESTS)
def test_a_bad_guest_fails_exactly_the_check_that_names_its_fault(fault, monkeypatch):
    monkeypatch.delenv("SPARK_LOCAL_IP", raising=False)  # a session that a test before had in this process set it
    model, name = on_trial.BAD_GUESTS[fault]
    checks = check(on_trial.spec(model))
    assert names(checks) == [name], failed(checks)


@pytest.mark.row(44)
@pytest.mark.parametrize("leak", on_trial.LEAKS)
def test_a_model_that_knows_the_future_is_caught_by_the_check_that_names_how(leak):
    model, name = on_trial.LEAKS[leak]
    on_trial.SEEN.clear()
    on_trial.ARCHIVE.unlink(missing_ok=True)
    checks = check(on_trial.spec(model), quick=True)
    on_trial.ARCHIVE.unlink(missing_ok=True)
    assert names(checks) == [name], failed(checks)
