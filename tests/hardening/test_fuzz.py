"""What is read from outside, damaged for a stated time: an answer or an error in words, and nothing else.

Once at random, with bytes flipped, cut, doubled and sown with words that mean something to the format; once by Atheris,
which looks for inputs that lead to other lines. Seed and number of tries are on record in docs/reliability.md.
Hypothesis tries the same readers with data that it shrinks: test_config.py, test_state.py.
"""

from __future__ import annotations

import contextlib
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forecastcore.errors import ForecastCoreError
from tests.support.readers import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
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


@pytest.mark.row(61, 47, seed="20261127")
@pytest.mark.parametrize("target", TARGETS)
def test_what_is_damaged_is_read_or_refused_in_words(target, tmp_path, site_of, record_property):
    read, samples = TARGETS[target](tmp_path, site_of)
    for sample in samples:
        with contextlib.suppress(ForecastCoreError):  # a semicolon needs its setting
            read(sample)
    count, refused, crashes = tried(read, samples, SEED)
    record_property("trials", count)
    print(f"{target}: {count} tries in {SECONDS:.0f} s, {refused} refused")  # noqa: T201 - with -s
    assert crashes == []
    assert count > 100
    assert refused > 0


@pytest.mark.row(61, 47, seed="20261127")
@pytest.mark.parametrize("target", TARGETS)
def test_no_path_through_a_reader_ends_in_anything_but_an_answer_or_words(target, tmp_path, record_property):
    command = [sys.executable, "-m", "tests.support.guided", target, tmp_path, f"{SECONDS:.0f}", str(SEED)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    count = int(re.findall(r"Done (\d+) runs", done.stderr)[0])
    found = int(re.findall(r"cov: (\d+)", done.stderr)[-1])
    record_property("trials", count)
    print(f"{target}: {count} tries in {SECONDS:.0f} s, {found} branches")  # noqa: T201 - with -s
    assert count > 100
    assert found > 20
