"""Delivered vintages beside what came."""

import shutil
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import forecastcore as fc
from forecastcore import runtime, state
from forecastcore.config import PolicyConfig, WhenConfig
from forecastcore.errors import ConfigError, UsageError
from forecastcore.runs.acting import act
from forecastcore.watching.drift import ALARM, INPUTS, Inputs, psi
from forecastcore.watching.messages import VintageScore
from forecastcore.watching.policies import judge
from forecastcore.watching.schedule import schedule

TRAINED, FIRST, LAST = "2024-03-16T23:00Z", "2024-03-17T00:00Z", "2024-03-24T00:00Z"
SHOCK = pd.Timestamp("2024-03-20")
WEATHER = {"covariates": {"temp": {"assume": "usual"}}, "assumptions": {"usual": {"type": "climatology"}}}
#: a line through the weather, beside the same hour's mean: quick, and it uses what is assumed
MODEL = """
from dataclasses import dataclass
import numpy as np
from forecastcore.api import ModelSpec, hookimpl, per_series

def rows(series):
    hour = (series.ds - series.ds.astype("datetime64[D]")).astype("timedelta64[h]").astype(int)
    return np.column_stack([np.eye(24)[hour], series.x])

@per_series
@dataclass(frozen=True)
class Weathered:
    def fit_series(self, series, task):
        return {"weights": np.linalg.lstsq(rows(series), series.y, rcond=None)[0]}

    def predict_series(self, params, series, future, task):
        return rows(future) @ params["weights"]

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="weathered", summary="hours and weather", factory=Weathered, capabilities={"covariates": True})
"""


def broken(days=25, shift=0.0, warmer=0.0):
    """History whose level leaps, or whose weather turns, after the champion was trained."""
    ds = pd.date_range("2024-03-01", periods=24 * days, freq="h")
    blocks = []
    for number, uid in enumerate("abc"):
        rng = np.random.default_rng(number)
        temp = rng.normal(size=len(ds))
        y = 50 * (number + 1) + 10 * np.sin(2 * np.pi * ds.hour / 24) + 3 * temp + rng.normal(scale=0.5, size=len(ds))
        blocks.append(pd.DataFrame({"unique_id": uid, "ds": ds, "y": y, "temp": temp}))
    rows = pd.concat(blocks, ignore_index=True)
    after = rows["ds"] >= SHOCK
    rows.loc[after, "y"] += shift + 3 * warmer
    rows.loc[after, "temp"] += warmer
    return rows


