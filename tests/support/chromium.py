"""A headless Chromium that says what a person would meet on a page, and what axe finds wrong with it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self

__all__ = ["Chromium"]

_DRIVER = Path(__file__).with_name("browser") / "look.js"


class Chromium:
    """A browser for as long as a block lasts; `make test-slow` installs what it takes."""

    def __enter__(self) -> Self:
        """Start it."""
        browser = shutil.which("chromium") or shutil.which("chromium-browser")
        node = shutil.which("node")
        if not browser or not node or not (_DRIVER.parent / "node_modules").is_dir():
            raise RuntimeError("the tests on pages need Chromium and Node.js: make browser")
        self._process = subprocess.Popen(
            [node, str(_DRIVER), browser], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.communicate(timeout=30)

    def look(self, url: str, **asked: Any) -> dict[str, Any]:
        """Open a page.

        Args:
            url: its address.
            asked: `width`, `scheme` (light or dark), `wait` (a text that must appear), `axe`, `shot` (a file).

        Returns:
            `text, title, wide, seconds, asked, errors, violations`.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"url": url, **asked}) + "\n")
        self._process.stdin.flush()
        seen: dict[str, Any] = json.loads(self._process.stdout.readline())
        if "failed" in seen:
            raise RuntimeError(f"{url}: {seen['failed']}")
        return seen
