"""The parts that can be removed from a trained model, one at a time and without training it again.

    for alteration in alterations(model.model):
        without = altered(model, alteration)        # a LanguageModel of its own; it shares the weights that stay
    recent = Recent(model, 1000)                    # remembers the last 1000 tokens and nothing older

INGREDIENTS is the table of the parts of an update rule: how a memory shows that it has one, and how it is removed.
Holding a gate at one value removes what it controls, so a user's memory takes part by the names of its gates.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from atlas_bench.models.attention import SlidingWindowAttention
from atlas_bench.models.decoder import Decoder
from atlas_bench.models.lm import LanguageModel
from atlas_bench.models.memory.base import Memory
from atlas_bench.types import Model
from atlas_bench.units import format_length


@dataclass(frozen=True)
class Alteration:
    """One change of a trained model.

    name    as it stands after the model's name in records: 'momentum=off'
    effect  what is different, for a table
    apply   changes a decoder; it replaces tensors and never writes into them, since copies share them
    """

    name: str
    effect: str
    apply: Callable[[Decoder], None]


class Ingredient(NamedTuple):
    """A part of an update rule: how it is called without, whether a memory has it, and its removal."""

    name: str
    effect: str
    present: Callable[[Memory], Any]
    remove: Callable[[Memory], None]


def altered(model: LanguageModel, alteration: Alteration) -> LanguageModel:
    """The model with one alteration; `model` does not change, and unchanged tensors are shared."""
    decoder = model.model
    decoder = copy.deepcopy(decoder, {id(x): x for x in (*decoder.parameters(), *decoder.buffers())})
    alteration.apply(decoder)
    name = f"{model.name};{alteration.name}"
    machine = {"device": model.device, "matmul_precision": model.matmul_precision}
    return LanguageModel(name, decoder, model.tokenizer, model.card, **machine)


def alterations(decoder: Decoder) -> list[Alteration]:
    """Every alteration that would change the decoder: its memories' ingredients, its memories, screen and attention."""
    memories = _memories(decoder)
    found = _without_ingredients(memories[0]) + _closed(len(memories)) if memories else []
    if decoder.screen is not None:
        found.append(Alteration("screen=open", "the screen lets every token through", _open_screen))
    if any(_sees_others(block.attention) for block in decoder.blocks):
        found.append(Alteration("attention=self", "attention sees the token itself alone", _attend_to_itself))
    return found


def hold(memory: Memory, gate: str, value: float) -> None:
    """Keep a gate at one value for every token, head and channel."""
    constant = partial(torch.full_like, fill_value=value)
    memory.gates = {**memory.gates, gate: memory.gates[gate]._replace(form=constant)}


# The ingredients of an update rule ------------------------------------------------------------------------


def held(gates: str, name: str, effect: str, value: float = 0.0) -> Ingredient:
    """The ingredient of the gates whose whole names match a pattern: without it they are held at `value`."""

    def present(memory: Memory) -> list[str]:
        return [gate for gate in memory.gate if re.fullmatch(gates, gate)]

    def remove(memory: Memory) -> None:
        for gate in present(memory):
            hold(memory, gate, value)

    return Ingredient(name, effect, present, remove)


def _has_muon(memory: Memory) -> bool:
    return getattr(getattr(memory, "rule", None), "orthogonalise", None) is not None


def _remove_muon(memory: Memory) -> None:
    memory.rule = replace(memory.rule, orthogonalise=None, every=1)


def _has_degrees(memory: Memory) -> bool:
    coefficients = getattr(memory.features, "coefficients", None)  # one for each degree
    return coefficients is not None and len(coefficients) > 1


def _keep_first_degree(memory: Memory) -> None:
    coefficients = memory.features.coefficients
    memory.features.coefficients = _constant(torch.cat([coefficients[:1], torch.zeros_like(coefficients[1:])]))


GATES = {  # pattern of gates' names -> name and effect of holding them, and at what; 0 where nothing is said
    r"lag[1-9]\d*": ("window=1", "a step fits its newest token alone"),
    "momentum": ("momentum=off", "a step takes nothing from the steps before it"),
    "lag0": ("newest=1", "the newest token of a window counts in full", 1.0),
    "forget|dt": ("forgetting=off", "nothing fades: retention is 1"),
    "lr": ("lr=1", "every step has full size", 1.0),
}
INGREDIENTS = (
    Ingredient("muon=off", "plain gradient steps, without Newton-Schulz", _has_muon, _remove_muon),
    *(held(gates, *said) for gates, said in GATES.items()),
    Ingredient("degree=1", "features of the first degree alone", _has_degrees, _keep_first_degree),
)


