"""The table of speed, one row at a time: `python bench/table.py [--full]`, or `make bench`.

Each script can be run alone too; every row says how. Without `--full` parts of the panels are taken.
"""

from __future__ import annotations

import argparse
import itertools

import boosting
import growth
import metrics
import overhead
import predict
import retrain
import sinks
from measure import keep, show

SCRIPTS = (metrics, predict, boosting, retrain, growth, sinks, overhead)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the sizes of the issue; hours on two processors")
    told = parser.parse_args()
    rows = itertools.chain.from_iterable(script.rows(full=told.full) for script in SCRIPTS)
    keep("table-full" if told.full else "table", show(rows))
