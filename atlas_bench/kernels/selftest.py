"""Compares a form of an op with its definition in float64, values and gradients: what dispatch and doctor trust.

error("recurrence", "triton", "cuda") -> 3.1e-4, the worst relative error of any output or gradient
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from atlas_bench.kernels.anchored.maps import MLP
from atlas_bench.kernels.anchored.rule import Gates, Rule

TOLERANCE = (
    1e-2  # relative error of tf32 products through a recurrence; a miscompiled kernel is off by more than its size
)


class Case(NamedTuple):
    """run(module, tensors) -> outputs, for float64 tensors or copies of them in another type."""

    name: str
    definition: str  # the module that is taken for the truth
    run: Callable[[Any, Sequence[Tensor]], Sequence[Tensor]]
    tensors: Sequence[Tensor]


KEPT = {  # op -> its arguments, by place, that are float32 where the others have 16 bits: gates and states
    "gates": range(5),
    "recurrence": (3, 4, 6),
    "omega": (3, 4),
    "newton_schulz": (),
    "anchored": range(3, 12),
}


def cast(op: str, tensors: Sequence[Tensor], device: str, dtype: torch.dtype) -> list[Tensor]:
    """The op's arguments on a device in a dtype; gates and states stay float32 where it has 16 bits."""
    narrow = dtype.itemsize == 2
    return [x.to(device, torch.float32 if narrow and i in KEPT[op] else dtype) for i, x in enumerate(tensors)]


def error(op: str, form: str, device: str, dtype: torch.dtype = torch.float32, *, cases: int | None = None) -> float:
    """The worst relative error (root mean square over that of the truth) over the op's cases, outputs and gradients.

    cases  the first so many alone; None: all
    """
    # asked for by whoever runs first, under inference_mode as a rule
    with torch.inference_mode(False), torch.enable_grad():
        chosen = islice(CASES[op](torch.Generator().manual_seed(0)), cases)
        return max(_error(case, op, form, device, dtype) for case in chosen)


def _error(case: Case, op: str, form: str, device: str, dtype: torch.dtype) -> float:
    module = import_module(f"atlas_bench.kernels.{op}.{form}")
    definition = import_module(f"atlas_bench.kernels.{op}.{case.definition}")
    got = _evaluate(case, module, cast(op, case.tensors, device, dtype))
    want = _evaluate(case, definition, case.tensors)
    return max(_relative(a.to("cpu", torch.float64), b) for a, b in zip(got, want, strict=True))


