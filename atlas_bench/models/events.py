"""Reading by events: of a stream, only the tokens that a screen lets through, and what they can see, are computed.

Where the screen is 0, no layer writes, so no memory changes. So a token matters to the
state only if attention can carry it to a token that is written: at layer l of n, with windows of w tokens, it stands
up to (n - l + 1) (w - 1) tokens before an open one, or before the block's end, which the next block's windows see.
Such tokens are fed to the layers side by side, as if nothing had stood between them. The first ones after a gap then
attend to wrong neighbours. That is harmless: at each layer what is wrong reaches w - 1 tokens further, and so never an
open token. The state equals that of dense reading, except for the rounding of sums.

The screen depends on token ids alone. So search() needs no state, and several threads may search as many blocks at
once, in any order; replay() then takes what was found to the state, block after block.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from atlas_bench.models.decoder import Decoder, State
from atlas_bench.models.dense import reader
from atlas_bench.models.placement import norm
from atlas_bench.models.screen import WIDTH

MOST_OPEN = 0.02  # share of tokens; with more, dense reading is faster
PIECE = 8192  # tokens whose screen is made at once: what is looked up stays in the cache


class Found(NamedTuple):
    """Of a block what the layers are to compute, N of its tokens."""

    tokens: Tensor  # [B, N]
    needed: Tensor  # [B, N], layers that compute each, counted from the first
    screen: Tensor  # [B, N]
    past: Tensor  # [B, taps - 1, D], the screen's new state


class EventReader:
    """Feeds a decoder that has a screen."""

    def __init__(self, model: Decoder):
        config, screen = model.config, model.screen
        self.model, self.densely = model, reader(model)
        see = config.attention_window - 1 + model.blocks[0].memory.sees  # tokens before one, at each layer
        self.reaches = [(config.n_layers - layer) * see for layer in range(config.n_layers)]
        self.least = max(2 * self.reaches[0], screen.taps)  # a shorter block is read densely
        rows = screen.tap(norm(model.embedding.weight)).unflatten(-1, (screen.taps, WIDTH)).transpose(0, 1)
        rows[0] += screen.bias
        self.table = rows.flatten(0, 1).contiguous()  # [taps * vocabulary, WIDTH]
        first = torch.arange(screen.taps, device=rows.device) * config.vocab_size
        self.first = first.int()  # row of tap i for token 0

    @staticmethod
    def can_read(model: Decoder) -> bool:
        """Whether the decoder has a screen, and attention over windows before its memory."""
        config = model.config
        return model.screen is not None and config.placement == "behind" and config.attention_window > 0

    def feed(self, state: State, tokens: Tensor) -> State:
        """The state after tokens [B, T]."""
        found = self.search(state[0]["screen"]["past"], tokens)
        if found is None:
            return self.densely(state, tokens)
        return self.replay(state, found)

    def past(self, before: Tensor) -> Tensor:
        """The screen's state [B, taps - 1, D] after tokens [B, T], the newest of them or all that there were."""
        start = self.model.screen.start(len(before))["past"]
        return torch.cat([start, norm(self.model.embedding(before))], 1)[:, before.shape[1] :]

    def search(self, past: Tensor, tokens: Tensor) -> Found | None:
        """What the layers are to compute of tokens [B, T]; None: everything, in dense reading.

        past  the screen's state before them
        """
        if tokens.shape[1] < self.least:
            return None
        screen, after = self.screen(past, tokens)
        is_open = screen > 0
        if float(is_open.float().mean()) > MOST_OPEN:
            return None
        is_open[:, -1] = True  # as if it were: what it sees is what the next block needs
        needed = self._needed(is_open)
        kept = _first_of_each_row(needed > 0)
        return Found(tokens.gather(1, kept), needed.gather(1, kept), screen.gather(1, kept), after)

    def replay(self, state: State, found: Found) -> State:
        """The state after the block in which that was found."""
        model, (tokens, needed, screen, past) = self.model, found
        x = norm(model.embedding(tokens))
        new: State = []
        for layer, (block, before) in enumerate(zip(model.blocks, state, strict=True)):
            if layer:
                kept = _first_of_each_row(needed > layer)
                needed, screen = needed.gather(1, kept), screen.gather(1, kept)
                x = x.gather(1, kept[..., None].expand(-1, -1, x.shape[-1]))
            x, after = block(x, before, output=layer + 1 < len(model.blocks), screen=screen)
            new.append(after)
        new[0]["screen"] = {"past": past}
        return new

    def screen(self, past: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The screen of tokens [B, T] by look-ups, and its new state; `past` is the one before."""
        screen, embedding = self.model.screen, self.model.embedding
        taps = screen.taps
        # the first ones follow tokens of the block before, whose embeddings are all that is known of them
        gates = [screen(norm(embedding(tokens[:, : taps - 1])), {"past": past})[0]]
        seen = tokens.int().unfold(1, taps, 1)
        for part in seen.split(PIECE, 1):
            rows = (part.flip(-1) + self.first).flatten(0, 1)
            hidden = F.embedding_bag(rows, self.table, mode="sum").relu_()
            gates.append(F.hardsigmoid(screen.out(hidden)).view(part.shape[:2]))
        newest = torch.cat([past, norm(embedding(tokens[:, 1 - taps :]))], 1)
        return torch.cat(gates, 1), newest[:, 1 - taps :].clone()

    def _needed(self, is_open: Tensor) -> Tensor:
        """How many layers compute each token, counted from the first layer: [B, T]."""
        needed = torch.zeros_like(is_open, dtype=torch.uint8)
        rows, places = is_open.nonzero(as_tuple=True)
        for layer, reach in enumerate(self.reaches):  # the deeper, the nearer to an open token
            near = (places[:, None] - torch.arange(reach + 1, device=places.device)).clamp_min_(0)
            needed[rows[:, None], near] = layer + 1
        return needed


def _first_of_each_row(wanted: Tensor) -> Tensor:
    """Indices [B, N] of the wanted entries of [B, T] in order; a row with fewer than N takes others besides.

    One more token than needed changes nothing.
    """
    most = int(wanted.sum(1).max())
    if len(wanted) == 1:
        return wanted.nonzero()[None, :, 1]
    return wanted.sort(dim=1, descending=True, stable=True).indices[:, :most].sort(dim=1).values
