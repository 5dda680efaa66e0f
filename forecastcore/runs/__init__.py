"""The two runs, kept apart: `retrain` learns, `predict` serves."""
