"""A memory beside attention: one block of the backbone per placement, for any memory.

    behind  x = x + A(norm x);  x = x + M(norm x)                 the memory behind attention; the default
    lmm     x = x + M(norm x)                                     memory alone
    mal     x = x + M(norm x);  x = x + A(norm x)                 memory as a layer           Titans eq. (29)-(31)
    mag     x = x + A(norm x) (x) M(norm x)                       memory as a gate            Titans eq. (26)-(28)
    mac     h = M_start(u);  y = A([p || h || u]);  x = x + y (x) M(norm y),   u = norm x     Titans eq. (21)-(25)

and after each of them the MLP. M writes a token, then reads; A is attention over a sliding window, in mac over the
segment. Every placement is causal, the same under any split of the stream, and constant in state. Titans states
no more of (x) than normalised outputs with learnable vector weights and a non-linearity; here

    y (x) m = a norm(y) * sigmoid(b norm(m)),     a and b vectors that begin at 1

so that an empty memory halves attention rather than silence it. Persistent tokens p (eq. 19) are weights of their
block: keys and values that every query of attention sees, and, but in mac, what a memory has read before the stream.
docs/placements.md says what else the paper leaves open.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.models.attention import FullAttention, SegmentAttention, SlidingWindowAttention
from atlas_bench.models.config import Config
from atlas_bench.models.memory.surroundings import build

LayerState = dict[str, dict[str, Tensor]]  # {"attention": .., "memory": ..}, tensors [B, ...]


def norm(x: Tensor) -> Tensor:
    """Root-mean-square norm without weights: the next projection can learn them."""
    mean = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square() / x.shape[-1]
    return x * torch.rsqrt(mean + 1e-6)  # two passes over x; F.rms_norm takes four on a CPU


class Block(nn.Module):
    """What all placements share: the parts, the start of a stream, the MLP. A placement states `mix`."""

    def __init__(self, config: Config):
        super().__init__()
        d, heads = config.d_model, config.n_heads
        self.attention = self.make_attention(config)
        variant = registry.memory(config.memory)
        self.memory = build(variant, d, heads, d // heads, config.memory_options) if variant else None
        self.up = nn.Linear(d, config.mlp_ratio * d, bias=False)
        self.down = nn.Linear(config.mlp_ratio * d, d, bias=False)
        nn.init.zeros_(self.down.weight)
        self.persistent = nn.Parameter(torch.randn(config.n_persistent, d)) if config.n_persistent else None

    def make_attention(self, config: Config) -> nn.Module | None:
        d, heads, window = config.d_model, config.n_heads, config.attention_window
        return SlidingWindowAttention(d, heads, window) if window else FullAttention(d, heads)

    def start(self, batch: int) -> LayerState:
        """State at the beginning of `batch` streams."""
        state = {}
        if self.attention is not None:
            state["attention"] = self.attention.start(batch)
        if self.memory is not None:
            state["memory"] = self.start_memory(batch)
        return state

    def start_memory(self, batch: int) -> dict[str, Tensor]:
        if self.persistent is None or self.persistent.is_meta:  # on the meta device only shapes count
            return self.memory.start(batch)
        _, state = self.memory(self.persistent[None], output=False)  # the same for every row: read once
        return {name: x.expand(batch, *x.shape[1:]) for name, x in state.items()}

    def attend(self, x: Tensor, state: LayerState, *, output: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Attention that also sees the persistent tokens, if there are any."""
        prefix = {} if self.persistent is None else {"prefix": self.persistent}
        return self.attention(x, state["attention"], output=output, **prefix)

    def mix(self, x: Tensor, state: LayerState, *, output: bool, screen: Tensor | None) -> tuple[Tensor, LayerState]:
        """x after attention and memory, and the new state; output=False: the state alone is wanted."""
        raise NotImplementedError

    def forward(
        self, x: Tensor, state: LayerState, *, output: bool = True, screen: Tensor | None = None
    ) -> tuple[Tensor, LayerState]:
        """[B, T, D] -> ([B, T, D], state); output=False computes only what the next state needs.

        screen  [B, T], a factor of the memory's write gates
        """
        x, new = self.mix(x, state, output=output, screen=screen)
        if not output:
            return x, new
        return x + self.mlp(x), new

    def mlp(self, x: Tensor) -> Tensor:
        """What the MLP adds to x."""
        h = F.relu(self.up(norm(x)), inplace=True)
        return self.down(h.square() if h.requires_grad else h.square_())


class Behind(Block):
    """Attention, then memory; either with its residual. The only placement that can do without a memory."""

    def mix(self, x, state, *, output, screen=None):
        y, attention = self.attend(norm(x), state, output=output or self.memory is not None)
        if self.memory is None:
            return (x + y if output else x), {"attention": attention}
        x = x + y
        y, memory = self.memory(norm(x), state["memory"], output=output, screen=screen)
        return (x + y if output else x), {"attention": attention, "memory": memory}


