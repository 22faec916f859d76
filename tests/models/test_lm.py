"""A Decoder as a Model: any split into blocks, forks, checkpoints, answers, likelihoods; attention knows its limits."""

from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench import registry
from atlas_bench.kernels import dispatch
from atlas_bench.models import cost, lm
from atlas_bench.models.decoder import Config, Decoder
from atlas_bench.models.lm import LanguageModel
from atlas_bench.models.placement import PLACEMENTS
from atlas_bench.models.tokenizer import embedded
from atlas_bench.running import runner
from atlas_bench.running.evaluation import Cell
from atlas_bench.running.progress import Progress
from tests.marks import sweep

SPLITS = [[1] * 333, [63, 64, 65, 141], [16, 317], [332, 1], [0, 40, 0, 293, 0]]
CONFIGS = {
    **{name: Config(memory=name, d_model=32, n_heads=2) for name in registry.MEMORIES},
    "full attention": Config(attention_window=0, d_model=32, n_heads=2),
    "wide window": Config(attention_window=64, d_model=32, n_heads=2),
    "screen": Config(memory="gated-deltanet", d_model=32, n_heads=2, screen=5),
    **{name: Config(memory="titans", placement=name, n_persistent=3, d_model=32, n_heads=2) for name in PLACEMENTS},
}


def make(config, dtype=torch.float64, gate_bias=-3.0):
    torch.manual_seed(0)
    decoder = Decoder(config).to(dtype)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if name.endswith(("out.weight", "down.weight", "w1", "bias", "norm.weight")):
                parameter.normal_(std=0.3)
            if "gate.write" in name:
                parameter.normal_(std=0.3) if "weight" in name else parameter.fill_(gate_bias)
    return LanguageModel("tiny", decoder, embedded(), {})


# one of each way of reading; contracts/test_memories.py has every memory
QUICK = ("none", "gated-deltanet", "omeganet", "titans", "full attention", "screen", "mac")


@pytest.fixture(params=[pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in CONFIGS])
def model(request):
    return make(CONFIGS[request.param])


@pytest.fixture
def tokens():
    return np.random.default_rng(0).integers(1, 4096, (2, 333)).astype(np.int32)


def feed(model, tokens, splits):
    state, at = model.start(len(tokens)), 0
    for n in splits:
        state = model.feed(state, tokens[:, at : at + n])
        at += n
    return state


def close(a, b, tolerance=1e-8):
    return a.keys() == b.keys() and all(np.abs(a[k] - b[k]).max(initial=0) <= tolerance for k in a)


@sweep("splits", SPLITS, quick=[SPLITS[1], *SPLITS[3:]])
def test_any_split_gives_the_same_state_and_answer(model, tokens, splits):
    whole, pieces = feed(model, tokens, [333]), feed(model, tokens, splits)
    assert close(model.pack(whole), model.pack(pieces))
    question = [5, 6, 7]
    assert model.answer(model.row(whole, 1), question, 5) == model.answer(model.row(pieces, 1), question, 5)


def test_what_feeding_leaves_out_changes_no_hidden_state(model, tokens):
    """feed() skips what the state does not need; a full forward pass after it sees the same past."""
    with torch.inference_mode():
        ids = torch.from_numpy(tokens).long()
        full, _ = model.model(ids)
        state = feed(model, tokens[:, :200], [200])
        rest, _ = model.model(ids[:, 200:], state)
    assert (full[:, 200:] - rest).abs().max() < 1e-8


def test_forks_and_answers_leave_the_state_alone(model, tokens):
    state = feed(model, tokens, [333])
    before = {k: v.copy() for k, v in model.pack(state).items()}
    fork = model.row(state, 0)
    model.answer(fork, [1, 2, 3], 4)
    model.feed(fork, tokens[:1])
    after = model.pack(state)
    assert all(np.array_equal(before[k], after[k]) for k in before)


def test_a_packed_state_comes_back_bit_for_bit(model, tokens):
    state = feed(model, tokens, [333])
    packed = model.pack(state)
    again = model.pack(model.unpack(packed))
    assert packed.keys() == again.keys() and all(np.array_equal(packed[k], again[k]) for k in packed)
    question = [9, 8]
    assert model.answer(model.row(state, 0), question, 3) == model.answer(
        model.row(model.unpack(packed), 0), question, 3
    )


def test_streams_of_a_batch_do_not_touch(model, tokens):
    both, alone = feed(model, tokens, [333]), feed(model, tokens[1:], [333])
    assert close(model.pack(model.row(both, 1)), model.pack(alone))


