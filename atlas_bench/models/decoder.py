"""The backbone into which every memory plugs: [attention, memory, MLP] x n_layers.

x = x + attention(norm(x));  x = x + memory(norm(x));  x = x + W_down relu(W_up norm(x))^2

or attention and memory joined in another way: placement.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench.errors import UserError
from atlas_bench.models.config import Config
from atlas_bench.models.placement import PLACEMENTS, LayerState, norm
from atlas_bench.models.screen import Screen

State = list[LayerState]  # one per layer


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

    @property
    def device(self) -> torch.device:
        """The device of its weights and of its input tokens."""
        return self.embedding.weight.device

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

    def set_gate_noise(self, deviation: float, draw: Callable[[Tensor], Tensor] = torch.randn_like) -> None:
        """Noise on the logits of all write gates and the screen from now on; 0 ends it.

        draw  standard normal noise of the shape of some logits [B, T, ..]
        """
        if self.screen is not None:
            self.screen.noise, self.screen.draw = deviation, draw
        for block in self.blocks:
            if block.memory is not None:
                block.memory.gate_noise, block.memory.draw = deviation, draw

    def written(self) -> Tensor:
        """Write gate of every token of the last call [B, T], mean over layers and heads; 0 without memories."""
        gates = [block.memory.written for block in self.blocks if block.memory is not None]
        return torch.stack(gates).mean(0) if gates else torch.zeros(1, 1, device=self.device)

    def write_rate(self) -> Tensor:
        """Mean write gate of the last call, over layers; 0 without memories."""
        return self.written().mean()
