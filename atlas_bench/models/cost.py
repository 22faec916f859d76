"""What reading costs, from the architecture alone: floating-point operations and bytes."""

from __future__ import annotations

import torch

from atlas_bench import registry
from atlas_bench.models.config import Config
from atlas_bench.models.memory.surroundings import build
from atlas_bench.models.screen import WIDTH


def feed_flops(config: Config, length: int) -> int:
    """Matrix-product operations (2 per multiply-add) that reading `length` tokens executes.

    We count what runs, not a full forward pass: the last layer computes only what the state needs (no MLP, and only the
    reads that attention's state or the next write uses). Closed tokens have no keys, values and other gates.
    We omit events, which are one token in thousands, and what runs once per block (keys of persistent tokens, the last
    window's). Norms, softmax and activations are not counted. In placement "mac", segments fed whole. With a screen it
    is the cost of dense reading; reading by events costs almost nothing.
    """
    d, window, segment = config.d_model, config.attention_window, config.segment
    project = 2 * d * d
    if config.placement == "mac":  # keys and values of what is recalled and of the tokens; the prefix's in each segment
        attention = 6 * project + 2 * 2 * d * (2 * segment + config.n_persistent)
        attention += 2 * project * config.n_persistent / segment
    else:
        span = 2 * window if window else length / 2  # keys that each query is multiplied with
        attention = 4 * project + 2 * 2 * d * (span + config.n_persistent)
    gates = read = 0
    variant = registry.memory(config.memory)
    if variant is not None:
        with torch.device("meta"):
            built = build(variant, d, config.n_heads, d // config.n_heads, config.memory_options)
        made = [built.gate["write"]] if "write" in built.gate else built.gate.values()  # the others where it opens
        gates = 2 * sum(linear.weight.numel() for linear in made)
        read = 2 * project + built.read_flops()
        if built.around is not None:
            convolution = 2 * built.query.out_features * (built.convolved + 1) if built.convolved else 0
            read += convolution + (project if built.around.gate is not None else 0)
    keys = 2 * project if config.full_attention else 0  # of a window, its own last tokens only
    mixers, last = {  # of every layer, and as much of it as the last layer runs
        "behind": (attention + read + gates, attention + gates if variant else keys),
        "lmm": (read + gates, gates),
        "mal": (read + gates + attention, read + gates),
        "mag": (attention + read + gates, gates),
        "mac": (read + attention + gates + read, read + attention + gates),
    }[config.placement]
    mlp = 2 * 2 * d * config.mlp_ratio * d
    screen = 2 * WIDTH * (d * config.screen + 1) if config.screen else 0
    return int(length * ((config.n_layers - 1) * (mixers + mlp) + last + screen))


def cache_bytes(config: Config, length: int) -> int:
    """Bytes of the keys and values that attention keeps of `length` tokens, in float32."""
    tokens = {"lmm": 0, "mac": 2 * config.segment}.get(config.placement, config.attention_window or length)
    return 2 * 4 * config.n_layers * config.d_model * tokens
