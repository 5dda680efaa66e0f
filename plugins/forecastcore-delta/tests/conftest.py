import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def publisher():
    path = Path(__file__).parents[3] / "tests" / "support" / "publisher.py"
    spec = importlib.util.spec_from_file_location("publisher", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
