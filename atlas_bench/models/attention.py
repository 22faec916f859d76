"""Softmax attention that streams exactly: over a sliding window, a segment, or everything."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench.kernels.cpu import project
from atlas_bench.kernels.window_attention.chunk import window_attention

State = dict[str, Tensor]


class _Attention(nn.Module):
    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads, self.head_dim = n_heads, d_model // n_heads
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        nn.init.zeros_(self.out.weight)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, self.head_dim))


class SlidingWindowAttention(_Attention):
    """Each token attends to itself and the window-1 tokens before it.

    A learnt bias per head and distance encodes position, so a stream has no last position. Zero keys and values precede
    the stream, so its beginning needs no special case.
    """

    def __init__(self, d_model: int, n_heads: int, window: int):
        super().__init__(d_model, n_heads)
        self.window = window
        self.bias = nn.Parameter(torch.zeros(n_heads, window))  # by distance 0 .. window-1
        distance = window + torch.arange(window)[:, None] - torch.arange(2 * window)[None, :]
        self.register_buffer("distance", distance, persistent=False)

    def start(self, batch: int) -> State:
        empty = self.bias.new_zeros(batch, self.window, self.n_heads, self.head_dim)
        return {"k": empty, "v": empty}

    def forward(
        self, x: Tensor, state: State, *, output: bool = True, prefix: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """[B, T, D] -> ([B, T, D], state); output=False if only the state is wanted.

        prefix  [N, D], tokens that every query sees besides its window, at no distance
        """
        (batch, length, width), window = x.shape, self.window
        if not output:
            x = x[:, -window:]  # older tokens leave the window before anything reads them
        if not output or length <= window or prefix is not None:
            k, v = (
                torch.cat([state[name], self._heads(linear(x))], 1)
                for name, linear in (("k", self.key), ("v", self.value))
            )
            state = {"k": k[:, -window:].clone(), "v": v[:, -window:].clone()}  # a view would keep the whole block
            return (x if not output else self._attend(x, k, v, prefix)), state
        qkv = project(F.pad(x, (0, 0, window, -length % window)), self.query, self.key, self.value)
        qkv = qkv.unflatten(-1, (3, self.n_heads, self.head_dim))
        # a row's first block is its past, and the answers to its queries are dropped
        qkv[:, :window, 1:] = torch.stack([state["k"], state["v"]], 2)
        k, v = qkv[:, length : length + window, 1:].unbind(2)
        y = window_attention(qkv.flatten(0, 1).unflatten(0, (-1, window)), self._mask())
        y = y.as_strided((batch, length, width), (qkv.shape[1] * width, width, 1))
        return self.out(y), {"k": k.clone(), "v": v.clone()}

    def _attend(self, x: Tensor, k: Tensor, v: Tensor, prefix: Tensor | None) -> Tensor:
        """Outputs for x [B, T, D] over keys and values [B, w + T, H, K], and the prefix."""
        length, window = x.shape[1], self.window
        size = min(window, length)  # queries of a block; they see size + w keys
        pad = (0, 0, 0, -length % size)
        q = self._heads(F.pad(self.query(x), pad)).unflatten(1, (-1, size)).transpose(2, 3)  # [B, N, H, size, K]
        k, v = (self._heads(F.pad(y.flatten(2), pad)).unfold(1, window + size, size) for y in (k, v))
        q = q * self.head_dim**-0.5
        scores = q @ k + self._mask()[:, :size, : window + size]
        if prefix is not None:
            scores = torch.cat([scores, q @ self._heads(self.key(prefix)).permute(1, 2, 0)], -1)
        weights = torch.softmax(scores, -1)
        y = weights[..., : window + size] @ v.mT
        if prefix is not None:
            y = y + weights[..., window + size :] @ self._heads(self.value(prefix)).transpose(0, 1)
        return self.out(y.transpose(2, 3).flatten(3).flatten(1, 2)[:, :length])

    def _mask(self) -> Tensor:
        inside = (self.distance >= 0) & (self.distance < self.window)
        bias = self.bias[:, self.distance.clamp(0, self.window - 1)]
        return bias.masked_fill(~inside, -torch.inf)


class SegmentAttention(_Attention):
    """Each token attends to the tokens of its segment up to itself, to what the memory recalled at them, and to a
    prefix.

    y_i = softmax over [p || h_1 .. h_i || x_1 .. x_i], Titans eq. (22), (23). A learnt bias per head and distance
    stands for position, one for h and one for x. State: keys and values [B, 2, segment, H, K] of h and x, zeros
    after the newest; count [B] of tokens held, the same in all rows.
    """

    def __init__(self, d_model: int, n_heads: int, segment: int):
        super().__init__(d_model, n_heads)
        self.segment = segment
        self.bias = nn.Parameter(torch.zeros(n_heads, 2, segment))  # of h and x, by distance 0 .. segment-1

    def start(self, batch: int) -> State:
        empty = self.bias.new_zeros(batch, 2, self.segment, self.n_heads, self.head_dim)
        return {"k": empty, "v": empty, "count": torch.zeros(batch, dtype=torch.int64, device=empty.device)}

    def forward(self, x: Tensor, h: Tensor, state: State, *, prefix: Tensor | None = None) -> tuple[Tensor, State]:
        """x, h [B, T, D] -> ([B, T, D], state), T no further than the segment's end, where the state is empty again.

        prefix  [N, D], tokens that every query sees, at no distance
        """
        batch, length, _ = x.shape
        count = int(state["count"][0])
        end = count + length
        both = torch.stack([h, x], 1)
        k = torch.cat([state["k"][:, :, :count], self._heads(self.key(both))], 2)  # [B, 2, end, H, K]
        v = torch.cat([state["v"][:, :, :count], self._heads(self.value(both))], 2)
        if end == self.segment:
            state = self.start(batch)
        else:
            room = (0, 0, 0, 0, 0, self.segment - end)
            state = {"k": F.pad(k, room), "v": F.pad(v, room), "count": state["count"] + length}
        k, v, bias = k.flatten(1, 2), v.flatten(1, 2), self._bias(count, end)
        if prefix is not None:
            k, v = (
                torch.cat([self._heads(linear(prefix)).expand(batch, -1, -1, -1), y], 1)
                for linear, y in ((self.key, k), (self.value, v))
            )
            bias = F.pad(bias, (len(prefix), 0))
        q = self._heads(self.query(x)).transpose(1, 2) * self.head_dim**-0.5
        weights = torch.softmax(q @ k.permute(0, 2, 3, 1) + bias, -1)
        y = weights @ v.transpose(1, 2)
        return self.out(y.transpose(1, 2).flatten(2)), state

    def _bias(self, count: int, end: int) -> Tensor:
        """[H, T, 2 end], queries count .. end-1: -inf at what comes later."""
        position = torch.arange(end, device=self.bias.device)
        distance = position[count:, None] - position
        bias = self.bias[:, :, distance.clamp_min(0)].masked_fill(distance < 0, -torch.inf)
        return bias.transpose(1, 2).flatten(2)


class FullAttention(_Attention):
    """Each token attends to all before it (torch's own SDPA); rotary positions; the state grows with the stream."""

    def start(self, batch: int) -> State:
        empty = self.key.weight.new_zeros(batch, 0, self.n_heads, self.head_dim)
        return {"k": empty, "v": empty}

    def forward(self, x: Tensor, state: State, *, output: bool = True) -> tuple[Tensor, State]:
        """[B, T, D] -> ([B, T, D], state of 2 D more numbers a token)."""
        past = state["k"].shape[1]
        k = torch.cat([state["k"], _rotate(self._heads(self.key(x)), past)], 1)
        v = torch.cat([state["v"], self._heads(self.value(x))], 1)
        state = {"k": k, "v": v}
        if not output:
            return x, state
        q = _rotate(self._heads(self.query(x)), past)
        mask = None
        if past:
            mask = torch.arange(past, past + x.shape[1], device=x.device)[:, None] >= torch.arange(
                k.shape[1], device=x.device
            )
        y = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), attn_mask=mask, is_causal=mask is None
        )
        return self.out(y.transpose(1, 2).flatten(2)), state


def _rotate(x: Tensor, start: int, base: float = 10_000.0) -> Tensor:
    """Rotary positions start, start+1, ..; angles in float64, since position x frequency outgrows float32."""
    half = x.shape[-1] // 2
    frequency = base ** -(torch.arange(half, dtype=torch.float64, device=x.device) / half)
    angle = torch.arange(start, start + x.shape[1], dtype=torch.float64, device=x.device)[:, None, None] * frequency
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
