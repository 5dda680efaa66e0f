"""The public interface as a type checker sees it in the built wheel."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_type_checker_knows_all_of_the_public_interface():
    done = subprocess.run(
        [sys.executable, "scripts/typed.py"], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of the public interface has a known type" in done.stdout
