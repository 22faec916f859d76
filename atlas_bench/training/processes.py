"""The processes that share one training: what `accelerate launch` or torchrun started, or this one alone.

Every process makes all contexts of a round and reads its share of them. Losses are divided by counts over all contexts,
then gradients and figures are summed over the processes, so the weights do not depend on how many there are. The steps
of the optimisers are shared too (optimizers.py), and the first process alone writes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from atlas_bench.errors import UserError, needs
from atlas_bench.models.decoder import Decoder

T = TypeVar("T")


class Processes:
    """One process alone, or with accelerate's Accelerator one of several; every method is called by all of them.

    rank, size  number of this process from 0 on, and of all
    noise       draws the gates' noise: whoever reads some rows draws what one process would draw for them
    """

    def __init__(self, accelerator: Any = None) -> None:
        self.accelerator = accelerator
        self.rank, self.size = (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)
        self.noise = torch.randn_like if self.size == 1 else _RowNoise()

    @property
    def device(self) -> str | None:
        """This process's own device, where a launcher gave it one."""
        return None if self.accelerator is None else str(self.accelerator.device)

    @property
    def first(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0

    def own(self, rows: Sequence[T]) -> Sequence[T]:
        """This process's share of the rows."""
        return rows[self.rank :: self.size]

    def read(self, own: Sequence[int], rows: int) -> None:
        """The next call of the model reads the rows `own` of so many."""
        if isinstance(self.noise, _RowNoise):
            self.noise.own, self.noise.rows = list(own), rows

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision where the launcher was told so."""
        return nullcontext() if self.accelerator is None else self.accelerator.autocast()

    def gathered(self, value: T) -> list[T]:
        """The value of every process, in the order of their ranks."""
        if self.size == 1:
            return [value]
        from accelerate.utils import gather_object

        return list(gather_object([value]))

    def summed(self, x: Tensor) -> Tensor:
        """The sum of every process's tensor."""
        return x if self.size == 1 else self.accelerator.reduce(x, reduction="sum")

    def sum_rows(self, rows: Tensor) -> Tensor:
        """This process's row of the sum of every process's [processes, n]."""
        if self.size == 1:
            return rows[0]
        reduce_scatter = getattr(distributed, "reduce_scatter_single", None) or distributed.reduce_scatter_tensor
        reduce_scatter(own := torch.empty_like(rows[0]), rows.view(-1))  # its name since torch 2.13, and before
        return own

    def gather_rows(self, row: Tensor) -> Tensor:
        """[processes, n] of every process's [n]."""
        return row[None] if self.size == 1 else self.accelerator.gather(row).view(self.size, -1)

    def shard(self, model: Decoder) -> None:
        """Deal out the weights (FSDP2): a block's are whole while it is called, the other ones in the model's calls.

        Gradients become means over the processes. All of them must call and differentiate the same, in the same order.
        """
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        mesh = init_device_mesh(model.device.type, (self.size,))
        for module in (*model.blocks, model):  # start() and logits() read weights too
            fully_shard(module, mesh=mesh)
            for method in ("start", "logits"):
                if hasattr(module, method):
                    register_fsdp_forward_method(module, method)

    def in_turn(self) -> AbstractContextManager[Any]:
        """The first process does it before the others."""
        return nullcontext() if self.size == 1 else self.accelerator.main_process_first()

    def end(self) -> None:
        """Leave the group: nothing is shared any more."""
        if self.accelerator is not None:
            self.accelerator.end_training()


ALONE = Processes()


class _RowNoise:
    """Standard normal noise of some rows, cut out of the noise of all."""

    own: list[int]
    rows: int

    def __call__(self, like: Tensor) -> Tensor:
        return torch.randn(self.rows, *like.shape[1:], dtype=like.dtype, device=like.device)[self.own]


@cache
def launched(device: str) -> Processes:
    """The processes of this launch, on "cpu" or "cuda"; ALONE where no launcher started this one.

    Raises UserError where accelerate is missing, for fp16, whose losses would have to be scaled, and for accelerate's
    own ways to share weights.
    """
    several = int(os.environ.get("WORLD_SIZE") or 1) > 1 and "RANK" in os.environ
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if not several and precision == "no":
        return ALONE
    if precision not in ("no", "bf16"):
        raise UserError(f"mixed precision '{precision}' is not supported in training. Launch with bf16, or without.")
    for name in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{name}", "false").lower() in ("true", "1"):
            raise UserError(
                f"accelerate's {name} has no part in this training, and its launch or configuration sets it. Leave it "
                "out: optimiser state is always shared by the processes, and --shard-weights shares the weights."
            )
    with needs("accelerate", extra="train", to="train in several processes"):
        from accelerate import Accelerator
    return Processes(Accelerator(cpu=device == "cpu"))