@pytest.mark.parametrize("splits", [[332], [1, 63, 64, 65, 139], [300, 32]])
def test_likelihoods_are_those_of_a_full_forward_pass(model, tokens, splits):
    with torch.inference_mode():
        hidden, _ = model.model(torch.from_numpy(tokens).long())
        expected = model.model.logits(hidden[:, :-1]).log_softmax(-1)
    state, nats, greedy, at = model.start(2), [], [], 0
    for n in splits:
        state, part, likeliest = model.logprobs(state, tokens[:, at : at + n + 1])
        assert part.shape == likeliest.shape == (2, n) and (part.dtype, likeliest.dtype) == (np.float32, np.bool_)
        nats.append(part)
        greedy.append(likeliest)
        at += n
    wanted = torch.from_numpy(tokens[:, 1:]).long()
    assert np.abs(np.concatenate(nats, 1) - expected.gather(-1, wanted[..., None])[..., 0].numpy()).max() < 1e-4
    assert np.array_equal(np.concatenate(greedy, 1), (expected.argmax(-1) == wanted).numpy())
    assert close(model.pack(state), model.pack(feed(model, tokens[:, :332], [332])))


def test_no_tokens_leave_the_state_and_have_no_likelihoods(model, tokens):
    for state in (model.start(2), feed(model, tokens[:, :40], [40])):
        after, nats, greedy = model.logprobs(state, tokens[:, 40:41])
        assert close(model.pack(state), model.pack(after), 0) and nats.shape == greedy.shape == (2, 0)
        assert close(model.pack(state), model.pack(model.feed(state, tokens[:, :0])), 0)


def test_likelihoods_in_few_bytes_of_logits_are_the_same(tokens, monkeypatch):
    model = make(CONFIGS["gated-deltanet"])
    _, nats, greedy = model.logprobs(model.start(2), tokens)
    monkeypatch.setattr(lm, "LOGITS", 7 * 4 * 4096)
    sizes, logits = [], model.model.logits
    monkeypatch.setattr(model.model, "logits", lambda x: sizes.append(len(x)) or logits(x))
    _, again, likeliest = model.logprobs(model.start(2), tokens)
    assert max(sizes) == 7 and np.abs(nats - again).max() < 1e-6 and np.array_equal(greedy, likeliest)


def saying(monkeypatch, text):
    """A model whose likeliest tokens are those of the text, one after the other."""
    model = make(Config(d_model=32, n_heads=2, n_layers=1))
    said = iter(text if isinstance(text, list) else model.tokenizer.encode(text))
    monkeypatch.setattr(model.model, "logits", lambda x: torch.eye(4096)[[next(said)]])
    return model


STOPS = st.lists(st.sampled_from(["a", "b.", "\n", "Question", "  ", "on"]), min_size=1, max_size=3)


@settings(max_examples=50, deadline=None)
@given(text=st.text(alphabet="ab .\nQuestion", min_size=1, max_size=30), stops=STOPS.filter(lambda x: x != ["\n"]))
def test_an_answer_ends_before_the_first_stop_text(text, stops):
    with pytest.MonkeyPatch.context() as patch:
        model = saying(patch, text)
        answer = model.answer(model.start(1), [5], len(model.tokenizer.encode(text)), stops)
    text = text.lstrip()  # what is blank before an answer ends none
    assert answer == text[: min((text.find(x) for x in stops if x in text), default=len(text))].strip()


def test_an_answer_ends_with_the_text_and_after_the_newline_token(monkeypatch):
    two = embedded().encode("\n\n")
    assert len(two) == 1  # a token of its own, which ends no answer that the embedded models gave
    said = [*embedded().encode("a"), *two, *embedded().encode("b"), *embedded().encode("\n"), 5, 6]
    model = saying(monkeypatch, said)
    assert model.answer(model.start(1), [5], 6) == "a\n\nb"
    ended = [*embedded().encode("a b"), lm.END, *embedded().encode("c")]
    assert embedded().decode([lm.END]) == ""
    for stop in [("\n",), ("c",), ()]:
        model = saying(monkeypatch, ended)
        assert model.answer(model.start(1), [5], len(ended), stop) == "a b"


