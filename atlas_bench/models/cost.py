"""What reading costs, from the architecture alone: floating-point operations and bytes."""

from __future__ import annotations

import torch

from atlas_bench import registry
from atlas_bench.models.decoder import Config


def feed_flops(config: Config, length: int) -> int:
    """Matrix-product operations (2 per multiply-add) that reading `length` tokens executes.

    Counted is what runs, not what a full forward pass would: the last layer computes no more than the state
    needs (no memory read, no MLP), keys and values of closed tokens are never formed, and events, being one
    token in thousands, are left out. Norms, softmax and activations are not counted.
    """
    d, window = config.d_model, config.attention_window
    span = 2 * window if window else length / 2  # keys that each query is multiplied with
    attention = 2 * d * d * 4 + 2 * 2 * d * span
    variant = registry.memory(config.memory)
    if variant is None:
        memory = 0
        last = 0 if window else 2 * d * d * 2  # keys and values; of a window, its own last tokens only
    else:
        with torch.device("meta"):
            built = variant(d, config.n_heads, d // config.n_heads, **config.memory_options)
        gates = 2 * d * config.n_heads * len(variant.gates)
        memory = 2 * d * d * 2 + gates + built.read_flops()
        last = attention + gates
    mlp = 2 * 2 * d * config.mlp_ratio * d
    return int(length * ((config.n_layers - 1) * (attention + memory + mlp) + last))


def cache_bytes(config: Config, length: int) -> int:
    """Bytes of the key-value cache that full attention keeps of `length` tokens, in float32."""
    return 2 * 4 * config.n_layers * config.d_model * length
