"""Fixtures for the contracts of verify.py: small memories, random streams, and the rule alone.

build = builder(Titans)                                   # makes one Titans after another, all alike
y, state = build()(tokens())                              # half of the tokens open
y, state = build(write_bias=SPARSE)(sparse_tokens())      # few, and some blocks wholly closed
y, state = token_by_token(build(), tokens())
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.kernels.anchored import naive
from atlas_bench.models.memory.base import EVENT_BLOCK, Memory, State
from atlas_bench.models.memory.surroundings import build as build_memory

WIDTH, HEADS, HEAD = 32, 2, 16
ROWS, LENGTH = 3, 300
SPARSE = -6.0  # write bias that opens a gate on 3 % of random tokens
QUIET = slice(64, 192)  # two blocks of a sparse stream that no gate lets in

Build = Callable[..., Memory]


def builder(variant: type[Memory], options: Mapping[str, Any] | None = None) -> Build:
    """A function that makes equal memories of the variant, none of whose weights is zero.

    write_bias  of the write gate: -3 opens it on half of random tokens, by a tenth on average; 5 wholly on all
    gate_std    of the weights of all other gates; a third of it where every token is written: nothing bounds such a
                rule's steps, and its gates stay near where they begin
    """

    def build(
        *, write_bias: float = -3.0, gate_std: float = 0.3, dtype: torch.dtype = torch.float64,
        width: int = WIDTH, head: int = HEAD, variant: type[Memory] = variant,
    ) -> Memory:  # fmt: skip
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            memory = build_memory(variant, width, HEADS, head, options or {}).to(dtype)
            for name, parameter in memory.named_parameters():
                if parameter.dim() > 1 and not name.startswith("gate.") and not parameter.any():
                    parameter.normal_(std=0.2)  # outputs and fast weights begin at zero
            for linear in memory.gate.values():
                linear.weight.normal_(std=gate_std if memory.closes else gate_std / 3)
            if "write" in memory.gate:
                write = memory.gate["write"]
                # of one length for every head: how many tokens it opens on is then no matter of chance
                write.weight.copy_(0.3 * width**0.5 * F.normalize(write.weight, dim=-1))
                write.bias.fill_(write_bias)
        return memory

    build.variant = variant
    return build


def tokens(rows: int = ROWS, length: int = LENGTH, width: int = WIDTH, seed: int = 1) -> Tensor:
    """Random inputs of a memory, float64 [B, T, D]; the same for the same arguments."""
    return torch.randn(rows, length, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sparse_tokens() -> Tensor:
    """tokens() of which no gate lets QUIET in, and few of the others where its bias is SPARSE; [B, T, D]."""
    x = tokens()
    x[:, QUIET] *= 0.01  # next to nothing is added to the bias
    return x


def open_tokens(memory: Memory, x: Tensor) -> list[int]:
    """The most tokens of each block of 64 that any row and head lets in."""
    is_open = memory._gates(x)["write"].detach() > 0
    blocks = F.pad(is_open, (0, 0, 0, -x.shape[1] % EVENT_BLOCK)).unflatten(1, (-1, EVENT_BLOCK))
    return blocks.sum(2).amax((0, 2)).tolist()


def token_by_token(memory: Memory, x: Tensor) -> tuple[Tensor, State]:
    """Outputs and state of x [B, T, D] by the rule alone: no event loop, no closed form, no skipping.

    write() and read(), or kernels/anchored/naive.py for a row of the family whose chunk_size is above 1.
    """
    window, size = memory.omega_window, memory.chunk_size
    gates = memory._gates(x)
    k, v = memory._pairs(F.pad(x, (0, 0, memory.sees, 0)))
    q, state = memory._queries(F.pad(x, (0, 0, memory.convolved, 0))), memory.init_state(x.shape[0])
    if size > 1:
        y, _ = naive.anchored(memory.rule, q, k, v, memory.terms(gates), state)
        whole = x.shape[1] // size * size  # the state is that of the last anchor
        terms = memory.terms({name: gate[:, :whole] for name, gate in gates.items()})
        _, state = naive.anchored(memory.rule, q[:, :whole], k, v, terms, state)
        return memory._output(y, x), state
    outputs = []
    for t in range(x.shape[1]):
        here = slice(t, t + window)
        at = {name: gate[:, t] for name, gate in gates.items()}
        if memory.counts_written:
            written = {f"lag{j}": gates["write"][:, t - j] if t >= j else 0.0 for j in range(1, window)}
            at |= {name: at[name] * write for name, write in written.items()}
        state = memory.write(state, k[:, here].transpose(1, 2), v[:, here].transpose(1, 2), at)
        outputs.append(memory.read(state, q[:, t : t + 1].transpose(1, 2)).transpose(1, 2))
    return memory._output(torch.cat(outputs, 1), x), state


def stream(memory: Memory, x: Tensor, splits: Sequence[int], **options: Any) -> tuple[Tensor, State]:
    """Outputs and state after x [B, T, D] was fed in blocks of the lengths `splits`, which add up to T."""
    state, outputs = None, []
    for block in x.split(list(splits), 1):
        y, state = memory(block, state, **options)
        outputs.append(y)
    return torch.cat(outputs, 1), state
