"""One stream in segments side by side: exact where a memory's update is affine in its state.

Over a segment of tokens such a memory goes from M to A M + B, with A and B of the tokens alone. Layers depend on each
other, so segments are read layer by layer, as rows of one batch:

    1. attention and convolutions take the last tokens of the segment before
    2. A and B of every segment: B is what the memory makes of M = 0, c A + B what it makes of M = c 1
    3. M at every segment's beginning, one product after another:  M_{s+1} = A_s M_s + B_s
    4. the outputs of every segment from there on

Chunks that would come one after another so become as many rows: a device with room for them is filled by one stream.
The price is step 2, two more passes of the memory without its outputs. The state equals that of dense reading, except
for the rounding of sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from atlas_bench.models.decoder import Decoder, State
from atlas_bench.models.memory.base import Memory
from atlas_bench.models.placement import Behind, norm

Tensors = dict[str, Tensor]
SCALE = 2.0**20  # of the 1: where M grows, as in linear attention, A would otherwise drown in the rounding of B


class SegmentReader:
    """Feeds a decoder whose memories are affine.

    segments  rows that each stream is cut into
    """

    def __init__(self, model: Decoder, segments: int):
        config, memory = model.config, model.blocks[0].memory
        self.model, self.segments = model, segments
        taps = 0 if model.screen is None else model.screen.taps - 1
        self.least = max(config.attention_window, memory.sees, taps, 1)  # tokens of a segment

    @staticmethod
    def can_read(model: Decoder) -> bool:
        """Whether its memories are affine, behind attention over windows."""
        config, memory = model.config, model.blocks[0].memory
        return config.placement == "behind" and config.attention_window > 0 and memory is not None and memory.affine

    def feed(self, state: State, tokens: Tensor) -> State:
        """The state after tokens [B, T]; those of the end that fill no segment are read one after another."""
        length = tokens.shape[1] // self.segments
        if length < self.least:
            return self.model(tokens, state, output=False)[1]
        whole, rest = tokens[:, : length * self.segments], tokens[:, length * self.segments :]
        rows = whole.unflatten(1, (self.segments, length)).flatten(0, 1)
        x, screen, new = norm(self.model.embedding(rows)), None, []
        if self.model.screen is not None:
            tails = {"past": x[:, 1 - self.model.screen.taps :]}
            starts, past = self._passed_on(state[0]["screen"], tails)
            screen, _ = self.model.screen(x, starts)
        for i, (block, before) in enumerate(zip(self.model.blocks, state, strict=True)):
            x, after = self._layer(block, x, before, screen, output=i + 1 < len(self.model.blocks))
            new.append(after)
        if self.model.screen is not None:
            new[0]["screen"] = past
        return self.model(rest, new, output=False)[1]

    def _layer(
        self, block: Behind, x: Tensor, before: dict[str, Tensors], screen: Tensor | None, *, output: bool
    ) -> tuple[Tensor, dict[str, Tensors]]:
        """A block over all segments [B S, L, D], from the streams' states before the first segment."""
        seen = norm(x)
        _, tails = block.attend(seen, block.start(len(x)), output=False)
        starts, attention = self._passed_on(before["attention"], tails)
        x = x + block.attend(seen, {"attention": starts}, output=True)[0]
        seen = norm(x)
        starts, memory = self._beginnings(block.memory, seen, before["memory"], screen)
        if output:
            x = x + block.memory(seen, starts, screen=screen)[0]
            x = x + block.mlp(x)
        return x, {"attention": attention, "memory": memory}

    def _beginnings(self, memory: Memory, x: Tensor, before: Tensors, screen: Tensor | None) -> tuple[Tensors, Tensors]:
        """The memory's state at the beginning of every segment, and after the last; `before` the first it is given."""
        tails = {"halo": x[:, x.shape[1] - memory.sees :]} if memory.sees else {}
        halos, last_halo = self._passed_on({name: before[name] for name in tails}, tails)
        own = {name: torch.cat([y, y]) for name, y in (memory.init_state(len(x)) | halos).items()}
        own["M"][len(x) :] = SCALE * torch.eye(*own["M"].shape[-2:], device=x.device)
        twice = None if screen is None else torch.cat([screen, screen])
        _, after = memory(torch.cat([x, x]), own, output=False, screen=twice)
        B, both = (M.unflatten(0, (-1, self.segments)).unbind(1) for M in after["M"].chunk(2))
        M = [before["M"]]
        for added, with_one in zip(B, both, strict=True):
            A = (with_one - added)[..., : with_one.shape[-2]] / SCALE
            M.append(A @ M[-1] + added)
        starts = memory.init_state(len(x)) | halos | {"M": torch.stack(M[:-1], 1).flatten(0, 1)}
        return starts, before | last_halo | {"M": M[-1]}

    def _passed_on(self, first: Tensors, tails: Tensors) -> tuple[Tensors, Tensors]:
        """What every segment takes from the one before, and the last leaves: first [B, ..], tails [B S, ..]."""
        starts, last = {}, {}
        for name, tail in tails.items():
            by_stream = tail.unflatten(0, (-1, self.segments))
            starts[name] = torch.cat([first[name][:, None], by_stream[:, :-1]], 1).flatten(0, 1)
            last[name] = by_stream[:, -1].clone()  # a view would keep the whole block alive
        return starts, last
