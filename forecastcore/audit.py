"""The last look before a vintage is published: would its readers be misled?

Pure: a vintage and a few numbers about each series' past in, findings out. What cannot be right is told with the rows
that show it; nothing is repaired. Write, audit, publish is the order of Netflix' and Iceberg's pipelines too.

Series are looked at by themselves (`look`), all at once or some of them at a time, by whoever has them; what was found
is put together and judged as a whole (`judged`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from forecastcore.errors import DataError
from forecastcore.frames import offsets
from forecastcore.intervals import BELOW_ZERO
from forecastcore.metrics import group_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from forecastcore.config import AuditConfig

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

__all__ = ["AuditError", "Expected", "Finding", "Look", "audit", "judged", "look", "past_of"]

_SHOWN = 3
_ENOUGH = 10
#: how far outside the levels that history has had
_BEYOND = 2.0
_REPEATS = 0.8
#: checks of a table's shape
_SHAPES = frozenset({"duplicate", "missing-series", "unknown-series", "horizon", "instant", "origin"})


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that cannot be right.

    Attributes:
        check: its name, such as `level`.
        words: what is wrong; a count goes before them where there is one.
        rows: how many rows show it.
        examples: the first of them, in words.
        count: of what the words say.
    """

    check: str
    words: str
    rows: int
    examples: tuple[str, ...] = ()
    count: int | None = None

    @property
    def message(self) -> str:
        """What is wrong, in words."""
        return self.words if self.count is None else f"{self.count} {self.words}"

    def __add__(self, other: Finding) -> Finding:
        """What the same check found among other series too."""
        return replace(
            self,
            rows=self.rows + other.rows,
            examples=(*self.examples, *other.examples)[:_SHOWN],
            count=(self.count or 0) + (other.count or 0),
        )


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look at some series of a vintage found; looks at others add to it.

    Attributes:
        series: how many were looked at.
        findings: what cannot be right of them by themselves, at most one of a check.
        unserved: how many series the model did not serve, or broke on, which is right as long as it is few.
    """

    series: int = 0
    findings: tuple[Finding, ...] = ()
    unserved: tuple[Finding, ...] = ()

    def __add__(self, other: Look) -> Look:
        """Of the series of both."""
        return Look(
            series=self.series + other.series,
            findings=_together(*self.findings, *other.findings),
            unserved=_together(*self.unserved, *other.unserved),
        )


def _together(*findings: Finding) -> tuple[Finding, ...]:
    found: dict[str, Finding] = {}
    for one in findings:
        found[one.check] = found[one.check] + one if one.check in found else one
    return tuple(found.values())


class AuditError(DataError):
    """The vintage is held: nothing of it was published, and what was published before is still served.

    Attributes:
        findings: what cannot be right.
    """

    code = "audit"

    def __init__(self, findings: Sequence[Finding]) -> None:
        told = [f"{f.check}: {f.message}" + "".join(f"\n    {row}" for row in f.examples) for f in findings]
        super().__init__(
            "held before publishing: " + "\n".join(told),
            hint="nothing was published; look at the model and the data, or set the limit under audit:",
        )
        self.findings: tuple[Finding, ...] = tuple(findings)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the vintage has to be.

    Attributes:
        ids: every series of the source.
        origin: UTC.
        instants: the horizon's, in order, UTC.
        quantiles: columns, ascending.
        season: steps of the main season.
        skilled: the model is known to beat the seasonal naive; a flat line is then news.
    """

    ids: Sequence[str]
    origin: pd.Timestamp
    instants: pd.DatetimeIndex
    quantiles: Sequence[str]
    season: int = 1
    skilled: bool = False