@pytest.fixture(scope="module")
def watched(tmp_path_factory, site_of, empty_store):
    """Trained on sixteen days, eight daily vintages of a model that uses the weather, and the days after."""
    folder = tmp_path_factory.mktemp("watched")
    shutil.copy(empty_store, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORECASTCORE_CACHE", str(folder / "cache"))
        settings = {"horizon": 12, "models": [{"type": "weathered"}, {"type": "seasonal-naive"}], **WEATHER}
        site = site_of(folder, **settings).plugin(MODEL).write(broken(warmer=2.0))
        site.retrain(as_of=TRAINED)
        fc.backfill(site.project(), FIRST, LAST, every=24)
        yield site


@pytest.fixture(scope="module")
def report(watched):
    return fc.monitor(watched.project())


@pytest.fixture
def own(watched, tmp_path, site_of, capsys):
    """A copy of the watched site, to be changed."""
    shutil.copytree(watched.folder, tmp_path / "own")
    site = site_of(tmp_path / "own", **watched.settings)
    site.capsys = capsys
    return site


# -- scores


def test_errors_are_those_that_pandas_finds_in_the_table_and_the_history(watched, report):
    table, came = watched.table(None), pd.read_parquet(watched.folder / "history.parquet")
    came["ds"] = came["ds"].dt.tz_localize("UTC")
    naive = came.assign(ds=came["ds"] + pd.Timedelta("24h"))[["unique_id", "ds", "y"]]  # 12 steps are less than a day
    rows = table.merge(came, on=["unique_id", "ds"]).merge(naive, on=["unique_id", "ds"], suffixes=("", "_naive"))

    def scale(row):
        past = came[(came["unique_id"] == row.unique_id) & (came["ds"] <= row.issued_at)]["y"].to_numpy()
        return np.abs(past[24:] - past[:-24]).mean()

    pairs = rows[["unique_id", "issued_at"]].drop_duplicates()
    pairs["scale"] = [scale(row) for row in pairs.itertuples()]
    rows = rows.merge(pairs, on=["unique_id", "issued_at"])

    def losses(column):
        scaled = (rows[column] - rows["y"]).abs() / rows["scale"]
        return scaled.groupby([rows["unique_id"], rows["issued_at"]]).mean()

    ours, theirs = losses("forecast"), losses("y_naive")
    whole = report.accuracy[0]
    assert (whole.name, whole.rows) == ("all", len(rows)) == ("all", 8 * 3 * 12)
    assert whole.mase == pytest.approx(ours.mean())
    assert whole.skill == pytest.approx(1 - ours.mean() / theirs.mean())
    assert whole.coverage == pytest.approx(rows["y"].between(rows["q10"], rows["q90"]).mean())
    by_day = ours.groupby("issued_at").mean()
    assert [vintage.mase for vintage in report.vintages] == pytest.approx(by_day.tolist())


def test_it_tells_steps_models_versions_and_series_and_what_was_promised(watched, report):
    kinds = {(one.kind, one.name) for one in report.accuracy}
    assert {("steps", "steps 1-3"), ("steps", "steps 10-12"), ("model", "weathered")} <= kinds
    assert sum(one.rows for one in report.accuracy if one.kind == "steps") == report.accuracy[0].rows
    (version,) = report.versions
    registered = runtime.store(watched.project()).resolve("champion").metrics
    assert version.promised_mase == pytest.approx(registered["mase"])
    assert [one.mase for one in report.worst] == sorted((one.mase for one in report.worst), reverse=True)


def test_only_what_has_come_is_scored(watched):
    early = fc.monitor(watched.project(), "2024-03-20T06:00Z")
    assert [vintage.arrived for vintage in early.vintages] == [1.0, 1.0, 1.0, 0.5]
    assert early.accuracy[0].rows == 3 * (3 * 12 + 6)
    assert [vintage.judged for vintage in early.vintages] == [True] * 4
    last = fc.monitor(watched.project(), "2024-03-20T06:00Z", last=2)
    assert [vintage.issued_at.day for vintage in last.vintages] == [19, 20]


def test_without_a_vintage_that_has_come_it_says_what_to_do(watched, make_site):
    with pytest.raises(UsageError, match="no vintage was delivered before"):
        fc.monitor(watched.project(), "2024-03-16T00:00Z")
    with pytest.raises(UsageError, match="run forecastcore predict"):
        fc.monitor(make_site().project())


def test_errors_of_weather_that_turned_are_the_assumptions_not_the_models(watched, report):
    (split,) = report.split
    assert split.model_error + split.assumption_error == pytest.approx(split.mase)
    calm = fc.monitor(watched.project(), "2024-03-19T23:00Z")
    assert calm.split[0].assumption_error < split.assumption_error / 1.5
    assert split.model_error == pytest.approx(calm.split[0].model_error, rel=0.35)
    (weather,) = report.assumption_errors
    assert weather.covariate == "temp"
    assert weather.bias < -0.5  # it was assumed colder than it was


# -- inputs and schedule


def test_the_training_data_itself_never_drifts_and_a_turned_weather_does(watched, report):
    calm = fc.monitor(watched.project(), "2024-03-17T05:00Z")
    assert not any(one.drifted for one in calm.drift)
    moved = {one.column: one for one in report.drift}
    assert moved["temp"].drifted
    assert moved["temp"].psi > max(ALARM, moved["temp"].usual_psi)
    assert moved["temp"].ks > 0.4


@given(st.integers(0, 10_000), st.sampled_from([1e-6, 1.0, 1e6]))
def test_a_sample_against_itself_has_no_index_and_against_what_lies_beyond_it_a_large_one(seed, size):
    sample = size * np.random.default_rng(seed).standard_t(3, size=300)
    grid = np.quantile(sample, np.linspace(0, 1, 101))
    assert psi(grid, sample) < 0.05
    assert psi(grid, sample + 3 * np.ptp(sample) + 1) > 1


def test_the_inputs_of_a_model_come_back_as_they_were(watched, tmp_path):
    store = runtime.store(watched.project())
    data = state.open_verified(store.fetch(store.resolve("champion"))).read(INPUTS)
    kept = Inputs.from_bytes(data)
    kept.write(tmp_path / INPUTS)
    assert (tmp_path / INPUTS).read_bytes() == data
    assert kept.names.tolist() == ["y", "temp"]
    assert kept.ids.tolist() == ["a", "b", "c"]


@pytest.mark.row(46)
def test_series_that_are_new_and_series_that_have_ended_are_named(own):
    rows = broken()
    late = rows[rows["unique_id"] == "a"].assign(unique_id="z")
    kept = rows[(rows["unique_id"] != "c") | (rows["ds"] < SHOCK)]
    own.write(pd.concat([kept, late], ignore_index=True))
    told = fc.monitor(own.project())
    assert told.new_series == ("z",)
    assert told.ended_series == ("c",)


@given(st.integers(4, 40), st.sets(st.integers(1, 38)), st.sampled_from([3600, 86400]))
def test_exactly_the_holes_of_a_rhythm_are_missing(count, holes, seconds):
    kept = [n for n in range(count) if n not in holes or n == count - 1]
    kept = kept if 4 * len(kept) >= 3 * count + 4 else list(range(count))
    at = [pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(seconds=n * seconds) for n in kept]
    found = schedule(at, at, at[-1])
    assert [moment.timestamp() for moment in found.missing] == [
        at[0].timestamp() + n * seconds for n in range(kept[0], kept[-1]) if n not in kept
    ]
    assert not found.late


def test_a_vintage_made_long_after_it_was_due_is_late_and_a_backfill_is_not():
    at = [pd.Timestamp(2024, 1, day, tz="UTC") for day in range(1, 8)]
    once = pd.Timestamp("2024-02-01", tz="UTC")
    assert not schedule(at, [once] * 7, at[-1]).late
    made = [moment + pd.Timedelta("1h") for moment in at]
    made[3] += pd.Timedelta("20h")
    assert [moment.day for moment in schedule(at, made, at[-1]).late] == [4]
    assert [moment.day for moment in schedule(at, made, pd.Timestamp("2024-01-09 12:00", tz="UTC")).missing] == [8, 9]


# -- policies


def vintage(day, **numbers):
    at = datetime(2024, 1, day, tzinfo=UTC)
    head = {"issued_at": at, "created_at": at, "model_version": "1", "arrived": 1.0, "judged": True, "rows": 9}
    return VintageScore(**{**head, **numbers})


@given(st.lists(st.floats(-1, 1), min_size=0, max_size=12), st.integers(1, 5), st.integers(0, 4))
def test_a_policy_fires_exactly_where_so_many_of_the_newest_vintages_meet_it(skills, needed, more):
    window = needed + more
    when = WhenConfig(**{"skill_below": 0.0, "for": f"{needed} of {window}"})
    (outcome,) = judge(
        [PolicyConfig(when=when, do="retrain")], [vintage(d + 1, skill=s) for d, s in enumerate(skills)], {}
    )
    assert outcome.fired == (sum(skill < 0 for skill in skills[-window:]) >= needed)


def test_all_conditions_of_a_policy_hold_at_once_and_a_vintage_that_has_not_come_is_not_judged():
    when = WhenConfig(skill_below=0.0, drift_above=0.25)
    policy = PolicyConfig(when=when, do="alert")
    bad = [vintage(1, skill=-1.0), vintage(2, skill=-1.0, judged=False)]
    assert judge([policy], bad, {"drift_above": 0.5})[0].fired
    (quiet,) = judge([policy], bad, {"drift_above": 0.1})
    assert not quiet.fired
    assert "drift above 0.25: it is 0.1" in quiet.reason
    assert not judge([policy], bad[1:], {"drift_above": 0.5})[0].fired


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"when": {"skil_below": 0}, "do": "retrain"}, "did you mean 'skill_below'"),
        ({"when": {"skill_below": 0, "for": "5 of 3"}, "do": "retrain"}, "such as 3 of 5"),
        ({"when": {}, "do": "retrain"}, "names no condition"),
        ({"when": {"skill_below": 0}, "do": "retrian"}, "did you mean 'retrain'"),
    ],
)
def test_a_policy_that_is_wrong_is_told_with_its_line(make_site, policy, said):
    site = make_site(bare=True, monitor={"policies": [policy]})
    with pytest.raises(ConfigError) as caught:
        site.project()
    (problem,) = caught.value.problems
    assert problem.line
    assert problem.key.startswith("monitor.policies.0")
    assert said in str(problem)


