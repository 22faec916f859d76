"""Intervals and tests: mathematics alone, which knows no record, no task and no model."""
