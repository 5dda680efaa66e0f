"""Open-Meteo: forecasts of now and of then, and twelve ways in which it fails or lies."""

import logging
import time
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
from forecastcore_openmeteo import OpenMeteo, forecastcore_assumptions
from forecastcore_openmeteo.steps import on_grid

from forecastcore.api import Assumption
from forecastcore.errors import AssumptionUnavailable
from forecastcore.timegrid import TimeGrid

HOUR = pd.Timedelta("1h")
NOW = pd.Timestamp.now("UTC").floor("h").as_unit("ns")
THEN = pd.Timestamp("2026-03-02T06:00Z").as_unit("ns")
ROME = {"latitude": 41.9, "longitude": 12.5}


def hours(ds):
    return pd.DatetimeIndex(ds).as_unit("ns").asi8 // HOUR.value


def source(service, folder, **more):
    given = {**ROME, "host": service.host, "previous_runs_host": service.host, "cache": folder, "retries": 0}
    return OpenMeteo(**{**given, "timeout": 5.0, "pause": 0.0, **more})


def test_the_forecast_of_now_answers_an_origin_of_now(service, tmp_path):
    history, future, task = service.frames(NOW)
    made = source(service, tmp_path)
    assert isinstance(made, Assumption)
    answer = made.assume(history, future, task)
    assert np.allclose(answer["temperature_2m"], service.weather(hours(future["ds"]), latitude=41.9), atol=1e-5)
    assert (answer["issued_at"] - pd.Timestamp.now("UTC")).abs().max() < pd.Timedelta("1min")
    (asked,) = service.asked
    assert asked["format"] == "flatbuffers"
    assert asked["hourly"] == "temperature_2m"
    assert asked["timezone"] == "GMT"


def test_a_past_origin_is_answered_by_what_had_been_forecast_and_was_out_by_then(service, tmp_path):
    history, future, task = service.frames(THEN, horizon=8 * 24)
    answer = source(service, tmp_path, available_after="6h").assume(history, future, task)
    lead = (future["ds"] - THEN) / HOUR
    day = np.ceil((lead + 6) / 24)
    expected = service.weather(hours(future["ds"]), latitude=41.9) + 0.1 * day
    said = day <= 7
    assert np.allclose(answer["temperature_2m"][said], expected[said], atol=1e-4)
    assert answer["temperature_2m"][~said].isna().all()
    assert (answer["issued_at"][said] <= THEN - 6 * HOUR).all()
    assert (~said).sum() == 30


def test_months_that_are_over_are_asked_for_once_however_many_origins_lie_in_them(service, tmp_path):
    made = source(service, tmp_path)
    for days in range(5):
        made.assume(*service.frames(THEN + days * 24 * HOUR, horizon=24))
    assert len(service.asked) == 2  # February is compared with history
    replace(made).assume(*service.frames(THEN, horizon=24))
    assert len(service.asked) == 2


def test_an_answer_is_used_again_while_it_is_young_and_only_what_was_kept_where_so_asked(service, tmp_path):
    made = source(service, tmp_path)
    with pytest.raises(AssumptionUnavailable, match="no answer was kept"):
        replace(made, cached=True).assume(*service.frames(NOW))
    first = made.assume(*service.frames(NOW))
    service.mode = "500"
    assert made.assume(*service.frames(NOW)).equals(first)
    with pytest.raises(AssumptionUnavailable, match="answered 500"):
        replace(made, max_age="0h").assume(*service.frames(NOW))
    assert replace(made, cached=True, max_age="0h").assume(*service.frames(NOW)).equals(first)
    assert len(service.asked) == 2


def test_each_series_has_its_place_and_each_covariate_its_variable(service, tmp_path):
    (tmp_path / "places.csv").write_text("unique_id,latitude,longitude\nb,10,20\na,41.9,12.5\nc,10,20\n")
    made = source(service, tmp_path, latitude=None, longitude=None, locations=tmp_path / "places.csv")
    made = replace(made, variables={"temp": "temperature_2m", "wet": "rain"})
    both = ("temperature_2m", "rain")
    history, future, task = service.frames(NOW, series=("a", "b", "c"), latitude=(41.9, 10, 10), covariates=both)
    names = {"temperature_2m": "temp", "rain": "wet"}
    answer = made.assume(history.rename(columns=names), future, replace(task, covariates=("temp", "wet")))
    for uid, latitude in (("a", 41.9), ("b", 10), ("c", 10)):
        mine = answer["unique_id"] == uid
        assert np.allclose(
            answer["temp"][mine], service.weather(hours(future["ds"][mine]), latitude=latitude), atol=1e-4
        )
        assert np.allclose(answer["wet"][mine], service.weather(hours(future["ds"][mine]), "rain"), atol=1e-4)
    assert service.asked[0]["latitude"] == "41.9000,10.0000"
    with pytest.raises(AssumptionUnavailable, match=r"places\.csv"):
        made.assume(history.rename(columns=names), future.assign(unique_id="d"), replace(task, covariates=tuple(names)))


