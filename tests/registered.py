"""Tasks of a test's own in the place of the registry's."""

from __future__ import annotations

from functools import cache

import pytest

from atlas_bench import registry


def own_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh tasks until the test ends: a task remembers the corpora that it opens, and the registry's live on."""
    task = registry.task
    monkeypatch.setattr(registry, "task", cache(lambda name: type(task(name))()))
