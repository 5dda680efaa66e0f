"""A global model with a library of one's own choice: here LightGBM's DART, stored as LightGBM's own text."""

from dataclasses import dataclass

from forecastcore.api import ModelSpec, hookimpl
from forecastcore.tabular import learn


@dataclass(frozen=True)
class Trees:
    text: str

    def predict(self, x):
        import lightgbm

        return lightgbm.Booster(model_str=self.text).predict(x, num_threads=1)


@dataclass(frozen=True)
class Dart:
    rounds: int = 60

    def fit(self, history, task):
        return learn(history, task, self.grow)

    def grow(self, x, y, growth):
        import lightgbm

        settings = {"boosting": "dart", "seed": growth.seed, "num_threads": growth.threads, "verbosity": -1}
        return Trees(lightgbm.train(settings, lightgbm.Dataset(x, y), self.rounds).model_to_string())


@hookimpl
def forecastcore_models():
    able = {"scope": "global", "covariates": True, "missing": True, "min_history": 8}
    yield ModelSpec(name="dart", summary="boosted trees with dropouts", factory=Dart, capabilities=able)
