"""Every plugin that comes with forecastcore keeps to its contract: the whole suite, and no fallback behind it."""

import pytest

from forecastcore.host import Host
from forecastcore.testing import check

HOST = Host.discover()
#: a server or an account is asked for; their own tests check them
ELSEWHERE = {"sql", "azure-blob", "delta-table", "spark-table", "webhook", "open-meteo"}
OFFERS = [
    pytest.param(offer, id=f"{offer.kind}-{offer.name}")
    for offer in HOST.offers()
    if offer.health == "ok" and offer.name not in ELSEWHERE and offer.distribution.startswith("forecastcore-")
]


@pytest.mark.row(37)
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("offer", OFFERS)
def test_a_built_in_plugin_passes_the_whole_suite(offer):
    checks = check(offer.spec)
    assert not [f"{one.name}: {one.detail}" for one in checks if one.status == "failed"]
    assert len([one for one in checks if one.status == "passed"]) >= 25


@pytest.mark.parametrize(
    "offer", [case for case in OFFERS if case.id in {"model-seasonal-naive", "assumption-holidays", "source-csv"}]
)
def test_a_light_built_in_plugin_passes_a_quick_run(offer):
    checks = check(offer.spec, quick=True)
    assert not [f"{one.name}: {one.detail}" for one in checks if one.status == "failed"]
