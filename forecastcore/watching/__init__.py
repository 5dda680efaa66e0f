"""How delivered forecasts have done: scores against what came, drift of the inputs, the schedule, and policies.

Pure functions; `runs.monitor` reads and writes around them.
"""

from __future__ import annotations
