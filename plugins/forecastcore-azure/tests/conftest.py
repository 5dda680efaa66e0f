import importlib.util
import uuid
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parents[3] / "tests" / "support"


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def connection_string():
    with load(SUPPORT / "azurite" / "server.py").running() as text:
        yield text


@pytest.fixture
def container(connection_string):
    """A new container's client."""
    from azure.storage.blob import BlobServiceClient

    with BlobServiceClient.from_connection_string(connection_string) as service:
        yield service.create_container(f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session")
def publisher():
    module = load(SUPPORT / "publisher.py")
    with module.Nursery("forecastcore_azure", "azure.storage.blob", "pyarrow.parquet") as nursery:
        yield nursery
