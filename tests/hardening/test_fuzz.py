"""What is read from outside, damaged at random for a stated time: an answer or an error in words, and nothing else.

Bytes are flipped, cut, doubled and sown with words that mean something to the format; the seed and the number of
tries are on record in docs/reliability.md. Hypothesis tries the same readers with data that it shrinks: test_config.py,
test_state.py.
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable, write_deltalake  # noqa: TID253 - writes what is read
from forecastcore_delta import DeltaSource
from forecastcore_files import CsvSource, ParquetSource
from sklearn.linear_model import Ridge  # noqa: TID253 - a state to damage

from forecastcore import config, runtime
from forecastcore.errors import ForecastCoreError
from forecastcore.runs.archive import pack, unpack
from forecastcore.state import from_files, to_files

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SEED, SECONDS = 20261127, 45.0
TOKENS = [
    *(
        b"null",
        b"NaN",
        b"-1",
        b"1e999",
        b"9" * 40,
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b"\t",
        b'"',
        b"'",
    ),
    *(b"{", b"}", b"[", b"]", b":", b",", b";", b"&a", b"*a", b"!!python/name:os", b"${env:HOME}", b"..", b"/", b"%00"),
    *(b"true", b"1970-01-01", b"9999-12-31T23:59:59Z", b"0x7f", b"\xc3\x28", b"\xf0\x9f\x9a\x80", b"PAR1", b"PK\3\4"),
]


def damaged(chance: random.Random, data: bytes) -> bytes:
    """The bytes with one to four wounds."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at, length = chance.randrange(len(out) + 1), chance.choice([1, 1, 2, 4, 16, 64])
        how = chance.randrange(6)
        if how == 0 and out:
            out[min(at, len(out) - 1)] ^= 1 << chance.randrange(8)
        elif how == 1:
            out[at:at] = chance.choice(TOKENS)
        elif how == 2:
            del out[at : at + length]
        elif how == 3:
            out[at:at] = out[at : at + length]
        elif how == 4:
            out[at : at + length] = chance.choice(TOKENS)
        elif chance.random() < 0.2:
            del out[at:]
    return bytes(out)


def tried(read: Callable[[bytes], object], samples: list[bytes], seed: int) -> tuple[int, int, list[str]]:
    """Tries, how many were refused in words, and whatever else came out."""
    chance, end = random.Random(seed), time.monotonic() + SECONDS
    count, refused, crashes = 0, 0, []
    while time.monotonic() < end:
        data = damaged(chance, chance.choice(samples))
        count += 1
        try:
            read(data)
        except ForecastCoreError as error:
            refused += 1
            if not str(error).strip():
                crashes.append(f"no words for {data[:80]!r}")
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            crashes.append(f"{type(error).__name__}: {error} of {data[:200]!r}")
    return count, refused, crashes


YAML = b"""\
name: vic-demand
source: {type: parquet, path: data/vic.parquet, id: unique_id, timezone: Australia/Melbourne}
quality: {gaps: fill, duplicates: error, max_missing: 0.5}
frequency: 30min
horizon: 336
quantiles: [0.1, 0.5, 0.9]
covariates:
  temperature: {assume: weather}
  promotion: {known: true}
assumptions:
  weather: &w {type: climatology, window_days: 15}
scenarios:
  heatwave: {weather: {type: shift, of: weather, add: 5.0}}
models:
  - type: seasonal-naive
  - {type: gradient-boosting, grid: {learning_rate: [0.05, 0.1]}}
backtest: {folds: 4, stride: 336, metric: mase, season: 48}
promotion: {mode: enforce, min_gain: 0.01}
sinks: [{type: delta, path: out/forecasts}, {type: sql, url: "${env:URL}"}]
engine: {type: local, workers: 2}
tracking: {uri: "sqlite:///mlflow.db", experiment: x}
plugins: {block: [], allow: null}
"""


