"""AtlasLM: likelihoods against one plain forward, the chain rule, streams of any length, answers, what is refused."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.api.model import CachingLM

from atlas_bench.errors import UserError
from atlas_bench.lmeval import model as adapter
from atlas_bench.lmeval.model import AtlasLM, Prompt, Unsupported
from atlas_bench.models import loading
from atlas_bench.models.lm import END
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks.texts import Tokens
from atlas_bench.types import Model, Sample

BPE = embedded()
STORY = "John went to the garden. Mary moved to the office. Where is John?"
WORDS = st.lists(st.sampled_from(STORY.split()), min_size=1, max_size=12).map(lambda words: " " + " ".join(words))


@pytest.fixture(scope="module")
def nano():
    return loading.load("gated-deltanet-nano", device="cpu", matmul_precision="fp32")


@pytest.fixture
def lm(nano):
    return AtlasLM(nano)


class Counter(Model):
    """A types.Model that knows only how much it has read; token i's likelihood is -i/1000 after i tokens."""

    name, tokenizer, limit = "counter", BPE, 10**9

    def __init__(self):
        self.fed = []

    def supports(self, length):
        return None if length <= self.limit else f"it reads {self.limit} tokens"

    def start(self, batch):
        return np.zeros((batch, 1), dtype=np.int64)

    def feed(self, state, tokens):
        self.fed.append(tokens)
        return state + tokens.shape[1]

    def logprobs(self, state, tokens):
        at = state + 1 + np.arange(tokens.shape[1] - 1)
        return self.feed(state, tokens[:, :-1]), -at / 1000, np.ones(at.shape, dtype=bool)

    def answer(self, state, question, max_tokens, stop=("\n",)):
        self.asked = question, max_tokens, stop
        return f"after {int(state[0, 0]) + len(question)}"

    def state_bytes(self, state):
        return 8

    def facts(self):
        return {}


def request(kind, *args, doc_id=0):
    return Instance(kind, {}, args, 0, ("some_task", doc_id, 1))


def likelihood(lm, context, continuation):
    return lm.loglikelihood([request("loglikelihood", context, continuation)])[0]


def rolling(lm, text):
    return lm.loglikelihood_rolling([request("loglikelihood_rolling", text)])[0]


def answer(lm, context, doc_id=0, **options):
    return lm.generate_until([request("generate_until", context, {"until": ["\n"], **options}, doc_id=doc_id)])[0]


def plain(nano, before: list[int], after: list[int]) -> tuple[float, bool]:
    """Likelihood of `after` from one forward over everything."""
    tokens = torch.tensor([before + after])
    with torch.inference_mode():
        hidden, _ = nano.model(tokens[:, :-1], nano.start(1))
        logits = nano.model.logits(hidden)[0, -len(after) :].double()
    told = logits.log_softmax(-1)[range(len(after)), after]
    return float(told.sum()), logits.argmax(-1).tolist() == after


@pytest.mark.parametrize(
    ("context", "continuation"),
    [
        (STORY, " garden"),
        (STORY, " bathroom. And Mary?"),
        ("Mary  ", "moved"),
        ("A\n\n", "Q: x"),
        ("", " John"),
        (" ", "a"),
    ],
)
def test_a_likelihood_is_that_of_one_forward_on_hflms_tokens(nano, lm, context, continuation):
    head = context.rstrip()
    before = BPE.encode(head)
    after = BPE.encode(context + continuation)[len(before) :]
    nats, greedy = likelihood(lm, context, continuation)
    expected, likeliest = plain(nano, before or [END], after)
    assert nats == pytest.approx(expected, abs=1e-4) and greedy == likeliest


def test_greedy_is_what_the_model_would_say(nano, lm):
    said = answer(lm, STORY, max_gen_toks=8)
    assert said and likelihood(lm, STORY, f" {said}")[1]
    assert not likelihood(lm, STORY, f" {said}{said}")[1]


