"""What is assumed of the future: never from later than the origin, never without saying by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastcore.api import AssumptionSpec
from forecastcore.assumptions import Assumptions, Covariate, Made, blank_future, replayer
from forecastcore.errors import AssumptionUnavailable, DataError
from forecastcore.issued import Issued
from forecastcore.testing import sample_history, sample_task
from forecastcore.timegrid import TimeGrid

HISTORY = sample_history(series=2, rows=48, covariates=("temp", "promo"))
GRID = TimeGrid("h")
ORIGIN = HISTORY["ds"].iloc[35]
PAST = HISTORY[HISTORY["ds"] <= ORIGIN].reset_index(drop=True)
AFTER = HISTORY[HISTORY["ds"] > ORIGIN].reset_index(drop=True)
TASK = sample_task(PAST, horizon=12)
BLANK = blank_future(["series-0", "series-1"], GRID, ORIGIN, 12)


@dataclass(frozen=True)
class Last:
    """The last value; says what it was given."""

    fails: str = ""
    blind: str = ""

    def assume(self, history, future, task):
        if self.fails == "unavailable":
            raise AssumptionUnavailable("no line")
        if self.fails == "bug":
            raise KeyError("oops")
        assert history["ds"].max() <= task.origin
        assert "y" not in history
        out = future[["unique_id", "ds"]].copy()
        for name in task.covariates:
            last = history.groupby("unique_id")[name].last()
            out[name] = out["unique_id"].map(last).astype(float)
            out.loc[out["unique_id"] == self.blind, name] = np.nan
        return out.head(3) if self.fails == "rows" else out.sample(frac=1, random_state=0)


@dataclass(frozen=True)
class Plus:
    of: str
    add: float = 1.0

    def assume(self, history, future, task):
        return future.assign(**{name: future[name] + self.add for name in task.covariates})


@dataclass(frozen=True)
class Clock:
    def assume(self, history, future, task):
        return future.assign(**{name: future["ds"].dt.hour.astype(float) for name in task.covariates})


def made(thing: Any, **flags: bool) -> Made:
    return Made(spec=AssumptionSpec(name="some", summary="", factory=type(thing), **flags), assumption=thing)


def both(last: Any = None, **scenarios: dict[str, Made]) -> Assumptions:
    covariates = (Covariate(name="temp", assume="weather"), Covariate(name="promo"))
    return Assumptions(covariates, {"base": {"weather": made(last or Last())}, **scenarios})


def test_each_covariate_is_filled_by_whom_it_names():
    got = both().ahead(PAST, AFTER, BLANK, TASK)
    assert list(got.frame.columns) == ["unique_id", "ds", "step", "temp", "promo"]
    lasts = PAST.groupby("unique_id")["temp"].last()
    assert (got.frame["temp"] == got.frame["unique_id"].map(lasts)).all()
    assert np.array_equal(got.frame["promo"], AFTER["promo"])
    assert set(got.assumed_by) == {"promo=source; temp=weather"}
    assert not got.reasons.any()
    assert [(n.covariate, n.assumption, n.rows) for n in got.notes] == [
        ("temp", "weather", 24),
        ("promo", "source", 24),
    ]


def test_a_scenario_changes_what_it_names_on_top_of_the_base():
    got = both(heat={"weather": made(Plus("weather"), wraps=True)}).ahead(PAST, AFTER, BLANK, TASK, scenario="heat")
    base = both().ahead(PAST, AFTER, BLANK, TASK)
    assert np.allclose(got.frame["temp"], base.frame["temp"] + 1)
    assert set(got.assumed_by) == {"promo=source; temp=weather@heat(weather)"}


@pytest.mark.parametrize(
    ("fails", "words"),
    [("unavailable", "no line"), ("bug", "KeyError: 'oops'"), ("rows", "returned 3 rows, 24 were asked for")],
)
def test_where_an_assumption_fails_the_last_season_is_carried_on_and_told(fails, words):
    got = both(Last(fails=fails)).ahead(PAST, AFTER, BLANK, TASK)
    season = PAST.groupby("unique_id")["temp"].apply(lambda t: t.to_numpy()[-24:-12])
    assert np.array_equal(got.frame["temp"], np.concatenate(season.tolist()))
    assert set(got.assumed_by) == {"promo=source; temp=last-season"}
    assert all(reason.startswith("assumption-unavailable: weather: ") and words in reason for reason in got.reasons)


def test_a_value_that_lacks_for_one_series_touches_that_one_only():
    got = both(Last(blind="series-1")).ahead(PAST, AFTER, BLANK, TASK)
    whole = both().ahead(PAST, AFTER, BLANK, TASK)
    first = (BLANK["unique_id"] == "series-0").to_numpy()
    assert got.frame[first].equals(whole.frame[first])
    assert set(got.reasons[first]) == {""}
    assert set(got.reasons[~first]) == {"assumption-unavailable: weather has no value"}
    assert np.isfinite(got.frame["temp"]).all()


def test_a_source_that_knows_the_future_of_nobody_is_an_error_and_of_some_a_remark():
    some = AFTER[AFTER["unique_id"] == "series-0"]
    got = both().ahead(PAST, some, BLANK, TASK, insist=True)
    assert set(got.reasons[12:]) == {"covariate-missing: the source lacks future values of promo"}
    with pytest.raises(DataError, match=r"covariates.promo: known is true"):
        both().ahead(PAST, some.head(3), BLANK, TASK, insist=True)


def test_what_an_assumption_generates_needs_no_column_in_the_source():
    assumed = Assumptions((Covariate(name="hour", assume="clock"),), {"base": {"clock": made(Clock(), generates=True)}})
    panel = assumed.with_generated(PAST[["unique_id", "ds", "y"]], TASK)
    assert (panel["hour"] == panel["ds"].dt.hour).all()
    assert (assumed.ahead(panel, AFTER, BLANK, TASK).frame["hour"] == BLANK["ds"].dt.hour).all()


def archive(rows):
    frame = pd.DataFrame(rows, columns=["ds", "issued_at", "value"])
    return frame.assign(
        ds=pd.to_datetime(frame["ds"], utc=True), issued_at=pd.to_datetime(frame["issued_at"], utc=True)
    )


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(-5, 15), st.integers(-10, 20), st.floats(-5, 5)), max_size=30))
def test_of_an_archive_only_what_had_been_issued_by_the_origin_counts_and_of_that_the_newest(rows):
    hour = pd.Timedelta("1h")
    kept = archive([(ORIGIN + ahead * hour, ORIGIN + issued * hour, value) for ahead, issued, value in rows])
    assumed = Assumptions(
        (Covariate(name="temp", assume="weather", archive=Issued(kept, ("value",))),),
        {"base": {"weather": made(Last())}},
    )
    got = assumed.ahead(PAST, AFTER, BLANK, TASK)
    lasts = PAST.groupby("unique_id")["temp"].last()
    for (uid, ds), value, by in zip(
        got.frame[["unique_id", "ds"]].itertuples(index=False), got.frame["temp"], got.assumed_by, strict=True
    ):
        told = kept[(kept["ds"] == ds) & (kept["issued_at"] <= ORIGIN)].sort_values("issued_at", kind="stable")
        assert value == (told["value"].iloc[-1] if len(told) else lasts[uid])
        assert by == ("temp=archive" if len(told) else "temp=weather")


def test_what_an_archive_has_stays_where_the_assumption_behind_it_fails():
    kept = Issued(archive([(ORIGIN + pd.Timedelta("1h"), ORIGIN, 7.0)]), ("value",))
    parts = {"base": {"weather": made(Last("unavailable"))}}
    got = Assumptions((Covariate(name="temp", assume="weather", archive=kept),), parts).ahead(PAST, AFTER, BLANK, TASK)
    assert got.assumed_by[:2].tolist() == ["temp=archive", "temp=last-season"]
    assert got.frame["temp"].iloc[0] == 7.0
    assert got.reasons[0] == ""
    assert "no line" in got.reasons[1]


def test_replay_tells_what_would_have_been_assumed_at_past_origins_and_nothing_after_the_present_one():
    replay = replayer(both(), PAST, GRID, TASK)
    origins = [PAST["ds"].iloc[20], PAST["ds"].iloc[30]]
    got = replay(origins)
    assert list(got.columns) == ["unique_id", "origin", "ds", "step", "temp", "promo"]
    assert got["ds"].max() <= TASK.origin
    for origin in origins:
        there = got[got["origin"] == origin]
        lasts = PAST[PAST["ds"] <= origin].groupby("unique_id")["temp"].last()
        assert (there["temp"] == there["unique_id"].map(lasts)).all()
        actual = PAST[(PAST["ds"] > origin) & (PAST["ds"] <= origin + pd.Timedelta("12h"))]
        assert np.array_equal(there["promo"], actual["promo"])
    assert replayer(Assumptions((Covariate(name="promo"),)), PAST, GRID, TASK) is None


@pytest.mark.slow
def test_what_is_assumed_at_the_origin_does_not_hang_on_what_came_later(site):
    """An archive with later issues, and later actuals, change neither leaderboard nor forecast."""
    frame = pd.read_parquet(site.folder / "history.parquet")
    hours = pd.DatetimeIndex(frame["ds"].unique())
    early = [(ds, ds - pd.Timedelta("9h"), 0.5) for ds in hours]
    late = [(ds, ds - pd.Timedelta("1h"), 99.0) for ds in hours[-30:]]
    told = []
    for rows in (early, early + [row for row in late if row[1] > pd.Timestamp("2024-03-10")]):
        archive(rows).assign(
            ds=lambda f: f["ds"].dt.tz_localize(None), issued_at=lambda f: f["issued_at"].dt.tz_localize(None)
        ).to_csv(site.folder / "issued.csv", index=False)
        site.write(
            frame,
            covariates={"temp": {"assume": "w", "issued": "issued.csv"}},
            assumptions={"w": {"type": "persistence"}},
            models=[{"type": "ridge"}],
        )
        report = site.retrain(as_of="2024-03-10")
        site.predict(as_of="2024-03-10", model="challenger")
        table = site.table(issued_at="2024-03-10")
        told.append(
            (
                [row.mase for row in report.leaderboard[:1]],
                table[table["model_version"] == table["model_version"].max()],
            )
        )
    assert told[0][0] == told[1][0]
    assert np.array_equal(told[0][1]["forecast"], told[1][1]["forecast"])
    assert set(told[0][1]["assumed_by"]) == {"temp=archive"}


@dataclass(frozen=True)
class First:
    """A chain of the core's own."""

    links: tuple[Any, ...]

    def assume(self, history, future, task):
        return future