LIES = {
    "500": "answered 500",
    "timeout": "Timeout|did not end in time",
    "429": "answered 429: Minutely API request limit exceeded",
    "stale run": "no value from",
    "fahrenheit": "is given in fahrenheit, celsius was asked for",
    "fahrenheit that says celsius": "another unit or place|was never outside",
    "wrong place": "another place",
    "NaN column": "no value from",
    "shifted hour": "fits what was just observed only when moved by -?2 steps",
    "local clock": "clock is 3600 s off UTC",
    "duplicate hours": "values for .* hours",
    "slow drip": "did not end in time",
    "cut off": "peer closed|cut off|Protocol",
    "400": "Cannot resolve variable",
}


@pytest.mark.row(43)
@pytest.mark.parametrize("mode", LIES)
def test_a_service_that_fails_or_lies_is_no_answer_and_leaves_nothing_behind(service, tmp_path, mode):
    service.mode = mode
    made = source(service, tmp_path, timeout=0.7 if mode in {"timeout", "slow drip"} else 5.0)
    history, future, task = service.frames(NOW)
    started = time.monotonic()
    with pytest.raises(AssumptionUnavailable, match=LIES[mode]):
        made.assume(history, future, task)
    assert time.monotonic() - started < 4
    if mode not in {"stale run", "NaN column", "shifted hour", "fahrenheit that says celsius"}:
        assert not list(tmp_path.rglob("*.bin"))
    service.mode = ""
    answer = replace(made, max_age="0h", timeout=5.0).assume(history, future, task)
    assert np.isfinite(answer["temperature_2m"]).all()


@pytest.mark.row(43)
def test_a_service_without_a_certificate_is_no_answer(service, tmp_path):
    made = source(service, tmp_path, host=service.host.replace("http://", "https://"))
    with pytest.raises(AssumptionUnavailable, match="ConnectError"):
        made.assume(*service.frames(NOW))


@pytest.mark.row(43)
def test_of_seven_days_it_says_the_five_that_it_has(service, tmp_path):
    service.mode = "5 of 7 days"
    history, future, task = service.frames(NOW)
    answer = source(service, tmp_path).assume(history, future, task)["temperature_2m"]
    told = answer.notna()
    assert 3 * 24 < told.sum() < 7 * 24
    assert told.is_monotonic_decreasing


def test_one_column_of_nothing_leaves_the_others_as_they_are(service, tmp_path):
    service.mode = "NaN column"
    answer = source(service, tmp_path).assume(*service.frames(NOW, covariates=("temperature_2m", "rain")))
    assert answer["temperature_2m"].isna().all()
    assert answer["rain"].notna().all()


def test_what_may_pass_is_asked_again_and_a_host_that_is_down_is_left_alone_for_a_while(service, tmp_path):
    service.mode = "500"
    made = source(service, tmp_path, retries=1, pause=60.0)
    with pytest.raises(AssumptionUnavailable):
        made.assume(*service.frames(NOW))
    assert len(service.asked) == 2
    with pytest.raises(AssumptionUnavailable, match="not asked again for 60 s"):
        made.assume(*service.frames(NOW))
    assert len(service.asked) == 2


def test_a_wrong_question_is_no_fault_of_the_host(service, tmp_path):
    service.mode = "400"
    made = source(service, tmp_path, retries=3, pause=60.0)
    with pytest.raises(AssumptionUnavailable, match="Cannot resolve variable"):
        made.assume(*service.frames(NOW))
    assert len(service.asked) == 1
    service.mode = ""
    assert made.assume(*service.frames(NOW))["temperature_2m"].notna().all()


