"""What MLflow stores as a model's code: it reads the packed model beside it, and unpickles nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd  # noqa: TC002 - MLflow looks the type hint up when the model is loaded
from mlflow.models import set_model  # noqa: TID253 - MLflow alone runs this file
from mlflow.pyfunc.model import PythonModel, PythonModelContext  # noqa: TID253 - MLflow alone runs this file


class ServedModel(PythonModel):
    """`mlflow.pyfunc.load_model("models:/<project>@champion").predict(context_and_future)`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the packed model; its digests are checked by `Package.load`."""
        from forecastcore.package import Package

        self.package: Package = Package.load(Path(context.artifacts["model"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Forecast; rows to be forecast are those after the origin, with a null `y`.

        Args:
            context: MLflow's.
            model_input: `unique_id, ds, y, <covariates>`; a `ds` without a zone, or as text, is UTC.
            params: not used.

        Returns:
            `unique_id, ds, step, forecast, q10 …, status, reason`.
        """
        del context, params
        return self.package.predict(model_input)


set_model(ServedModel())