def test_the_command_exits_with_3_where_a_policy_fires_and_0_where_none_does(own):
    quiet = own.cli("--json", "monitor", "--as-of", "2024-03-19T23:00Z")
    assert (quiet.code, quiet.document["advice"]) == (0, [])
    own.write(monitor={"policies": [{"when": {"bias_beyond": 0.01, "for": "2 of 4"}, "do": "alert"}]})
    fired = own.cli("--json", "monitor")
    assert (fired.code, fired.document["advice"]) == (3, ["alert"])
    words = own.cli("monitor")
    assert "FIRED  alert when bias beyond 0.01 for 2 of 4: it held in" in words.out


def test_a_result_is_written_once_beside_the_forecasts_and_to_mlflow(own):
    first, again = fc.monitor(own.project()), fc.monitor(own.project())
    assert not first.already or first.table == again.table
    assert again.already
    rows = pd.read_parquet(again.table)
    assert set(rows["kind"]) == {"all", "steps", "model", "version", "vintage", "series", "drift"}
    whole = rows[rows["kind"] == "all"].iloc[0]
    assert (whole["project"], whole["mase"]) == ("small", pytest.approx(first.accuracy[0].mase))


# -- acting


def test_a_policy_that_asks_for_a_retrain_is_carried_out_once(own):
    policy = {"when": {"skill_below": 0.5, "for": "2 of 3"}, "do": "retrain"}
    own.write(broken(shift=40.0), monitor={"policies": [policy]})
    told = own.cli("--json", "monitor", "--act")
    assert told.code == 3
    (done,) = told.document["acted"]
    assert (done["do"], done["done"]) == ("retrain", True)
    assert len(own.cli("--json", "models", "list").document["models"]) == 2
    again = fc.monitor(own.project())
    if again.advice:  # the gate may have kept the champion: the same data is not learned from twice
        assert not act(own.project(), again).acted[0].done


