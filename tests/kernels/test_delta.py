"""The generalised delta rule in chunks against the token loop: outputs, state and every gradient."""

import pytest
import torch

from atlas_bench.kernels.delta import chunk, naive

CASES = {  # channels of the decay, steps per token, whether anything is erased
    "scalar decay, no erasing": ("one", 1, False),
    "a decay per channel, no erasing": ("all", 1, False),
    "scalar decay": ("one", 1, True),
    "a decay per channel": ("all", 1, True),
    "several steps": ("one", 3, True),
    "several steps, a decay per channel": ("all", 2, True),
}


def case(channels, steps, erasing, length, *, batch=2, heads=2, width=5, value=3):
    g = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=g)

    retention = torch.rand(
        batch, length, heads, width if channels == "all" else 1, dtype=torch.float64, generator=g
    )  # fmt: skip
    retention = torch.where(retention < 0.1, 0.0, torch.where(retention > 0.6, 1.0, retention))  # both ends are common
    args = {
        "q": normal(batch, length, heads, width),
        "k": normal(batch, length, heads, steps, width) / width**0.5,
        "v": normal(batch, length, heads, steps, value),
        "retention": retention,
        "state": normal(batch, heads, width, value),
    }
    if erasing:
        args["erase"] = normal(batch, length, heads, steps, width) / width**0.5
    return args


def results(form, args, **options):
    leaves = {name: x.clone().requires_grad_() for name, x in args.items()}
    y, state = form(**{"erase": None, **leaves}, **options)
    loss = (y * torch.linspace(0.5, 1.5, y.numel(), dtype=y.dtype).view_as(y)).sum() + state.sin().sum()
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    return {"y": y, "state": state, **dict(zip(leaves, gradients, strict=True))}


@pytest.mark.parametrize("chunk_size", [None, 1, 7, 64])
@pytest.mark.parametrize("length", [1, 9, 33])
@pytest.mark.parametrize("name", CASES)
def test_chunks_equal_the_token_loop(name, length, chunk_size):
    args = case(*CASES[name], length)
    truth, got = results(naive.delta, args), results(chunk.delta, args, chunk_size=chunk_size)
    for part, expected in truth.items():
        assert (got[part] - expected).abs().max() <= 1e-10 * (1 + expected.abs().max()), part


def test_without_queries_there_is_the_same_state_and_no_output():
    args = {"erase": None, **case("all", 1, False, 20)}
    _, state = chunk.delta(**args)
    y, silent = chunk.delta(**{**args, "q": None})
    assert y is None and torch.equal(silent, state)


def test_what_is_neither_decayed_nor_written_stays_bit_for_bit():
    args = case("all", 2, True, 40)
    args |= {"retention": torch.ones_like(args["retention"]), "v": 0 * args["v"], "erase": 0 * args["erase"]}
    assert torch.equal(chunk.delta(**args)[1], args["state"])