def past_of(panel: pd.DataFrame, horizon: int, season: int) -> pd.DataFrame:
    """A few numbers about each series' past, by `unique_id`.

    Args:
        panel: `unique_id, ds, y`, sorted, on the grid.
        horizon: steps; the past is looked at in blocks of as many.
        season: steps of the main season.

    Returns:
        `count` of values, `low` (the smallest), `recent` (mean size of the last two blocks), `highest` (mean size of a
        block, the oldest taken as short as it is) and `lowest` (of a whole one), `repeats` (correlation with a season
        before).
    """
    starts, y = offsets(panel), panel["y"].to_numpy(dtype=float)
    names = pd.Index(panel["unique_id"].to_numpy()[starts[:-1]], name="unique_id")
    columns = ["count", "low", "recent", "highest", "lowest", "repeats"]
    if not len(names):
        return pd.DataFrame(columns=columns, index=names, dtype=float)
    lengths, block = np.diff(starts), max(horizon, season)
    series = np.repeat(np.arange(len(names)), lengths)
    after = np.repeat(starts[1:], lengths) - 1 - np.arange(len(y))  # rows of the series that follow
    known, recent = np.isfinite(y), after < 2 * block
    count = np.bincount(series, known, len(names))
    first = np.r_[0, np.cumsum(-(-lengths // block))]
    levels = group_mean(np.abs(y), first[series] + after // block, first[-1])
    short = (first[1:] - 1)[(lengths > block) & (lengths % block > 0)]  # a series shorter than a block is a whole one
    whole = np.where(np.isin(np.arange(first[-1]), short), np.nan, levels)
    numbers = (
        count,
        np.where(count > 0, np.minimum.reduceat(np.where(known, y, np.inf), starts[:-1]), np.nan),
        group_mean(np.abs(y)[recent], series[recent], len(names)),
        np.fmax.reduceat(levels, first[:-1]),
        np.fmin.reduceat(whole, first[:-1]),
        np.where(count > 0, _repeats(y, starts, series, after, season), np.nan),
    )
    return pd.DataFrame(dict(zip(columns, numbers, strict=True)), index=names)


def _repeats(y: Floats, starts: Ints, series: Ints, after: Ints, season: int) -> Floats:
    """Correlation of each series' last eight seasons with the values a season before; 0 where there is too little."""
    late = np.flatnonzero((np.arange(len(y)) - starts[series] >= season) & (after < 8 * season))
    late = late[np.isfinite(y[late]) & np.isfinite(y[late - season])]
    group, groups = series[late], len(starts) - 1
    now, then = (v - group_mean(v, group, groups)[group] for v in (y[late], y[late - season]))
    both, one, other = (np.bincount(group, a * b, groups) for a, b in ((now, then), (now, now), (then, then)))
    enough = (np.bincount(group, minlength=groups) >= _ENOUGH) & (one > 0) & (other > 0)
    return np.asarray(np.divide(both, np.sqrt(one * other), out=np.zeros(groups), where=enough))


def audit(
    vintage: pd.DataFrame, past: pd.DataFrame, expected: Expected, limits: AuditConfig, *, now: pd.Timestamp
) -> list[Finding]:
    """Everything about a vintage that cannot be right.

    Args:
        vintage: columns of the forecast table, in any order.
        past: as `past_of` gives it.
        expected: what the vintage has to be.
        limits: of the project file.
        now: UTC.
    """
    return judged(look(vintage, past, expected, limits), expected.origin, len(expected.instants), limits, now=now)


def look(vintage: pd.DataFrame, past: pd.DataFrame, expected: Expected, limits: AuditConfig) -> Look:
    """What can be seen of some series of a vintage without the others; arguments are those of `audit`."""
    shape = tuple(_shape(vintage, expected))
    if shape:  # the numbers of a table of the wrong shape say little
        return Look(series=len(expected.ids), findings=shape)
    found = [*_numbers(vintage, expected, limits), *_against_past(vintage, past, expected, limits)]
    return Look(series=len(expected.ids), findings=tuple(found), unserved=tuple(_unserved(vintage)))


def judged(seen: Look, origin: pd.Timestamp, horizon: int, limits: AuditConfig, *, now: pd.Timestamp) -> list[Finding]:
    """Everything about a vintage that cannot be right.

    Args:
        seen: looks at all of its series.
        origin: UTC.
        horizon: steps.
        limits: of the project file.
        now: UTC.
    """
    shape = [finding for finding in seen.findings if finding.check in _SHAPES]
    if shape:
        return shape
    return [*seen.findings, *_shares(seen, limits), *_age(seen.series * horizon, origin, limits, now)]


def _finding(check: str, words: str, rows: pd.DataFrame) -> Finding:
    examples = tuple(map(_words, _records(rows)))
    return Finding(check=check, words=words, rows=len(rows), count=len(rows), examples=examples)


def _records(rows: pd.DataFrame) -> list[dict[str, object]]:
    return [{str(key): value for key, value in row.items()} for row in rows.head(_SHOWN).to_dict("records")]


def _words(row: dict[str, object]) -> str:
    numbers = ", ".join(f"{name} {value}" for name, value in row.items() if name not in {"unique_id", "ds", "step"})
    return f"series {row['unique_id']!r}, step {row['step']}, {row['ds']}: {numbers}"


def _shape(vintage: pd.DataFrame, expected: Expected) -> Iterator[Finding]:
    """Is every row there that should be, once, and no other?"""
    key = vintage[["unique_id", "step", "ds"]].assign(forecast=vintage["forecast"])
    twice = vintage.duplicated(["unique_id", "step"]) | vintage.duplicated(["unique_id", "ds"])
    if twice.any():
        yield _finding("duplicate", "rows stand there twice", key[twice])
    there = set(vintage["unique_id"])
    lost = [uid for uid in expected.ids if uid not in there]
    if lost:
        names = tuple(f"series {uid!r}" for uid in lost[:_SHOWN])
        words = "series of the source are missing"
        yield Finding(check="missing-series", words=words, rows=len(lost), count=len(lost), examples=names)
    strange = ~vintage["unique_id"].isin(list(expected.ids))
    if strange.any():
        yield _finding("unknown-series", "rows are of series that the source has not", key[strange])
    horizon = len(expected.instants)
    steps = vintage["step"].to_numpy()
    inside = (steps >= 1) & (steps <= horizon)
    counts = vintage[inside].groupby("unique_id")["step"].nunique()
    short = counts[counts < horizon]
    if len(short):
        yield Finding(
            check="horizon",
            words=f"series have fewer than {horizon} steps",
            count=len(short),
            rows=int((horizon - short).sum()),
            examples=tuple(f"series {uid!r} has {count}" for uid, count in short.head(_SHOWN).items()),
        )
    wanted = expected.instants.take(np.clip(steps, 1, horizon) - 1)
    off = ~inside | (vintage["ds"].to_numpy(dtype="datetime64[ns]") != wanted.to_numpy(dtype="datetime64[ns]"))
    if off.any():
        words = "rows are not of the instant of their step: a wrong time zone or grid"
        yield _finding("instant", words, key.assign(expected=wanted)[off])
    elsewhere = (vintage["issued_at"] != expected.origin).to_numpy()
    if elsewhere.any():
        words = f"rows are issued at another moment than {expected.origin}"
        yield _finding("origin", words, key.assign(issued_at=vintage["issued_at"])[elsewhere])


def _numbers(vintage: pd.DataFrame, expected: Expected, limits: AuditConfig) -> Iterator[Finding]:
    """Are the numbers finite, in order, within the limits?"""
    columns = ["forecast", *expected.quantiles]
    values: npt.NDArray[np.float64] = vintage[columns].to_numpy(dtype=float)
    shown: pd.DataFrame = vintage[["unique_id", "step", "ds", *columns]]
    owed = (vintage["status"] != "failed").to_numpy()
    empty, endless = np.any(np.isnan(values), axis=1) & owed, np.any(np.isinf(values), axis=1)
    if empty.any():
        yield _finding("null", "rows lack a number and are not marked failed", shown[pd.Series(empty, shown.index)])
    if endless.any():
        yield _finding("infinite", "rows are infinite", shown[pd.Series(endless, shown.index)])
    crossed = np.any(np.diff(values[:, 1:], axis=1) < 0, axis=1)
    if crossed.any():
        yield _finding("quantiles", "rows have quantiles that cross", shown[pd.Series(crossed, shown.index)])
    for name, bound, sign in (("minimum", limits.minimum, 1.0), ("maximum", limits.maximum, -1.0)):
        if bound is not None:
            beyond = np.any(sign * values < sign * bound, axis=1)
            if beyond.any():
                yield _finding(name, f"rows go beyond {name} {bound:g}", shown[pd.Series(beyond, shown.index)])


def _unserved(vintage: pd.DataFrame) -> Iterator[Finding]:
    """Which series did the model break on, and which did it not make at all?"""
    first = vintage.drop_duplicates("unique_id")[["unique_id", "step", "ds", "status", "reason"]]
    broken = vintage["reason"].fillna("").str.startswith("model-error")
    for check, bad in (("broken", broken), ("degraded", vintage["status"] != "ok")):
        rows = first[first["unique_id"].isin(vintage.loc[bad, "unique_id"])]
        if len(rows):
            yield _finding(check, "series", rows)


def _shares(seen: Look, limits: AuditConfig) -> Iterator[Finding]:
    """Did the model make enough of it?"""
    rules = {
        "broken": (limits.max_broken, "the model broke on"),
        "degraded": (limits.max_degraded, "a fallback served, or nobody,"),
    }
    for one in seen.unserved:
        limit, words = rules[one.check]
        if one.rows / seen.series > limit:
            told = f"{words} {one.count} of {seen.series} series; at most {limit:.0%} may be"
            yield replace(one, words=told, count=None)


def _age(rows: int, origin: pd.Timestamp, limits: AuditConfig, now: pd.Timestamp) -> Iterator[Finding]:
    if limits.max_age is not None and now - origin > pd.Timedelta(limits.max_age):
        words = f"the newest data is of {origin}, older than {limits.max_age}"
        yield Finding(check="stale", words=words, rows=rows)


def _against_past(
    vintage: pd.DataFrame, past: pd.DataFrame, expected: Expected, limits: AuditConfig
) -> Iterator[Finding]:
    """Is each series where it could come from its past?"""
    made = vintage[vintage["status"] == "ok"]
    if not len(made):
        return
    grouped = made.groupby("unique_id")["forecast"]
    now = pd.DataFrame({"size": made["forecast"].abs().groupby(made["unique_id"]).mean(), "low": grouped.min()})
    now["spread"] = grouped.max() - now["low"]
    both = now.join(past, how="inner", rsuffix="_past")
    both = both[both["count"] >= _ENOUGH]
    high = (both["size"] > limits.level * both["recent"]) & (both["size"] > _BEYOND * both["highest"])
    # a series that changes sign has no level that it could be too far below, and nothing at all is a forecast like any
    low = (both["size"] * limits.level < both["recent"]) & (both["size"] * _BEYOND < both["lowest"])
    low &= (both["low_past"] >= 0) & (both["size"] > 0)
    yield from _series("level", f"more than {limits.level:g} times off their recent level", made, both, high | low)
    below = (both["low_past"] >= 0) & (both["low"] < -BELOW_ZERO * both["highest"])
    yield from _series("sign", "below zero, where their history never was", made, both, below)
    if limits.flat_line == "hold" and expected.skilled and len(expected.instants) >= expected.season > 1:
        flat = (both["spread"] <= 1e-9 * both["recent"]) & (both["repeats"] >= _REPEATS)
        yield from _series("flat-line", "a flat line, where their history repeats itself each season", made, both, flat)


def _series(check: str, words: str, made: pd.DataFrame, both: pd.DataFrame, bad: pd.Series[bool]) -> Iterator[Finding]:
    if not bad.any():
        return
    rows = made[made["unique_id"].isin(both.index[bad])]
    first = rows.drop_duplicates("unique_id")[["unique_id", "step", "ds", "forecast"]]
    told = first.assign(**{"recent level": both["recent"].reindex(first["unique_id"]).to_numpy()})
    examples = tuple(map(_words, _records(told)))
    yield Finding(check=check, words=f"series are {words}", rows=len(rows), count=int(bad.sum()), examples=examples)
