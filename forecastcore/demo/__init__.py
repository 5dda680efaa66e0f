"""The demo: `project/` holds a project file and real data, as `forecastcore demo` copies them out."""
