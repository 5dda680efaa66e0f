"""A table of forecasts that somebody has changed."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake  # noqa: TID253 - what is delivered is looked at from outside
from forecastcore_delta import DeltaSink

from forecastcore.errors import SinkError
from forecastcore.testing import sample_vintage

DRIFTS = {
    "add": (lambda t: t.append_column("note", pa.nulls(len(t), pa.string())), "the vintage lacks note"),
    "drop": (lambda t: t.drop_columns(["q90"]), "it lacks q90"),
    "rename": (lambda t: renamed(t, "forecast", "value"), "it lacks forecast; the vintage lacks value"),
    "widen": (lambda t: cast(t, "step", pa.int64()), "step is int64 there, int32 in the vintage"),
    "narrow": (lambda t: cast(t, "q10", pa.float32()), "q10 is float there, double in the vintage"),
    "string": (lambda t: cast(t, "model_version", pa.int64()), "model_version is int64 there, string in the vintage"),
    "nullability": (lambda t: filled(t, "reason"), "reason takes no null there"),
    "case": (lambda t: renamed(t, "unique_id", "Unique_ID"), "it lacks unique_id; the vintage lacks Unique_ID"),
}


def renamed(table, old, new):
    return table.rename_columns([new if name == old else name for name in table.column_names])


def cast(table, name, kind):
    values = pa.nulls(len(table), kind) if pa.types.is_string(table[name].type) else table[name].cast(kind, safe=False)
    return table.set_column(table.column_names.index(name), name, values)


def filled(table, name):
    field = pa.field(name, pa.string(), nullable=False)
    return table.set_column(table.column_names.index(name), field, pa.array(["x"] * len(table)))


@pytest.mark.row(28)
@pytest.mark.parametrize("drift", DRIFTS)
def test_what_has_drifted_is_told_by_the_sink_before_and_when_it_is_published_to(drift, tmp_path):
    change, words = DRIFTS[drift]
    sink, vintage = DeltaSink(tmp_path / "forecasts"), sample_vintage(issued_at=datetime(2024, 1, 2, tzinfo=UTC))
    write_deltalake(sink.path, change(sample_vintage()))
    with pytest.raises(SinkError, match=words):
        sink.check(vintage.schema)
    with pytest.raises(SinkError, match=words):
        sink.publish(vintage, vintage["run_key"][0].as_py())
    assert DeltaTable(sink.path).version() == 0


@pytest.mark.row(28)
@pytest.mark.parametrize("drift", [pytest.param(d, marks=() if d == "rename" else pytest.mark.slow) for d in DRIFTS])
def test_a_table_that_has_drifted_stops_a_predict_before_anything_is_forecast(drift, make_site):
    change, words = DRIFTS[drift]
    site = make_site(sinks=[{"type": "delta", "path": "out/forecasts"}], quantiles=[0.1, 0.9])
    site.retrain()
    write_deltalake(site.folder / "out" / "forecasts", change(sample_vintage()))
    told = site.cli("predict")
    assert told.code == 1
    assert words in told.err
    assert "nothing was forecast" in told.err
    assert "forecast base" not in told.err, "no stage that computes has begun"
    assert DeltaTable(site.folder / "out" / "forecasts").version() == 0


def test_a_place_that_takes_it_is_delivered_to_though_another_one_has_drifted(make_site):
    sinks = [{"type": "delta", "path": "out/forecasts"}, {"type": "parquet", "path": "other/forecasts"}]
    site = make_site(sinks=sinks, quantiles=[0.1, 0.9])
    site.retrain()
    write_deltalake(site.folder / "out" / "forecasts", DRIFTS["drop"][0](sample_vintage()))
    drifted, fine = site.predict().published
    assert "it lacks q90" in drifted.error
    assert (fine.error, fine.rows) == ("", 18)