@settings(max_examples=15, deadline=None)
@given(context=WORDS, parts=st.lists(WORDS, min_size=2, max_size=4))
def test_a_likelihood_is_the_sum_over_any_split(nano, context, parts):
    lm = AtlasLM(nano)
    whole, _ = likelihood(lm, context, "".join(parts))
    split = [likelihood(lm, context + "".join(parts[:i]), part)[0] for i, part in enumerate(parts)]
    assert whole == pytest.approx(sum(split), abs=1e-3)
    text = context + "".join(parts)
    assert rolling(lm, text) == pytest.approx(likelihood(lm, "", text)[0], abs=1e-3)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_blocks_change_nothing(nano, lm, monkeypatch, block):
    text = " ".join([STORY] * 9)
    before = rolling(lm, text), likelihood(lm, text, f" garden {STORY}"), answer(lm, text)
    monkeypatch.setattr(adapter, "BLOCK", block)
    after = rolling(lm, text), likelihood(lm, text, f" garden {STORY}"), answer(lm, text)
    assert after[0] == pytest.approx(before[0], abs=1e-3)
    assert after[1][0] == pytest.approx(before[1][0], abs=1e-3)
    assert after[2] == before[2]


def test_a_hundred_thousand_tokens_are_one_stream_in_constant_memory():
    text = " ".join([STORY] * 7000)
    n = len(BPE.encode(text))
    assert n > 100_000
    peaks = []
    for share in (4, 1):
        lm = AtlasLM(Counter())
        some = text[: len(text) // share]
        tracemalloc.start()
        nats = rolling(lm, some)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        tokens = lm.tokens_read
        assert nats == pytest.approx(-tokens * (tokens + 1) / 2000)  # every token once, each after all before it
        assert max(fed.shape[1] for fed in lm.model.fed) <= adapter.BLOCK
    assert tokens == n and lm.longest == n + 1  # the token before the first
    lm = AtlasLM(Counter())
    assert answer(lm, text) == f"after {n}"
    assert max(fed.shape[1] for fed in lm.model.fed) <= adapter.BLOCK
    assert peaks[1] < 1.5 * peaks[0] < 20e6


def test_choices_read_their_context_once(nano):
    context, choices = " ".join([STORY] * 20), [" garden", " office", " hallway and kitchen"]
    lm, alone = AtlasLM(nano), AtlasLM(nano)
    together = lm.loglikelihood([request("loglikelihood", context, choice) for choice in choices])
    assert together == [likelihood(alone, context, choice) for choice in choices]
    n = len(BPE.encode(context))
    assert lm.tokens_read == n - 1 + sum(len(BPE.encode(choice)) for choice in choices)
    assert alone.tokens_read == lm.tokens_read + 2 * (n - 1)


def test_tokens_of_a_long_context_and_its_continuation_are_those_of_the_whole_text():
    context, continuation = " ".join([STORY] * 3000), f" garden {STORY} " + "and " * 40_000 + "then"
    model = Counter()
    likelihood(AtlasLM(model), context, continuation)
    read = np.concatenate([fed[0] for fed in model.fed])
    assert read.tolist() == BPE.encode(context + continuation)[:-1]


def test_answers_take_the_requests_limit_and_stops():
    lm = AtlasLM(Counter())
    assert answer(lm, STORY, until=["\n\n", ""], max_gen_toks=3) == f"after {len(BPE.encode(STORY))}"
    assert lm.model.asked == ([BPE.encode(STORY)[-1]], 3, ("\n\n",))
    answer(lm, STORY, until=["."], max_new_tokens=4, do_sample=False, temperature=0.0)
    assert lm.model.asked[1:] == (4, (".",))


@pytest.mark.parametrize("options", [{"do_sample": True}, {"temperature": 0.7}, {"num_beams": 4}])
def test_sampling_and_beams_are_refused(options):
    with pytest.raises(UserError, match=r"some_task asks for .* answers here are greedy\. Add --gen_kwargs"):
        answer(AtlasLM(Counter()), STORY, **options)


def test_nothing_is_cut():
    model = Counter()
    model.limit = len(BPE.encode(STORY))
    lm = AtlasLM(model)
    assert answer(lm, STORY) and likelihood(lm, "John", " went")
    for ask in (lambda: answer(lm, STORY + " Now?", doc_id=7), lambda: likelihood(lm, STORY, " garden"),
                lambda: rolling(lm, STORY)):  # fmt: skip
        with pytest.raises(Unsupported, match=r"document \d of some_task has \d+ tokens .* not cut: it reads 18"):
            ask()


def test_a_model_without_probabilities_says_so():
    class Endpoint(Counter):
        logprobs = Model.logprobs

    with pytest.raises(UserError, match="some_task scores given texts, and model 'counter' tells no probabilities"):
        likelihood(AtlasLM(Endpoint()), STORY, " garden")


def test_numbers_that_are_not_finite_are_no_answer(nano):
    class Diverging(Counter):
        def finite(self, state):
            return False

        def logprobs(self, state, tokens):
            return state, np.full((1, tokens.shape[1] - 1), np.nan), np.zeros((1, tokens.shape[1] - 1), dtype=bool)

    for ask in (answer, rolling):
        with pytest.raises(FloatingPointError, match="not finite"):
            ask(AtlasLM(Diverging()), STORY)


def test_a_prompt_is_read_in_its_samples_own_tokens():
    letters = [BPE.encode(letter)[0] for letter in " kitchen"]  # the tokenizer makes other tokens of the text
    assert BPE.encode(BPE.decode(letters)) != letters
    context = Tokens([letters * 3])
    samples = [Sample(i, context, (5, 6), ("x",), prefill=(7,), asked_at=at) for i, at in enumerate((8, 20, None))]
    lm = AtlasLM(Counter())
    prompts = [Prompt.of("text", sample, BPE.key) for sample in samples]
    said = lm.generate_until([request("generate_until", prompt, {"until": ["\n"]}) for prompt in prompts])
    assert said == ["after 11", "after 23", "after 27"] and lm.model.asked[0] == (5, 6, 7)
    assert np.concatenate([fed[0] for fed in lm.model.fed]).tolist() == letters * 3  # the context, once
    assert answer(lm, Prompt.of("text", samples[0], "another tokenizer")) == f"after {len(BPE.encode('text'))}"


def test_what_was_answered_is_found_in_lm_evals_cache(nano, tmp_path):
    requests = [request("loglikelihood", STORY, choice) for choice in (" garden", " office")]
    first, again = AtlasLM(nano), AtlasLM(nano)
    told = CachingLM(first, str(tmp_path / "answers.db")).loglikelihood(requests)
    first.cache_hook.dbdict.close()
    assert CachingLM(again, str(tmp_path / "answers.db")).loglikelihood(requests) == told
    assert first.tokens_read > 0 == again.tokens_read
    again.cache_hook.dbdict.close()


def test_arguments_of_the_command_line():
    arguments = "name=gated-deltanet-nano,matmul_precision=fp32"
    lm = AtlasLM.create_from_arg_string(arguments, {"batch_size": 1, "device": "cpu"})
    assert (lm.model.name, lm.model.matmul_precision, lm.model.device) == ("gated-deltanet-nano", "fp32", "cpu")
    assert lm.get_model_info()["model_num_parameters"] == lm.model.facts()["parameters"]
    told = {"name": "constant"}
    assert AtlasLM.create_from_arg_obj(told, {"device": "cuda:0"}).model.name == told["model"] == "constant"
    for arguments, config, message in (
        ({"nam": "atlas-nano"}, {}, "unknown argument of --model_args 'nam'. Did you mean 'name'"),
        ({}, {}, "needs --model_args name=MODEL"),
        ({"name": "constant"}, {"batch_size": "auto"}, "--batch_size is auto"),
        ({"name": "atlas-nanno"}, {}, "Did you mean 'atlas-nano'"),
    ):
        with pytest.raises(UserError, match=message):
            AtlasLM.create_from_arg_obj(arguments, config)
