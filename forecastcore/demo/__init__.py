"""The demo: `project/` holds a project file and real data; `forecastcore demo` copies them out and runs them."""

from __future__ import annotations

from forecastcore.demo.tour import run_demo

__all__ = ["run_demo"]