@dataclass(frozen=True)
class Aged:
    """Ones for the first rows, issued some hours before the origin."""

    value: float
    hours: int = 0
    rows: int = 99

    def assume(self, history, future, task):
        told = future["step"] <= self.rows
        out = future.assign(**{name: np.where(told, self.value, np.nan) for name in task.covariates})
        return out.assign(issued_at=task.origin - pd.Timedelta(hours=self.hours))


@dataclass(frozen=True)
class Age:
    of: str
    max_age: str | None = None


def chained(*links, **others):
    parts = {name: made(thing) for name, thing in others.items()}
    return Assumptions(
        (Covariate(name="temp", assume="weather"),), {"base": {"weather": made(First(links), wraps=True), **parts}}
    )


def test_a_chain_takes_of_each_row_the_first_link_that_can_say_and_tells_which():
    got = chained("api", "kept", "usual", api=Aged(1, rows=5), kept=Aged(2, rows=8), usual=Last()).ahead(
        PAST, AFTER, BLANK, TASK
    )
    one = got.frame["temp"].to_numpy()[:12]
    assert one[:8].tolist() == [1] * 5 + [2] * 3
    assert one[8:].tolist() == [PAST["temp"].iloc[35]] * 4
    assert (
        got.assumed_by[:12].tolist()
        == ["temp=weather(api)"] * 5 + ["temp=weather(kept)"] * 3 + ["temp=weather(usual)"] * 4
    )
    assert [(n.assumption, n.rows) for n in got.notes] == [
        ("weather(api)", 10),
        ("weather(kept)", 6),
        ("weather(usual)", 8),
    ]
    assert got.notes[0].reason == ""
    assert got.notes[2].reason == "api: no value for 14 of 24; kept: no value for 8 of 24"
    assert not got.reasons.any()


