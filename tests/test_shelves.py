import io
import sys
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from azure.storage.blob import BlobServiceClient  # noqa: TID253 - an account to deliver to
from hypothesis import given
from hypothesis import strategies as st

import forecastcore as fc
from forecastcore.errors import UsageError
from forecastcore.vintages import VintageRef, expired
from tests.support import postgres
from tests.support.azurite import server as azurite

START = datetime(2024, 1, 1, tzinfo=UTC)
refs = st.lists(
    st.builds(
        lambda day, made, key, scenario: VintageRef(
            issued_at=START + timedelta(days=day),
            created_at=START + timedelta(days=day, minutes=made),
            run_key=f"{key:08x}",
            project="p",
            scenario=scenario,
            rows=1,
        ),
        st.integers(0, 30),
        st.integers(0, 3),
        st.integers(0, 1000),
        st.sampled_from(["base", "hot"]),
    ),
    unique_by=lambda ref: ref.run_key,
)


@given(refs, st.none() | st.integers(1, 10), st.none() | st.floats(0.1, 40))
def test_retention_keeps_the_newest_of_each_scenario_and_nothing_that_it_should_not(held, vintages, days):
    now = START + timedelta(days=31)
    gone = expired(held, vintages=vintages, days=days, now=now)
    left = [ref for ref in held if ref not in gone]
    for scenario in {ref.scenario for ref in held}:
        mine = sorted(ref for ref in held if ref.scenario == scenario)
        stayed = sorted(ref for ref in left if ref.scenario == scenario)
        assert stayed[-1] == mine[-1]
        assert stayed == mine[len(mine) - len(stayed) :]
        assert vintages is None or len(stayed) <= vintages
        assert days is None or all(now - ref.issued_at <= timedelta(days=days) for ref in stayed[:-1])
        limit = vintages or len(mine)
        young = [ref for ref in mine[-limit:] if days is None or now - ref.issued_at <= timedelta(days=days)]
        assert len(stayed) == max(1, len(young))


SINKS = [{"type": "parquet", "path": "out/p/forecasts"}, {"type": "delta", "path": "out/d/forecasts"}]


@pytest.fixture
def site(make_site):
    made = make_site(sinks=[*SINKS, {"type": "csv", "path": "out/c/forecasts"}])
    made.retrain(as_of="2024-03-07T00:00Z")
    for hour in (0, 1, 2):
        made.predict(as_of=f"2024-03-08T{hour:02}:00Z")
    return made


def hours(site):
    return {label: sorted({ref.issued_at.hour for ref in sink.vintages()}) for label, sink in site.project().sinks()}


def everywhere(*origins):
    return {label: list(origins) for label in ("parquet", "delta", "csv")}


def test_vintages_are_taken_back_in_every_sink_newest_or_named_but_never_the_only_one(site):
    told = site.cli("--json", "rollback-vintage", "--reason", "wrong meter")
    assert told.code == 0
    assert {w["sink"] for w in told.document["withdrawn"]} == {"parquet", "delta", "csv"}
    assert set(told.document["latest"].values()) == {"2024-03-08T01:00:00Z"}
    assert set(site.table()["issued_at"].dt.hour) == {1}
    again = site.predict(as_of="2024-03-08T02:00Z")
    assert all((p.already, p.rows) == (True, 0) for p in again.published), "what was taken back stays back"
    assert hours(site) == everywhere(0, 1)

    fc.rollback_vintage(site.project(), "2024-03-08T00:00Z")
    assert hours(site) == everywhere(1)
    with pytest.raises(UsageError, match="no sink holds such a vintage") as caught:
        fc.rollback_vintage(site.project(), "2024-03-08T00:00Z")
    assert "2024-03-08 01:00" in caught.value.hint

    with pytest.raises(UsageError, match="the only vintage"):
        fc.rollback_vintage(site.project())
    assert set(site.table()["issued_at"].dt.hour) == {1}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_at_a_terminal_the_projects_name_is_asked_for_before_anything_is_undone(site, monkeypatch):
    rolled = ["rollback-vintage", "--reason", "wrong meter"]
    told = site.cli(*rolled, "--dry-run")
    assert (told.code, hours(site)) == (0, everywhere(0, 1, 2))
    assert "would be taken back" in told.out

    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    told = site.cli(*rolled)
    assert (told.code, hours(site)) == (2, everywhere(0, 1, 2))
    assert "would be taken back" in told.err
    assert "type small to go on" in told.err
    assert "--yes" in told.err

    monkeypatch.setattr(sys, "stdin", Terminal("small\n"))
    told = site.cli(*rolled)
    assert (told.code, hours(site)) == (0, everywhere(0, 1))
    assert "forecastcore predict --as-of 2024-03-08T02:00:00Z" in told.out

    monkeypatch.setattr(sys, "stdin", Terminal(""))
    assert site.cli(*rolled, "--yes").code == 0
    assert hours(site) == everywhere(0)