def test_the_key_goes_to_the_service_and_nowhere_else(service, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    made = source(service, tmp_path, api_key="s3cret")
    made.assume(*service.frames(NOW))
    assert service.asked[0]["apikey"] == "s3cret"
    service.mode = "400"
    with pytest.raises(AssumptionUnavailable) as caught:
        replace(made, max_age="0h").assume(*service.frames(NOW))
    assert "s3cret" not in f"{made!r} {caught.value} {caplog.text}"
    assert not any(b"s3cret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_parameters_that_make_no_sense_are_refused():
    wrongs = [{"latitude": 1.0}, {**ROME, "latitude": 100.0}, {**ROME, "live": "-1h"}, {**ROME, "timeout": 0.0}]
    for wrong in ({}, *wrongs):
        with pytest.raises(ValueError, match=r"latitude|no such place|live|timeout"):
            OpenMeteo(**wrong)
    assert [spec.name for spec in forecastcore_assumptions()] == ["open-meteo"]


@pytest.mark.parametrize(
    ("frequency", "expected"),
    [
        ("h", [[1.0, 10.0], [2.0, 20.0]]),
        ("30min", [[1.0, 5.0], [1.5, 5.0]]),
        ("3h", [[2.0, 60.0], [5.0, 150.0]]),
    ],
)
def test_hours_become_steps_of_any_length(frequency, expected):
    table = np.stack([np.arange(1.0, 13), 10 * np.arange(1.0, 13)], axis=1)
    grid = TimeGrid(frequency)
    ds = pd.Series(grid.ahead(grid.shift(pd.Timestamp("1970-01-01", tz="UTC"), -1), 2))
    assert on_grid(table, 0, ds, grid, [False, True]).tolist() == expected
    table[1] = np.nan
    got = on_grid(table, 0, ds, grid, [False, True])
    assert np.isnan(got).any()


@dataclass(frozen=True)
class Project:
    """A chain of the service, what was kept of it, and what is usual, run as a project runs it."""

    folder: object

    def forecast(self, service, **api):
        from forecastcore import runtime
        from forecastcore.project import Project as Loaded

        settings = {"type": "open-meteo", **ROME, "host": service.host, "cache": "kept", "retries": 0, "pause": 0.0}
        settings |= {"variables": {"temp": "temperature_2m"}, **api}
        import yaml

        file = {
            "name": "weather",
            "source": {"type": "parquet", "path": "history.parquet"},
            "frequency": "h",
            "horizon": 168,
            "covariates": {"temp": {"assume": "weather"}},
            "assumptions": {
                "api": settings,
                "kept": {**settings, "cached": True},
                "usual": {"type": "climatology"},
                "weather": {"type": "chain", "links": ["api", {"of": "kept", "max_age": "12h"}, "usual"]},
            },
            "models": [{"type": "naive"}],
        }
        (self.folder / "forecast.yaml").write_text(yaml.safe_dump(file))
        history, _, _ = service.frames(NOW)
        history.rename(columns={"temperature_2m": "temp"}).assign(y=1.0).to_parquet(self.folder / "history.parquet")
        project = Loaded.load(self.folder / "forecast.yaml")
        return runtime.future(project, runtime.history(project))


@pytest.mark.row(43)
@pytest.mark.parametrize("mode", ["500", "429", "fahrenheit", "wrong place", "duplicate hours", "local clock"])
def test_a_chain_goes_from_the_forecast_to_the_kept_one_to_what_is_usual(service, tmp_path, mode):
    project = Project(tmp_path)
    service.mode = mode
    usual = project.forecast(service)
    assert set(usual.assumed_by) == {"temp=weather(usual)"}
    service.mode = ""
    assert set(project.forecast(service).assumed_by) == {"temp=weather(api)"}
    service.mode = mode
    kept = project.forecast(service, max_age="0h")
    assert set(kept.assumed_by) == {"temp=weather(kept)"}
    assert kept.notes[0].reason.startswith("api: open-meteo (api)")
    assert not kept.reasons.any()


def test_a_chain_fills_the_days_that_the_forecast_lacks(service, tmp_path):
    service.mode = "5 of 7 days"
    told = pd.Series(Project(tmp_path).forecast(service).assumed_by).value_counts()
    assert set(told.index) == {"temp=weather(api)", "temp=weather(usual)"}
    assert told["temp=weather(api)"] > told["temp=weather(usual)"]
