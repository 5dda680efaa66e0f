"""A run that was broken off goes on where it was: what is done is kept until a run comes to its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from forecastcore import runtime
from forecastcore.engines.kept import KeptAnswers
from forecastcore.engines.local import LocalEngine
from forecastcore.errors import DataError
from forecastcore.ports import Unit
from forecastcore.testing import sample_history
from tests.conftest import small_history

PANEL = sample_history(series=3, rows=30)
DONE = []


def summed(chunk, request):
    """A frame, with what else a unit tells."""
    DONE.append(request)
    out = pd.DataFrame({"unique_id": chunk["unique_id"], "twice": chunk["y"] * 2})
    out.attrs["seconds"] = 0.5
    return out


def shouted(chunk, request):
    DONE.append(request)
    return request.upper().encode()


def units(count=3):
    return [Unit((f"series-{n}",), json.dumps({"n": n})) for n in range(count)]


@pytest.fixture(autouse=True)
def nothing_done():
    DONE.clear()


@pytest.fixture
def keeping(tmp_path):
    return lambda basis="", engine=None: KeptAnswers(engine or LocalEngine(0), tmp_path / "kept", basis)


def break_off(kept, work, asked, after, panel=PANEL):
    """A run that ends badly after some answers."""
    with pytest.raises(RuntimeError), kept:  # noqa: PT012 - the run is the block
        for count, _ in enumerate(kept.map(work, panel, asked), 1):
            if count == after:
                raise RuntimeError("broken off")


@pytest.mark.parametrize("work", [summed, shouted])
def test_what_was_answered_is_not_asked_again_and_the_answer_is_the_same(work, keeping, caplog):
    whole = dict(LocalEngine(0).map(work, PANEL, units()))
    DONE.clear()
    break_off(keeping(), work, units(), after=2)
    assert "2 pieces of work are done and kept" in caplog.text
    with keeping() as kept:
        got = dict(kept.map(work, PANEL, units()))
    assert len(DONE) == 3, "each unit once"
    assert kept.found == 2
    assert kept.remarks == ["2 pieces of work were done already, by a run that was broken off"]
    for number, answer in whole.items():
        if isinstance(answer, bytes):
            assert got[number] == answer
        else:
            pd.testing.assert_frame_equal(got[number], answer, check_exact=True)
            assert got[number].attrs == answer.attrs


def test_a_good_end_leaves_nothing_and_the_next_run_does_all_anew(keeping):
    for _ in range(2):
        with keeping() as kept:
            assert len(dict(kept.map(summed, PANEL, units()))) == 3
        assert (kept.found, kept.remarks) == (0, [])
        assert not kept.folder.exists()
    assert len(DONE) == 6


def test_a_run_that_is_held_does_all_anew(keeping):
    with pytest.raises(DataError), keeping() as kept:
        raise DataError(f"{len(dict(kept.map(summed, PANEL, units())))} answers cannot be right")
    assert not kept.folder.exists()


def test_what_it_depends_on_is_part_of_the_question(keeping):
    break_off(keeping(), summed, units(), after=3)
    changed = PANEL.assign(y=PANEL["y"].where(PANEL.index != 0, 7.0))
    asked = [
        (keeping("another version"), summed, PANEL, units()),
        (keeping(), shouted, PANEL, units()),
        (keeping(), summed, changed, units()),
        (keeping(), summed, PANEL, [Unit(unit.ids, json.dumps({"seed": 1})) for unit in units()]),
        (keeping(), summed, PANEL, [Unit(unit.ids, unit.request, {"series-0": "hangs"}) for unit in units()]),
    ]
    for kept, work, panel, wanted in asked:
        break_off(kept, work, wanted, after=3, panel=panel)
        assert kept.found == 0


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data[:60] + b"x" + data[61:], lambda _: b""])
def test_an_answer_that_is_not_whole_is_none(spoil, keeping):
    break_off(keeping(), summed, units(), after=3)
    one = next(keeping().folder.iterdir())
    one.write_bytes(spoil(one.read_bytes()))
    with keeping() as kept:
        assert len(dict(kept.map(summed, PANEL, units()))) == 3
    assert kept.found == 2


def test_a_run_beside_it_keeps_its_answers_and_old_ones_go(keeping):
    break_off(keeping(), summed, units(2), after=2)
    with keeping() as kept:
        list(kept.map(shouted, PANEL, units(1)))
    left = sorted(kept.folder.iterdir())
    assert len(left) == 2
    os.utime(left[0], (time.time() - 8 * 86400,) * 2)
    with keeping():
        assert sorted(kept.folder.iterdir()) == left[1:]


def test_a_disk_that_takes_no_more_costs_no_run(keeping, caplog):
    kept = keeping()
    kept.folder.write_text("no folder")
    with kept:
        assert len(dict(kept.map(summed, PANEL, units()))) == 3
    assert caplog.text.count("is not kept") == 1


# -- whole runs, killed

PLUGIN = """
import os, time
from dataclasses import dataclass
from forecastcore.api import ModelSpec, hookimpl

