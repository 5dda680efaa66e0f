"""Azure Blob Storage as a source and a sink for forecastcore."""
