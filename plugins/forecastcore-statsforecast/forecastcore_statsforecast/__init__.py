"""AutoETS, AutoARIMA, AutoTheta, AutoCES, MSTL and intermittent-demand models of statsforecast for forecastcore."""
