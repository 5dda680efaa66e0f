"""docs/reliability.md and docs/crash-certificate.md, from runs of the tests: `python scripts/reliability.py RUN.xml …`.

`python -m pytest --row 0 --junitxml=RUN.xml` runs every test that claims a row. What each told is kept in
tests/reliability/figures.json, and the pages are made from that and from the claims, so both say what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tomllib
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.reliability.claims import Claim, claims  # noqa: E402 - the tests are no installed package

FOLDER = ROOT / "tests" / "reliability"
KEPT = FOLDER / "figures.json"
PAGE = ROOT / "docs" / "reliability.md"
CERTIFICATE = ROOT / "docs" / "crash-certificate.md"

Figures = dict[str, dict[str, Any]]

_INTRO = """\
# Reliability: what was tried, and how often

What goes wrong with forecasts in production, and what tests did about it. A *trial* is one seeded fault, one planted
defect or one hostile input; a *violation* is a trial after which what the row says did not hold. This page is made by
`scripts/reliability.py` from the reports of real runs; a test holds that it names just the tests that claim a row.

The command of a row is `.venv/bin/python -m pytest --row N`; `--row 0` runs them all. Seeds are those of the tests'
own generators; where none is drawn, the cases are listed in the test. Databricks is the fake workspace of
`forecastcore.testing`, Azure Storage is Azurite: see [what that cannot prove](#what-this-cannot-prove)."""
_LIMITS = """\
## What this cannot prove

Hierarchical namespaces of ADLS Gen2, the life of real tokens, Unity Catalog's own rules for aliases and real throttling
are on no machine that tests run on. Sinks are made so as not to need them: they rest on a conditional PUT, never on a
rename."""
_CERTIFIED = """\
# Crash certificate

A command is killed with SIGKILL at a named point, and the same command is started again, as a scheduler would. Then all
of this has to hold:

| | invariant |
|---|---|
| I1 | the series that went in are those that came out |
| I2 | series, instant, origin and scenario are there once |
| I3 | a reader sees whole vintages only, after the kill as well as after the restart |
| I4 | at most one live cluster run per attempt |
| I5 | nothing is left RUNNING in MLflow, on Databricks or in Prefect, once `forecastcore reconcile --fix` has run |
| I6 | the alias is the tail of the promotion ledger |
| I7 | a planted secret is in no file |
| I8 | every row says which model, which version and which assumption made it, and how good it is |

This page is made by `scripts/reliability.py` from a run of `tests/hardening/test_crash_certificate.py`, which `make
test-slow` runs; the seed decides at which call of its kind a kill strikes where a point is passed more than once."""


def read(reports: list[Path], machine: str) -> tuple[Figures, list[dict[str, Any]]]:
    """What each claiming test told in JUnit reports of different cases, and the kills that were certified."""
    figures: Figures = {}
    kills: list[dict[str, Any]] = []
    roots = [ET.parse(report).getroot() for report in reports]  # noqa: S314 - written by our own pytest
    for suite in (suite for root in roots for suite in root.iter("testsuite")):
        for case in suite.iter("testcase"):
            told: dict[str, str] = {}
            at = suite.get("timestamp", "")[:10]
            for one in case.iter("property"):
                if one.get("name") == "kill":
                    kills.append({**json.loads(one.get("value", "")), "at": at, "on": machine})
                else:
                    told[str(one.get("name"))] = one.get("value", "")
            if "test" not in told or case.find("skipped") is not None:
                continue
            bad = case.find("failure") is not None or case.find("error") is not None
            mine = figures.setdefault(
                told["test"],
                {"trials": 0, "violations": 0, "seeds": [], "at": at, "on": machine},
            )
            mine["trials"] += int(told["trials"])
            mine["violations"] += bad
            mine["seeds"] = sorted({*mine["seeds"], told["seed"]} - {""})
    return figures, kills


def page(figures: Figures, claimed: list[Claim]) -> str:
    """The page of all rows."""
    tests = defaultdict(list)
    for claim in claimed:
        for row in claim.rows:
            tests[row].append(claim.test)
    parts, proofs = [_INTRO], ["## The tests behind each row"]
    for part in tomllib.loads((FOLDER / "rows.toml").read_text(encoding="utf-8"))["part"]:
        lines = [
            "| row | what has to be survived | trials | violations | seeds | measured |",
            "|---|---|---|---|---|---|",
        ]
        for row, words in ((int(k), v) for k, v in part.items() if k != "title"):
            lines.append(f"| {row} | {words} | {' | '.join(_measured(tests[row], figures))} |")
            proofs.append("\n".join([f"**{row}**: {words}", "", *_proofs(tests[row], figures)]))
        parts.append("\n".join([f"## {part['title']}", "", *lines]))
    return "\n\n".join([*parts, _LIMITS, *proofs]) + "\n"


def _measured(tests: list[str], figures: Figures) -> tuple[str, str, str, str]:
    """Trials, violations, seeds, and when and on what."""
    ran = [figures[test] for test in tests if test in figures]
    if not tests:
        return "none", "", "", "no test claims it"
    if not ran:
        return "none", "", "", "not yet run"
    seeds = sorted({seed for one in ran for seed in one["seeds"]})
    when = sorted({f"{one['at']}, {one['on']}" for one in ran})
    bad = sum(one["violations"] for one in ran)
    return f"{sum(one['trials'] for one in ran):,}", str(bad), _spans(seeds), "; ".join(when)


def _spans(seeds: list[str]) -> str:
    """Numbers that follow each other as one span: `0-49, 100`."""
    numbers = sorted(int(seed) for seed in seeds if seed.isdecimal())
    spans = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in _runs(numbers)]
    return ", ".join([*spans, *(seed for seed in seeds if not seed.isdecimal())]) or "none drawn"


