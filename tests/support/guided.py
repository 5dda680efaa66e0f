"""Damages what a reader reads, guided by where this leads: `python -m tests.support.guided TARGET FOLDER SECONDS SEED`.

Ends with 0 and libFuzzer's `Done N runs`, or with the input and the exception that is no error of ours.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["forecastcore", "forecastcore_files", "forecastcore_delta"]):
    from forecastcore.errors import ForecastCoreError
    from tests.conftest import SETTINGS, Site
    from tests.support.readers import TARGETS


def main(target: str, place: str, seconds: str, seed: str) -> None:
    """Run until the time is over or something else than an answer or words comes out."""
    folder = Path(place)
    corpus, work = folder / "corpus", folder / "work"
    corpus.mkdir()
    work.mkdir()
    read, samples = TARGETS[target](work, lambda where, **settings: Site(where, None, {**SETTINGS, **settings}))
    for number, sample in enumerate(samples):
        (corpus / str(number)).write_bytes(sample)

    def one(data: bytes) -> None:
        with contextlib.suppress(ForecastCoreError):
            read(data)

    options = [f"-max_total_time={seconds}", f"-seed={seed}", "-timeout=20", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
