"""Signed notices of published forecasts over HTTP for forecastcore."""