def test_recalibrating_keeps_the_forecast_and_moves_the_band(own):
    own.write(monitor={"policies": [{"when": {"bias_beyond": 0.0}, "do": "recalibrate"}]})
    before = own.predict()
    old = own.table()
    done = act(own.project(), fc.monitor(own.project())).acted[0]
    assert done.done, done.note
    after = own.predict()
    new = own.table()
    assert (before.model_version, after.model_version) == ("1", "2")
    new = new[new["model_version"] == "2"].reset_index(drop=True)
    old = old[old["model_version"] == "1"].reset_index(drop=True)
    assert np.allclose(old["forecast"], new["forecast"])
    assert not np.allclose(old["q90"] - old["q10"], new["q90"] - new["q10"])


@pytest.mark.row(35)
@pytest.mark.slow
def test_demotion_returns_to_the_predecessor_only_where_it_would_have_done_better(own):
    own.write(monitor={"policies": [{"when": {"bias_beyond": 0.0}, "do": "demote"}]})
    alone = act(own.project(), fc.monitor(own.project())).acted[0]
    assert (alone.done, alone.note) == (False, "there is no predecessor that could be compared")
    own.retrain("models=[{type: naive}]", as_of=TRAINED, promote=False)
    own.cli("models", "promote", "2")
    fc.backfill(own.project(), FIRST, LAST, every=24, model="2")
    worse = act(own.project(), fc.monitor(own.project())).acted[0]
    assert worse.done, worse.note
    assert "version 1 is champion again" in worse.note
    kept = act(own.project(), fc.monitor(own.project()).model_copy(update={"advice": ("demote",)})).acted[0]
    assert not kept.done
    assert "no better" in kept.note
