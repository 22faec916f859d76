"""An architecture in numbers, as in a model's card; decoder.py builds the model. No torch is needed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from atlas_bench.errors import UserError, clip, unknown

PLACEMENTS = ("behind", "lmm", "mal", "mag", "mac")  # names; placement.py has the blocks
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
    placement         how attention and memory are joined: a name of PLACEMENTS
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

    def __post_init__(self) -> None:
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