def _runs(numbers: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return runs


def _proofs(tests: list[str], figures: Figures) -> list[str]:
    if not tests:
        return ["- no test claims this row"]
    lines = []
    for test in tests:
        ran = figures.get(test)
        told = f"{ran['trials']:,} trials, {ran['violations']} violations" if ran else "not yet run"
        lines.append(f"- `{test}`: {told}")
    return lines


def certificate(kills: list[dict[str, Any]]) -> str:
    """The page of all kills."""
    if not kills:
        return _CERTIFIED + "\n\nNo run is on record yet.\n"
    bad = sum(len(one["violations"]) for one in kills)
    seeds = ", ".join(sorted({str(one["seed"]) for one in kills}))
    when = "; ".join(sorted({f"{one['at']}, {one['on']}" for one in kills}))
    head = f"**{len(kills)} kills, {bad} violations** (seeds {seeds}; {when})."
    lines = ["| command | killed | sinks | engine | violations |", "|---|---|---|---|---|"]
    for one in sorted(kills, key=lambda k: (k["command"], k["engine"], k["sinks"], k["point"])):
        told = ", ".join(one["violations"]) or "0"
        lines.append(f"| {one['command']} | {one['point']} | {one['sinks']} | {one['engine']} | {told} |")
    return "\n\n".join([_CERTIFIED, head, "\n".join(lines)]) + "\n"


def _case(kill: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(kill[key]) for key in ("command", "engine", "sinks", "point"))


def kept() -> dict[str, Any]:
    """What earlier runs told."""
    told: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
    return told


def write(told: dict[str, Any]) -> None:
    """Both pages, from what is kept."""
    PAGE.write_text(page(told["tests"], claims()), encoding="utf-8")
    CERTIFICATE.write_text(certificate(told["kills"]), encoding="utf-8")


def machine() -> str:
    """This machine, in general words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} cores, {memory:.0f} GiB"


def main() -> None:
    """Take reports in, and make the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "reports",
        nargs="*",
        type=Path,
        help="JUnit reports of different cases; what they told of a test before is forgotten",
    )
    told = kept() if KEPT.exists() else {"tests": {}, "kills": []}
    if reports := parser.parse_args().reports:
        figures, kills = read(reports, machine())
        told["tests"] |= figures
        told["kills"] = list(({_case(one): one for one in told["kills"]} | {_case(one): one for one in kills}).values())
    names = {claim.test for claim in claims()}
    told["tests"] = {test: told["tests"][test] for test in sorted(told["tests"]) if test in names}
    KEPT.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write(told)


if __name__ == "__main__":
    main()