@pytest.mark.parametrize(("hours", "value"), [(3, 2.0), (12, 2.0), (13, 3.0)])
def test_a_link_counts_only_up_to_its_age(hours, value):
    got = chained(
        "api", Age("kept", "12h"), "usual", api=Last("unavailable"), kept=Aged(2, hours), usual=Aged(3)
    ).ahead(PAST, AFTER, BLANK, TASK)
    assert set(got.frame["temp"]) == {value}
    assert "no line" in got.notes[0].reason
    assert ("issued" in got.notes[0].reason) == (value == 3)


def test_where_no_link_can_say_the_last_season_is_carried_on_and_every_link_says_why():
    got = chained("api", "kept", api=Last("unavailable"), kept=Last("bug")).ahead(PAST, AFTER, BLANK, TASK)
    assert set(got.assumed_by) == {"temp=last-season"}
    assert "no line" in got.reasons[0]
    assert "KeyError" in got.reasons[0]
    short = chained("api", api=Aged(1, rows=4)).ahead(PAST, AFTER, BLANK, TASK)
    assert short.assumed_by[:12].tolist() == ["temp=weather(api)"] * 4 + ["temp=last-season"] * 8


def test_links_are_asked_only_as_far_as_needed_and_a_change_may_stand_on_a_chain():
    parts = {"api": made(Aged(1)), "usual": made(Last("bug")), "weather": made(First(("api", "usual")), wraps=True)}
    assumed = Assumptions(
        (Covariate(name="temp", assume="weather"),),
        {"base": parts, "heat": {"weather": made(Plus("weather", 5.0), wraps=True)}},
    )
    base = assumed.ahead(PAST, AFTER, BLANK, TASK)
    assert base.notes[0].reason == ""
    heat = assumed.ahead(PAST, AFTER, BLANK, TASK, scenario="heat")
    assert set(heat.frame["temp"]) == {6.0}
    assert set(heat.assumed_by) == {"temp=weather@heat(weather(api))"}
