"""What a code means, and what made a row."""

from __future__ import annotations
