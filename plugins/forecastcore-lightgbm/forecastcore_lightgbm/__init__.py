"""Boosted trees of LightGBM for forecastcore."""
