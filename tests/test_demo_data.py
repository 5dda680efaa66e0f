"""The data that ships with the demo is what its README says it is."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

import forecastcore.demo
from forecastcore import Project

PROJECT = Path(forecastcore.demo.__file__).parent / "project"
COLUMNS = ["unique_id", "ds", "y", "temperature", "rain_mm", "humidity", "windspeed_kmh"]


@pytest.fixture(scope="module")
def data():
    return pd.read_parquet(PROJECT / "data" / "ferrara-water.parquet")


def test_it_is_ten_districts_by_the_hour_without_a_hole_in_the_grid(data):
    hours = pd.date_range("2021-07-31 22:00", "2022-11-06 22:00", freq="h", tz="UTC")
    assert list(data.columns) == COLUMNS
    assert list(data["unique_id"].unique()) == [f"DMA_{number:02d}" for number in range(1, 11)]
    for _, rows in data.groupby("unique_id"):
        assert pd.DatetimeIndex(rows["ds"]).equals(hours.as_unit("ms"))


def test_only_the_meters_and_two_weather_columns_have_gaps(data):
    empty = data.isna().sum()
    assert dict(empty[empty > 0]) == {"y": 2507, "humidity": 3470, "windspeed_kmh": 160}
    assert data.groupby("unique_id")["y"].apply(lambda y: y.isna().mean()).max() < 0.07
    assert data["y"].min() > 0


def test_the_weather_of_an_hour_is_the_same_in_every_district(data):
    first, *others = [rows[COLUMNS[3:]].reset_index(drop=True) for _, rows in data.groupby("unique_id")]
    assert all(first.equals(other) for other in others)


def test_it_stays_small_and_says_where_it_comes_from(data):
    assert sum(path.stat().st_size for path in PROJECT.rglob("*") if path.is_file()) < 1_000_000
    licence = (PROJECT / "data" / "LICENSE-DATA.txt").read_text()
    assert "CC BY 4.0" in licence
    assert "Alvisi" in licence
    assert "10.1061/JWRMD5.WRENG-6887" in licence
    assert f"{len(data):,} rows" in (PROJECT / "data" / "README.md").read_text()


def test_the_project_file_names_columns_and_a_file_that_are_there(data):
    project = yaml.safe_load((PROJECT / "forecast.yaml").read_text())
    assumed = {name for name, how in project["covariates"].items() if how["assume"] != "calendar"}
    assert (PROJECT / project["source"]["path"]).is_file()
    assert assumed <= set(data.columns)
    assert {how["assume"] for how in project["covariates"].values()} <= set(project["assumptions"])


def test_the_project_file_is_valid_with_the_plugins_of_the_shelf():
    project = Project.load(PROJECT / "forecast.yaml")
    assert project.config.name == "ferrara-water"
    assert project.config.horizon == 7 * 24
