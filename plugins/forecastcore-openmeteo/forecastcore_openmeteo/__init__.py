"""Weather forecasts of Open-Meteo as assumptions for forecastcore."""
