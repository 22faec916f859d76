"""A user's model that returns what is no answer, or whose result depends on how streams are read, fails its cell."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.models import loading
from atlas_bench.models.adapted import is_users
from atlas_bench.running import consistency, runner
from atlas_bench.running.evaluation import Cell, Evaluation
from atlas_bench.running.progress import Progress
from atlas_bench.types import Model, Rules, Sample, Scorer
from tests.running.test_runner import Digits

WORDS = ("garden", "kitchen", "hallway", "office", "bathroom", "bedroom", "attic")


class Tiny:
    name, subsets, version = "tiny", ("asked", "losses"), "1"

    def rules(self, subset):
        scorers = {"tiny/exact": Scorer(lambda answer, sample: answer == sample.targets[0])}
        return Rules(scorers if subset == "asked" else {}, chance=0.5, max_answer_tokens=5)

    def check(self, subset, length, tokenizer, options):
        pass

    def samples(self, subset, length, n, seed, tokenizer, options):
        for i in range(n):
            question = (1, 2) if subset == "asked" else ()
            yield Sample(i, Digits(length - len(question), seed + i), question, (WORDS[i % 2],), {"plan_hash": f"{i}"})


class Words:
    key, vocab_size = "words", 100


class Reader(Model):
    """Sums what it reads; the parts of `wrong` replace its methods."""

    name, tokenizer = "reader", Words()

    def start(self, batch):
        return {"sum": np.zeros((batch, 1)), "read": np.zeros((batch, 1), np.int64)}

    def feed(self, state, tokens):
        return {"sum": state["sum"] + tokens.sum(1, keepdims=True), "read": state["read"] + tokens.shape[1]}

    def answer(self, state, question, max_tokens, stop=("\n",)):
        return WORDS[int(state["sum"][0, 0]) % len(WORDS)]


class Prober(Reader):
    """A reader that gives probabilities, too."""

    def logprobs(self, state, tokens):
        sums = state["sum"] + np.cumsum(tokens[:, :-1], 1)
        return self.feed(state, tokens[:, :-1]), -1.0 - sums % 7, np.zeros(sums.shape, bool)


TINY = Tiny()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(registry.TASKS, "tiny", f"{__name__}:TINY")


def go(folder, model: Any, *, subset="asked", length=600, progress=None, **settings):
    cell = Cell("tiny", subset, length, "reader", samples=4)
    chosen = runner.Settings(**{"batch": 2, "block": 4096} | settings)
    (record,) = runner.run([cell], {"reader": model}, folder, chosen, progress or Progress(quiet=True))
    return record


def with_(base: type = Reader, **methods: Any) -> Model:
    return type("Wrong", (base,), methods)()


def test_a_failure_names_the_line_of_the_user_s_file(tmp_path, monkeypatch):
    source = "def feed(self, state, tokens):\n    rows = []\n    return rows[3]\n"
    (tmp_path / "mine.py").write_text(source)
    scope: dict[str, Any] = {}
    exec(compile(source, str(tmp_path / "mine.py"), "exec"), scope)
    record = go(tmp_path / "runs", with_(feed=scope["feed"]))
    assert record.status == "failed" and record.reason == (
        "IndexError: list index out of range (line 3 of mine.py: return rows[3]); --debug shows the traceback"
    )


@pytest.mark.parametrize("said", [None, 3, b"kitchen", ["kitchen"], np.array(["kitchen"])])
def test_what_is_no_text_fails_the_cell(tmp_path, said):
    record = go(tmp_path, with_(answer=lambda *asked, **more: said))
    assert record.status == "failed" and not record.answers
    assert f"answer() returned {type(said).__name__}, not a text" in record.reason


def test_answers_asked_together_are_texts_and_one_for_each(tmp_path):
    def some(self, asked, max_tokens, stop, keep, answers=("a", "b")):
        for i, answer in enumerate(answers):
            keep(min(i, 1), answer)

    record = go(tmp_path / "1", with_(answer_all=lambda *asked: some(*asked, answers=("a",))))
    assert "answer_all() gave keep() no answer to 1 of 2 questions" in record.reason and record.status == "failed"
    record = go(tmp_path / "2", with_(answer_all=lambda *asked: some(*asked, answers=("a", "b", "c"))))
    assert "two answers to question 1" in record.reason and record.status == "failed"
    record = go(tmp_path / "3", with_(answer_all=lambda *asked: some(*asked, answers=("a", None))))
    assert "returned NoneType" in record.reason and record.status == "failed"
    assert go(tmp_path / "4", with_(answer_all=some)).status == "ok"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda nats, greedy: (nats * np.nan, greedy), "returned nan for the token"),
        (lambda nats, greedy: (-nats, greedy), "a log-probability is a finite number, 0 or less"),
        (lambda nats, greedy: (nats - np.inf, greedy), "returned -inf"),
        (lambda nats, greedy: (nats[:, 1:], greedy), "nats of shape"),
        (lambda nats, greedy: (nats[0], greedy), "nats of shape"),
        (lambda nats, greedy: (nats, greedy[:, :1]), "greedy of shape"),
        (lambda nats, greedy: (nats, greedy + 0.5), "greedy as float64, not as bool"),
    ],
)
def test_what_are_no_log_probabilities_fail_the_cell(tmp_path, wrong, said):
    def logprobs(self, state, tokens):
        state, *given = Prober.logprobs(self, state, tokens)
        return state, *wrong(*given)

    assert go(tmp_path / "right", Prober(), subset="losses").status == "ok"
    record = go(tmp_path / "wrong", with_(Prober, logprobs=logprobs), subset="losses")
    assert record.status == "failed" and said in record.reason


def test_a_state_of_fewer_streams_than_are_read_fails_the_cell(tmp_path):
    record = go(
        tmp_path, with_(start=lambda self, batch: Reader.start(self, 1), feed=lambda self, state, tokens: state)
    )
    assert record.status == "failed" and "'sum' of shape (1, 1), and stream 1 of the batch" in record.reason


@pytest.mark.parametrize("said", [True, False, 3])
def test_supports_returns_none_or_a_reason(tmp_path, said):
    with pytest.raises(UserError, match=rf"supports\(\) of model 'reader' returned {said}. It returns None"):
        go(tmp_path, with_(supports=lambda self, length: said))
    record = go(tmp_path, with_(supports=lambda self, length: "no room"))
    assert (record.status, record.reason) == ("unsupported", "no room")


def test_a_return_that_was_forgotten_is_named(tmp_path):
    record = go(tmp_path, with_(finite=lambda self, state: None))
    assert record.status == "failed" and "finite() returned NoneType, not a bool" in record.reason
    with pytest.raises(UserError, match=r"facts\(\) of model Wrong returned NoneType"):
        go(tmp_path, with_(facts=lambda self: None))
    with pytest.raises(UserError, match="a tokenizer of type NoneType without a key"):
        go(tmp_path, with_(tokenizer=None))


def beginning(self, state, tokens):
    """A feed() that reads the first 256 tokens of each block, and no more."""
    return Reader.feed(self, state, tokens[:, :256])


def forgetting(self, state, tokens):
    """A logprobs() that begins again at each block."""
    return Prober.logprobs(self, self.start(len(tokens)), tokens)


def mixing(self, state, tokens):
    """A feed() that adds the first stream to every other."""
    return Reader.feed(self, state, tokens + (np.arange(len(tokens)) > 0)[:, None] * tokens[:1])


SPLIT, BESIDE = "depends on how a stream is split into blocks", "depends on what is read side by side"
FAULTS = {
    "the beginning of each block": (with_(feed=beginning), "asked", SPLIT),
    "with probabilities": (with_(Prober, feed=beginning), "asked", SPLIT),
    "a loss that forgets": (with_(Prober, logprobs=forgetting), "losses", SPLIT),
    "streams that mix": (with_(feed=mixing), "asked", BESIDE),
    "streams that mix, with probabilities": (with_(Prober, feed=mixing), "asked", BESIDE),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("block", [256, 1024])
def test_a_result_that_depends_on_how_streams_are_read_fails_the_cell(tmp_path, name, block):
    model, subset, said = FAULTS[name]
    record = go(tmp_path, model, subset=subset, length=2000, block=block)
    assert (record.status, said in record.reason) == ("failed", True), record.reason
    assert not record.answers


@pytest.mark.parametrize(("model", "subset"), [(Reader(), "asked"), (Prober(), "asked"), (Prober(), "losses")])
def test_a_right_model_passes(tmp_path, model, subset):
    assert go(tmp_path, model, subset=subset, length=5000).status == "ok"


def test_an_object_that_keeps_its_memory_to_itself_passes_if_it_begins_again(tmp_path, capsys):
    class Own:
        """One stream at a time, in the object: no state that could be copied."""

        name, tokenizer = "own", Words()

        def start(self, batch):
            self.sum, self.lock = 0, (i for i in ())  # which no deepcopy() takes
            return {}

        def feed(self, state, tokens):
            self.sum += int(tokens.sum())
            return state

        def answer(self, state, question, max_tokens, stop=("\n",)):
            return WORDS[self.sum % len(WORDS)]

    assert go(tmp_path / "right", Own(), batch=1).status == "ok"
    forgetful = Own()
    forgetful.sum = 0
    forgetful.start = lambda batch: {}
    assert go(tmp_path / "wrong", forgetful, batch=1, progress=Progress()).status == "ok"
    assert "is another when the same 32 tokens are read again" in capsys.readouterr().err


def seen(answer: str, **state: np.ndarray) -> consistency._Seen:
    return consistency._Seen(None, answer, state)


def test_what_rounding_decides_is_no_fault_and_what_cannot_be_told_is_a_warning(tmp_path, capsys):
    x, n = np.arange(9.0), np.arange(3)
    for one, other, certain in (
        (seen("a", x=x), seen("a", x=-x), None),  # the same answer
        (seen("a", x=x, n=n), seen("b", x=1.001 * x, n=n), None),  # a near tie
        (seen("a", x=x[1:2]), seen("b", x=1.001 * x[1:2]), None),
        (seen("a", x=x), seen("b", x=-x), True),
        (seen("a", x=x, n=n), seen("b", x=1.001 * x, n=n + 1), True),
        (seen("a", x=x), seen("b", x=x), True),  # whatever decides is not in the state
        (seen("a", x=x), seen("b", x=x[1:]), True),
        (seen("a", x=x.view(np.uint8)), seen("b", x=(1.001 * x).view(np.uint8)), False),
        (seen("a"), seen("b"), False),
    ):
        assert consistency._differ(one, other) is certain
    model = with_(feed=beginning, pack=lambda self, state: {"sum": state["sum"].copy().view(np.uint8)})
    assert go(tmp_path, model, length=2000, progress=Progress()).status == "ok"
    assert SPLIT in " ".join(capsys.readouterr().err.split())


def test_it_is_cheap_and_only_for_models_of_users(tmp_path):
    assert is_users(Reader()) and not is_users(loading.load("oracle"))
    calls = []

    def slow(self, state, tokens):
        calls.append(tokens.shape)
        time.sleep(0.02)
        return Reader.feed(self, state, tokens)

    began = time.perf_counter()
    evaluation = Evaluation(Cell("tiny", "asked", 6000, "reader", samples=20), TINY, with_(feed=slow))
    assert consistency.fault(evaluation, 2) is None and calls[0] == (1, consistency.FIRST)
    assert time.perf_counter() - began < 1
