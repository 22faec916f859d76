"""What reading costs, from the architecture alone: floating-point operations and bytes."""

from __future__ import annotations

from atlas_bench.models.decoder import Config


def feed_flops(config: Config, length: int) -> int:
    """Matrix-product operations (2 per multiply-add) that reading `length` tokens executes.

    Counted is what runs, not what a full forward pass would: the last layer computes no more than the state
    needs (no memory read, no MLP), keys and values of closed tokens are never formed, and events, being one
    token in thousands, are left out. Norms, softmax and activations are not counted.
    """
    d, window = config.d_model, config.attention_window
    head = d // config.n_heads
    features = config.memory_options.get("degree", 2) if config.memory in ("omeganet", "atlas") else 1
    span = 2 * window if window else length / 2  # keys that each query is multiplied with
    attention = 2 * d * d * 4 + 2 * 2 * d * span
    if config.memory == "none":
        memory = 0
        last = 2 * d * d * 2 if not window else 0  # keys and values; a window keeps only its own last tokens
    else:
        gates = 2 * d * config.n_heads * _GATES[config.memory]
        hidden = config.memory_options.get("expansion", 2) * head if config.memory in ("titans", "atlas") else 0
        read = 2 * head * features * hidden + 2 * hidden * head if hidden else 2 * head * features * head
        memory = 2 * d * d * 2 + gates + config.n_heads * read
        last = attention + gates
    mlp = 2 * 2 * d * config.mlp_ratio * d
    return int(length * ((config.n_layers - 1) * (attention + memory + mlp) + last))


_GATES = {"gated-deltanet": 2, "omeganet": 3, "titans": 4, "atlas": 5}


def cache_bytes(config: Config, length: int) -> int:
    """Bytes of the key-value cache that full attention keeps of `length` tokens, in float32."""
    return 2 * 4 * config.n_layers * config.d_model * length