def _own_gates(memory: Memory) -> list[Ingredient]:
    """An ingredient for each gate that GATES does not know: a memory of the user's may call it anything."""
    known = "|".join(["write", *GATES])
    own = [gate for gate in memory.gate if not re.fullmatch(known, gate)]
    return [held(re.escape(gate), f"{gate}=0", f"the gate '{gate}' is 0") for gate in own]


def _without_ingredients(memory: Memory) -> list[Alteration]:
    """One alteration for each ingredient of such a memory, in all layers; of several, one without all of them too."""
    found = [each for each in (*INGREDIENTS, *_own_gates(memory)) if each.present(memory)]
    single = [Alteration(each.name, each.effect, partial(_remove, [each])) for each in found]
    together = Alteration("ingredients=off", "all of the above at once", partial(_remove, found))
    return [*single, together] if len(found) > 1 else single


def _remove(ingredients: Sequence[Ingredient], decoder: Decoder) -> None:
    for memory in _memories(decoder):
        for ingredient in ingredients:
            ingredient.remove(memory)


# Memories, screen, attention ------------------------------------------------------------------------------


def _closed(layers: int) -> list[Alteration]:
    """Each layer's memory closed, and all of them; the same where there is one layer."""
    found = [
        Alteration(f"layer{i + 1}=closed", f"the memory of layer {i + 1} is never written", partial(_close, [i]))
        for i in range(layers)
    ]
    every = Alteration("memory=closed", "no memory is ever written", partial(_close, range(layers)))
    return [*found, every] if layers > 1 else [every]


def _close(layers: Iterable[int], decoder: Decoder) -> None:
    memories = _memories(decoder)
    for i in layers:
        hold(memories[i], "write", 0.0)


def _open_screen(decoder: Decoder) -> None:
    decoder.screen = None  # its gate is a factor, and every layer's own write gate stays


def _sees_others(attention: nn.Module | None) -> bool:
    return isinstance(attention, SlidingWindowAttention) and attention.window > 1


def _attend_to_itself(decoder: Decoder) -> None:
    for block in decoder.blocks:
        bias = block.attention.bias  # [H, window], by distance
        block.attention.bias = _constant(torch.cat([bias[:, :1], torch.full_like(bias[:, 1:], -torch.inf)], 1))


def _memories(decoder: Decoder) -> list[Memory]:
    return [block.memory for block in decoder.blocks if block.memory is not None]


def _constant(x: Tensor) -> nn.Parameter:
    return nn.Parameter(x, requires_grad=False)


class Recent(Model):
    """A model that has forgotten all but the last tokens before a question.

    Its state is those tokens' ids [B, up to `tokens`] and the chat template's before them [B, H], which it keeps; they
    are read, from the start of a stream, when it is asked.
    """

    def __init__(self, model: Model, tokens: int):
        self.model, self.tokens, self.name = model, tokens, f"{model.name};reset={format_length(tokens)}"
        self.tokenizer, self.block, self.wrap, self.opening = model.tokenizer, model.block, model.wrap, model.opening

    def supports(self, length: int) -> str | None:
        return self.model.supports(min(length, self.tokens))

    def start(self, batch: int) -> dict[str, np.ndarray]:
        return {"head": np.zeros((batch, 0), np.int32), "tokens": np.zeros((batch, 0), np.int32)}

    def feed(self, state: dict[str, np.ndarray], tokens: np.ndarray) -> dict[str, np.ndarray]:
        lacking = len(self.wrap[0]) - state["head"].shape[1]
        head = np.concatenate([state["head"], tokens[:, :lacking].astype(np.int32)], 1)
        read = np.concatenate([state["tokens"], tokens[:, lacking:].astype(np.int32)], 1)
        return {"head": head, "tokens": read[:, -self.tokens :].copy()}

    def answer(
        self, state: dict[str, np.ndarray], question: Sequence[int], max_tokens: int, stop: Sequence[str] = ("\n",)
    ) -> str:
        read, tokens = self.model.start(1), np.concatenate([state["head"], state["tokens"]], 1)
        for start in range(0, tokens.shape[1], self.block):
            read = self.model.feed(read, tokens[:, start : start + self.block])
        return self.model.answer(read, question, max_tokens, stop)

    def begin_cell(self) -> None:
        self.model.begin_cell()

    def facts(self) -> dict[str, Any]:
        return self.model.facts()
