"""A user's mistake is told with the nearest right name."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.errors import UserError, did_you_mean, unknown


def test_near_names_are_offered():
    assert did_you_mean("babilon", ["niah", "babilong"]) == " Did you mean 'babilong'?"
    assert did_you_mean("zzz", ["niah", "babilong"]) == ""
    assert did_you_mean("x", []) == ""


def test_unknown_says_value_kind_and_known_names_in_order():
    error = unknown("task", "mqr", (name for name in ("niah", "mqar")))
    assert isinstance(error, UserError)
    assert str(error) == "unknown task 'mqr'. Did you mean 'mqar'? Known: mqar, niah."


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=30), st.lists(st.text(max_size=30), max_size=5))
def test_any_text_can_be_a_mistake(value, known):
    assert value in str(unknown("model", value, known))
