"""What the scripts that time have in common: turns, medians, one table, and a JSON file of what was found.

Ours and theirs take turns in one run, so that a slow moment of the machine hits both; only ratios are to be believed.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("forecastcore", "numpy", "pandas", "pyarrow", "statsforecast", "lightgbm", "mlflow", "prefect")
COLUMNS = ("what", "ours", "against", "ratio", "reach", "runs", "command")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        what: what was done, and against what.
        ours, against: medians of the runs; `against` is None where there is nothing to compare with.
        ratio: median of the runs' ratios, or whatever else the reach is about.
        reach: what is wanted of the ratio.
        reached: whether it was.
        runs: how many turns.
        command: how to do it again.
        spread: least and greatest ratio of the runs.
        unit: of `ours` and `against`.
    """

    what: str
    ours: float
    against: float | None
    ratio: float
    reach: str
    reached: bool
    runs: int
    command: str
    spread: tuple[float, float] | None = None
    unit: str = "s"


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def turns(ours: Callable[[], Any], theirs: Callable[[], Any], runs: int) -> tuple[list[float], list[float]]:
    """Wall times of both, in turn; a first round of each warms up and is not counted."""
    ours()
    theirs()
    mine, bare = [], []
    for number in range(runs):
        first = number % 2 == 0  # who goes first changes, as the second finds a warmer machine
        for ours_now in (first, not first):
            (mine if ours_now else bare).append(seconds(ours if ours_now else theirs))
    return mine, bare


def compared(what: str, command: str, mine: list[float], bare: list[float], *, most: float) -> Row:
    """Ours may take so many times as long as theirs."""
    ratios = [a / b for a, b in zip(mine, bare, strict=True)]
    return _row(what, command, mine, bare, ratios, f"<= {most:g}", lambda ratio: ratio <= most)


def quicker(what: str, command: str, mine: list[float], bare: list[float], *, least: float) -> Row:
    """Ours must be so many times as quick as theirs."""
    ratios = [b / a for a, b in zip(mine, bare, strict=True)]
    return _row(what, command, mine, bare, ratios, f">= {least:g}", lambda ratio: ratio >= least)


def good(
    what: str, command: str, found: float, *, against: float | None, most: float | None = None, least: float = -math.inf
) -> Row:
    """A figure of how good forecasts are, which must not be beyond its reach."""
    fits = least <= found <= (math.inf if most is None else most)
    reach = " ".join([f">= {least:.3g}"] * (least > -math.inf) + ([] if most is None else [f"<= {most:.3g}"]))
    return Row(
        what=what, ours=found, against=against, ratio=found, reach=reach, reached=fits, runs=1, command=command, unit=""
    )


def _row(
    what: str,
    command: str,
    mine: list[float],
    bare: list[float],
    ratios: list[float],
    reach: str,
    fits: Callable[[float], bool],
) -> Row:
    ratio = statistics.median(ratios)
    return Row(
        what=what,
        ours=statistics.median(mine),
        against=statistics.median(bare),
        ratio=ratio,
        reach=reach,
        reached=fits(ratio),
        runs=len(mine),
        command=command,
        spread=(min(ratios), max(ratios)),
    )


def show(rows: Iterable[Row]) -> list[Row]:
    """Print rows as they come, as one table."""
    widths = (74, 9, 9, 7, 9, 4)
    line = "  ".join(f"{{:<{width}}}" for width in widths) + "  {}"
    print(line.format(*COLUMNS), flush=True)
    shown = []
    for row in rows:
        ours = f"{row.ours:.4g} {row.unit}"
        against = "" if row.against is None else f"{row.against:.4g} {row.unit}"
        reach = row.reach + ("" if row.reached else " NO")
        told = (row.what, ours, against, f"{row.ratio:.3g}", reach, row.runs, row.command)
        print(line.format(*told), flush=True)
        shown.append(row)
    return shown


def keep(name: str, rows: Iterable[Row]) -> Path:
    """Write rows to `results/NAME.json`, with the machine and the versions they were found with."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    document = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": {"python": platform.python_version(), **dict(_versions())},
        "rows": [{k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(row).items()} for row in rows],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return path


def machine() -> dict[str, Any]:
    """Processors, memory, system, and how busy the machine was with other things (load average of a minute)."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "processors": len(os.sched_getaffinity(0)),
        "memory_gb": round(pages * size / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue
