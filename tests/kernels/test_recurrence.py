"""The recurrence over chunks: the hand-written backward against autograd through the plain loop."""

import pytest
import torch

from atlas_bench.kernels.recurrence import chunk, naive


def case(
    chunks, *, blocks=1, onto=None, into=None, added=False, rows=5, width=4, value=3, x=2, by_row=False,
    dtype=torch.float64,
):  # fmt: skip
    """Arguments of `recurrence`: own, onto, into, mix, state, add; onto and into see that many blocks of Z.

    by_row  a number of mix for each row of the state
    """
    torch.manual_seed(0)

    def normal(*shape, scale=1.0):
        return (scale * torch.randn(*shape, dtype=torch.float64)).to(dtype)

    args = {
        "own": normal(chunks, x, rows, value),
        "onto": normal(chunks, x, rows, (onto or blocks) * width, scale=0.5 / (rows * width) ** 0.25),
        "into": normal(chunks, x, rows, (into or blocks) * width, scale=0.5 / (rows * width) ** 0.25),
        "mix": torch.eye(blocks, dtype=dtype) * 0.9 + normal(chunks, x, blocks, blocks, scale=0.1),
        "state": normal(x, blocks * width, value),
    }
    if by_row:
        args["mix"] = torch.rand(chunks, x, width, 1).to(dtype)
    args["mix"][:, 0] *= torch.arange(chunks)[:, None, None] % 3 != 1  # some memories forget everything
    if added:
        args["add"] = normal(chunks, x, blocks * width, value)
    return args


def reader(args, steps=6):
    """Arguments q, read, scores of `outputs` for what `recurrence(**args)` returns."""
    torch.manual_seed(1)
    own, blocks = args["own"], args["mix"].shape[-1]
    chunks, x, rows, _ = own.shape
    width = args["state"].shape[1] // blocks
    shapes = {"q": width, "read": blocks, "scores": rows}
    return {name: torch.randn(chunks, x, steps, n).div(n**0.5).to(own.dtype) for name, n in shapes.items()}


def results(form, args, read, used=("y", "anchors", "errors", "last")):
    """Outputs of both functions of `form`, and the gradients of all arguments by those in `used`."""
    args, read = ({k: v.detach().clone().requires_grad_() for k, v in x.items()} for x in (args, read))
    out = dict(zip(("anchors", "errors", "last"), form.recurrence(**args), strict=True))
    out["y"] = form.outputs(**read, anchors=out["anchors"], errors=out["errors"])
    loss = sum((out[k] * torch.linspace(0.5, 1.5, out[k].numel()).view_as(out[k])).sum() for k in used)
    wrt = {**args, **(read if "y" in used else {})}
    gradients = torch.autograd.grad(loss, list(wrt.values()), allow_unused=True)
    return {**out, **{f"d {k}": g for k, g in zip(wrt, gradients, strict=True)}}


def agree(truth, got, tolerance):
    for name, a in truth.items():
        a, b = (torch.zeros(()) if x is None else x.double() for x in (a, got[name]))
        error = (a - b).square().mean().sqrt()
        assert error <= tolerance * (1 + a.square().mean().sqrt()), f"{name} is off by {error}"


SEEN = [(1, 1, 1), (2, 1, 2), (2, 2, 1), (2, 2, 2)]  # blocks J, of which onto and into see


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("chunks", [1, 2, 5])
@pytest.mark.parametrize(("blocks", "onto", "into"), SEEN)
def test_chunk_equals_plain_loop(blocks, onto, into, chunks, added):
    args = case(chunks, blocks=blocks, onto=onto, into=into, added=added)
    agree(results(naive, args, reader(args)), results(chunk, args, reader(args)), 1e-12)


@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("chunks", [1, 5])
def test_a_decay_per_row_equals_the_plain_loop(chunks, added):
    args = case(chunks, by_row=True, added=added)
    agree(results(naive, args, reader(args)), results(chunk, args, reader(args)), 1e-12)


@pytest.mark.parametrize("used", [["last"], ["errors"], ["anchors"], ["y"]])
def test_any_part_of_the_result_may_be_all_that_is_used(used):
    args = case(3, blocks=2, onto=1)
    agree(results(naive, args, reader(args), used), results(chunk, args, reader(args), used), 1e-12)


@pytest.mark.parametrize(("blocks", "onto", "into"), SEEN)
def test_gradients_by_finite_differences(blocks, onto, into):
    args = case(2, blocks=blocks, onto=onto, into=into, added=True, rows=3, width=2, value=2)
    assert torch.autograd.gradcheck(chunk.recurrence, [x.requires_grad_() for x in args.values()])


def test_nothing_written_leaves_the_state():
    args = case(4, blocks=2, onto=1)
    args["mix"] = torch.eye(2, dtype=torch.float64).expand_as(args["mix"])
    args["into"] = torch.zeros_like(args["into"])
    anchors, _, last = chunk.recurrence(**args)
    assert torch.equal(last, args["state"]) and all(torch.equal(x, last) for x in anchors)
