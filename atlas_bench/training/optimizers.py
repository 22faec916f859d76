"""The optimisers of a training, and the running average of its weights, dealt out to the processes (ZeRO-1).

Every process has all weights, and the gradients of its own contexts. Each number of the weights has one owner: it alone
gets the summed gradient, keeps the optimiser's state and the average, and takes the step. Then all get the new weights.
Muon orthogonalises whole matrices, so these are dealt whole; what AdamW trains is cut anywhere. One process alone owns
everything, and each piece is a parameter.

With sharded weights (Processes.shard()) a piece is the rows that FSDP2 gave to its owner. Then torch sums gradients,
and Muon gathers each whole matrix for its step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from atlas_bench.models.decoder import Decoder
from atlas_bench.training.muon import Muon
from atlas_bench.training.pieces import Piece, buckets, deal, pack, rows, unpack
from atlas_bench.training.processes import ALONE, Processes
from atlas_bench.training.recipe import Recipe

Pieces = Sequence[Tensor | None]  # one flat tensor for each piece; None for what is not here


class Optimizers(list[torch.optim.Optimizer]):
    """[Muon, AdamW] of this process's pieces, and the average of those. All processes call every method but put().

    Muon has the linear maps of the blocks; AdamW has embeddings, gates, vectors and fast-weight beginnings.
    """

    def __init__(
        self, model: Decoder, recipe: Recipe, processes: Processes = ALONE, *, dtype: torch.dtype | None = None
    ) -> None:
        """dtype  of Muon's products; None: the faster one here"""
        self.model, self.processes = model, processes
        named = dict(model.named_parameters())
        self.names, self.parameters = list(named), list(named.values())
        linear = {id(module.weight) for module in model.blocks.modules() if isinstance(module, torch.nn.Linear)}
        by_muon = [id(x) in linear and ".memory.gate." not in name for name, x in named.items()]
        self.optimizer_of = [0 if muon else 1 for muon in by_muon]  # of each parameter
        self.sharded = hasattr(self.parameters[0], "placements")  # torch's DTensor, which takes a second to import
        shapes = [x.shape for x in self.parameters]
        self.pieces = rows(shapes, processes.size) if self.sharded else deal(shapes, by_muon, processes.size)
        self.buckets = buckets(self.pieces, processes.size)
        self.own = [k for k, piece in enumerate(self.pieces) if piece.owner == processes.rank]
        self.weights = [self._weight(self.pieces[k]) for k in self.own]
        self.average = [weight.detach().clone() for weight in self.weights]
        self.trained = (  # (number of the parameter, what an optimiser steps); where weights are dealt out, all of them
            list(enumerate(self.parameters))
            if self.sharded
            else [(self.pieces[k].parameter, weight) for k, weight in zip(self.own, self.weights, strict=True)]
        )
        matrices, others = ([x for i, x in self.trained if self.optimizer_of[i] == number] for number in (0, 1))
        super().__init__(
            [
                Muon([{"params": matrices}], lr=recipe.muon_lr, dtype=dtype),
                torch.optim.AdamW([{"params": others}], lr=recipe.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
            ]
        )

    def _weight(self, piece: Piece) -> torch.nn.Parameter:
        """The parameter itself, or one that shares a part of its numbers."""
        parameter = self.parameters[piece.parameter]
        if self.sharded:
            return torch.nn.Parameter(_local(parameter.detach()))
        if piece.stop - piece.start == parameter.numel():
            return parameter
        return torch.nn.Parameter(parameter.detach().view(-1)[piece.start : piece.stop])

    def _cut(self, tensors: Pieces) -> list[Tensor | None]:
        """Tensors like the parameters, as flat pieces that share their numbers."""
        return [
            None if (x := tensors[parameter]) is None else x.view(-1)[start:stop]
            for parameter, start, stop, _ in self.pieces
        ]

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for parameter in (*self.parameters, *self.weights):
            parameter.grad = None

    def clip(self, norm: float) -> float:
        """Sum the gradients over the processes, and shorten them to that norm; returns the norm that they had."""
        if self.sharded:  # they are means already
            for k, weight in zip(self.own, self.weights, strict=True):
                gradient = self.parameters[self.pieces[k].parameter].grad
                weight.grad = None if gradient is None else _local(gradient).mul_(self.processes.size)
        elif self.processes.size > 1:
            self._sum_gradients()
        own = torch.nn.utils.get_total_norm([weight.grad for weight in self.weights if weight.grad is not None])
        total = torch.linalg.vector_norm(self.processes.gather_rows(own.to(self.model.device).view(1)))
        torch.nn.utils.clip_grads_with_norm_(self.weights, norm, total)
        return float(total)

    @torch.no_grad()
    def _sum_gradients(self) -> None:
        """Give each own piece its summed gradient, None where no process has one; other gradients are dropped."""
        gradients = [x.grad for x in self.parameters]
        self.zero_grad()
        here = torch.tensor([float(x is not None) for x in gradients], device=self.model.device)
        anywhere = self.processes.summed(here).tolist()
        for i, parameter in enumerate(self.parameters):
            if gradients[i] is None and anywhere[i]:
                gradients[i] = torch.zeros_like(parameter)
        parts = self._cut(gradients)
        for width, spans_of in self.buckets:
            sums = here.new_zeros(self.processes.size, width)
            for row, spans in zip(sums, spans_of, strict=True):
                pack(spans, parts, row)
            unpack(spans_of[self.processes.rank], self.processes.sum_rows(sums), parts)
        for k, weight in zip(self.own, self.weights, strict=True):
            weight.grad = None if (part := parts[k]) is None else part.view_as(weight)

    @torch.no_grad()
    def step(self) -> None:
        """One step of each piece by its owner; then all processes get the new weights."""
        for optimizer in self:
            optimizer.step()
        if self.processes.size > 1 and not self.sharded:
            weights = self._cut([parameter.detach() for parameter in self.parameters])
            self._spread(weights, weights)

    def _spread(self, own: Pieces, target: Pieces) -> None:
        """Copy the owners' values of all pieces into those that the target has."""
        for width, spans_of in self.buckets:
            row = torch.zeros(width, device=self.model.device)
            pack(spans_of[self.processes.rank], own, row)
            for spans, values in zip(spans_of, self.processes.gather_rows(row), strict=True):
                unpack(spans, values, target)

    def follow(self, keep: float) -> None:
        """average <- keep average + (1 - keep) weights."""
        torch._foreach_lerp_(self.average, [weight.detach() for weight in self.weights], 1 - keep)

    def whole(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        """{parameter's name: tensor of its shape} of the values of all own pieces; {} but in the first process."""
        if self.processes.size == 1:
            return {self.names[piece.parameter]: x for piece, x in zip(self.pieces, values, strict=True)}
        own: list[Tensor | None] = [None] * len(self.pieces)
        for k, value in zip(self.own, values, strict=True):
            own[k] = value.view(-1)
        if not self.processes.first:
            self._spread(own, [None] * len(self.pieces))
            return {}
        made = [torch.empty(x.shape, dtype=x.dtype) for x in self.parameters]  # a GPU may not have the room
        self._spread(own, self._cut(made))
        return dict(zip(self.names, made, strict=True))

    @torch.no_grad()
    def put(self, weights: Mapping[str, Tensor]) -> None:
        """Copy whole weights into the model."""
        if self.sharded:
            for k, weight in zip(self.own, self.weights, strict=True):
                weight.copy_(self._part(weights[self.names[self.pieces[k].parameter]], k))
        else:
            for name, parameter in zip(self.names, self.parameters, strict=True):
                parameter.copy_(weights[name])

    def nbytes(self) -> int:
        """Bytes of optimiser state and average in this process."""
        states = [x for optimizer in self for entry in optimizer.state.values() for x in entry.values()]
        return sum(_local(x).nbytes for x in (*self.average, *states))

    def _keys(self) -> list[str]:
        """The beginning of each parameter's names in a checkpoint: optimiser, and number among its parameters."""
        of = self.optimizer_of
        return [f"optimizer.{number}.{of[:i].count(number)}." for i, number in enumerate(of)]

    def state(self) -> dict[str, Tensor]:
        """The whole average and optimiser state under the names of a checkpoint; {} but in the first process."""
        tensors = {f"average.{name}": x for name, x in self.whole(self.average).items()}
        weights = self.whole(self.weights) if self.sharded else {}  # else everybody has them
        tensors |= {f"model.{name}": x for name, x in weights.items()}
        states = {i: self[self.optimizer_of[i]].state.get(x, {}) for i, x in self.trained}
        entries = [states[self.pieces[k].parameter] for k in self.own]
        numbers = {  # of each parameter's state; None for a tensor
            self.pieces[k].parameter: {name: None if x.dim() else float(x) for name, x in entry.items()}
            for k, entry in zip(self.own, entries, strict=True)
        }
        for other in self.processes.gathered(numbers):
            numbers |= other
        keys = self._keys()
        for name in sorted({name for found in numbers.values() for name, x in found.items() if x is None}):
            whole = self.whole([_local(entry.get(name, w)) for entry, w in zip(entries, self.weights, strict=True)])
            tensors |= {keys[i] + name: whole[self.names[i]] for i in numbers if whole and name in numbers[i]}
        for i, found in numbers.items():
            for name, x in found.items():
                if x is not None and self.processes.first:
                    tensors[keys[i] + name] = torch.tensor(x)
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take this process's part of what state() returned in a training by any number of processes."""
        states: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for key, x in tensors.items():
            number, _, name = key.rpartition(".")
            states[f"{number}."][name] = x
        for k, average in zip(self.own, self.average, strict=True):
            average.copy_(self._part(tensors[f"average.{self.names[self.pieces[k].parameter]}"], k))
        keys, entries = self._keys(), ({}, {})
        piece_of = {self.pieces[k].parameter: k for k in self.own}
        for i, x in self.trained:
            of_optimizer = entries[self.optimizer_of[i]]
            of_optimizer[len(of_optimizer)] = {
                name: value if not value.dim() else _like(x, value) if self.sharded else self._part(value, piece_of[i])
                for name, value in states[keys[i]].items()
            }
        for optimizer, state in zip(self, entries, strict=True):
            found = {j: entry for j, entry in state.items() if entry}
            optimizer.load_state_dict({**optimizer.state_dict(), "state": found})

    def _part(self, x: Tensor, k: int) -> Tensor:
        """A copy of an own piece of a tensor like its parameter; a view would keep all of it in memory."""
        _, start, stop, _ = self.pieces[k]
        return x.reshape(-1)[start:stop].view_as(self.weights[self.own.index(k)]).clone()


def _local(x: Tensor) -> Tensor:
    """What of a tensor is in this process."""
    return x.to_local() if hasattr(x, "to_local") else x


def _like(parameter: Tensor, x: Tensor) -> Tensor:
    """A whole tensor dealt out as a parameter is."""
    from torch.distributed.tensor import distribute_tensor

    x = x.to(parameter.device)
    return distribute_tensor(x, parameter.device_mesh, parameter.placements, src_data_rank=None)
