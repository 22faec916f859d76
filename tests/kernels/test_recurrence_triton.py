"""The Triton form of the recurrence, in Triton's interpreter, against autograd through the plain loop.

The interpreter computes every product exactly and runs programs one after another: types, races and the compiler's
faults are for a GPU to show.
"""

import pytest
import torch

from atlas_bench.kernels.recurrence import naive
from tests.kernels.test_recurrence import SEEN, agree, case, reader, results
from tests.marks import sweep

pytest.importorskip("triton")
from atlas_bench.kernels.recurrence import triton

TOLERANCE = {torch.float32: 1e-5, torch.float16: 5e-3}


@pytest.fixture(autouse=True)
def unwritten_elements_are_nan():
    torch.use_deterministic_algorithms(True)  # fills what torch.empty makes
    yield
    torch.use_deterministic_algorithms(False)


def truth(args, read, **kwargs):
    args, read = ({k: v.double() for k, v in x.items()} for x in (args, read))
    return results(naive, args, read, **kwargs)


def halves(args, read):
    """fp16 where the kernels multiply; the gates and the state stay fp32."""
    args, read = ({k: v if k in ("mix", "state", "read") else v.half() for k, v in x.items()} for x in (args, read))
    return args, read


@pytest.mark.parametrize(
    ("chunks", "added", "dtype"),
    [*((n, added, torch.float32) for n in (1, 2, 5) for added in (False, True)), (3, True, torch.float16)],
)
@pytest.mark.parametrize(("blocks", "onto", "into"), SEEN)
def test_triton_equals_plain_loop(blocks, onto, into, chunks, added, dtype):
    args = case(chunks, blocks=blocks, onto=onto, into=into, added=added, rows=19, width=16, dtype=torch.float32)
    read = reader(args)
    if dtype == torch.float16:
        args, read = halves(args, read)
    agree(truth(args, read), results(triton, args, read), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("rows", "width"), [(19, 16), (35, 20)])
def test_a_decay_per_row_equals_the_plain_loop(rows, width, dtype):
    args = case(3, by_row=True, added=True, rows=rows, width=width, dtype=torch.float32)
    read = reader(args)
    if dtype == torch.float16:
        args, read = halves(args, read)
    agree(truth(args, read), results(triton, args, read), TOLERANCE[dtype])


@pytest.mark.parametrize(("rows", "width", "value"), [(1, 20, 33), (35, 33, 1), (129, 16, 16)])
def test_sizes_that_fill_no_tile(rows, width, value):
    for dtype in TOLERANCE:
        args = case(2, blocks=2, onto=1, rows=rows, width=width, value=value, dtype=torch.float32)
        read = reader(args, steps=67)
        if dtype == torch.float16:
            args, read = halves(args, read)
        agree(truth(args, read), results(triton, args, read), TOLERANCE[dtype])


@pytest.mark.parametrize("used", [["last"], ["errors"], ["anchors"], ["y"]])
def test_any_part_of_the_result_may_be_all_that_is_used(used):
    args = case(3, blocks=2, onto=1, width=16, dtype=torch.float32)
    agree(truth(args, reader(args), used=used), results(triton, args, reader(args), used), 1e-5)


@pytest.mark.parametrize("chunk_size", [16, 64])
@sweep("length", [1, 63, 64, 65, 1000], quick=[1, 65])
def test_a_padded_last_chunk_is_as_a_short_one(length, chunk_size):
    """A memory with momentum over `length` tokens, its last chunk filled up with closed tokens."""
    size = min(chunk_size, length)
    whole, tail = divmod(length, size)
    args = case(whole + (tail > 0), blocks=2, onto=1, rows=size, width=16, value=16, dtype=torch.float32)
    args = {**args, **reader(args, size)}
    open_tokens = (torch.arange(len(args["own"]) * size) < length).view(-1, 1, size, 1)
    rows = ("own", "onto", "into", "q", "read", "scores")

    def memory(form, part, state):
        part, read = ({k: part[k] for k in keys} for keys in (("own", "onto", "into", "mix"), ("q", "read", "scores")))
        anchors, errors, state = form.recurrence(**part, state=state)
        y = form.outputs(**read, anchors=anchors, errors=errors)  # [N, X, C, V]
        return y.transpose(1, 2).flatten(0, 1), state

    def padded(args):
        closed = {"into": args["into"] * open_tokens, "scores": args["scores"] * open_tokens.mT}
        y, state = memory(triton, args | closed, args["state"])
        return y[:length], state

    def short(args):
        state, ys = args["state"], []
        for chunks, count in [(slice(0, whole), size), (slice(whole, None), tail)][: 1 + (tail > 0)]:
            part = {k: args[k][chunks, :, :count] if k in rows else args[k][chunks] for k in (*rows, "mix")}
            y, state = memory(naive, part | {"scores": part["scores"][..., :count]}, state)
            ys.append(y)
        return torch.cat(ys), state

    found = []
    for form in (short, padded):
        leaves = {k: v.clone().requires_grad_() for k, v in args.items()}
        y, state = form(leaves)
        weight = torch.linspace(0.5, 1.5, y.numel()).view_as(y)
        gradients = torch.autograd.grad((y * weight).sum() + state.sum(), list(leaves.values()))
        found.append({"y": y, "state": state, **{f"d {k}": g for k, g in zip(leaves, gradients, strict=True)}})
    agree(*found, 2e-5)


def test_nothing_written_leaves_the_state():
    args = case(4, blocks=2, onto=1, width=16, dtype=torch.float32)
    args["mix"] = torch.eye(2).expand_as(args["mix"])
    args["into"] = torch.zeros_like(args["into"])
    anchors, _, last = triton.recurrence(**args)
    assert torch.equal(last, args["state"]) and all(torch.equal(x, last) for x in anchors)


def test_anchors_may_be_kept_in_full():
    args, _ = halves(case(3, width=16, dtype=torch.float32), {})
    exact, _, _ = triton.recurrence(**args, anchors_dtype=torch.float32)
    rounded, _, _ = triton.recurrence(**args)
    assert (
        rounded.dtype == torch.float16 and torch.equal(exact.half(), rounded) and torch.equal(exact[0], args["state"])
    )


def test_shapes_and_types_that_do_not_fit_are_refused():
    args = case(1, blocks=2, width=16, dtype=torch.float32)
    with pytest.raises(ValueError, match="one dtype"):
        triton.recurrence(**{**args, "onto": args["onto"].half()})
    with pytest.raises(ValueError, match="fit no state"):
        triton.recurrence(**{**args, "into": args["into"][..., :20]})
    args = case(1, width=16, by_row=True, dtype=torch.float32)
    with pytest.raises(ValueError, match="fit no state"):
        triton.recurrence(**{**args, "mix": args["mix"][:, :, :3]})