def test_what_is_too_old_goes_with_the_next_predict(site):
    site.predict("keep.vintages=2", as_of="2024-03-08T03:00Z")
    assert hours(site) == everywhere(2, 3)
    site.predict("keep.days=1", as_of="2024-03-08T04:00Z")
    assert hours(site) == everywhere(4)


def test_one_sink_that_fails_keeps_no_other_from_its_vintage_and_is_told_alone(site):
    (site.folder / "out" / "c" / "forecasts" / ".staging").rmdir()
    (site.folder / "out" / "c" / "forecasts" / ".staging").write_text("in the way")
    told = site.predict(as_of="2024-03-08T05:00Z")
    assert [bool(p.error) for p in told.published] == [False, False, True]
    (site.folder / "out" / "c" / "forecasts" / ".staging").unlink()
    told = site.predict(as_of="2024-03-08T05:00Z")
    assert [(p.error, p.already) for p in told.published] == [("", True), ("", True), ("", False)]


NOTICE = """
from dataclasses import dataclass
from pathlib import Path
from forecastcore.api import Published, SinkSpec, hookimpl


@dataclass(frozen=True)
class Notice:
    path: Path
    only_tells = True

    def read(self, issued_at=None):
        raise AssertionError("nobody reads a notice")

    def publish(self, vintage, run_key):
        self.path.write_text(run_key)
        return Published(location=str(self.path), rows=vintage.num_rows, already=False)


@hookimpl
def forecastcore_sinks():
    yield SinkSpec(name="notice", summary="a word", factory=Notice)
"""


def test_a_sink_that_only_tells_comes_last_and_not_where_a_place_failed(make_site):
    site = make_site(sinks=[{"type": "notice", "path": "told"}, SINKS[0]]).plugin(NOTICE)
    site.retrain(as_of="2024-03-07T00:00Z")
    (site.folder / "out").write_text("in the way")
    with pytest.raises(fc.errors.SinkError, match="not told: the vintage did not arrive in parquet"):
        site.predict()
    assert not (site.folder / "told").exists()
    (site.folder / "out").unlink()
    assert [(p.sink, p.error) for p in site.predict().published] == [("notice", ""), ("parquet", "")]
    assert (site.folder / "told").exists()


def test_every_kind_of_sink_keeps_what_is_asked_and_takes_back_what_is_asked(make_site, monkeypatch):
    files = [{"type": kind, "path": f"out/{kind}/forecasts"} for kind in ("parquet", "csv", "excel", "delta")]
    with azurite.running() as text, postgres.running() as url, BlobServiceClient.from_connection_string(text) as blobs:
        blobs.create_container("shelves")
        monkeypatch.setenv("BLOBS", text)
        monkeypatch.setenv("DATABASE", url)
        blob = {"type": "azure-blob", "container": "shelves", "path": "forecasts"}
        blob["credential"] = {"connection_string": "${env:BLOBS}"}
        site = make_site(sinks=[*files, {"type": "sql", "url": "${env:DATABASE}"}, blob], keep={"vintages": 2})
        site.retrain(as_of="2024-03-07T00:00Z")
        for hour in (0, 1, 2):
            assert not any(p.error for p in site.predict(as_of=f"2024-03-08T{hour:02}:00Z").published)
        kinds = ("parquet", "csv", "excel", "delta", "sql", "azure-blob")
        assert hours(site) == {kind: [1, 2] for kind in kinds}
        rolled = fc.rollback_vintage(site.project())
        assert {one.sink for one in rolled.withdrawn} == {*kinds}
        assert not rolled.notes
        assert set(map(tuple, hours(site).values())) == {(1,)}
        for _, sink in site.project().sinks():
            assert {moment.hour for moment in pd.to_datetime(sink.read()["issued_at"].to_pandas())} == {1}
