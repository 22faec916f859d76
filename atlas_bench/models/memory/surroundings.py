"""What published blocks put around a memory, for any memory: short convolutions, and a norm and a gate of its output.

    build(KDA, 128, 4, 32, {"short_conv": 4, "output_norm": True, "output_gate": "sigmoid"})

Written as options of the memory, `kda:short_conv=4,output_norm=true,output_gate=sigmoid`; without them there is none.

    short_conv   q, k, v = silu(sum_j c_j (W x)_{t-j}), over the newest that many tokens, each channel on its own
    output_norm  y of each head is divided by its root mean square, and scaled per channel
    output_gate  y is multiplied by silu(W x) or sigmoid(W x), per channel, before the output projection
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench.errors import UserError, unknown

OPTIONS: dict[str, Any] = {"short_conv": 0, "output_norm": False, "output_gate": "none"}
OUTPUT_GATES = {"none": None, "silu": F.silu, "sigmoid": torch.sigmoid}


class ShortConvolution(nn.Module):
    """silu of a depthwise causal convolution: [B, size-1+T, C], older tokens first, to [B, T, C]."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, size))
        with torch.no_grad():
            self.weight[:, -1] = 1.0  # the token itself, before anything is learnt

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(F.conv1d(x.mT, self.weight[:, None], groups=len(self.weight)).mT)


class Surroundings(nn.Module):
    """The requested parts; a part that was not requested does nothing."""

    def __init__(self, memory: Any, *, short_conv: int = 0, output_norm: bool = False, output_gate: str = "none"):
        super().__init__()
        if output_gate not in OUTPUT_GATES:
            raise unknown("output_gate", output_gate, OUTPUT_GATES)
        if short_conv < 0:
            raise UserError(f"short_conv is {short_conv}. Give a number of tokens, or 0 for no convolution.")
        if short_conv and memory.chunk_size > 1:
            raise UserError(
                f"short_conv is {short_conv}, with chunk_size {memory.chunk_size}: an open chunk keeps no earlier "
                "tokens. Give chunk_size 1, or short_conv 0."
            )
        d_model, inner = memory.query.in_features, memory.n_heads * memory.head_dim
        self.sees = max(0, short_conv - 1)  # tokens before a token
        projections = {name: getattr(memory, name).out_features for name in ("query", "key", "value")}
        self.convolutions = nn.ModuleDict(
            {name: ShortConvolution(width, short_conv) for name, width in projections.items() if short_conv}
        )
        self.norm = nn.RMSNorm(memory.head_dim, eps=1e-6) if output_norm else None
        self.gate = nn.Linear(d_model, inner, bias=False) if output_gate != "none" else None
        self.activation = OUTPUT_GATES[output_gate]

    def projected(self, name: str, y: Tensor) -> Tensor:
        """The query, key or value projection y [B, sees+T, C] after its convolution, [B, T, C]."""
        return self.convolutions[name](y) if self.convolutions else y

    def output(self, y: Tensor, x: Tensor) -> Tensor:
        """Outputs y [B, T, H, V] of inputs x [B, T, D] after norm and gate, [B, T, H V]."""
        y = (y if self.norm is None else self.norm(y)).flatten(2)
        return y if self.gate is None else y * self.activation(self.gate(x))


def build(variant: Any, d_model: int, n_heads: int, head_dim: int, options: Mapping[str, Any]) -> Any:
    """A memory of the variant with its own options and those of OPTIONS; raises UserError for what does not fit."""
    around = {name: value for name, value in options.items() if name in OPTIONS}
    memory = variant(d_model, n_heads, head_dim, **{name: options[name] for name in options if name not in OPTIONS})
    if any(value != OPTIONS[name] for name, value in around.items()):
        memory.around = Surroundings(memory, **around)
    return memory
