"""What every memory promises, as plain functions: each returns None, or one sentence saying what is broken.

    build = builder(Titans)                  # makes one Titans after another, all alike
    causal(build)                            # None
    for contract, sentence in verify(Titans): ...

Each builds its own memory, small and in float64, whose write gates let half of random tokens in, a tenth of them on
average. What depends on which tokens are open is also checked on a sparse stream with wholly closed blocks, like those
that a trained memory reads.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from atlas_bench.comparison.differences import EXACT, names, output_gap, state_gap
from atlas_bench.comparison.fixtures import (
    LENGTH,
    ROWS,
    SPARSE,
    Build,
    builder,
    open_tokens,
    sparse_tokens,
    stream,
    token_by_token,
    tokens,
)
from atlas_bench.comparison.shapes import runs
from atlas_bench.models.memory.base import EVENT_BLOCK, Memory, State
from atlas_bench.models.memory.inner_optimizer import InnerOptimizer
from atlas_bench.models.memory.user_file import describe_error

CLOSED = 1e-8  # a closed form against the rule token by token
CUTS = (1, 2, 7, 64, 127, 129, 255)


class Remark(str):
    """A property worth knowing of a memory that keeps the contract."""


ALL_WRITTEN = Remark("none: no gate of this rule can close, and every token is written")
NO_CLOSED_FORM = Remark("none: step() token by token")  # what closed_form() says where there is nothing to compare


def is_broken(sentence: str | None) -> bool:
    """Whether a contract's sentence describes a fault."""
    return sentence is not None and not isinstance(sentence, Remark)


def verify(variant: type[Memory], options: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str | None]]:
    """(contract, None, a Remark or what is broken) of every contract; nothing more after a memory that does not run."""
    build = builder(variant, options)
    for name, contract in CONTRACTS.items():
        try:
            sentence = contract(build)
        except Exception as error:
            sentence = describe_error(error, inspect.getfile(variant))
        yield name, sentence
        if contract is runs and sentence:
            return


# The contracts -----------------------------------------------------------------------------------------------


@torch.no_grad()
def split(build: Build) -> str | None:
    """Any split of the stream into blocks gives the same outputs and state."""
    memory, x = build(write_bias=SPARSE), sparse_tokens()
    if not memory.closes:
        return _split(build(), tokens())
    if not 0 == min(counts := open_tokens(memory, x)) < max(counts) < 32:
        listed = ", ".join(map(str, counts))
        return f"its write gate at bias {SPARSE:g} opens on {listed} tokens of blocks of 64: nothing can be checked"
    return _split(build(), tokens()) or _split(memory, x)


def _split(memory: Memory, x: Tensor) -> str | None:
    y, state = memory(x)
    if memory.closes and not 0 < (rate := float(memory._gates(x)["write"].mean())) < 1:
        return f"its write gate is open by {rate:g} on average: nothing can be checked"
    for splits in [*([cut, LENGTH - cut] for cut in CUTS), [7, 13, 150, 130], [1] * LENGTH]:
        y2, state2 = stream(memory, x, splits)
        blocks = {2: f"a split at token {splits[0]}", LENGTH: "feeding token by token"}
        name = blocks.get(len(splits), f"blocks of {', '.join(map(str, splits))} tokens")
        if broken := output_gap(y, y2) or state_gap(state, state2):
            return f"{name} changes {broken}"
    return None


@torch.no_grad()
def empty_segment(build: Build) -> str | None:
    """A segment of no tokens gives no outputs and leaves the state as it was, whenever it comes."""
    memory, x = build(), tokens()
    for when, state in (("at the beginning", memory.start(ROWS)), ("after 50 tokens", memory(x[:, :50])[1])):
        for options in ({}, {"output": False}):
            y, after = memory(x[:, :0], state, **options)
            if y.shape != x[:, :0].shape:
                return f"an empty segment gives outputs of shape {tuple(y.shape)}, not {tuple(x[:, :0].shape)}"
            if gap := state_gap(state, after, 0):
                return f"an empty segment {when} changes {gap}"
    return None


@torch.no_grad()
def causal(build: Build) -> str | None:
    """No output depends on a later token."""
    return _causal(build(), tokens()) or _causal(build(write_bias=SPARSE), sparse_tokens())


def _causal(memory: Memory, x: Tensor) -> str | None:
    y, _ = memory(x)
    for t in (LENGTH - 1, 200, 64, 40, 1):
        changed = x.clone()
        changed[:, t] = tokens(length=1, seed=2)[:, 0]
        gaps = (memory(changed)[0] - y)[:, :t].abs().amax((0, 2))
        if not gaps.max() <= EXACT:
            return f"not causal: changing token {t} changed output {int(gaps.nan_to_num(math.inf).argmax())}"
    return None


