"""The table of how good forecasts are: `python bench/accuracy.py --data DIR`, or `make bench DATA=DIR`.

DIR holds data sets as the scripts want them; each script can be run alone too, and tells more. Seeds are fixed (0).
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from pathlib import Path

import coverage
import product
import skill
from measure import keep, show

SCRIPTS = (product, skill, coverage)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    told = parser.parse_args()
    warnings.simplefilter("ignore")
    keep("accuracy", show(itertools.chain.from_iterable(script.rows(told.data) for script in SCRIPTS)))
