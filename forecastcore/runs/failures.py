"""Which series of a vintage are not as they should be, and why: by reason, with the mend."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from forecastcore.explaining.codes import codes
from forecastcore.runs.delivered import listed, rows_of_vintages, vintage_named
from forecastcore.vintages import utc

if TYPE_CHECKING:
    import pandas as pd

    from forecastcore.project import Project

__all__ = ["failures"]

Document = dict[str, Any]

#: series named for each reason
_NAMED = 5


def failures(project: Project, run: str = "latest", *, scenario: str = "base") -> Document:
    """The degraded and failed series of a vintage, by reason.

    Args:
        project: whose.
        run: a run key or its beginning, a run id, an origin, `latest` or `previous`.
        scenario: which.

    Returns:
        `run_key, issued_at, scenario, series, reasons, rerun`, JSON-able. `reasons` has the most frequent first, each
        with `reason, status, count, series` (a few of them), `told` (the words of one), `cause` and `mend`.

    Raises:
        UsageError: there is no such vintage.
    """
    shelf = listed(project, scenario, all_made=True)
    ref = vintage_named(project, shelf, run, scenario)
    table = rows_of_vintages(shelf, [ref])
    # A series is what its worst row is: a failed one has no forecast from some step on.
    worst = table[table["status"] != "ok"].sort_values("status", ascending=False, kind="stable")
    series = worst.drop_duplicates("unique_id")[["unique_id", "status", "reason"]]
    failed = int((series["status"] == "failed").sum())
    total = int(table["unique_id"].nunique())
    origin = utc(ref.issued_at)
    words = ["forecastcore", "predict", "--as-of", f"{origin:%Y-%m-%dT%H:%M:%SZ}", "--scenario", scenario]
    return {
        "run_key": ref.run_key,
        "issued_at": origin.isoformat(),
        "scenario": scenario,
        "series": {
            "total": total,
            "ok": total - len(series),
            "degraded": len(series) - failed,
            "failed": failed,
        },
        "reasons": _by_reason(series),
        "rerun": shlex.join(words),
    }


def _by_reason(series: pd.DataFrame) -> list[Document]:
    """Equal codes together; what follows a code's colon differs from series to series."""
    split = series["reason"].str.split(": ", n=1)
    coded = series.assign(code=split.str[0], told=split.str[1])
    groups = [_group(str(code), str(status), rows) for (code, status), rows in coded.groupby(["code", "status"])]
    return sorted(groups, key=lambda group: (-group["count"], group["reason"], group["status"]))


def _group(code: str, status: str, rows: pd.DataFrame) -> Document:
    known, told = codes().get(code), rows["told"].dropna()
    return {
        "reason": code,
        "status": status,
        "count": len(rows),
        "series": sorted(rows["unique_id"])[:_NAMED],
        "told": str(told.iloc[0]) if len(told) else "",
        "cause": known.cause if known else "",
        "mend": known.mend if known else "",
    }
