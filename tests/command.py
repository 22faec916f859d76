"""The commands, called in this process."""

from __future__ import annotations

from typer.testing import CliRunner

from atlas_bench.cli.app import app


def call(*words: str):
    """What `atlas-bench WORDS` prints, and its exit code."""
    return CliRunner().invoke(app, list(words))