@torch.no_grad()
def rows(build: Build) -> str | None:
    """The rows of a batch do not touch each other."""
    memory, x = build(), tokens()
    changed = x.clone()
    changed[0] = tokens(rows=1, seed=2)[0]
    gaps = (memory(x)[0] - memory(changed)[0])[1:].abs().amax((1, 2))
    if gaps.max() <= EXACT:
        return None
    return f"rows touch each other: changing row 0 changed row {int(gaps.argmax()) + 1} by {float(gaps.max()):.2g}"


@torch.no_grad()
def constant_state(build: Build) -> str | None:
    """The state does not grow with the stream."""
    memory, x = build(), tokens()
    (_, short), (_, long) = memory(x[:, :50]), memory(x)
    if short.keys() != long.keys():
        return f"state has {names(short)} after 50 tokens and {names(long)} after {LENGTH}"
    for name, s in short.items():
        if s.shape != long[name].shape:
            after = tuple(long[name].shape)
            return f"state grows: '{name}' is {tuple(s.shape)} after 50 tokens and {after} after {LENGTH}"
    return None


@torch.no_grad()
def closed_gate(build: Build) -> str | None:
    """Closed tokens do not change the memory by a bit; near an open token they count only in its window."""
    memory, x = build(), tokens()
    if not memory.closes:
        return ALL_WRITTEN
    _, before = memory(x)
    memory.gate["write"].weight.zero_()
    memory.gate["write"].bias.fill_(-4.0)
    _, after = memory(tokens(seed=2), before)
    for name in memory.init_state(1):  # what holds the last inputs may change
        if not torch.equal(before[name], after[name]):
            gap = float((before[name] - after[name]).abs().max())
            return f"a closed write gate changes '{name}' by {gap:.2g}; it must change nothing"
    return _beside_open(build)