def of_project_files(folder):
    path = folder / "forecast.yaml"

    def read(data):
        path.write_bytes(data)
        return config.digest(config.load(path))

    return read, [YAML, b"name: a\nsource: {type: csv}\nfrequency: h\nhorizon: 1\n"]


def table():
    ds = pd.date_range("2024-03-01", periods=60, freq="h")
    return pd.DataFrame({"unique_id": "a", "ds": ds, "y": np.arange(60.0)})


def checked(source, site_of, folder):
    """Read as a run reads: the source, then the quality check."""
    project = site_of(folder).write().project()
    return lambda: runtime.history(project, source=source)


def of_csv(folder, site_of):
    path = folder / "h.csv"
    run = checked(CsvSource(path=path), site_of, folder)

    def read(data):
        path.write_bytes(data)
        return run()

    text = table().to_csv(index=False).encode()
    return read, [text, text.replace(b",", b";"), text.replace(b"\n", b"\r\n")]


def of_parquet(folder, site_of):
    path = folder / "h.parquet"
    run = checked(ParquetSource(path=path), site_of, folder)

    def read(data):
        path.write_bytes(data)
        return run()

    samples = []
    for options in ({}, {"compression": "gzip"}, {"compression": None, "version": "1.0"}):
        buffer = io.BytesIO()
        table().to_parquet(buffer, index=False, **options)
        samples.append(buffer.getvalue())
    return read, samples


def of_delta(folder, site_of):
    """The log of a Delta table is damaged; its data files are Parquet, and tried above."""
    path = folder / "h"
    for _ in range(2):
        write_deltalake(str(path), table(), mode="append")
    assert DeltaTable(str(path)).version() == 1
    log = path / "_delta_log" / "00000000000000000001.json"
    run = checked(DeltaSource(path=path), site_of, folder)

    def read(data):
        log.write_bytes(data)
        return run()

    return read, [log.read_bytes()]


def of_states(folder):
    files = to_files(
        {
            "a": [1, 2.5, None, "x"],
            "b": np.arange(6.0).reshape(2, 3),
            "c": pd.DataFrame({"x": pd.date_range("2024-01-01", periods=3, tz="UTC"), "y": ["a", "b", None]}),
            "d": Ridge().fit(np.eye(4), np.arange(4.0)),
        }
    )
    names = sorted(files)

    def read(data):
        name = names[data[0] % len(names)] if data else names[0]
        return from_files({**files, name: data[1:]}.__getitem__, packages={}, trusted=(), aliases={})

    return read, [bytes([number]) + files[name] for number, name in enumerate(names)]


def of_archives(folder):
    inner, source = folder / "inner", folder / "a.zip"
    inner.mkdir()
    (inner / "x.json").write_text('{"a": 1}')
    (inner / "deep").mkdir()
    (inner / "deep" / "y").write_bytes(bytes(2000))
    pack(inner, source, {"project": "a"})
    whole = source.read_bytes()

    def read(data):
        source.write_bytes(data)
        into = folder / "into"
        try:
            return unpack(source, into)
        finally:
            shutil.rmtree(into, ignore_errors=True)

    return read, [whole]


TARGETS = {
    "project file": of_project_files,
    "CSV": of_csv,
    "Parquet": of_parquet,
    "Delta log": of_delta,
    "state": of_states,
    "backup": of_archives,
}


@pytest.mark.row(61, 47, seed="20261127")
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_damaged_is_read_or_refused_in_words(target, tmp_path, site_of, record_property):
    make = TARGETS[target]
    read, samples = make(tmp_path, site_of) if target in {"CSV", "Parquet", "Delta log"} else make(tmp_path)
    for sample in samples:
        with contextlib.suppress(ForecastCoreError):  # a semicolon needs its setting
            read(sample)
    count, refused, crashes = tried(read, samples, SEED)
    record_property("trials", count)
    print(f"{target}: {count} tries in {SECONDS:.0f} s, {refused} refused")  # noqa: T201 - with -s
    assert crashes == []
    assert count > 100
    assert refused > 0
