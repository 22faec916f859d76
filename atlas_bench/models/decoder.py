"""The backbone into which every memory plugs: [attention, memory, MLP] x n_layers.

x = x + attention(norm(x));  x = x + memory(norm(x));  x = x + W_down relu(W_up norm(x))^2
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench import registry
from atlas_bench.models.attention import FullAttention, SlidingWindowAttention

State = list[dict[str, dict[str, Tensor]]]  # per layer: {"attention": .., "memory": ..}, tensors [B, ...]


@dataclass(frozen=True)
class Config:
    """An architecture; saved beside the weights.

    attention_window  tokens; 0 for full attention
    memory            a name of `atlas-bench list memories`
    memory_options    keyword arguments of the memory's class
    """

    memory: str = "none"
    memory_options: dict[str, Any] = field(default_factory=dict)
    vocab_size: int = 4096
    d_model: int = 128
    n_layers: int = 2
    n_heads: int = 4
    attention_window: int = 16
    mlp_ratio: int = 2

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Block(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        d, heads = config.d_model, config.n_heads
        window = config.attention_window
        self.attention = SlidingWindowAttention(d, heads, window) if window else FullAttention(d, heads)
        variant = registry.memory(config.memory)
        self.memory = variant(d, heads, d // heads, **config.memory_options) if variant else None
        self.up = nn.Linear(d, config.mlp_ratio * d, bias=False)
        self.down = nn.Linear(config.mlp_ratio * d, d, bias=False)
        nn.init.zeros_(self.down.weight)

    def start(self, batch: int) -> dict[str, dict[str, Tensor]]:
        state = {"attention": self.attention.start(batch)}
        if self.memory is not None:
            state["memory"] = self.memory.start(batch)
        return state

    def forward(self, x: Tensor, state: dict, *, output: bool = True) -> tuple[Tensor, dict]:
        """output=False computes only what the next state needs."""
        new = {}
        y, new["attention"] = self.attention(norm(x), state["attention"], output=output or self.memory is not None)
        if self.memory is not None:
            x = x + y
            y, new["memory"] = self.memory(norm(x), state["memory"], output=output)
        if not output:
            return x, new
        x = x + y
        return x + self.down(F.relu(self.up(norm(x))).square()), new


class Decoder(nn.Module):
    """Token ids to logits, with a state instead of a past."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        nn.init.normal_(self.embedding.weight, std=config.d_model**-0.5)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))

    def start(self, batch: int) -> State:
        """State at the beginning of `batch` streams."""
        return [block.start(batch) for block in self.blocks]

    def forward(
        self, tokens: Tensor, state: State | None = None, *, output: bool = True
    ) -> tuple[Tensor | None, State]:
        """Hidden states [B, T, D] after the last norm (None without output) and the new state; tokens [B, T]."""
        state = self.start(tokens.shape[0]) if state is None else state
        x = norm(self.embedding(tokens))
        new = []
        for i, (block, layer) in enumerate(zip(self.blocks, state, strict=True)):
            x, layer = block(x, layer, output=output or i + 1 < len(self.blocks))
            new.append(layer)
        return (norm(x) if output else None), new

    def logits(self, hidden: Tensor) -> Tensor:
        """[.., D] -> [.., vocab_size]; input and output embeddings are tied."""
        return F.linear(hidden, self.embedding.weight)

    def set_gate_noise(self, deviation: float) -> None:
        """Noise on the logits of all write gates from now on; 0 ends it."""
        for block in self.blocks:
            if block.memory is not None:
                block.memory.gate_noise = deviation

    def write_rate(self) -> Tensor:
        """Mean write gate of the last call, over layers; 0 without memories."""
        rates = [block.memory.write_rate for block in self.blocks if block.memory is not None]
        return torch.stack(rates).mean() if rates else torch.zeros(())


def norm(x: Tensor) -> Tensor:
    """Root-mean-square norm without weights: the next projection can learn them."""
    return F.rms_norm(x, (x.shape[-1],), eps=1e-6)