@pytest.mark.parametrize("stop", [("\n",), ("\n", "."), (" ", "\n"), ()])
@pytest.mark.parametrize("blanks", ["\n", "\n\n", " ", "\n \n", "\n\n\n"])
def test_what_is_blank_before_an_answer_does_not_end_it(monkeypatch, blanks, stop):
    said = [*embedded().encode(blanks), *embedded().encode("garden"), *embedded().encode("\n"), *embedded().encode("b")]
    model = saying(monkeypatch, said)
    assert model.answer(model.start(1), [5], len(said), stop) == ("garden" if stop else "garden\nb")


def test_state_is_constant_but_for_full_attention(model, tokens):
    short, long = (model.state_bytes(feed(model, tokens[:, :n], [n])) for n in (100, 300))
    assert (short == long) != model.model.config.full_attention


def test_an_answer_from_logits_that_are_not_finite_is_a_failed_record(tmp_path):
    model = make(CONFIGS["none"])
    model.model.blocks[-1].down.weight.data[3, 5] = torch.nan  # feed() leaves this matrix out: the state stays finite
    state = model.start(1)
    assert model.finite(state)
    with pytest.raises(FloatingPointError, match="logits are not finite at token 1 of the answer"):
        model.answer(state, [5, 6, 7], 3)
    cells = [Cell("mqar", "8", 256, "tiny", samples=2)]
    (record,) = runner.run(cells, {"tiny": model}, tmp_path, runner.Settings(), Progress(quiet=True))
    assert record.status == "failed" and not record.scores
    assert "FloatingPointError: the logits are not finite" in record.reason


def test_a_record_names_the_kernels_of_its_own_cell_alone(tmp_path, monkeypatch):
    """As on a GPU, where they are known only once they have run: those of another model's cell are not its own."""
    monkeypatch.setattr(dispatch, "why_torch", lambda device: None)
    monkeypatch.setattr(dispatch, "why_not", lambda op, device, **sizes: "not here")
    monkeypatch.setattr(dispatch, "RAN", {"anchored": ("triton", None)})
    model = make(CONFIGS["omeganet"])
    cells = [Cell("mqar", "8", 256, "tiny", samples=2)]
    (record,) = runner.run(cells, {"tiny": model}, tmp_path, runner.Settings(), Progress(quiet=True))
    assert "anchored" not in record.kernel and "anchored" not in (record.kernel_why or "")


@pytest.mark.parametrize(
    ("config", "kernel", "chunk_size"),
    [
        (CONFIGS["none"], "attention (torch)", None),
        (CONFIGS["surprise-omeganet"], "events (torch)", 1),
        (CONFIGS["gated-deltanet"], "events, omega (torch)", 1),
        (CONFIGS["screen"], "screen, events, omega (torch)", 1),
        (Config(memory="titans", memory_options={"chunk_size": 16}, d_model=32, n_heads=2), "anchored (torch)", 16),
    ],
)
def test_facts_tell_what_computes_the_memory(config, kernel, chunk_size):
    facts = make(config).facts()
    assert (facts["kernel"], facts["chunk_size"]) == (kernel, chunk_size)


def test_full_attention_says_what_ten_million_tokens_would_take():
    model = make(CONFIGS["full attention"], torch.float32)
    assert model.supports(4096) is None
    reason = model.supports(100_000_000)
    assert "GiB" in reason and "hours" in reason and "100M" in reason
    assert make(CONFIGS["none"], torch.float32).supports(10**12) is None


@pytest.mark.slow
def test_operations_are_counted_as_torch_counts_them():
    """cost.feed_flops against torch's own counter, gates closed; windows count the keys outside too."""
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    def attention(q, k, v, *_, **__):  # torch counts its CUDA attention alone
        return sdpa_flop_count(q, k, v)

    def solved(a, b, *_, **__):  # and no linear systems: Gauss, a multiplication and an addition at a time
        size = a[-1]
        return 2 * prod(a[:-2]) * (size**3 // 3 + size**2 * b[-1])

    custom = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention,
        torch.ops.aten._linalg_solve_ex: solved,
    }
    for name, config in CONFIGS.items():
        if not config.attention_window:
            continue
        model = make(config, torch.float32, gate_bias=-100.0)
        length = 64 * 64
        model.model.requires_grad_(False)
        with FlopCounterMode(display=False, custom_mapping=custom) as counter:
            model.model(torch.zeros(1, length, dtype=torch.long), output=False)
        counted, stated = counter.get_total_flops(), cost.feed_flops(config, length)
        assert abs(counted - stated) <= 0.03 * stated + 40_000, name
