import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def publisher():
    path = Path(__file__).parents[3] / "tests" / "support" / "publisher.py"
    spec = importlib.util.spec_from_file_location("publisher", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.Nursery("forecastcore_delta", "deltalake") as nursery:
        yield nursery
