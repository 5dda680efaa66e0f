"""SQL databases as a source and a sink for forecastcore."""
