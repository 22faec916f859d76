"""Hugging Face models read in blocks: transformers' own numbers, states that are values, answers, limits."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from atlas_bench.models.huggingface import cache as hf_cache
from atlas_bench.models.huggingface import forward as hf_forward
from atlas_bench.models.huggingface import load as hf
from atlas_bench.models.huggingface import mamba as hf_mamba
from atlas_bench.models.huggingface import model as hf_model
from tests.models.huggingface import tiny

LENGTH = 70  # more than every window and chunk of the tiny models
FEW = ["llama", "mistral", "mamba", "recurrent_gemma", "jamba"]
_FOLDERS = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    def of(kind):
        if kind not in _FOLDERS:
            _FOLDERS[kind] = tiny.save(tmp_path_factory.mktemp(kind), kind)
        return _FOLDERS[kind]

    yield of
    _FOLDERS.clear()


@pytest.fixture
def model(request, folder):
    return hf.load(f"hf:{folder(request.param)}")


def every(*kinds):
    return pytest.mark.parametrize("model", kinds or list(tiny.MODELS), indirect=True)


@pytest.fixture
def tokens():
    return np.random.default_rng(0).integers(1, 4096, (2, LENGTH)).astype(np.int32)


def read(model, tokens, splits):
    """(state, nats, greedy) of the tokens in blocks of the lengths `splits`, which add up to one less."""
    state, at, nats, greedy = model.start(len(tokens)), 0, [], []
    for n in splits:
        state, some, likeliest = model.logprobs(state, tokens[:, at : at + n + 1])
        assert some.shape == likeliest.shape == (len(tokens), n)
        nats.append(some)
        greedy.append(likeliest)
        at += n
    return state, np.concatenate(nats, 1), np.concatenate(greedy, 1)


def expected(folder, tokens):
    """Log-probabilities of tokens[:, 1:] by transformers, the whole at once and without a cache, and if likeliest."""
    with torch.no_grad():
        said = tiny.reference(folder)(torch.from_numpy(tokens).long(), use_cache=False).logits[:, :-1].log_softmax(-1)
    wanted = torch.from_numpy(tokens[:, 1:]).long()
    return said.gather(-1, wanted[..., None])[..., 0].numpy(), (said.argmax(-1) == wanted).numpy()


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


@every()
@pytest.mark.parametrize("splits", [[69], [1, 2, 8, 9, 16, 33], [40, 29]])
def test_in_blocks_as_whole(model, folder, tokens, splits):
    nats, greedy = expected(model.name.removeprefix("hf:"), tokens)
    state, mine, likeliest = read(model, tokens, splits)
    assert np.abs(mine - nats).max() < 1e-4 and mine.dtype == np.float32
    assert np.array_equal(likeliest, greedy)
    fed = model.start(2)
    for block in np.split(tokens[:, :69], np.cumsum(splits)[:-1], axis=1):
        fed = model.feed(fed, block)
    packed, other = model.pack(state), model.pack(fed)
    assert packed.keys() == other.keys() and all(np.abs(packed[k] - other[k]).max() < 1e-4 for k in packed)
    assert fed.tokens == 69 and model.finite(fed)


@settings(max_examples=15, deadline=None)
@given(cuts=st.sets(st.integers(1, 68)), part=st.integers(1, 40))
@pytest.mark.parametrize("kind", ["llama", "mamba"])
def test_any_split_and_any_part(folder, kind, cuts, part):
    tokens = np.random.default_rng(1).integers(1, 4096, (1, LENGTH)).astype(np.int32)
    model = hf.load(f"hf:{folder(kind)}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(hf_forward.TOKENS, "cpu", part)
        _, mine, _ = read(model, tokens, np.diff([0, *sorted(cuts), 69]))
    assert np.abs(mine - expected(folder(kind), tokens)[0]).max() < 1e-4


@every()
def test_an_empty_block_changes_nothing(model, tokens):
    state = model.feed(model.start(2), tokens[:, :30])
    fed = model.feed(state, tokens[:, 30:30])
    told, nats, greedy = model.logprobs(state, tokens[:, 30:31])
    assert same(model.pack(state), model.pack(fed)) and same(model.pack(state), model.pack(told))
    assert nats.shape == greedy.shape == (2, 0)


@every(*FEW)
def test_logits_are_made_in_slices(model, tokens, monkeypatch):
    _, nats, greedy = read(model, tokens, [69])
    sizes, forward = [], model.model.forward
    monkeypatch.setattr(hf_forward, "LOGITS", 2 * 5 * 4 * 4096)
    monkeypatch.setattr(
        model.model, "forward", lambda ids, **options: sizes.append(ids.shape[1]) or forward(ids, **options)
    )
    _, again, likeliest = read(model, tokens, [69])
    assert max(sizes) <= 5 and np.abs(nats - again).max() < 1e-4 and np.array_equal(greedy, likeliest)


@every()
def test_streams_of_a_batch_do_not_touch(model, tokens):
    both = model.feed(model.start(2), tokens)
    row, alone = model.row(both, 1), model.feed(model.start(1), tokens[1:])
    packed, other = model.pack(row), model.pack(alone)
    numbers = [k for k in packed if packed[k].ndim]  # transformers 5.10 notes the batch beside the tensors
    assert packed.keys() == other.keys() and all(np.abs(packed[k] - other[k]).max() < 1e-4 for k in numbers)
    assert model.state_bytes(both) == model.state_bytes(row) == model.state_bytes(alone)
    assert model.answer(row, [5, 6], 4, ()) == model.answer(alone, [5, 6], 4, ())


@every()
def test_states_are_values(model, tokens):
    """Whatever is made of a state, it is bit for bit what it was, and so is what was made of it before."""
    state = model.feed(model.start(2), tokens[:, :30])
    before = model.pack(state)
    later = model.feed(state, tokens[:, 30:50])
    after, one = model.pack(later), model.row(state, 0)
    answer = model.answer(one, [1, 2, 3], 6, ())
    other = model.feed(state, tokens[:, 10:45])
    model.logprobs(later, tokens[:, :9])
    assert model.answer(one, [1, 2, 3], 6, ()) == answer == model.answer(model.row(state, 0), [1, 2, 3], 6, ())
    assert same(model.pack(state), before) and same(model.pack(later), after)
    assert same(model.pack(model.feed(state, tokens[:, 30:50])), after)
    assert not same(model.pack(other), after)


@every()
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_packed_state_comes_back_bit_for_bit(model, tokens, dtype):
    model = hf.load(f"{model.name}:dtype={dtype}")
    state = model.feed(model.start(2), tokens)
    packed = model.pack(state)
    again = model.unpack({name: x.copy() for name, x in packed.items()})
    assert same(model.pack(again), packed) and (again.tokens, again.batch) == (LENGTH, 2)
    assert same(model.pack(model.feed(again, tokens[:, :7])), model.pack(model.feed(state, tokens[:, :7])))
    empty = model.start(3)
    assert model.unpack(model.pack(empty)) == empty
    with pytest.raises(ValueError, match=r"'0.layers.9.keys' is no part of this model's cache"):
        model.unpack({**packed, "cache.0.layers.9.keys": np.zeros(3)})


@every()
def test_answers_are_those_of_generate(model, folder, tokens):
    kind = model.name.removeprefix("hf:")
    state = model.feed(model.start(2), tokens)
    for i, question in enumerate(([7, 8, 9], [11])):
        prompt = torch.tensor([[*tokens[i].tolist(), *question]])
        said = tiny.reference(kind).generate(prompt, max_new_tokens=12, do_sample=False, eos_token_id=4095)
        wanted = model.tokenizer.decode(said[0, prompt.shape[1] :].tolist()).strip()
        assert model.answer(model.row(state, i), question, 12, ()) == wanted and len(wanted) >= 12


@every("llama", "mamba")
def test_an_answer_ends_before_the_first_stop_text(model, tokens):
    state = model.feed(model.start(1), tokens[:1])
    whole = model.answer(state, [7], 12, ())
    for stop in [(whole[3:6],), (whole[8:11], whole[4:6]), ("not said", whole[-2:]), (whole[0],)]:
        first = min(whole.find(x) for x in stop if x in whole)
        assert model.answer(state, [7], 12, stop) == whole[:first].strip()
    assert model.answer(state, [7], 12, ("not said",)) == whole
    assert model.answer(state, [7], 0, ()) == ""


@every("llama")
def test_an_end_of_text_ends_an_answer(model, tokens):
    state = model.feed(model.start(1), tokens[:1])
    prompt = torch.tensor([[*tokens[0].tolist(), 7]])
    said = tiny.reference(model.name[3:]).generate(prompt, max_new_tokens=8, do_sample=False, eos_token_id=4095)
    said = said[0, prompt.shape[1] :].tolist()
    model.model.generation_config.eos_token_id = [said[5], said[3]]
    ended = hf_model.HuggingFaceModel("x", model.model, model.tokenizer)
    first = min(said.index(said[5]), said.index(said[3]))
    assert ended.answer(state, [7], 8, ()) == model.tokenizer.decode(said[:first]).strip()
    assert ended.ends == {0, said[3], said[5]}


def test_growing_in_place_copies_nothing_that_was_written():
    keys = torch.randn(1, 2, 5, 3)
    a = hf_cache.Grown.of(keys.clone())
    b = a.append(torch.ones(1, 2, 4, 3))  # there is no room: the first copy
    c = b.append(torch.full((1, 2, 1, 3), 2.0))
    assert c.view().data_ptr() == b.view().data_ptr() and (a.length, b.length, c.length) == (5, 9, 10)
    other = b.append(torch.full((1, 2, 1, 3), 3.0))  # c stands where it would go
    assert other.view().data_ptr() != c.view().data_ptr()
    for grown, last in ((c, 2.0), (other, 3.0)):
        assert torch.equal(grown.view()[:, :, :5], keys) and (grown.view()[:, :, 9] == last).all()
    with hf_cache.scratch([c]) as forked:
        forked[0].append(torch.zeros(1, 2, 7, 3))
        assert c.store.written == 17
    assert c.append(torch.zeros(1, 2, 1, 3)).store is c.store  # the room is free again
    held = sum(x.store.data.nbytes for x in (b,))
    assert held < 2 * (9 + hf_cache.ROOM) * 2 * 3 * 4


@every("llama")
def test_many_questions_leave_no_copies(model, tokens):
    state = model.feed(model.start(1), tokens[:1])
    stores = [layer._keys.store for layer in state.cache[0].layers]
    for _ in range(3):
        model.answer(state, [5, 6], 5, ())
    later = model.feed(state, tokens[:1])
    assert [layer._keys.store for layer in later.cache[0].layers] == stores


def test_state_sizes(folder, tokens):
    sizes = {}
    for kind in ("llama", "mistral", "mamba", "jamba"):
        model = hf.load(f"hf:{folder(kind)}")
        sizes[kind] = [model.state_bytes(model.feed(model.start(2), tokens[:, :n])) for n in (35, 70)]
    assert sizes["llama"] == [2 * 2 * 35 * 16 * 4, 2 * 2 * 70 * 16 * 4]  # layers, keys and values, tokens, width, bytes
    assert sizes["mamba"][0] == sizes["mamba"][1] == 2 * 48 * (4 + 3) * 4  # layers, channels, state and window
    assert sizes["mistral"][0] == sizes["mistral"][1] < sizes["jamba"][0] < sizes["jamba"][1]


def test_the_scan_by_doubling_is_the_scan():
    generator = torch.Generator().manual_seed(0)
    for length in (1, 2, 3, 8, 37):
        a, b = (torch.rand(2, length, 3, 4, generator=generator) for _ in range(2))
        h = torch.rand(2, 3, 4, generator=generator)
        expected, state = [], h
        for t in range(length):
            state = a[:, t] * state + b[:, t]
            expected.append(state)
        for scan in (hf_mamba.scan, hf_mamba.doubling):
            assert torch.allclose(scan(a.clone(), b.clone(), h.clone()), torch.stack(expected, 1), atol=1e-6)


@every("mamba", "recurrent_gemma", "llama")
def test_what_transformers_cannot_continue_is_told(model):
    kind, why = model.facts()["memory"], model.facts()["kernel_why"]
    assert {"mamba": "huggingface/mamba.py", "recurrent_gemma": "one token at a time"}.get(kind, "") in (why or "")
    assert (why is None) == (kind == "llama") and (model.reads.part(1, 1) == 1) == (kind == "recurrent_gemma")


def test_a_model_that_forgets_is_refused(folder):
    model = AutoModelForCausalLM.from_pretrained(folder("llama"))
    forward = model.forward
    model.forward = lambda input_ids, past_key_values=None, **options: forward(input_ids, **options)
    with pytest.raises(ValueError, match="in parts it gives other logits than read as a whole"):
        hf_forward.Forward(model)
    model.forward = lambda input_ids, use_cache=False, logits_to_keep=0: forward(input_ids)
    with pytest.raises(ValueError, match="takes no cache"):
        hf_forward.Forward(model)


def test_limits(folder):
    model = hf.load(f"hf:{folder('llama')}")
    assert model.limit == 512 == model.facts()["context_limit"] and model.supports(512) is None
    reason = model.supports(513)
    assert "context limit" in reason and "512 tokens" in reason and "--len 512 or less" in reason
    wide = hf.load(f"hf:{folder('llama')}:context_limit=1000000000000")
    assert wide.supports(100_000) is None
    assert "TiB" in wide.supports(10**11) and "constant memory" in wide.supports(10**11)
    recurrent = hf.load(f"hf:{folder('mamba')}")
    assert recurrent.limit is None and recurrent.supports(10**12) is None


def test_learned_positions_end_an_answer_in_a_failure(folder, tokens):
    model = hf.load(f"hf:{folder('gpt2')}:context_limit=4096")
    assert model.limit == 512  # no option adds rows to a table
    stream = np.tile(tokens[:1], 8)[:, :500]
    state = model.feed(model.start(1), stream)
    assert model.answer(state, [5] * 8, 5, ())
    with pytest.raises(ValueError, match="more than the model's 512 positions"):
        model.answer(state, [5] * 8, 6, ())


@pytest.mark.parametrize("splits", [[69], [10, 59]])
def test_rope_that_changes_with_the_length(tmp_path, tokens, splits):
    """Phi's: beyond 32 tokens all keys are others, so that blocks cannot be kept, unless from the first token on."""
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, **factors}
    where = tiny.save(tmp_path, "phi3", rope_parameters=rope, original_max_position_embeddings=32)
    model = hf.load(f"hf:{where}")
    assert model.supports(32) is None and "once a stream passes 32" in model.supports(33)
    assert "rope=long" in model.supports(33)
    short = tokens[:, :32]
    assert np.abs(read(model, short, [12, 19])[1] - expected(where, short)[0]).max() < 1e-4
    long = hf.load(f"hf:{where}:rope=long")
    assert long.supports(512) is None
    assert np.abs(read(long, tokens, splits)[1] - expected(where, tokens)[0]).max() < 1e-4


@every("llama", "mamba")
def test_numbers_that_are_not_finite_are_noticed(model, tokens):
    state = model.feed(model.start(1), tokens[:1])
    assert model.finite(state) and model.finite(model.start(1))
    next(x for x in model.model.parameters() if x.ndim == 2).data[7, 0] = torch.nan  # the embedding of token 7
    assert not model.finite(model.feed(state, np.array([[7]])))
    with pytest.raises(FloatingPointError, match="not finite at token 1 of the answer"):
        model.answer(state, [7], 3)


def test_large_finite_numbers_are_finite():
    assert hf_cache.is_finite([torch.full((8,), 3e38)]) and not hf_cache.is_finite([torch.tensor([1.0, torch.inf])])
    assert hf_cache.is_finite([torch.full((8,), 6e4, dtype=torch.float16)])
