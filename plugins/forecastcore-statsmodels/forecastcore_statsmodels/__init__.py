"""Plugin of forecastcore."""
