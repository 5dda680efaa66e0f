"""The command line: `forecastcore`.

Text for people goes to stderr while a command works and to stdout when it is done; with `--json` stdout is exactly one
JSON document. Nothing heavy is imported before a command runs.
"""

from __future__ import annotations

from forecastcore.cli.main import main

__all__ = ["main"]