@dataclass(frozen=True)
class Level:
    level: float
    def predict(self, context, future, task):
        return future[["unique_id", "ds", "step"]].assign(forecast=self.level)

@dataclass(frozen=True)
class Mean:
    def fit(self, history, task):
        with open(os.environ["FITS"], "a") as log:
            log.write(f"{task.origin}\\n")
        time.sleep(0.05)
        return Level(float(history["y"].mean()))

@hookimpl
def forecastcore_models():
    yield ModelSpec(name="mean", summary="one mean for all", factory=Mean, capabilities={"scope": "global"})
"""
FOLDS = 40
FORECASTCORE = str(Path(sys.executable).with_name("forecastcore"))


def begin(site, fits):
    """A retrain in a process group of its own."""
    return subprocess.Popen(
        [FORECASTCORE, "-p", str(site.folder / "forecast.yaml"), "--json", "retrain"],
        env={**os.environ, "FITS": str(fits)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def stored(site):
    """Pieces of work that are done and on the disk."""
    folder = site.folder / ".forecastcore" / "kept"
    return len([path for path in folder.glob("*") if not path.suffix])


def killed_and_resumed(make_site, tmp_path, at, *, count=None):
    """Fits before and after a SIGKILL at so many fits, the end of the second run, and that of an undisturbed one.

    `count` tells of a site what is counted instead of the fits that have begun.
    """

    def prepared():
        site = make_site().plugin(PLUGIN)
        engine = {"type": "local", "workers": 2}
        history = small_history(series=3, days=30)
        return site.write(history, models=[{"type": "mean"}], backtest={"folds": FOLDS, "stride": 6}, engine=engine)

    site, fits, again = prepared(), tmp_path / f"fits-{at}", tmp_path / f"again-{at}"
    process = begin(site, fits)
    while (count(site) if count else len(lines(fits))) < at and process.poll() is None:
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()[0][:2000]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    second = begin(site, again)
    out, err = second.communicate(timeout=120)
    assert second.returncode == 0, out + err
    clean = prepared()
    whole, _ = begin(clean, tmp_path / f"clean-{at}").communicate(timeout=120)
    return len(lines(fits)), len(lines(again)), (site, json.loads(out)), (clean, json.loads(whole))


def digest(site):
    return runtime.store(site.project()).versions()[0].digest


@pytest.mark.row(65)
@pytest.mark.slow
@pytest.mark.parametrize("at", range(20, 40))
def test_a_retrain_goes_on_wherever_it_was_killed(at, make_site, tmp_path):
    before, after, (site, told), (clean, whole) = killed_and_resumed(make_site, tmp_path, at)
    assert before >= at
    assert after <= FOLDS + 1 - at + 6, "at most what was under way to two workers, or from there to the disk, again"
    assert any("were done already" in note for note in told["notes"])
    assert told["leaderboard"][0]["mase"] == whole["leaderboard"][0]["mase"]
    assert digest(site) == digest(clean)
    assert not (site.folder / ".forecastcore" / "kept").exists()


@pytest.mark.row(65)
@pytest.mark.slow
@pytest.mark.parametrize("trial", range(20))
def test_a_retrain_killed_at_six_tenths_does_less_than_half_again_and_makes_the_same_model(
    trial, make_site, tmp_path, record_property
):
    _, after, (site, _), (clean, _) = killed_and_resumed(make_site, tmp_path, FOLDS * 6 // 10, count=stored)
    record_property("done again", f"{after - 1} of {FOLDS}")
    assert (after - 1) / FOLDS <= 0.45, "all but the refit are pieces of the backtest"
    assert digest(site) == digest(clean)
