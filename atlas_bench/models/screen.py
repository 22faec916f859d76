"""A screen: one hard gate per token, from the newest few tokens alone, in front of every layer's write gates.

    screen_t = hard_sigmoid(v relu(a + W_0 e_t + W_1 e_{t-1} + .. + W_{n-1} e_{t-n+1}) + c)   e: normalised embeddings

Where it is exactly 0 no layer writes. It depends on token ids alone, so W_i e is a row of a table: a stream's screen
costs `taps` look-ups a token, and the layers need to be computed only where an open token can see (events.py).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 16  # hidden units: a row of a table is one cache line
BIAS = 1.0  # open at the beginning: a hard gate that starts shut never learns


class Screen(nn.Module):
    """Embeddings [B, T, D] to gates [B, T] in [0, 1]; the state is the embeddings of the last taps - 1 tokens."""

    def __init__(self, d_model: int, taps: int):
        super().__init__()
        self.taps = taps
        self.tap = nn.Linear(d_model, taps * WIDTH, bias=False)  # columns of tap i: i * WIDTH ..
        nn.init.normal_(self.tap.weight, std=(taps * d_model) ** -0.5)
        self.bias = nn.Parameter(torch.zeros(WIDTH))
        self.out = nn.Linear(WIDTH, 1)
        nn.init.constant_(self.out.bias, BIAS)
        self.noise = 0.0  # standard deviation added to the logit; for a trainer to set,
        self.draw: Callable[[Tensor], Tensor] = torch.randn_like  # and where it comes from
        self.gates = torch.zeros(1, 1)  # of the last call [B, T]: what is paid for opening

    def start(self, batch: int) -> dict[str, Tensor]:
        """State at the beginning of a stream."""
        return {"past": self.bias.new_zeros(batch, self.taps - 1, self.tap.in_features)}

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Gates [B, T] of tokens with normalised embeddings x [B, T, D], and the new state."""
        seen, length = torch.cat([state["past"], x], 1), x.shape[1]
        parts = self.tap(seen).unflatten(-1, (self.taps, WIDTH))
        latest = self.taps - 1  # row of token 0
        hidden = sum(parts[:, latest - i : latest - i + length, i] for i in range(self.taps))
        gates = self._gates(hidden)
        self.gates = gates
        return gates, {"past": seen[:, length:].clone()}  # a view would keep the whole block alive

    def _gates(self, hidden: Tensor) -> Tensor:
        """Gates [..] of sums over the taps [.., WIDTH]."""
        logit = self.out(F.relu(hidden + self.bias)).squeeze(-1)
        if self.noise:
            logit = logit + self.noise * self.draw(logit)
        return F.hardsigmoid(logit)
