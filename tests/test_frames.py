"""The quality check: each fault gets one clear error or one counted repair, by the policy stated."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecastcore.errors import DataError, MissingColumnsError, QualityError
from forecastcore.frames import Columns, Policy, data_digest, offsets, prepare

HOURS = pd.date_range("2024-03-01", periods=48, freq="h")


def table(**columns):
    return pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)


def two_series(y=None, ds=HOURS):
    n = len(ds)
    return table(unique_id=["a"] * n + ["b"] * n, ds=[*ds, *ds], y=list(range(2 * n)) if y is None else y)


def checked(source, *, frequency="h", horizon=6, timezone="UTC", observed=(), known=(), as_of=None, **policy):
    columns = Columns(timezone=timezone, observed=observed, known=known)
    return prepare(
        source,
        columns=columns,
        policy=Policy(**policy),
        frequency=frequency,
        horizon=horizon,
        as_of=as_of,
        where="test.csv",
    )


def test_clean_data_comes_back_sorted_utc_and_without_repairs():
    got = checked(two_series())
    assert list(got.panel.columns) == ["unique_id", "ds", "y"]
    assert str(got.panel["ds"].dtype) == "datetime64[ns, UTC]"
    assert got.origin == HOURS[-1].tz_localize("UTC")
    assert got.ids == ["a", "b"]
    assert dict(got.counts) == {}


def test_a_missing_column_names_what_is_there():
    with pytest.raises(MissingColumnsError, match=r"test\.csv has no column 'y'.*it has 'unique_id', 'ds', 'value'"):
        checked(two_series().rename_columns(["unique_id", "ds", "value"]))


def test_an_empty_source_is_said_to_be_empty():
    with pytest.raises(DataError, match=r"test\.csv has no rows"):
        checked(two_series().slice(0, 0))


def test_text_in_the_target_shows_the_first_rows():
    with pytest.raises(QualityError, match=r"2 values of column 'y' in test\.csv are no numbers\n    row 2: '1,5'"):
        checked(table(unique_id=["a"] * 3, ds=HOURS[:3], y=["1", "1,5", "n/a"]))


def test_numbers_written_as_text_are_numbers():
    assert checked(table(unique_id=["a"] * 2, ds=HOURS[:2], y=["1", "2.5"])).panel["y"].tolist() == [1.0, 2.5]


def test_numbers_for_times_are_refused_because_their_unit_is_unknown():
    with pytest.raises(QualityError, match="cannot be told apart"):
        checked(table(unique_id=["a"], ds=[1_700_000_000], y=[1.0]))


def test_unsorted_rows_are_sorted_and_counted():
    source = two_series()
    shuffled = source.take(np.random.default_rng(0).permutation(source.num_rows))
    got = checked(shuffled)
    assert got.panel.equals(checked(source).panel)
    assert got.counts["rows_sorted"] == 96


def test_integer_and_padded_ids_stay_what_they_are():
    assert checked(table(unique_id=[7, 7], ds=HOURS[:2], y=[1.0, 2.0])).ids == ["7"]
    assert checked(table(unique_id=["007", "007"], ds=HOURS[:2], y=[1.0, 2.0])).ids == ["007"]


@pytest.mark.row(40)
@pytest.mark.parametrize(("rule", "value"), [("last", 3.0), ("mean", 2.0)])
def test_duplicates_follow_the_policy(rule, value):
    source = table(unique_id=["a", "a", "a"], ds=[HOURS[0], HOURS[1], HOURS[1]], y=[0.0, 1.0, 3.0])
    with pytest.raises(QualityError, match=r"duplicates: 2 rows share.*\n.*y=1\.0\n.*y=3\.0.*last \| mean"):
        checked(source)
    got = checked(source, duplicates=rule)
    assert got.panel["y"].tolist() == [0.0, value]
    assert got.counts[f"duplicates_{rule}"] == 1


@pytest.mark.row(40)
def test_gaps_become_missing_values_and_are_counted():
    source = two_series().filter(pa.array([i not in {5, 6, 60} for i in range(96)]))
    got = checked(source)
    assert len(got.panel) == 96
    assert got.panel["y"].isna().sum() == 3
    assert got.counts["gaps_filled"] == 3
    with pytest.raises(
        QualityError, match=r"3 rows are missing inside.*\n.*unique_id=a, after 2024-03-01 04:00:00\+00:00: 2 missing"
    ):
        checked(source, gaps="error")


@pytest.mark.row(40)
def test_no_row_is_nothing_sold_where_the_project_says_so_from_the_first_row_to_the_origin():
    source = two_series().filter(pa.array([i not in {5, 6, 60, 94, 95} for i in range(96)])).to_pandas()
    source.loc[10, "y"] = np.nan
    got = checked(table(**source), gaps="zero")
    whole = checked(table(**source))
    assert got.counts == {"values_missing": 1, "gaps_as_zero": 5}
    added = whole.panel["y"].isna() & got.panel["y"].notna()
    assert (got.panel.loc[added, "y"] == 0).all()
    assert added.sum() == 5
    assert got.panel["y"].isna().sum() == 1, "a row without a value is no zero"
    pd.testing.assert_frame_equal(got.panel[~added], whole.panel[~added])


def test_what_is_sold_each_monday_is_of_no_other_frequency_where_no_row_is_nothing_sold():
    days = pd.date_range("2024-01-01", periods=84, freq="D")
    mondays, daily = days[days.weekday == 0], pd.DataFrame({"unique_id": "b", "ds": days, "y": 1.0})
    source = pd.concat([pd.DataFrame({"unique_id": "a", "ds": mondays, "y": 2.0}), daily])
    with pytest.raises(QualityError, match="another frequency"):
        checked(table(**source), frequency="D")
    got = checked(table(**source), frequency="D", gaps="zero").panel
    assert got.loc[got["unique_id"] == "a", "y"].sum() == 2.0 * len(mondays)


def test_one_row_of_long_ago_is_named_before_its_grid_fills_the_memory():
    minutes = pd.date_range("2024-03-01", periods=60, freq="min")
    source = two_series(ds=minutes).to_pandas()
    source.loc[60, "ds"] = pd.Timestamp("1924-03-01")
    with pytest.raises(QualityError, match=r"120 rows would be spread over 5\.3e\+07 instants of min") as told:
        checked(table(**source), frequency="min")
    assert told.value.examples[0] == "unique_id=b begins at 1924-03-01 00:00:00+00:00 and has 60 rows"
    assert "a wrong year" in told.value.hint


def test_a_series_that_ends_early_is_carried_to_the_origin():
    source = two_series().slice(0, 90)
    got = checked(source)
    assert got.counts["rows_late"] == 6
    assert len(got.panel) == 96


def test_infinite_values_are_missing_or_an_error():
    source = table(unique_id=["a"] * 3, ds=HOURS[:3], y=[1.0, np.inf, 2.0])
    assert checked(source).counts["infinite_as_missing"] == 1
    with pytest.raises(QualityError, match="infinite"):
        checked(source, gaps="error")


@pytest.mark.row(40)
def test_times_off_the_grid_suggest_the_frequency_of_the_data():
    with pytest.raises(QualityError, match=r"(?s)not on the grid of frequency D.*looks like frequency: h"):
        checked(two_series(), frequency="D")


def test_a_series_of_another_frequency_is_named():
    mixed = pa.concat_tables([two_series(), table(unique_id=["slow"] * 16, ds=HOURS[::3], y=range(16))])
    with pytest.raises(QualityError, match="series 'slow' has a value every 3 steps of h"):
        checked(mixed)


def test_plain_weeks_take_their_weekday_from_the_data():
    fridays = pd.date_range("2024-01-05", periods=10, freq="7D")
    got = checked(table(unique_id=["a"] * 10, ds=fridays, y=range(10)), frequency="W")
    assert got.grid.frequency == "W-FRI"


@pytest.mark.row(41)
def test_naive_times_in_a_fold_are_an_error_that_shows_both_and_the_policies_resolve_them():
    fall = pd.to_datetime(["2024-10-27 01:00", "2024-10-27 02:00", "2024-10-27 02:00", "2024-10-27 03:00"])
    source = table(unique_id=["a"] * 4, ds=fall, y=[1.0, 2.0, 3.0, 4.0])
    with pytest.raises(QualityError, match=r"(?s)2 local times occur twice in Europe/Berlin.*infer"):
        checked(source, timezone="Europe/Berlin")
    got = checked(source, timezone="Europe/Berlin", ambiguous="infer")
    assert got.panel["ds"].dt.strftime("%H:%M").tolist() == ["23:00", "00:00", "01:00", "02:00"]
    assert got.panel["y"].tolist() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.row(41)
def test_infer_refuses_a_time_that_was_written_once():
    fall = pd.to_datetime(["2024-10-27 01:00", "2024-10-27 02:00", "2024-10-27 03:00"])
    with pytest.raises(QualityError, match="ambiguous"):
        checked(table(unique_id=["a"] * 3, ds=fall, y=[1.0, 2.0, 3.0]), timezone="Europe/Berlin", ambiguous="infer")


@pytest.mark.row(41)
def test_local_times_that_never_occur_are_an_error_or_shifted():
    spring = pd.to_datetime(["2024-03-31 01:00", "2024-03-31 02:00"])
    source = table(unique_id=["a"] * 2, ds=spring, y=[1.0, 2.0])
    with pytest.raises(QualityError, match="never occur in Europe/Berlin"):
        checked(source, timezone="Europe/Berlin")
    assert checked(source, timezone="Europe/Berlin", nonexistent="shift").counts["nonexistent_shift"] == 1


def test_known_covariates_keep_their_future_and_the_target_does_not():
    source = two_series().append_column("promo", pa.array(range(96)))
    got = checked(source, known=("promo",), as_of=HOURS[40].tz_localize("UTC"), horizon=6)
    assert got.known["promo"].tolist()[:6] == [41, 42, 43, 44, 45, 46]
    assert "y" not in got.known
    assert got.panel["ds"].max() == got.origin


def test_an_origin_between_two_instants_means_the_one_before():
    got = checked(two_series(), as_of=pd.Timestamp("2024-03-01 10:40", tz="UTC"))
    assert got.origin == pd.Timestamp("2024-03-01 10:00", tz="UTC")


def test_an_origin_before_all_data_says_when_it_starts():
    with pytest.raises(DataError, match="it starts at 2024-03-01"):
        checked(two_series(), as_of=pd.Timestamp("2023-01-01", tz="UTC"))


@pytest.mark.row(44, trials=25)
@given(st.integers(5, 40), st.integers(0, 2**31))
def test_nothing_after_the_origin_is_seen(position, seed):
    rng = np.random.default_rng(seed)
    origin = HOURS[position].tz_localize("UTC")
    clean = two_series().to_pandas().astype({"y": float})
    later = clean["ds"].dt.tz_localize("UTC") > origin
    spoilt = clean.assign(y=clean["y"].where(~later, rng.choice([np.nan, np.inf, -1e9, 0.0], len(clean))))
    extra = pd.DataFrame({"unique_id": ["new", "a"], "ds": [HOURS[-1], HOURS[-1]], "y": [1.0, 2.0]})
    spoilt = pd.concat([spoilt, extra], ignore_index=True)
    one = checked(pa.Table.from_pandas(clean), as_of=origin)
    two = checked(pa.Table.from_pandas(spoilt), as_of=origin)
    assert one.panel.equals(two.panel)
    assert data_digest(one.panel) == data_digest(two.panel)
    assert one.counts == two.counts


@pytest.mark.row(38, trials=25)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.floats(0, 0.9), st.integers(0, 2**31))
def test_series_in_are_series_out_and_every_instant_is_there(lengths, share, seed):
    rng = np.random.default_rng(seed)
    frames = [
        pd.DataFrame({"unique_id": f"s{n}", "ds": HOURS[-length:], "y": rng.normal(size=length)})[
            lambda f: rng.random(len(f)) >= share
        ]
        for n, length in enumerate(lengths)
    ]
    source = pd.concat(frames, ignore_index=True)
    if source.empty:
        return
    if any(_every_other(part) for _, part in source.groupby("unique_id")):
        return  # a thinned series may fall on every n-th hour, which is another frequency
    got = checked(pa.Table.from_pandas(source, preserve_index=False))
    assert got.ids == sorted(source["unique_id"].unique())
    for start, end in zip(offsets(got.panel)[:-1], offsets(got.panel)[1:], strict=True):
        part = got.panel["ds"].iloc[start:end]
        assert (part.diff().dropna() == pd.Timedelta(hours=1)).all()
        assert part.iloc[-1] == got.origin
    assert got.panel["y"].notna().sum() == len(source)


def _every_other(part):
    gaps = part["ds"].diff().dropna().unique()
    return len(part) >= 8 and len(gaps) == 1 and gaps[0] > pd.Timedelta(hours=1)


@pytest.mark.parametrize("offset", ["-05:00", "-0500", "-05", " -05:00", "+02:00", "+02", "Z"])
class TestOffsetsInText:
    def test_every_way_to_write_an_offset_is_read(self, offset):
        got = checked(table(unique_id=["a"] * 48, ds=[f"{at:%Y-%m-%d %H:%M:%S}{offset}" for at in HOURS], y=[1.0] * 48))
        behind = {"-": 5, "+": -2, "Z": 0}[offset.strip()[0]]
        assert got.panel["ds"].iloc[0] == HOURS[0].tz_localize("UTC") + pd.Timedelta(hours=behind)

    def test_and_is_missed_where_others_have_one(self, offset):
        texts = [f"{at:%Y-%m-%dT%H:%M:%S}{offset if number != 7 else ''}" for number, at in enumerate(HOURS)]
        with pytest.raises(QualityError, match=r"1 values of column 'ds' in test\.csv have no offset from UTC"):
            checked(table(unique_id=["a"] * 48, ds=texts, y=[1.0] * 48))
