"""For the tests that count the tokens which a cell feeds, or stop it after so many."""

from __future__ import annotations

import pytest

from atlas_bench.running import consistency


@pytest.fixture(autouse=True)
def only_cells_feed(request, monkeypatch):
    """No model is tried before its cell, but where that is what is tested."""
    if not request.module.__name__.endswith("test_users_models"):
        monkeypatch.setattr(consistency, "fault", lambda evaluation, batch: None)
