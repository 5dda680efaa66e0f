"""How to try the assumptions that need parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forecastcore.api import Example

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

__all__ = [
    "archive_example",
    "chain_example",
    "model_example",
    "scale_example",
    "shift_example",
    "table_example",
]


def shift_example(_folder: Path) -> Example:
    """Two more than the other assumption."""
    return Example(params={"add": 2.0})


def scale_example(_folder: Path) -> Example:
    """A tenth more than the other assumption."""
    return Example(params={"factor": 1.1})


def chain_example(_folder: Path) -> Example:
    """Two other assumptions."""
    return Example(params={"links": ["other", {"of": "another", "max_age": "12h"}]})


def model_example(_folder: Path) -> Example:
    """A model; the suite lends one of its own."""
    return Example(params={"model": {"type": "naive"}})


def archive_example(folder: Path) -> Example:
    """The same file as a table's, read as an archive."""
    return table_example(folder)


def table_example(folder: Path) -> Example:
    """A file with a value for every quarter of an hour of some years, issued the day before each."""
    import numpy as np
    import pandas as pd

    ds = pd.date_range("2018-12-01", "2028-12-31", freq="15min", tz="UTC")
    values = np.sin(np.arange(len(ds)) / 96)
    issued = pd.Timestamp("2018-01-01", tz="UTC")
    table = pd.DataFrame({"ds": ds, "issued_at": issued, "temperature": values})
    path = folder / "plan.parquet"
    table.to_parquet(path)

    def issue_later(moment: pd.Timestamp) -> None:
        after = table[table["ds"] > moment].head(2000).assign(issued_at=moment + pd.Timedelta(1, "h"), temperature=99.0)
        pd.concat([table, after], ignore_index=True).to_parquet(path)

    return Example(params={"path": str(path)}, issue_later=issue_later)
