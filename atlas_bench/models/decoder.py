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
from atlas_bench.models.screen import Screen

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
    "screen": (0, 1024),
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
    screen            newest tokens that a gate before all write gates sees, screen.py; 0 for no such gate
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
    screen: int = 0

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
        if self.screen and self.memory == "none":
            raise UserError(
                f"screen {self.screen} is a number of tokens before which a memory's write gates are screened, and "
                f"memory is '{self.memory}'. Give 0, or a memory and 1 or more tokens."
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
        self.screen = Screen(config.d_model, config.screen) if config.screen else None
        if self.screen is not None and self.blocks[0].memory.chunk_size > 1:
            raise UserError(
                f"a screen needs a memory that ends every chunk with its token, and chunk_size is "
                f"{self.blocks[0].memory.chunk_size}. Give chunk_size 1, or screen 0."
            )

    def start(self, batch: int) -> State:
        """State at the beginning of `batch` streams."""
        state = [block.start(batch) for block in self.blocks]
        if self.screen is not None:
            state[0]["screen"] = self.screen.start(batch)
        return state

    def forward(
        self, tokens: Tensor, state: State | None = None, *, output: bool = True
    ) -> tuple[Tensor | None, State]:
        """Hidden states [B, T, D] after the last norm (None without output) and the new state; tokens [B, T]."""
        state = self.start(tokens.shape[0]) if state is None else state
        x, screen = norm(self.embedding(tokens)), None
        if not tokens.shape[1]:  # an empty segment leaves the state as it was
            return (x if output else None), list(state)
        if self.screen is not None:
            screen, past = self.screen(x, state[0]["screen"])
        new = []
        for i, (block, layer) in enumerate(zip(self.blocks, state, strict=True)):
            x, layer = block(x, layer, output=output or i + 1 < len(self.blocks), screen=screen)
            new.append(layer)
        if self.screen is not None:
            new[0]["screen"] = past
        return (norm(x) if output else None), new

    def logits(self, hidden: Tensor) -> Tensor:
        """[.., D] -> [.., vocab_size]; input and output embeddings are tied."""
        return F.linear(hidden, self.embedding.weight)

    def set_gate_noise(self, deviation: float) -> None:
        """Noise on the logits of all write gates and the screen from now on; 0 ends it."""
        if self.screen is not None:
            self.screen.noise = deviation
        for block in self.blocks:
            if block.memory is not None:
                block.memory.gate_noise = deviation

    def written(self) -> Tensor:
        """Write gate of every token of the last call [B, T], mean over layers and heads; 0 without memories."""
        gates = [block.memory.written for block in self.blocks if block.memory is not None]
        return torch.stack(gates).mean(0) if gates else torch.zeros(1, 1)

    def write_rate(self) -> Tensor:
        """Mean write gate of the last call, over layers; 0 without memories."""
        return self.written().mean()
