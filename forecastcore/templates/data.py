"""Histories of the templates: made up, from a fixed seed, with the habits of real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["write"]

_SEED = 20_260_101
_END = "2026-01-01"
#: days of promotions that the shop has planned beyond today
_PLANNED = 28
#: share of weeks with a promotion
_PROMOTED = 0.12


def write(template: str, folder: Path) -> None:
    """Write the data of a template; the same template always gets the same."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(_SEED)
    if template == "energy-load":
        _load(rng).to_parquet(folder / "load.parquet", index=False)
    elif template == "retail-demand":
        _demand(rng).to_parquet(folder / "demand.parquet", index=False)
    else:
        _sales(rng).to_csv(folder / "sales.csv", index=False)


def _days(count: int) -> pd.DatetimeIndex:
    return pd.date_range(end=_END, periods=count, freq="D")


def _year(ds: pd.DatetimeIndex) -> npt.NDArray[np.float64]:
    """From -1 in deep winter to 1 in high summer."""
    return -np.cos(2 * np.pi * (ds.dayofyear.to_numpy() - 15) / 365.25)


def _sales(rng: np.random.Generator) -> pd.DataFrame:
    """Two years of daily sales in three shops: weekends, a slow rise, noise."""
    ds = _days(730)
    week = np.array([1.0, 0.95, 0.95, 1.0, 1.2, 1.45, 0.6])[ds.dayofweek]
    rise = np.linspace(1, 1.15, len(ds))
    shops = []
    for number, level in enumerate((80, 150, 320), start=1):
        sold = level * week * rise * (1 + 0.08 * _year(ds)) * rng.lognormal(0, 0.08, len(ds))
        shops.append(pd.DataFrame({"shop": f"shop-{number}", "day": ds, "sold": sold.round()}))
    return pd.concat(shops, ignore_index=True)


def _load(rng: np.random.Generator) -> pd.DataFrame:
    """Fourteen months of hourly load (MW) of two towns, in UTC: weather, heating, evening peaks, quieter weekends."""
    ds = pd.date_range(end=f"{_END} 00:00", periods=24 * 425, freq="h")
    hour, quiet = ds.hour.to_numpy(), np.isin(ds.dayofweek, (5, 6))
    weather = pd.Series(rng.normal(0, 3.2, len(ds))).ewm(halflife=36).mean().to_numpy() * 6
    day = np.sin(2 * np.pi * (hour - 9) / 24)
    peaks = np.exp(-(((hour - 8) / 2.5) ** 2)) + 1.4 * np.exp(-(((hour - 18) / 3) ** 2))
    towns = []
    for town, level, shift in (("northtown", 60.0, -1.5), ("southtown", 140.0, 1.0)):
        temperature = 10.5 + shift + 9.5 * _year(ds) + 3.5 * day + weather + rng.normal(0, 0.4, len(ds))
        heating, cooling = np.clip(16 - temperature, 0, None), np.clip(temperature - 23, 0, None)
        load = level * (0.62 + 0.28 * peaks - 0.12 * quiet + 0.013 * heating + 0.02 * cooling)
        load *= rng.lognormal(0, 0.02, len(ds))
        towns.append(
            pd.DataFrame({"town": town, "ds": ds, "load_mw": load.round(2), "temperature": temperature.round(1)})
        )
    return pd.concat(towns, ignore_index=True)


def _demand(rng: np.random.Generator) -> pd.DataFrame:
    """Sixty articles a day: some steady, most sold rarely, a third of them new; promotions also of days to come."""
    whole = pd.date_range(_days(500)[0], periods=500 + _PLANNED, freq="D")
    articles = []
    for number in range(60):
        ds = whole[-(120 + _PLANNED) :] if number % 3 == 0 else whole
        promoted = np.repeat(rng.random(len(ds) // 7 + 1) < _PROMOTED, 7)[: len(ds)]
        rate = rng.lognormal(2.2, 0.6) if number % 4 == 0 else rng.lognormal(-0.6, 0.5)
        week = np.array([0.9, 0.9, 0.95, 1.0, 1.2, 1.4, 0.65])[ds.dayofweek]
        sold = rng.poisson(rate * week * np.where(promoted, 1.9, 1.0)).astype(float)
        sold[-_PLANNED:] = np.nan
        articles.append(
            pd.DataFrame({"article": f"article-{number:02d}", "day": ds, "sold": sold, "promotion": promoted * 1.0})
        )
    return pd.concat(articles, ignore_index=True)
