"""The backbone into which every memory plugs: [attention, memory, MLP] x n_layers.

x = x + attention(norm(x));  x = x + memory(norm(x));  x = x + W_down relu(W_up norm(x))^2

or attention and memory joined in another way: placement.py.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench.errors import UserError, clip, unknown
from atlas_bench.models.placement import PLACEMENTS, LayerState, norm

State = list[LayerState]  # one per layer
RANGES = {  # field of Config -> least, most: far beyond any model, so that no file can ask for a machine's memory
    "vocab_size": (1, 2**24),
    "d_model": (1, 2**16),
    "n_layers": (1, 256),
    "n_heads": (1, 1024),
    "attention_window": (0, 2**40),
    "mlp_ratio": (1, 1024),
    "n_persistent": (0, 2**20),
    "segment": (1, 2**20),
}


@dataclass(frozen=True)
class Config:
    """An architecture; saved beside the weights.

    attention_window  tokens; 0 for full attention, which only placement "behind" has
    memory            a name of `atlas-bench list memories`
    memory_options    keyword arguments of the memory's class
    placement         how attention and memory are joined: a name of placement.PLACEMENTS
    n_persistent      learnt tokens per layer that are always in sight; 0 for none
    segment           tokens that attention spans in placement "mac"
    """

    memory: str = "none"
    memory_options: dict[str, Any] = field(default_factory=dict)
    vocab_size: int = 4096
    d_model: int = 128
    n_layers: int = 2
    n_heads: int = 4
    attention_window: int = 16
    mlp_ratio: int = 2
    placement: str = "behind"
    n_persistent: int = 0
    segment: int = 16

    def __post_init__(self):
        for name, (least, most) in RANGES.items():
            if not least <= (value := getattr(self, name)) <= most:
                raise UserError(f"{name} is {clip(str(value), 40)}. Give {least} to {most:,}.")
        if self.d_model % self.n_heads:
            raise UserError(f"d_model {self.d_model} is no multiple of n_heads {self.n_heads}. Give one that is.")
        if self.placement not in PLACEMENTS:
            raise unknown("placement", self.placement, PLACEMENTS)
        if self.memory == "none" and self.placement != "behind":
            raise UserError(
                f"placement '{self.placement}' needs a memory, and memory is 'none'. "
                f"Choose one of `atlas-bench list memories`, or placement 'behind'."
            )
        if not self.attention_window and (
            self.placement in ("mal", "mag") or (self.full_attention and self.n_persistent)
        ):
            raise UserError(
                f"attention_window 0 is full attention, which placement '{self.placement}' with "
                f"{self.n_persistent} persistent tokens does not have. Give a window of 1 or more tokens."
            )

    @property
    def full_attention(self) -> bool:
        """Whether attention spans the whole stream, so that the state grows with it."""
        return not self.attention_window and self.placement == "behind"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Decoder(nn.Module):
    """Token ids to logits, with a state instead of a past."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        nn.init.normal_(self.embedding.weight, std=config.d_model**-0.5)
        self.blocks = nn.ModuleList(PLACEMENTS[config.placement](config) for _ in range(config.n_layers))

    def start(self, batch: int) -> State:
        """State at the beginning of `batch` streams."""
        return [block.start(batch) for block in self.blocks]

    def forward(
        self, tokens: Tensor, state: State | None = None, *, output: bool = True
    ) -> tuple[Tensor | None, State]:
        """Hidden states [B, T, D] after the last norm (None without output) and the new state; tokens [B, T]."""
        state = self.start(tokens.shape[0]) if state is None else state
        x = norm(self.embedding(tokens))
        if not tokens.shape[1]:  # an empty segment leaves the state as it was
            return (x if output else None), list(state)
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
