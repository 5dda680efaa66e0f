"""For plugin authors: sample frames to try a plugin on."""

from __future__ import annotations

from forecastcore.testing.samples import sample_future, sample_history, sample_task
from forecastcore.testing.tables import sample_vintage

__all__ = ["sample_future", "sample_history", "sample_task", "sample_vintage"]