class MemoryAlone(Block):
    """The memory is the only mixer of tokens."""

    def make_attention(self, config):
        return None

    def mix(self, x, state, *, output, screen=None):
        y, memory = self.memory(norm(x), state["memory"], output=output, screen=screen)
        return (x + y if output else x), {"memory": memory}


class MemoryAsLayer(Block):
    """Memory, then attention over a sliding window; each with its residual."""

    def mix(self, x, state, *, output, screen=None):
        y, memory = self.memory(norm(x), state["memory"], screen=screen)  # attention's keys come of what is read
        x = x + y
        y, attention = self.attend(norm(x), state, output=output)
        return (x + y if output else x), {"attention": attention, "memory": memory}


class Gated(Block):
    """Placements that multiply attention and memory: y (x) m of this file's head."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.attention_norm = nn.RMSNorm(config.d_model, eps=1e-6)
        self.memory_norm = nn.RMSNorm(config.d_model, eps=1e-6)
        # Zeros, as in other placements' output weights, would be normalised here, and hide the memory until its write
        # gates have closed for want of use.
        self.attention.out.reset_parameters()
        self.memory.out.reset_parameters()

    def gate(self, y: Tensor, m: Tensor) -> Tensor:
        """y (x) m, [B, T, D]."""
        return self.attention_norm(y) * torch.sigmoid(self.memory_norm(m))


class MemoryAsGate(Gated):
    """Attention over a sliding window and memory side by side on the same input."""

    def mix(self, x, state, *, output, screen=None):
        u = norm(x)
        y, attention = self.attend(u, state, output=output)
        m, memory = self.memory(u, state["memory"], output=output, screen=screen)
        return (x + self.gate(y, m) if output else x), {"attention": attention, "memory": memory}


class MemoryAsContext(Gated):
    """What the memory recalls precedes each segment, and the memory writes attention's output.

    Segments of `segment` tokens begin at multiples of it in the stream, however that is fed. Done to the letter,
    two equations let a token see later ones: attention over all of h, where h_j is a function of x_j (eq. 23), and
    the second read of the memory after the whole segment (eq. 25). Here token i attends to h_j with j <= i, and
    reads the memory as it stands after writing token i.
    """

    def __init__(self, config: Config):
        super().__init__(config)
        chunk_size = getattr(self.memory, "chunk_size", 1)
        if config.segment % chunk_size:  # a memory can be read as of a segment's start only if no chunk is open there
            raise UserError(
                f"segment {config.segment} is no multiple of the memory's chunk_size {chunk_size}. "
                f"Choose a segment of whole chunks, e.g. {chunk_size * -(-config.segment // chunk_size)}."
            )

        if self.memory.convolved:  # h is read from a state alone, without the tokens before
            raise UserError(
                f"short_conv is {self.memory.convolved + 1}, and placement 'mac' reads its memory without the tokens "
                "before one. Leave short_conv out, or choose another placement."
            )

    def make_attention(self, config):
        return SegmentAttention(config.d_model, config.n_heads, config.segment)

    def start_memory(self, batch):
        return self.memory.start(batch)  # p stands in attention's context alone, eq. (22)

    def start(self, batch):
        state = super().start(batch)
        return {**state, "memory_before": state["memory"]}  # as it stood at the segment's start

    def mix(self, x, state, *, output, screen=None):
        attention, memory, before = state["attention"], state["memory"], state["memory_before"]
        held = int(attention["count"][0])  # tokens of the open segment, the same in all rows
        u = norm(x)
        length, segment = u.shape[1], self.attention.segment
        outputs, written, start = [], [], 0
        while start < length:
            stop = min(start + segment - held, length)
            here = u[:, start:stop]
            y, attention = self.attention(here, self.memory.retrieve(here, before), attention, prefix=self.persistent)
            part = None if screen is None else screen[:, start:stop]
            m, memory = self.memory(norm(y), memory, output=output, screen=part)
            written.append(self.memory.written)
            if output:
                outputs.append(self.gate(y, m))
            held = (held + stop - start) % segment
            if not held:
                before = memory
            start = stop
        self.memory.written = torch.cat(written, 1)
        new = {"attention": attention, "memory": memory, "memory_before": before}
        return (x + torch.cat(outputs, 1) if output else x), new


PLACEMENTS: dict[str, type[Block]] = {
    "behind": Behind,
    "lmm": MemoryAlone,
    "mal": MemoryAsLayer,
    "mag": MemoryAsGate,
    "mac": MemoryAsContext,
}
