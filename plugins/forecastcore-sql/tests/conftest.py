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
def server():
    with load(SUPPORT / "postgres.py").running() as url:
        yield url


@pytest.fixture
def database(server):
    """The URL of a new database."""
    import psycopg
    from psycopg import sql

    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return f"{server.rpartition('/')[0]}/{name}"


@pytest.fixture(scope="session")
def publisher():
    module = load(SUPPORT / "publisher.py")
    with module.Nursery("forecastcore_sql", "sqlalchemy", "psycopg", "pyarrow.csv") as nursery:
        yield nursery
