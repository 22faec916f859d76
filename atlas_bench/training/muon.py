"""Muon (Jordan et al. 2024): momentum whose update is orthogonalised, all matrices of a shape at once.

    m <- mu m + (1 - mu) g;   u = (1 - mu) g + mu m;   W <- W - lr sqrt(max(1, rows / columns)) NewtonSchulz-5(u)

torch.optim.Muon does the same, one matrix at a time and always in bfloat16, which a CPU without bf16 units takes a
hundred times as long for as float32. Here the faster of the two is measured once.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor

from atlas_bench.kernels.newton_schulz.chunk import newton_schulz

MOMENTUM = 0.95
FLOOR = 1e-7  # of the norm that a matrix is divided by
GAIN = 1.2  # bfloat16 must be so much faster to be worth its rounding


class Muon(torch.optim.Optimizer):
    """Muon for matrices alone; `dtype` of Newton-Schulz, by default the faster one here."""

    def __init__(self, matrices: Iterable[Tensor], lr: float, *, dtype: torch.dtype | None = None) -> None:
        super().__init__(matrices, {"lr": lr})
        self.dtype = dtype or fastest_dtype(self.param_groups[0]["params"][0].device.type)

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            shapes = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes[weight.shape].append(weight)
            for (rows, columns), weights in shapes.items():
                update = self._orthogonal(torch.stack([self._direction(w) for w in weights]).to(self.dtype))
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                torch._foreach_sub_(weights, list(update.to(weights[0].dtype) * scale))

    def _orthogonal(self, matrices: Tensor) -> Tensor:
        """[n, rows, columns] orthogonalised; of rows that are dealt out, each process gets some matrices whole."""
        if not hasattr(matrices, "placements"):
            return newton_schulz(matrices, floor=FLOOR)
        from torch.distributed.tensor import DTensor, Shard  # which takes a second to import

        whole = matrices.redistribute(placements=[Shard(0)])
        if len(own := whole.to_local()):
            own = newton_schulz(own, floor=FLOOR)
        size = {"shape": whole.shape, "stride": whole.stride()}
        return DTensor.from_local(own, whole.device_mesh, [Shard(0)], **size).redistribute(
            placements=matrices.placements
        )

    def _direction(self, weight: Tensor) -> Tensor:
        """Nesterov's: the gradient a step ahead of the momentum."""
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        momentum = state["momentum_buffer"].lerp_(weight.grad, 1 - MOMENTUM)
        return weight.grad.lerp(momentum, MOMENTUM)


@cache
def fastest_dtype(device: str = "cpu") -> torch.dtype:
    """bfloat16 where it makes a batch of 128 x 128 products GAIN times as fast as float32, else float32."""
    seconds = {dtype: _seconds(dtype, device) for dtype in (torch.float32, torch.bfloat16)}
    return torch.bfloat16 if seconds[torch.bfloat16] * GAIN < seconds[torch.float32] else torch.float32


def _seconds(dtype: torch.dtype, device: str) -> float:
    x = torch.ones(8, 128, 128, dtype=dtype, device=device)
    laps = []
    for _ in range(7):
        began = time.perf_counter()
        float((x @ x)[0, 0, 0])  # a GPU is waited for
        laps.append(time.perf_counter() - began)
    return min(laps)  # other work only adds to it
