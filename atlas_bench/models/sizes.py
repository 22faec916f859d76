"""Named sizes of the backbone: the embedded models' own, and those of the ATLAS paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atlas_bench import registry
from atlas_bench.errors import unknown
from atlas_bench.units import format_bytes, format_length

if TYPE_CHECKING:
    from atlas_bench.models.config import Config

# Blocks, width and heads: ATLAS Table 7; vocabulary (T5's) and window: its appendix E. The paper states no MLP ratio.
# Ours is, per size, the whole number that brings the parameters nearest to the name; docs/transformers.md has them.
_FIELDS = ("n_layers", "d_model", "n_heads", "mlp_ratio", "vocab_size", "attention_window")
_TABLE = {
    "nano": (2, 128, 4, 2, 4096, 16),  # the embedded models
    "170M": (12, 768, 16, 6, 32_000, 2048),
    "340M": (24, 1024, 16, 2, 32_000, 2048),
    "760M": (24, 1536, 16, 2, 32_000, 2048),
    "1.3B": (18, 2048, 8, 4, 32_000, 2048),
}
SIZES = {name: dict(zip(_FIELDS, row, strict=True)) for name, row in _TABLE.items()}


def config(size: str, memory: str, **options: Any) -> Config:
    """The architecture of that size with that memory.

    size     a name of SIZES
    memory   a name of `atlas-bench list memories`
    options  other fields of decoder.Config, memory_options among them; they go before the size's own

    Raises UserError for an unknown size, memory or field.
    """
    from dataclasses import fields

    from atlas_bench.models.config import Config

    if size not in SIZES:
        raise unknown("size", size, SIZES)
    known = [field.name for field in fields(Config)]
    for name in options:
        if name not in known:
            raise unknown("field of an architecture", name, known)
    registry.memory(memory)  # raises for an unknown one
    return Config(memory=memory, **{**SIZES[size], **options})


def line(size: str) -> str:
    """What makes the size, in one line."""
    of = SIZES[size]
    return (
        f"{of['n_layers']} blocks, width {of['d_model']}, {of['n_heads']} heads, MLP ratio {of['mlp_ratio']}, "
        f"vocabulary {format_length(of['vocab_size'])}, window {format_length(of['attention_window'])}"
    )


def measure(architecture: Config) -> dict[str, int]:
    """Parameters (all, of the embedding, of the memories), bytes of one stream's state, operations per token fed.

    Nothing is allocated: one block, and all are alike, is built on torch's meta device. State in float32;
    operations: cost.feed_flops.
    """
    from dataclasses import replace

    import torch

    from atlas_bench.models import cost
    from atlas_bench.models.decoder import Decoder

    def weights(module: torch.nn.Module | None) -> int:
        return sum(p.numel() for p in module.parameters()) if module is not None else 0

    with torch.device("meta"):
        decoder = Decoder(replace(architecture, n_layers=1))
        (state,) = decoder.start(1)
    (block,), n_layers = decoder.blocks, architecture.n_layers
    screen = sum(x.nbytes for x in state.pop("screen", {}).values())  # before all layers, so it counts once
    return {
        "parameters": weights(decoder) + (n_layers - 1) * weights(block),
        "embedding": weights(decoder.embedding),
        "memory": n_layers * weights(block.memory),
        "state_bytes": screen + n_layers * sum(x.nbytes for part in state.values() for x in part.values()),
        "feed_flops": cost.feed_flops(architecture, 1),
    }


def table(size: str) -> str:
    """Every registered memory at that size, 80 columns wide."""
    rows = ["memory              parameters  embedding  memory   state/stream  MFLOP/token"]
    for memory in registry.MEMORIES:
        x = measure(config(size, memory))
        rows.append(
            f"{memory:<20}{_count(x['parameters']):>10}{_count(x['embedding']):>11}{_count(x['memory']):>8}"
            f"{format_bytes(x['state_bytes']):>15}{x['feed_flops'] / 1e6:>13.1f}"
        )
    return "\n".join([f"{size}: {line(size)}", "", *rows])


def _count(n: int) -> str:
    """1_270_000_000 -> '1.27B', 24_576_000 -> '24.6M', 4_096 -> '0.0M'."""
    return f"{n / 1e9:.2f}B" if n >= 1e9 else f"{n / 1e6:.1f}M"
