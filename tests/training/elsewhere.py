"""A device for tests, "elsewhere": it computes on the CPU, and refuses the CPU's tensors beside its own, as a GPU does.

    import tests.training.elsewhere    # from here on torch.zeros(2, device="elsewhere") works in this process

A GPU is not needed to find a tensor that was made on the wrong device. torch takes one such device in a process, for
good, so tests use it in a process of their own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "elsewhere"
MOVES = {torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default}  # what may see both devices


class Elsewhere(torch.Tensor):
    """A tensor of the device: a tensor of the CPU in disguise."""

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Elsewhere:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=f"{NAME}:0",
        )  # fmt: skip

    def __init__(self, held: torch.Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"Elsewhere({self.held})"

    def tolist(self) -> list:  # which torch refuses for a tensor in disguise
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        return compute(op, *args, **(kwargs or {}))


def compute(op: Any, *args: Any, **kwargs: Any) -> Any:
    """The op on the CPU; its results are here, unless it says that they go to the CPU."""
    inputs, form = tree_flatten((args, kwargs))
    if op not in MOVES:
        for x in inputs:
            if isinstance(x, torch.Tensor) and not isinstance(x, Elsewhere) and x.dim():  # a number may be anywhere
                raise RuntimeError(f"{op}: a tensor of {x.device}, {list(x.shape)}, beside tensors of {NAME}")
    wanted = kwargs.get("device")
    to_cpu = wanted is not None and torch.device(wanted).type == "cpu"
    disguised = {id(x.held): x for x in inputs if isinstance(x, Elsewhere)}
    plain_args, plain = tree_unflatten([x.held if isinstance(x, Elsewhere) else x for x in inputs], form)
    if wanted is not None:
        plain["device"] = "cpu"
    into_cpu = op is torch.ops.aten.copy_.default and not isinstance(args[0], Elsewhere)

    def disguise(x: Any) -> Any:
        if not isinstance(x, torch.Tensor) or to_cpu or into_cpu:
            return x
        return disguised[id(x)] if id(x) in disguised else Elsewhere(x)  # an op in place gives back what it was given

    with torch.inference_mode(False), torch.no_grad():  # a view of a weight is no tensor of inference mode
        return tree_map(disguise, op(*plain_args, **plain))


def _register() -> None:
    """Tell torch of the device, and how it makes a tensor there from nothing."""
    _setup_privateuseone_for_python_backend(NAME)
    library = torch.library.Library("aten", "IMPL")
    for name in ("empty.memory_format", "empty_strided"):
        packet, _, overload = name.partition(".")
        op = getattr(getattr(torch.ops.aten, packet), overload or "default")
        library.impl(name, lambda *args, op=op, **kwargs: compute(op, *args, **kwargs), "PrivateUse1")
    _register.library = library  # torch forgets what is registered with the library


_register()
