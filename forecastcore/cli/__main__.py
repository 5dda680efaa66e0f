"""`python -m forecastcore.cli`."""

from __future__ import annotations

import sys

from forecastcore.cli import main

sys.exit(main())