def _beside_open(build: Build) -> str | None:
    """The effect of a closed token right before an open one, and of one a window away from the next open one."""
    window = build().sees + 1
    for apart in (window + 1, EVENT_BLOCK // 2):  # open tokens in plenty, which a closed form reads, and few
        if trace := _trace(build, window, apart):
            return f"a closed token {window} before the next open one changes {trace}; it must change nothing"
    if window == 1 or not _trace(build, window - 1, window + 1):
        return None
    return Remark(f"ok; closed tokens count where an open one, up to {window - 1} later, has them in its window")


@torch.no_grad()
def _trace(build: Build, distance: int, apart: int) -> str | None:
    """The later effect of a closed token that many tokens before an open one; all of these are `apart`."""
    memory, x = build(), tokens()
    memory.gate["write"].weight.zero_()
    memory.gate["write"].weight[:, 0] = 1.0  # the first number of an input opens the gate
    memory.gate["write"].bias.zero_()
    x[..., 0] = -4.0
    x[:, ::apart, 0] = 4.0
    closed = LENGTH // 2 // apart * apart - distance
    changed = x.clone()
    changed[:, closed, 1:] = tokens(length=1, seed=2)[:, 0, 1:]
    (y, state), (y2, state2) = memory(x), memory(changed)
    kept = memory.init_state(1)
    return output_gap(y[:, closed + 1 :], y2[:, closed + 1 :]) or state_gap(
        {name: state[name] for name in kept}, {name: state2[name] for name in kept}
    )


@torch.no_grad()
def silent(build: Build) -> str | None:
    """output=False gives the same state."""
    memory, x = build(), tokens()
    gap = state_gap(memory(x)[1], memory(x, output=False)[1])
    return f"output=False changes {gap}" if gap else None


def modes(build: Build) -> str | None:
    """train(), eval() and torch.inference_mode() give the same outputs and state."""
    memory, x = build(), tokens()
    y, state = memory.train()(x)
    y2, state2 = memory.eval()(x)
    if broken := output_gap(y, y2) or state_gap(state, state2):
        return f"eval() changes {broken}"
    with torch.inference_mode():
        y2, state2 = memory(x)
    broken = output_gap(y, y2) or state_gap(state, state2)
    return f"torch.inference_mode() changes {broken}" if broken else None


def gradients(build: Build) -> str | None:
    """Every parameter gets a gradient, and a finite one."""
    memory, x = build(), tokens()
    y, _ = memory(x)
    (y * tokens(seed=2)).sum().backward()
    named = dict(memory.named_parameters())
    unreached = [f"'{name}'" for name, p in named.items() if p.grad is None or not p.grad.any()]
    if unreached:
        more = f" and {len(unreached) - 3} more" if len(unreached) > 3 else ""
        return f"no gradient reaches {', '.join(unreached[:3])}{more}"
    wild = [name for name, p in named.items() if not p.grad.isfinite().all()]
    return f"the gradient of '{wild[0]}' is not finite" if wild else None


def closed_form(build: Build) -> str | None:
    """The closed form over a chunk equals the rule token by token, forward and in gradients; or NO_CLOSED_FORM.

    For a row of the family with chunk_size above 1, this compares the closed form of kernels/anchored.
    """
    anchored = build.variant.forward is InnerOptimizer.forward and build().chunk_size > 1
    if not (anchored or build().has_closed_form()):
        return NO_CLOSED_FORM
    plain = type(build.variant.__name__, (build.variant,), {"has_closed_form": lambda self: False})
    # The dense stream is short: written without a pause, atlas++ makes 1 of a rounding error within 300 tokens.
    dense, sparse = (0.0, tokens()[:, :70]), (SPARSE, sparse_tokens())
    for write_bias, x in (dense, sparse) if build().closes else (dense,):
        memory = build(write_bias=write_bias)
        memory.dense = 0  # write_chunk() even for one open token
        y, state, gradient = _with_gradients(memory, memory, x)
        memory = build(write_bias=write_bias, variant=build.variant if anchored else plain)
        rule = partial(token_by_token, memory) if anchored else memory
        y2, state2, gradient2 = _with_gradients(rule, memory, x)
        state = {name: s for name, s in state.items() if name in state2}  # without the open chunk's tokens
        broken = output_gap(y, y2, CLOSED) or state_gap(state, state2, CLOSED)
        if not broken and (gap := state_gap(gradient, gradient2, 1e-6)):
            broken = gap.replace("the state", "the gradient of")
        if broken:
            return f"the closed form differs from token by token: it changes {broken}"
    return None


def _with_gradients(read: Callable[[Tensor], tuple[Tensor, State]], memory: Memory, x: Tensor):
    """Outputs and state of x, and the gradients of a weighted sum of outputs."""
    x = x.clone().requires_grad_()
    y, state = read(x)
    (y * tokens(seed=2)[:, : y.shape[1]]).sum().backward()
    return y, state, {n: p.grad for n, p in memory.named_parameters() if p.grad is not None} | {"x": x.grad}


@torch.no_grad()
def saved_state(build: Build) -> str | None:
    """A state that was saved and loaded, or fed on from before, goes on bit for bit."""
    from safetensors.torch import load, save

    memory, x = build(), tokens()
    _, state = memory(x[:, :150])
    copy = {name: s.contiguous().clone() for name, s in state.items()}
    y, final = memory(x[:, 150:], state)
    for name, s in copy.items():
        if not torch.equal(s, state[name]):
            return f"feeding changes '{name}' of the state it was given; return new tensors, or no state can be forked"
    for how, start in (("saved and loaded", load(save(copy))), ("used twice", state)):
        y2, final2 = memory(x[:, 150:], start)
        if not torch.equal(y, y2) or any(not torch.equal(final[name], final2[name]) for name in final):
            return f"a state that is {how} does not go on bit for bit"
    y2, _ = memory(x[1:2, 150:], {name: s[1:2].clone() for name, s in copy.items()})
    gap = output_gap(y[1:2], y2)
    return f"one stream's fork changes {gap}" if gap else None


def finite(build: Build) -> str | None:
    """Finite on 2,000 tokens written at full strength, and on 100,000 of which some are.

    A rule that writes every token because its paper does is looked at on the first, and what it does is a Remark.
    """
    if not build().closes:
        broken = finite_on(build, 2_000, write_bias=5.0)
        return broken and Remark(f"{broken}: as printed, nothing bounds a step; see docs/printed.md")
    return finite_on(build, 2_000, write_bias=5.0) or finite_on(build, 100_000, write_bias=-6.0)


@torch.no_grad()
def finite_on(build: Build, length: int, *, write_bias: float) -> str | None:
    """Every output and state of a stream of `length` random tokens in float32 is finite; ten are written at least."""
    memory = build(write_bias=write_bias, gate_std=1.0, dtype=torch.float32, width=16, head=8)
    block, state, written = max(1, length // 20), None, 0.0
    for i in range(0, length, block):
        y, state = memory(tokens(1, block, 16, seed=i).float(), state)
        written += float(memory.write_rate) * block
        parts = {"output": y, **{f"state '{name}'": s for name, s in state.items()}}
        for name, part in parts.items():
            if not torch.isfinite(part).all():
                return f"{name} is not finite after {i + block:,} tokens"
    if memory.closes and build.variant.forward is Memory.forward and written < 10:
        return f"only {written:.1f} of {length:,} tokens were written: too few to say that it stays finite"
    return None


# contract -> what is broken, None, or NO_CLOSED_FORM
CONTRACTS: dict[str, Callable[[Build], str | None]] = {
    "runs": runs,
    "any split": split,
    "empty segment": empty_segment,
    "causal": causal,
    "separate rows": rows,
    "constant state": constant_state,
    "closed gate": closed_gate,
    "output=False": silent,
    "train and eval": modes,
    "gradients": gradients,
    "closed form": closed_form,
    "saved state": saved_state,
    "finite": finite,
}
