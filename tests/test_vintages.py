from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecastcore.errors import SinkError
from forecastcore.testing import sample_vintage
from forecastcore.vintages import SCHEMA, check_run_key, check_vintage, empty_vintage, is_quantile, newest
from tests.support.samples import key

KEY = ["project", "unique_id", "scenario", "ds"]
# Made in the tests: what making one imports for the first time must not happen while hypothesis draws.
vintages = st.builds(
    dict,
    issued_at=st.integers(0, 6).map(lambda hours: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=hours)),
    scenario=st.sampled_from(["base", "heat wave"]),
    series=st.lists(st.sampled_from(["b", "a", "ä", "007", ""]), min_size=1, max_size=3, unique=True),
    horizon=st.integers(1, 5),
    seed=st.integers(0, 2),
)


@settings(deadline=None)
@given(st.lists(vintages, max_size=6))
def test_the_newest_rows_are_those_that_pandas_finds(some):
    tables = [sample_vintage(**one) for one in some]
    got = newest(iter(tables))
    if not tables:
        assert got.num_rows == 0
        return
    frame = pa.concat_tables(tables).to_pandas().sort_values(["issued_at", "created_at", "run_key"], kind="stable")
    expected = frame.drop_duplicates(KEY, keep="last")
    pd.testing.assert_frame_equal(
        got.to_pandas().set_index(KEY).sort_index(), expected.set_index(KEY).sort_index(), check_like=True
    )


@settings(deadline=None)
@given(st.lists(vintages, min_size=1, max_size=5), st.randoms())
def test_neither_order_nor_repetition_of_vintages_matters(some, random):
    tables = [sample_vintage(**one) for one in some]
    shuffled = [*tables, tables[0]]
    random.shuffle(shuffled)
    assert newest(shuffled).equals(newest(tables))
    assert newest([newest(tables[:1]), *tables[1:]]).equals(newest(tables))


def test_many_vintages_are_folded_in_batches_to_the_same_rows(monkeypatch):
    tables = [sample_vintage(issued_at=datetime(2024, 1, day, tzinfo=UTC)) for day in range(1, 20)]
    whole = newest(tables)
    monkeypatch.setattr("forecastcore.vintages._BATCH", 10)
    assert newest(tables).equals(whole)


def test_columns_that_a_vintage_lacks_are_null():
    one, two = sample_vintage(), sample_vintage(series=("c",)).drop_columns(["q10"])
    assert newest([one, two])["q10"].null_count == two.num_rows


def test_a_checked_vintage_has_plain_text_and_nulls_for_nan():
    vintage = sample_vintage()
    odd = vintage.set_column(1, "unique_id", vintage["unique_id"].dictionary_encode())
    odd = odd.set_column(2, "scenario", vintage["scenario"].cast(pa.large_string()))
    odd = odd.set_column(7, "q10", pa.array([float("nan")] * vintage.num_rows))
    checked = check_vintage(odd, key(vintage))
    assert checked.drop_columns(["q10"]).equals(vintage.drop_columns(["q10"]))
    assert checked["q10"].null_count == vintage.num_rows


def test_the_sample_has_the_columns_of_the_contract():
    vintage = sample_vintage()
    assert set(SCHEMA.names) | {"q10", "q90"} == set(vintage.column_names)
    assert empty_vintage().schema == SCHEMA


def test_rows_of_another_run_are_refused():
    with pytest.raises(SinkError, match="not the vintage of run key"):
        check_vintage(sample_vintage(), "0" * 64)


@pytest.mark.parametrize("name", ["q10", "q2_5", "q97_5"])
def test_quantiles_are_known_by_their_names(name):
    assert is_quantile(name)
    assert not is_quantile(f"x{name}")


@given(st.text())
def test_only_hex_passes_as_a_run_key(text):
    if len(text) in range(8, 65) and set(text) <= set("0123456789abcdef"):
        assert check_run_key(text) == text
    else:
        with pytest.raises(SinkError):
            check_run_key(text)
