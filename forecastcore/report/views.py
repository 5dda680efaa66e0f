"""From the forecast table and history to what one chart shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from forecastcore.frames import offsets
from forecastcore.vintages import is_quantile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from forecastcore.frames import History

    Floats = npt.NDArray[np.float64]
    Instants = npt.NDArray[np.datetime64]

__all__ = ["View", "Vintage", "chosen", "levels_of", "made_by", "mean", "nominal", "views_of", "vintages_of"]

#: points of history shown at least, and as many horizons of it
_LEAST, _HORIZONS = 60, 2
_RANK = {"failed": 0, "degraded": 1, "ok": 2}


@dataclass(frozen=True)
class Vintage:
    """All rows of one origin, one run per scenario.

    Attributes:
        issued_at: the origin.
        scenarios: rows by scenario, sorted by series and step; `base` first where it is there.
    """

    issued_at: pd.Timestamp
    scenarios: Mapping[str, pd.DataFrame]

    @property
    def main(self) -> pd.DataFrame:
        """The rows of `base`, or of the only scenario."""
        return next(iter(self.scenarios.values()))


@dataclass(frozen=True, kw_only=True)
class View:
    """One series as a chart shows it; instants are UTC, values NaN where there is none.

    Attributes:
        unique_id: the series.
        status, reason, model: of its worst row.
        past_ds, past_y: recent history up to the origin.
        ds, forecast: what was forecast.
        low, high: the outermost quantiles; all NaN where there is only one.
        actual: what came, as far as history knows it.
        scenarios: forecasts of the what-ifs, aligned with `ds`.
    """

    unique_id: str
    status: str
    reason: str
    model: str
    past_ds: Instants
    past_y: Floats
    ds: Instants
    forecast: Floats
    low: Floats
    high: Floats
    actual: Floats
    scenarios: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def level(self) -> float:
        """Mean of the forecast."""
        return mean(self.forecast)

    @property
    def before(self) -> float:
        """Mean of as many values before the origin."""
        return mean(self.past_y[-len(self.forecast) :])

    @property
    def error(self) -> float:
        """Mean absolute error, where actuals have come."""
        return mean(np.abs(self.actual - self.forecast))

    @property
    def inside(self) -> float:
        """Share of the actuals between the outermost quantiles."""
        seen = np.isfinite(self.actual) & np.isfinite(self.low)
        return mean(((self.low <= self.actual) & (self.actual <= self.high))[seen].astype(float))


def mean(values: Floats) -> float:
    """Mean of the finite values; NaN where there is none."""
    fine = values[np.isfinite(values)]
    return float(fine.mean()) if len(fine) else float("nan")


def levels_of(table: pd.DataFrame) -> tuple[str, str] | None:
    """The columns of the outermost quantiles; None where there are not two."""
    names = sorted(filter(is_quantile, table.columns), key=lambda name: float(name[1:].replace("_", ".")))
    return (names[0], names[-1]) if len(names) > 1 else None


def nominal(bounds: tuple[str, str]) -> str:
    """The share of actuals that two quantiles should hold between them."""
    low, high = (float(name[1:].replace("_", ".")) for name in bounds)
    return f"{high - low:g}\N{NO-BREAK SPACE}%"


def made_by(vintage: Vintage) -> str:
    """Family and version of the rows that no fallback made; of all rows where there are no such."""
    main = vintage.main
    own = main[main["status"] == "ok"]
    made = (own if len(own) else main)[["model", "model_version"]].fillna("").drop_duplicates()
    named = [f"{model}, version {version}" for model, version in made.itertuples(index=False) if model]
    return " and ".join(named) or "nobody"


def vintages_of(table: pd.DataFrame, run_keys: Sequence[str] = ()) -> list[Vintage]:
    """The vintages of a forecast table, newest origin first; of two runs of one, the one made later.

    Args:
        table: the forecast table, any number of vintages.
        run_keys: runs that are taken whatever was made later.
    """
    chosen_first = table.assign(_asked=table["run_key"].isin(list(run_keys)))
    found = []
    for _, rows in chosen_first.groupby("issued_at", sort=True):
        runs = rows.drop_duplicates(["scenario", "run_key"]).sort_values(["_asked", "created_at"], kind="stable")
        keys = runs.drop_duplicates("scenario", keep="last").set_index("scenario")["run_key"]
        by_scenario = {
            str(name): rows[(rows["scenario"] == name) & (rows["run_key"] == keys[name])].sort_values(
                ["unique_id", "step"], ignore_index=True
            )
            for name in sorted(keys.index, key=lambda name: (name != "base", name))
        }
        found.append(Vintage(rows["issued_at"].iloc[0], by_scenario))
    return found[::-1]


def views_of(vintage: Vintage, history: History) -> list[View]:
    """Every series of a vintage, those that need attention first, then by name."""
    panel = history.panel
    past_starts = offsets(panel)
    instants = panel["ds"].to_numpy(dtype="datetime64[ns]")
    y = panel["y"].to_numpy(dtype=float)
    names = panel["unique_id"].to_numpy()[past_starts[:-1]]
    spans = {str(uid): (int(a), int(b)) for uid, a, b in zip(names, past_starts[:-1], past_starts[1:], strict=True)}
    origin = np.datetime64(vintage.issued_at.tz_convert("UTC").tz_localize(None), "ns")
    main, bounds = vintage.main, levels_of(vintage.main)
    columns = _columns(main, bounds)
    others = _others(vintage)
    starts = offsets(main)
    views = []
    for a, b in pairwise(starts):
        uid = str(columns["unique_id"][a])
        first, last = spans.get(uid, (0, 0))
        cut = first + int(np.searchsorted(instants[first:last], origin, side="right"))
        begin = max(first, cut - max(_LEAST, _HORIZONS * int(b - a)))
        rows = slice(int(a), int(b))
        worst = int(a) + int(np.argmin([_RANK.get(s, 2) for s in columns["status"][rows]]))
        views.append(
            View(
                unique_id=uid,
                status=str(columns["status"][worst]),
                reason=str(columns["reason"][worst] or ""),
                model=str(columns["model"][worst] or ""),
                past_ds=instants[begin:cut],
                past_y=y[begin:cut],
                ds=columns["ds"][rows],
                forecast=columns["forecast"][rows],
                low=columns["low"][rows],
                high=columns["high"][rows],
                actual=_at(instants[cut:last], y[cut:last], columns["ds"][rows]),
                scenarios={
                    name: _at(ds[uid], values[uid], columns["ds"][rows])
                    for name, (ds, values) in others.items()
                    if uid in ds
                },
            )
        )
    return sorted(views, key=lambda view: (_RANK.get(view.status, 2), view.unique_id))


def _columns(rows: pd.DataFrame, bounds: tuple[str, str] | None) -> dict[str, Any]:
    nothing = np.full(len(rows), np.nan)
    numbers = {"forecast": "forecast", **dict(zip(("low", "high"), bounds or (), strict=False))}
    return {
        **{name: rows[name].fillna("").to_numpy(dtype=object) for name in ("unique_id", "status", "reason", "model")},
        "ds": _utc(rows["ds"]),
        "low": nothing,
        "high": nothing,
        **{name: rows[column].to_numpy(dtype=float) for name, column in numbers.items()},
    }


def _utc(times: pd.Series) -> Instants:
    return np.asarray(pd.DatetimeIndex(times).tz_convert("UTC").tz_localize(None).to_numpy(), dtype="datetime64[ns]")


def _others(vintage: Vintage) -> dict[str, tuple[dict[str, Instants], dict[str, Floats]]]:
    """Instants and forecasts of every scenario but the main one, by series."""
    found = {}
    for name, rows in list(vintage.scenarios.items())[1:]:
        starts, ds, values = offsets(rows), _utc(rows["ds"]), rows["forecast"].to_numpy(dtype=float)
        ids = [str(uid) for uid in rows["unique_id"].to_numpy()[starts[:-1]]]
        spans = list(zip(ids, starts[:-1], starts[1:], strict=True))
        found[name] = ({uid: ds[a:b] for uid, a, b in spans}, {uid: values[a:b] for uid, a, b in spans})
    return found


def _at(there: Instants, values: Floats, wanted: Instants) -> Floats:
    """Values at the wanted instants, NaN where there is none."""
    out = np.full(len(wanted), np.nan)
    if len(there):
        place = np.minimum(np.searchsorted(there, wanted), len(there) - 1)
        hit = there[place] == wanted
        out[hit] = values[place[hit]]
    return out


def chosen(views: Sequence[View], limit: int) -> list[View]:
    """The views that get a chart: all, or those that need attention, then the most changed and the largest by turns.

    Where actuals have come, the largest errors stand in for the most changed.
    """
    if len(views) <= limit:
        return list(views)
    urgent = [view for view in views if view.status != "ok"][:limit]
    calm = [view for view in views if view.status == "ok"]
    by_size = sorted(calm, key=lambda view: -_or_zero(abs(view.level)))
    by_surprise = sorted(calm, key=lambda view: -_surprise(view))
    turns = [view for pair in zip(by_surprise, by_size, strict=True) for view in pair]
    return list({view.unique_id: view for view in [*urgent, *turns]}.values())[:limit]


def _surprise(view: View) -> float:
    error = view.error
    gap = error if np.isfinite(error) else abs(view.level - view.before)
    return _or_zero(gap / abs(view.before)) if view.before else 0.0


def _or_zero(value: float) -> float:
    return float(value) if np.isfinite(value) else 0.0
