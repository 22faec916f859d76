"""The hub out of reach: told in seconds, with what to do; what is in the cache is taken without it."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("huggingface_hub")
from huggingface_hub import constants

from atlas_bench.errors import UserError
from atlas_bench.files import hub


@pytest.fixture(autouse=True)
def nobody_listens(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_a_model_that_is_nowhere_is_told_in_seconds():
    began = time.monotonic()
    with pytest.raises(UserError, match=r"'a/b' is not in the cache, and .* cannot be reached .* HF_HUB_OFFLINE=1"):
        hub.reach("a/b")
    assert time.monotonic() - began < 2 * hub.TIMEOUT


@pytest.mark.parametrize("name", ["a b", "-a/b", "a..b", "a" * 300, "a/b/c"])
def test_what_can_be_no_name_on_the_hub_is_told(name):
    with pytest.raises(UserError, match=r"is no folder, and no name on the hub: .* Write hf:ORGANISATION/NAME"):
        hub.reach(name)


def test_a_cached_model_is_taken_and_nothing_is_asked_any_more(tmp_path):
    folder = tmp_path / "models--a--b"
    (folder / "snapshots" / "1").mkdir(parents=True)
    (folder / "snapshots" / "1" / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("1")
    assert hub.reach("a/b") is False and constants.HF_HUB_OFFLINE


def test_rows_of_a_data_set_are_told_in_seconds_with_the_task_s_advice():
    pytest.importorskip("datasets")
    began = time.monotonic()
    with pytest.raises(UserError, match=r"'x/y' cannot be read: .* cannot be reached.* Use --data generated."):
        next(hub.rows("x/y", split="test", advice="Use --data generated."))
    assert time.monotonic() - began < 2 * hub.TIMEOUT
    constants.HF_HUB_OFFLINE = True
    with pytest.raises(UserError, match="HF_HUB_OFFLINE forbids that"):
        next(hub.rows("x/y", split="test", advice=""))
