"""The suite passes honest assumptions, sinks and sources, and fails bad ones by the check that names their fault."""

import sys
from pathlib import Path

import pytest

from forecastcore.testing import check
from forecastcore.testing.checking import KINDS, checks_of
from forecastcore.testing.page import page

sys.path.insert(0, str(Path(__file__).parent))
import places_on_trial as on_trial

sys.path.pop(0)


def failed(checks):
    return {one.name: one.detail for one in checks if one.status == "failed"}


def cases(table):
    return [pytest.param(factory, names, id=fault) for fault, (factory, names) in table.items()]


@pytest.mark.parametrize("kind", ["model", "assumption", "sink", "source"])
def test_every_kind_has_at_least_25_checks_each_with_a_name_and_a_rule_of_its_own(kind):
    rules = dict(checks_of(kind))
    assert len(rules) == len(checks_of(kind)) >= 25
    assert all(rule.endswith(".") and len(rule) > 30 for rule in rules.values())


@pytest.mark.parametrize("factory", on_trial.HONEST_ASSUMPTIONS)
def test_an_honest_assumption_passes(factory):
    checks = check(on_trial.assumption(factory), quick=True)
    assert not failed(checks)
    assert len([one for one in checks if one.status == "passed"]) >= 25


@pytest.mark.parametrize(("factory", "names"), cases(on_trial.BAD_ASSUMPTIONS | on_trial.LEAKY_ASSUMPTIONS))
def test_a_bad_assumption_fails_by_name(factory, names):
    found = failed(check(on_trial.assumption(factory), quick=True))
    assert list(found) == names, found


@pytest.mark.slow
def test_an_honest_sink_passes_every_check():
    checks = check(on_trial.sink(on_trial.Folder))
    assert not failed(checks)
    assert len([one for one in checks if one.status == "passed"]) >= 25


def test_an_honest_sink_passes_a_quick_run_which_names_what_it_left_out():
    checks = check(on_trial.sink(on_trial.Folder), quick=True)
    assert not failed(checks)
    left = {one.name for one in checks if "quick run leaves out" in one.detail}
    assert {"a-failure-half-way-leaves-nothing", "of-two-processes-one-publishes", "nothing-is-printed"} <= left


@pytest.mark.parametrize(("factory", "names"), cases(on_trial.BAD_SINKS))
def test_a_bad_sink_fails_by_name(factory, names):
    found = failed(check(on_trial.sink(factory), quick=True))
    assert list(found) == names, found


@pytest.mark.slow
@pytest.mark.parametrize(("factory", "names"), cases(on_trial.BAD_SINKS_IN_PROCESSES))
def test_a_sink_that_publishes_halves_fails_by_name(factory, names):
    found = failed(check(on_trial.sink(factory)))
    assert set(found) & set(names), found


def test_an_honest_source_passes():
    checks = check(on_trial.source(on_trial.Arrow))
    assert not failed(checks)
    assert len([one for one in checks if one.status == "passed"]) >= 25


@pytest.mark.parametrize(("factory", "names"), cases(on_trial.BAD_SOURCES))
def test_a_bad_source_fails_by_name(factory, names):
    found = failed(check(on_trial.source(factory), quick=True))
    assert list(found) == names, found


def test_what_cannot_be_tried_says_why():
    (found,) = check(on_trial.SourceSpec(name="x", summary="none", factory=on_trial.Arrow))
    assert (found.name, found.status) == ("can-be-tried", "failed")
    assert "example" in found.detail


def test_the_page_of_the_documentation_tells_every_rule():
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) == sum(len(checks_of(kind)) for kind in KINDS) > 100
    assert all(f"| `{name}` | {rule} |" in rows for kind in KINDS for name, rule in checks_of(kind))
