"""What a Model has by default, and what an object that is none is given."""

from __future__ import annotations

import numpy as np
import pytest

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.models import loading, specs
from atlas_bench.models.adapted import NEEDED, OPTIONAL, as_model
from atlas_bench.models.tokenizer import embedded
from atlas_bench.results.record import timeless
from atlas_bench.running import runner
from atlas_bench.running.evaluation import Cell, Evaluation
from atlas_bench.running.progress import Progress
from atlas_bench.types import Model


class Sum(Model):
    """Answers with the sum of what it has read; stops once, where it is told to."""

    name, tokenizer = "sum", embedded()

    def __init__(self, stop_at: int | None = None):
        self.stop_at, self.fed = stop_at, 0

    def start(self, batch):
        return {"sum": np.zeros(batch, np.int64), "read": np.zeros((batch, 1), np.int32)}

    def feed(self, state, tokens):
        self.fed += tokens.shape[1]
        if self.stop_at is not None and self.fed > self.stop_at:
            raise KeyboardInterrupt
        return {"sum": state["sum"] + tokens.sum(1), "read": state["read"] + tokens.shape[1]}

    def answer(self, state, question, max_tokens, stop=("\n",)):
        return f"{state['sum'][0]} {state['read'][0, 0]}"


class Plain:
    """The same members without the base class, and one of the optional ones."""

    name, tokenizer, concurrency = "sum", Sum.tokenizer, 3
    start, feed, answer = Sum.start, Sum.feed, Sum.answer

    def __init__(self):
        self.stop_at, self.fed = None, 0

    def logprobs(self, state, tokens):
        return state, np.zeros(tokens[:, 1:].shape), np.ones(tokens[:, 1:].shape, bool)


def go(model, folder):
    cell = Cell("mqar", "8", 2000, "sum", samples=24)
    settings = runner.Settings(batch=2, block=100, checkpoint_tokens=300)
    return runner.run([cell], {"sum": model}, folder, settings, Progress(quiet=True))[0]


def test_a_state_of_arrays_is_forked_weighed_and_saved_without_further_work(tmp_path):
    model, tokens = Sum(), np.arange(6, dtype=np.int32).reshape(2, 3)
    state = model.feed(model.start(2), tokens)
    fork = model.row(state, 1)
    assert model.answer(fork, (), 1) == "12 3" and model.state_bytes(state) == model.state_bytes(fork) == 12
    fork["sum"] += 1
    assert model.answer(model.row(state, 1), (), 1) == "12 3"  # the fork shares nothing
    again = model.unpack(model.pack(state))
    assert all(np.array_equal(again[name], array) for name, array in state.items())
    with pytest.raises(runner.Interrupted):
        go(Sum(stop_at=2600), tmp_path / "out")
    assert timeless(go(Sum(), tmp_path / "out")) == timeless(go(Sum(), tmp_path / "plain"))


def test_another_state_says_which_methods_it_wants(tmp_path):
    class Listed(Sum):
        def start(self, batch):
            return [0] * batch

        def feed(self, state, tokens):
            return state

    record = go(Listed(), tmp_path)
    assert record.status == "failed"
    assert (
        "the state of Listed is a list, not a dict of numpy arrays: define row(), state_bytes(), pack()"
        in record.reason
    )


def test_what_is_defined_is_known_of_a_model_and_of_a_plain_object():
    model, plain = Sum(), as_model(Plain())
    assert (model.has_logprobs, model.answers_together, model.is_control, model.concurrency) == (False, False, False, 1)
    assert (plain.has_logprobs, plain.answers_together, plain.is_control, plain.concurrency) == (True, False, False, 3)
    assert loading.load("oracle").is_control and as_model(model) is model
    assert plain.supports(10**9) is None and plain.facts() == {} and plain.wrap == ((), ())
    with pytest.raises(NotImplementedError, match=r"Sum has no logprobs\(\)"):
        model.logprobs(None, None)
    assert {*NEEDED, *OPTIONAL} >= {"spec", "block", "row", "pack", "peek", "streams"} and "_arrays" not in OPTIONAL


def test_a_plain_object_leaves_the_record_of_a_model(tmp_path):
    assert timeless(go(Plain(), tmp_path / "a")) == timeless(go(Sum(), tmp_path / "b"))


def test_a_model_that_measures_no_loss_is_told_so(tmp_path):
    cell = Cell("loss", "text", 500, "sum", samples=1)
    assert "gives no probabilities" in Evaluation(cell, registry.task("loss"), Sum()).unsupported()
    assert Evaluation(cell, registry.task("loss"), as_model(Plain())).unsupported() is None


@pytest.mark.parametrize("models", [object(), [Sum(), object()], {"a": 5}, Sum])
def test_what_is_no_model_is_one_message(models):
    with pytest.raises(UserError, match=r"^model (object|int|Sum) (has no|is a class)"):
        specs.typed(models)


def test_objects_stand_beside_names(tmp_path):
    first, second = Sum(), Sum()
    assert specs.typed([first, "oracle,swa-nano", "b=constant"]) == {
        "sum": first, "oracle": "oracle", "swa-nano": "swa-nano", "b": "constant",
    }  # fmt: skip
    assert specs.typed(first) == {"sum": first} and specs.typed({"x": first, "y": second}) == {"x": first, "y": second}
    with pytest.raises(UserError, match="the name 'sum' is given to 'Sum' and to 'Sum'"):
        specs.typed([first, second])
