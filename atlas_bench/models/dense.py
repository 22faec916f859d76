"""Dense reading on a CPU: decoder.Decoder without outputs, in pieces that a cache holds and in memory that is kept.

Small tensors make an operation cheap and many operations dear, so a piece takes as few as it can: weights that are
multiplied by the same tokens stand side by side once, a product is added to the residual stream as it is made, and the
room for queries, keys and hidden units is there before the tokens are. The memory is the module's own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.kernels.window_attention.chunk import attend
from atlas_bench.models.attention import SlidingWindowAttention
from atlas_bench.models.decoder import Decoder, State
from atlas_bench.models.placement import Behind, norm

PIECE = 2048  # tokens of all rows: a few megabytes of activations


def reader(model: Decoder) -> Callable[[State, Tensor], State]:
    """How the decoder is read densely: (state, tokens [B, T]) -> the state after them."""
    if DenseReader.can_read(model):
        return DenseReader(model).feed
    return lambda state, tokens: model(tokens, state, output=False)[1]


class DenseReader:
    """Feeds a decoder whose weights do not change."""

    @torch.no_grad()
    def __init__(self, model: Decoder):
        self.model = model
        self.layers = [_Layer(block) for block in model.blocks]
        self.table = norm(model.embedding.weight)

    @staticmethod
    def can_read(model: Decoder) -> bool:
        """Whether its blocks are a memory behind attention over windows, on a CPU."""
        config = model.config
        behind = config.placement == "behind" and config.attention_window > 0 and not config.n_persistent
        return behind and model.blocks[0].memory is not None and model.device.type == "cpu"

    @torch.no_grad()
    def feed(self, state: State, tokens: Tensor) -> State:
        """The state after tokens [B, T]."""
        window = self.model.config.attention_window
        size = max(2, PIECE // (len(tokens) * window)) * window
        for piece in tokens.split(size, 1):
            whole = piece.shape[1] > window
            state = self._piece(state, piece) if whole else self.model(piece, state, output=False)[1]
        return state

    def _piece(self, state: State, tokens: Tensor) -> State:
        x, screen, new = F.embedding(tokens, self.table), None, []
        if self.model.screen is not None:
            screen, past = self.model.screen(x, state[0]["screen"])
        for layer, before in zip(self.layers, state, strict=True):
            output = layer is not self.layers[-1]
            attention = layer.attend(x, before["attention"])
            y, memory = layer.block.memory(norm(x), before["memory"], output=output, screen=screen)
            if output:
                layer.mlp(x.add_(y))
            new.append({"attention": attention, "memory": memory})
        if self.model.screen is not None:
            new[0]["screen"] = past
        return new


class _Layer:
    """A block's attention and MLP, which add to the residual stream x [B, T, D] in place."""

    def __init__(self, block: Behind):
        attention: SlidingWindowAttention = block.attention
        self.block, self.window, self.heads = block, attention.window, attention.n_heads
        self.qkv = torch.cat([part.weight for part in (attention.query, attention.key, attention.value)]).mT
        self.out, self.up, self.down = (part.weight.mT for part in (attention.out, block.up, block.down))
        self.mask = attention._mask()

    def attend(self, x: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add attention over windows to x; the attention's new state."""
        length, window, width = x.shape[1], self.window, x.shape[2]
        end, new = length + window, {"k": torch.empty_like(state["k"]), "v": torch.empty_like(state["v"])}
        qkv = x.new_empty(-(-end // window) * window, 3, self.heads, width // self.heads)
        qkv[end:] = 0  # keys that a mask hides must be finite
        for row, y in enumerate(x):
            qkv[:window, 0], qkv[:window, 1], qkv[:window, 2] = 0, state["k"][row], state["v"][row]
            torch.mm(norm(y), self.qkv, out=qkv[window:end].view(length, -1))
            outputs = attend(qkv, self.mask)
            y.addmm_(outputs.view(-1, width)[:length], self.out)
            new["k"][row], new["v"][row] = qkv[length:end, 1], qkv[length:end, 2]
        return new

    def mlp(self, x: Tensor) -> None:
        """Add the MLP's output to x."""
        hidden = torch.mm(norm(x).flatten(0, 1), self.up).relu_()
        x.view(-1, x.shape[-1]).addmm_(hidden.mul_(hidden), self.down)
