"""What is large is held once, or some of it at a time; counted by what Python allocates, so it is the same anywhere."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from forecastcore.engines.wire import answer_of, bytes_of, parts_of
from forecastcore.state import load, open_verified, save, seal, verify

MEBIBYTE = 1 << 20
SIZE = 32 * MEBIBYTE


@dataclass(frozen=True)
class Learned:
    numbers: np.ndarray


def most(work):
    """What some work answers, and the bytes that it held at most, beyond what was there before."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture
def stored(tmp_path):
    save(Learned(np.arange(SIZE // 8, dtype=float)), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("answer", [b"", b"small", bytes(range(256)) * 20_000], ids=["none", "small", "many parts"])
def test_bytes_come_back_from_their_parts(answer):
    assert answer_of(parts_of(bytes_of(answer))) == answer


def test_a_frame_comes_back_from_its_parts():
    frame = pd.DataFrame({"unique_id": [f"s{n % 7}" for n in range(300_000)], "forecast": np.arange(300_000.0)})
    parts = [*parts_of(bytes_of(frame))]
    assert len(parts) > 2
    pd.testing.assert_frame_equal(answer_of(parts), frame)


def test_parts_of_an_answer_are_let_go_as_it_is_put_together():
    def put_together():
        parts = (b"bytes:" + bytes(MEBIBYTE) if number == 0 else bytes(MEBIBYTE) for number in range(SIZE // MEBIBYTE))
        return answer_of(parts)

    answer, held = most(put_together)
    assert answer == bytes(SIZE)
    assert held < 1.3 * SIZE


def test_a_seal_and_its_check_read_some_of_a_file_at_a_time(stored):
    digest, held = most(lambda: seal(stored))
    assert held < SIZE / 4
    found, held = most(lambda: verify(stored, digest))
    assert found == digest
    assert held < SIZE / 4


def test_a_stored_model_is_held_as_its_file_and_once_as_arrays_which_are_its_owner_s_to_change(stored):
    files = open_verified(stored)
    learned, held = most(lambda: load(files, packages=(__name__,)))
    assert held < 1.3 * SIZE
    learned.numbers[0] = 7.0
    np.testing.assert_array_equal(learned.numbers[1:], np.arange(1, SIZE // 8))
    np.testing.assert_array_equal(load(files, packages=(__name__,)).numbers, np.arange(SIZE // 8))
