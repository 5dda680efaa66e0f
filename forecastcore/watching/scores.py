"""Delivered rows against what came: in all, by step, segment, model, version, vintage and series."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.metrics import by_slice, group_mean
from forecastcore.watching.messages import ErrorSplit, SeriesScore, SliceScore, VersionScore, VintageScore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from forecastcore.metrics import Scored
    from forecastcore.timegrid import TimeGrid

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]
    Bools = npt.NDArray[np.bool_]
    Labels = npt.NDArray[np.object_]

__all__ = ["Delivered", "by_version", "by_vintage", "delivered_of", "slices", "split_of", "worst_series"]

#: share of a vintage's rows that must have come before it is judged
JUDGED = 0.5
#: series that are named as the worst
_WORST = 20
_ERRORS = ("mase", "rmsse", "wql", "bias", "coverage", "skill", "win_rate")


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """Rows that were delivered, in the order (origin, series, step), and what came.

    Attributes:
        origins: oldest first.
        created: when each origin's vintage was made.
        ids: series.
        fold, series: numbers of each row's origin and series.
        scored: actuals, scales and the seasonal naive of the same rows.
        forecast: NaN where nothing was delivered.
        quantiles: shape (rows, levels).
        levels: ascending.
        model, status: of each row; empty where nothing was delivered.
        versions: of each origin.
    """

    origins: Sequence[pd.Timestamp]
    created: Sequence[pd.Timestamp]
    ids: Sequence[str]
    fold: Ints
    series: Ints
    scored: Scored
    forecast: Floats
    quantiles: Floats
    levels: tuple[float, ...]
    model: Labels
    status: Labels
    versions: Sequence[str]

    def losses(self, forecast: Floats) -> Floats:
        """Mean absolute scaled error by origin and series."""
        shape = (len(self.origins), len(self.ids))
        mean = group_mean(np.abs(forecast - self.scored.y), self.scored.group, len(self.scored.scale))
        return np.asarray((mean / self.scored.scale).reshape(shape))

    def among(self, hit: Bools) -> Scored:
        """What is scored, with only some of the rows."""
        return replace(self.scored, y=np.where(hit, self.scored.y, np.nan))


def delivered_of(
    table: pd.DataFrame, scored: Scored, fold: Ints, series: Ints, *, ids: Sequence[str], grid: TimeGrid
) -> Delivered:
    """Delivered rows put beside what came.

    Args:
        table: the forecast table, one vintage per origin, one scenario.
        scored: all series and steps of these origins, oldest first.
        fold: number of each row's origin.
        series: number of each row's series in `ids`.
        ids: series.
        grid: of the history; rows whose instant is not their step's are left out.
    """
    firsts = table.drop_duplicates("issued_at").sort_values("issued_at")
    origins = [pd.Timestamp(origin) for origin in firsts["issued_at"]]
    horizon = int(scored.step.max())
    instants = np.stack([grid.ahead(origin, horizon).to_numpy(dtype="datetime64[ns]") for origin in origins])
    number = pd.Index(firsts["issued_at"]).get_indexer(pd.Index(table["issued_at"]))
    row = pd.Index(ids).get_indexer(pd.Index(table["unique_id"]))
    step = table["step"].to_numpy(dtype=np.intp)
    fine = (row >= 0) & (step >= 1) & (step <= horizon)
    fine[fine] = table["ds"].to_numpy(dtype="datetime64[ns]")[fine] == instants[number[fine], step[fine] - 1]
    width = len(ids) * horizon
    there = np.full(len(origins) * width, -1, dtype=np.intp)
    there[fold * width + series * horizon + scored.step - 1] = np.arange(len(fold))
    target = there[(number * width + row * horizon + step - 1)[fine]]
    place, fine[fine] = target[target >= 0], target >= 0
    columns = sorted((c for c in table.columns if _level(c) is not None), key=lambda c: _level(c) or 0.0)
    numbers = np.full((len(fold), 1 + len(columns)), np.nan)
    numbers[place] = table.loc[fine, ["forecast", *columns]].to_numpy(dtype=float)
    texts = np.full((len(fold), 2), "", dtype=object)
    texts[place] = table.loc[fine, ["model", "status"]].fillna("").to_numpy(dtype=object)
    return Delivered(
        origins=origins,
        created=[pd.Timestamp(moment) for moment in firsts["created_at"]],
        ids=ids,
        fold=fold,
        series=series,
        scored=scored,
        forecast=numbers[:, 0],
        quantiles=numbers[:, 1:],
        levels=tuple(_level(c) or 0.0 for c in columns),
        model=texts[:, 0],
        status=texts[:, 1],
        versions=[str(version) for version in firsts["model_version"]],
    )


def _level(column: str) -> float | None:
    from forecastcore.vintages import is_quantile

    return float(column[1:].replace("_", ".")) / 100 if is_quantile(column) else None


def slices(rows: Delivered) -> list[SliceScore]:
    """Accuracy in all, by quarter of the horizon, by size of the series, and by who made the rows."""
    told = by_slice(rows.scored, rows.forecast, rows.quantiles, rows.levels)
    came = np.isfinite(rows.scored.y) & np.isfinite(rows.forecast)
    counts = _counts(rows, came)
    found = [
        _slice("all" if name == "all" else "steps" if name.startswith("steps ") else "segment", name, counts[name], one)
        for name, one in told.items()
    ]
    for model in sorted({*rows.model.tolist()} - {""}):
        hit = rows.model == model
        one = by_slice(rows.among(hit), rows.forecast, rows.quantiles, rows.levels)["all"]
        found.append(_slice("model", str(model), int((came & hit).sum()), one))
    return found


def _counts(rows: Delivered, came: Bools) -> dict[str, int]:
    from forecastcore.metrics import step_buckets

    hits = {"all": np.ones(len(came), dtype=bool), **step_buckets(rows.scored.step)}
    hits |= {name: pairs[rows.scored.group] for name, pairs in rows.scored.size_class.items()}
    return {name: int((came & hit).sum()) for name, hit in hits.items()}


def _slice(kind: Any, name: str, count: int, errors: Mapping[str, float]) -> SliceScore:
    return SliceScore(kind=kind, name=name, rows=count, **{key: errors[key] for key in _ERRORS})


def by_vintage(rows: Delivered, promised: Mapping[str, Mapping[str, float | None]]) -> list[VintageScore]:
    """Each origin, oldest first.

    Args:
        rows: delivered rows and what came.
        promised: the backtest's metrics by version.
    """
    ours, theirs = rows.losses(rows.forecast), rows.losses(rows.scored.naive)
    count = len(rows.origins)
    sent, came = rows.status != "", np.isfinite(rows.scored.y) & np.isfinite(rows.forecast)
    total, arrived = (np.bincount(rows.fold[hit], minlength=count) for hit in (sent, came))
    off = np.bincount(rows.fold[sent & (rows.status != "ok")], minlength=count)
    inside = group_mean(_inside(rows), rows.fold, count)
    error = np.bincount(rows.fold[came], (rows.forecast - rows.scored.y)[came], minlength=count)
    size = np.bincount(rows.fold[came], np.abs(rows.scored.y)[came], minlength=count)
    found = []
    for number, origin in enumerate(rows.origins):
        known = np.isfinite(ours[number]) & np.isfinite(theirs[number])
        mase = _mean(ours[number][np.isfinite(ours[number])])
        naive = _mean(theirs[number][known])
        share = arrived[number] / max(total[number], 1)
        before = promised.get(rows.versions[number], {}).get("mase")
        found.append(
            VintageScore(
                issued_at=origin.to_pydatetime(),
                created_at=rows.created[number].to_pydatetime(),
                model_version=rows.versions[number],
                arrived=float(share),
                judged=bool(share >= JUDGED),
                rows=int(total[number]),
                mase=mase,
                skill=1 - _mean(ours[number][known]) / naive if naive else float("nan"),
                bias=float(error[number] / size[number]) if size[number] else float("nan"),
                coverage=float(inside[number]),
                degraded=float(off[number] / max(total[number], 1)),
                worse_than_promised=mase / before - 1 if before else float("nan"),
            )
        )
    return found


def by_version(rows: Delivered, promised: Mapping[str, Mapping[str, float | None]]) -> list[VersionScore]:
    """Each version beside what its backtest promised, the one that made the newest vintage first."""
    found, versions = [], np.asarray(rows.versions, dtype=object)
    came = np.isfinite(rows.scored.y) & np.isfinite(rows.forecast)
    for version in dict.fromkeys(reversed(rows.versions)):
        hit = (versions == version)[rows.fold]
        one = by_slice(rows.among(hit), rows.forecast, rows.quantiles, rows.levels)["all"]
        said = promised.get(version, {})
        own = rows.model[hit & (rows.status == "ok")]
        found.append(
            VersionScore(
                version=version,
                model=str(own[0]) if len(own) else "",
                vintages=int((versions == version).sum()),
                rows=int((came & hit).sum()),
                mase=one["mase"],
                promised_mase=said.get("mase"),
                skill=one["skill"],
                promised_skill=said.get("skill"),
                coverage=one["coverage"],
                promised_coverage=said.get("coverage"),
                nominal=rows.levels[-1] - rows.levels[0] if len(rows.levels) > 1 else None,
            )
        )
    return found


def split_of(rows: Delivered, version: str, folds: Sequence[int], foresight: Floats) -> ErrorSplit:
    """A version's error as delivered, and with the covariates that came.

    Args:
        rows: delivered rows and what came.
        version: whose vintages.
        folds: numbers of their origins.
        foresight: what the stored version forecasts of the actual covariates.
    """
    delivered, knowing = (rows.losses(values)[list(folds)] for values in (rows.forecast, foresight))
    both = np.isfinite(delivered) & np.isfinite(knowing)
    whole, known = _mean(delivered[both]), _mean(knowing[both])
    return ErrorSplit(
        version=version, vintages=len(folds), mase=whole, model_error=known, assumption_error=whole - known
    )


def worst_series(rows: Delivered) -> list[SeriesScore]:
    """The series with the largest errors, worst first."""
    count = len(rows.ids)
    pairs = np.tile(np.arange(count), len(rows.origins))
    ours, theirs = (
        group_mean(rows.losses(values).ravel(), pairs, count) for values in (rows.forecast, rows.scored.naive)
    )
    came = np.isfinite(rows.scored.y) & np.isfinite(rows.forecast)
    number = np.bincount(rows.series[came], minlength=count)
    error = np.bincount(rows.series[came], (rows.forecast - rows.scored.y)[came], minlength=count)
    size = np.bincount(rows.series[came], np.abs(rows.scored.y)[came], minlength=count)
    order = np.argsort(np.where(np.isfinite(ours), -ours, np.inf), kind="stable")[:_WORST]
    with np.errstate(invalid="ignore", divide="ignore"):
        skill, bias = 1 - ours / theirs, error / size
    return [
        SeriesScore(
            unique_id=rows.ids[place],
            rows=int(number[place]),
            mase=float(ours[place]),
            skill=float(skill[place]),
            bias=float(bias[place]),
        )
        for place in order.tolist()
        if np.isfinite(ours[place])
    ]


def _inside(rows: Delivered) -> Floats:
    if len(rows.levels) < 2:  # noqa: PLR2004 - a band has two ends
        return np.full(len(rows.forecast), np.nan)
    y, low, high = rows.scored.y, rows.quantiles[:, 0], rows.quantiles[:, -1]
    return np.where(np.isfinite(low + high + y), (low <= y) & (y <= high), np.nan)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")
