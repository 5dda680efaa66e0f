"""The plugin as the host finds it."""

from __future__ import annotations

import subprocess
import sys

import forecastcore_sklearn
import pluggy
import pytest
from pydantic import TypeAdapter, ValidationError

from forecastcore import hookspecs


def _offers():
    manager = pluggy.PluginManager("forecastcore")
    manager.add_hookspecs(hookspecs)
    manager.register(forecastcore_sklearn)
    manager.check_pending()
    return {spec.name: spec for spec in manager.hook.forecastcore_models()[0]}


def test_three_global_families_are_offered():
    offers = _offers()
    assert sorted(offers) == ["gradient-boosting", "random-forest", "ridge"]
    assert all(spec.capabilities.scope == "global" for spec in offers.values())
    assert all(spec.capabilities.covariates and spec.capabilities.missing for spec in offers.values())


@pytest.mark.parametrize("name", ["ridge", "gradient-boosting", "random-forest"])
def test_parameters_of_a_project_file_are_validated_by_their_types(name):
    adapter = TypeAdapter(_offers()[name].factory)
    assert adapter.validate_python({"strategy": "recursive", "max_rows": 1_000}).strategy == "recursive"
    with pytest.raises(ValidationError, match="strategy"):
        adapter.validate_python({"strategy": "sideways"})


def test_loading_the_plugin_imports_no_heavy_library():
    code = "import sys, forecastcore_sklearn; print(sorted({'sklearn', 'scipy', 'skops'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