def _evaluate(case: Case, module: Any, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Outputs, and the gradients of their products with fixed numbers."""
    leaves = [x.detach().clone().requires_grad_() for x in tensors]
    outputs = list(case.run(module, leaves))
    along = [torch.sin(torch.arange(y.numel(), dtype=torch.float64)).view(y.shape).to(y) for y in outputs]
    gradients = torch.autograd.grad(outputs, leaves, along, allow_unused=True, materialize_grads=True)
    return [y.detach() for y in outputs] + list(gradients)


def _relative(got: Tensor, want: Tensor) -> float:
    """The larger of the errors of all numbers together and of the worst one, over what is to be expected."""
    together = (got - want).norm() / want.norm().clamp_min(1e-12)
    worst = (got - want).abs().max() / want.abs().max().clamp_min(1e-12)
    difference = float(torch.maximum(together, worst))
    return difference if difference == difference else float("inf")  # NaN


def _gates(g: torch.Generator, *shape: int) -> Tensor:
    """Gates in [0, 1], some of them exactly 0 or 1."""
    return (torch.rand(*shape, generator=g, dtype=torch.float64) * 1.4 - 0.2).clamp(0, 1)


def _normal(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def _keys(g: torch.Generator, *shape: int) -> Tensor:
    return torch.nn.functional.normalize(_normal(g, *shape), dim=-1)


def _gates_cases(g: torch.Generator) -> Iterator[Case]:
    for size, width, momentum in ((64, 1, False), (32, 3, True)):
        window = torch.softmax(_normal(g, 2, 3, size, width), -1)
        tensors = [*(_gates(g, 2, 3, size) for _ in range(3)), window, *([0.5 * _gates(g, 2, 3, size)] * momentum)]

        def run(module, x):
            return module.sums(*x[:4], x[4] if len(x) == 5 else None, 1.0)

        yield Case(f"window {width}{', momentum' * momentum}", "naive", run, tensors)


def _recurrence_cases(g: torch.Generator) -> Iterator[Case]:
    for width, blocks, rows, by_row in ((32, 1, 32, False), (64, 2, 65, False), (128, 1, 64, False), (32, 1, 16, True)):
        tensors = [
            _normal(g, 3, 2, rows, width), 0.1 * _normal(g, 3, 2, rows, width),
            0.1 * _normal(g, 3, 2, rows, blocks * width), _gates(g, 3, 2, width if by_row else blocks, blocks),
            _normal(g, 2, blocks * width, width), _normal(g, 3, 2, rows, width), _gates(g, 3, 2, rows, blocks),
            0.1 * _normal(g, 3, 2, rows, rows),
        ]  # fmt: skip

        def run(module, x):
            anchors, errors, last = module.recurrence(*x[:5])
            return module.outputs(x[5], x[6], x[7], anchors, errors), last

        yield Case(f"{blocks} x {width}{', by row' * by_row}", "naive", run, tensors)


def _omega_cases(g: torch.Generator) -> Iterator[Case]:
    for steps, width, window, decay_first in ((16, 16, 1, True), (64, 64, 1, True), (32, 32, 2, False)):
        rows = steps * window
        beta = _gates(g, 2, 3, rows) / window
        k, v = _keys(g, 2, 3, rows, width), _normal(g, 2, 3, rows, width)
        tensors = [_keys(g, 2, 3, steps, width), k, v, beta, _gates(g, 2, 3, steps)]

        def run(module, x, decay_first=decay_first):
            return module.prepare(*x[:3], beta=x[3], retention=x[4], decay_first=decay_first)

        yield Case(f"window {window}", "chunk", run, tensors)


def _newton_schulz_cases(g: torch.Generator) -> Iterator[Case]:
    for shape in ((16, 16), (32, 32), (64, 32), (64, 64), (128, 128)):
        x = _normal(g, 5, *shape)
        yield Case("x".join(map(str, shape)), "naive", lambda module, x: [module.newton_schulz(*x)], [x])


def _anchored_cases(g: torch.Generator) -> Iterator[Case]:
    for T, H, K, L in ((20, 1, 16, 16), (48, 2, 32, 64)):
        yield _anchored_case(g, T, H, K, L)


def _anchored_case(g: torch.Generator, T: int, H: int, K: int, L: int) -> Case:
    B, W, rule = 1, 2, Rule(MLP, chunk_size=16)
    tensors = [
        _keys(g, B, T, H, K), _keys(g, B, W - 1 + T, H, K), 0.5 * _normal(g, B, W - 1 + T, H, K),
        *(_gates(g, B, T, H) for _ in range(3)), torch.softmax(_normal(g, B, T, H, W), -1), 0.5 * _gates(g, B, T, H),
        0.2 * _normal(g, B, H, L, K), 0.2 * _normal(g, B, H, K, L), torch.zeros(B, H, L, K, dtype=torch.float64),
        torch.zeros(B, H, K, L, dtype=torch.float64),
    ]  # fmt: skip

    def run(module, x):
        state = dict(zip(("W1", "W2", "S1", "S2"), x[8:], strict=True))
        y, state = module.anchored(rule, *x[:3], Gates(*x[3:8]), state)
        return y, *(state[name] for name in sorted(state))

    return Case(f"mlp {K}x{L}", "naive", run, tensors)


CASES: dict[str, Callable[[torch.Generator], Iterator[Case]]] = {
    "gates": _gates_cases,
    "recurrence": _recurrence_cases,
    "omega": _omega_cases,
    "newton_schulz": _newton_schulz_cases,
    "anchored": _anchored_cases,
}
