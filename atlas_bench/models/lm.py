"""A Decoder as a types.Model: streams, forks, answers, checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import psutil
import torch

from atlas_bench.kernels import cpu, dispatch
from atlas_bench.kernels.cpu import best_matmul_precision, keep_freed_memory
from atlas_bench.models import card, cost
from atlas_bench.models.decoder import Decoder, State
from atlas_bench.models.dense import reader
from atlas_bench.models.events import EventReader, Found
from atlas_bench.models.tokenizer import Tokenizer
from atlas_bench.types import Model
from atlas_bench.units import format_bytes, format_length

ASSUMED_FLOPS = 1e11  # for the hours named in an `unsupported`: the order of a laptop's matrix products
MAX_HOURS = 24
END = 0  # <|end|>, which tokenizer.train() puts first
EVENT_BLOCK = 1 << 18  # tokens, where most of them are looked up in tables alone
LOGITS = 1 << 26  # bytes of logits that logprobs() makes at once


class LanguageModel(Model):
    """Runs a trained Decoder for the runner; every state tensor is [B, ...] and never changed in place."""

    def __init__(
        self, name: str, model: Decoder, tokenizer: Tokenizer, card: Mapping[str, Any], *, device: str = "cpu",
        matmul_precision: str | None = None,
    ):  # fmt: skip
        self.name, self.tokenizer, self.card, self.device = name, tokenizer, card, device
        self.model = model.to(device).eval().requires_grad_(False)
        self.events = EventReader(self.model) if EventReader.can_read(self.model) else None  # None: reads densely
        self.densely = self.events.densely if self.events else reader(self.model)
        self.block = EVENT_BLOCK if self.events else 4096  # tokens that are best fed at once
        self.newline = tokenizer.encode("\n")[0]
        # by events few products are made: rounding them would save nothing, and answers would differ between machines
        self.matmul_precision = matmul_precision or ("fp32" if self.events else best_matmul_precision(device)[0])
        keep_freed_memory()

    def supports(self, length: int) -> str | None:
        """Why full attention cannot read that many tokens here; None for everything else."""
        config = self.model.config
        if not config.full_attention:
            return None
        cache, hours = (
            cost.cache_bytes(config, length),
            cost.feed_flops(config, length) / ASSUMED_FLOPS / 3600,
        )
        memory = psutil.virtual_memory().total
        if cache < memory / 4 and hours < MAX_HOURS:
            return None
        return (
            f"full attention over {format_length(length)} tokens needs a key-value cache of {format_bytes(cache)} "
            f"(this machine has {format_bytes(memory)}) and about {hours:.0f} hours at {ASSUMED_FLOPS:.0e} FLOP/s; "
            f"a sliding-window or memory model reads it in constant memory"
        )

    def begin_cell(self) -> None:
        """Forget which kernels ran: what facts() then says is of this cell alone."""
        dispatch.RAN.clear()

    @torch.inference_mode()
    def start(self, batch: int) -> State:
        return self.model.start(batch)

    @torch.inference_mode()
    def feed(self, state: State, tokens: np.ndarray) -> State:
        ids = torch.from_numpy(tokens).long().to(self.device)
        with cpu.matmul_precision(self.matmul_precision):
            return self.events.feed(state, ids) if self.events else self.densely(state, ids)

    @property
    def searches(self) -> bool:
        """Whether search() finds anything: with a screen, in float32; bf16 is set and unset for the whole process."""
        return self.events is not None and self.matmul_precision == "fp32"

    @property
    def sees_before(self) -> int:
        """Tokens before a block that decide its search."""
        return self.model.config.screen

    @torch.inference_mode()
    def search(self, before: np.ndarray, tokens: np.ndarray) -> Found | None:
        ids, earlier = (torch.from_numpy(x).long().to(self.device) for x in (tokens, before))
        return self.events.search(self.events.past(earlier), ids) if self.searches else None

    @torch.inference_mode()
    def replay(self, state: State, found: Found) -> State:
        with cpu.matmul_precision(self.matmul_precision):
            return self.events.replay(state, found)

    def row(self, state: State, index: int) -> State:
        return [
            {part: {n: x[index : index + 1].clone() for n, x in tensors.items()} for part, tensors in layer.items()}
            for layer in state
        ]

    @torch.inference_mode()
    def answer(self, state: State, question: Sequence[int], max_tokens: int, stop: Sequence[str] = ("\n",)) -> str:
        """Greedy text after the question, up to a stop text, the end of text or max_tokens; without blanks around.

        Blanks and line breaks before the answer never end it. Raises FloatingPointError for logits that are not finite.
        """
        by_token = tuple(stop) == ("\n",)  # one ends every answer these models were taught; "\n\n" is another token
        stop = () if by_token else stop
        tokens, said = torch.tensor([list(question)], device=self.device), []
        for _ in range(max_tokens):
            with cpu.matmul_precision(self.matmul_precision):
                hidden, state = self.model(tokens, state)
                logits = self.model.logits(hidden[:, -1])
            if not torch.isfinite(logits).all():  # argmax would take a NaN for the answer
                raise FloatingPointError(
                    f"the logits are not finite at token {len(said) + 1} of the answer; "
                    "the memory or the weights diverged, and an answer from them would mean nothing"
                )
            token = int(logits.argmax(-1))
            if token == END or (by_token and token == self.newline and self.tokenizer.decode(said).strip()):
                break
            said.append(token)
            if any(each in self.tokenizer.decode(said).lstrip() for each in stop):
                break
            tokens = torch.tensor([[token]], device=self.device)
        return before(self.tokenizer.decode(said), stop).strip()

    @torch.inference_mode()
    def logprobs(self, state: State, tokens: np.ndarray) -> tuple[State, np.ndarray, np.ndarray]:
        """The state after all tokens [B, T + 1] but the last; of tokens[:, 1:] the log-probability and if likeliest.

        Returns (state, nats [B, T] float32, greedy [B, T] bool). Logits are made for as many tokens at once as fit
        LOGITS bytes.
        """
        ids = torch.from_numpy(tokens).long().to(self.device)
        wanted = ids[:, 1:].flatten()
        step = max(1, LOGITS // (4 * self.model.config.vocab_size))
        nats, greedy = [], []
        with cpu.matmul_precision("fp32"):  # bf16 rounds by blocks: a loss would hang on their size by 0.001
            hidden, state = self.model(ids[:, :-1], state)
            for rows, token in zip(hidden.flatten(0, 1).split(step), wanted.split(step), strict=True):
                logits = self.model.logits(rows).float()
                nats.append(logits.gather(-1, token[:, None]).squeeze(-1) - logits.logsumexp(-1))
                greedy.append(logits.argmax(-1) == token)
        shape = len(ids), ids.shape[1] - 1
        return state, torch.cat(nats).view(shape).cpu().numpy(), torch.cat(greedy).view(shape).cpu().numpy()

    def state_bytes(self, state: State) -> int:
        return sum(x[0].numel() * x.element_size() for layer in state for part in layer.values() for x in part.values())

    def finite(self, state: State) -> bool:
        """False once any number of the state is infinite or not a number."""
        return is_finite(state)

    def pack(self, state: State) -> dict[str, np.ndarray]:
        return {
            f"{i}.{part}.{name}": x.contiguous().cpu().numpy()
            for i, layer in enumerate(state)
            for part, tensors in layer.items()
            for name, x in tensors.items()
        }

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> State:
        state: State = [{} for _ in self.model.blocks]
        for key, array in arrays.items():
            layer, part, name = key.split(".", 2)
            state[int(layer)].setdefault(part, {})[name] = torch.from_numpy(array.copy()).to(self.device)
        return state

    def _ran(self) -> tuple[str, str | None]:
        """(the forms that ran since begin_cell(), why no faster ones): on a GPU known after the first block."""
        if (why := dispatch.why_torch(self.device)) or self.model.config.memory == "none":
            return "torch", why or "attention is torch's own"
        triton = sorted(op for op, (form, _) in dispatch.RAN.items() if form == "triton")
        whys = sorted(f"{op}: {reason}" for op, (_, reason) in dispatch.RAN.items() if reason)
        return f"triton: {', '.join(triton)}" if triton else "torch", "; ".join(whys) or None

    def facts(self) -> dict[str, Any]:
        config, memory = self.model.config, self.model.blocks[0].memory
        form, why = self._ran()
        kernel = "attention" if memory is None else memory.kernel
        return {
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "memory": config.memory,
            "training_tokens": training_tokens(self.card),
            "training": training(self.card),
            "learnt": card.learnt(self.card),
            "weights_hash": self.card.get("weights_hash"),
            "kernel": f"{'screen, ' if self.events else ''}{kernel} ({form})",
            "kernel_why": why,
            "chunk_size": None if memory is None else memory.chunk_size,
            "feed_flops_per_token": cost.feed_flops(config, 1),
            "config": config.to_dict(),
            "generation": {"ends": [END, self.newline]},
            "device": self.device,
            "products": self.matmul_precision,
            "gpu": torch.cuda.get_device_name() if self.device == "cuda" else None,
        }


def training(card: Mapping[str, Any]) -> dict[str, Any] | None:
    """The seed and learning rates of the training by the card; None if it has neither."""
    recipe = card.get("recipe") or {}
    return {name: recipe[name] for name in ("seed", "muon_lr", "adam_lr") if name in recipe} or None


def training_tokens(card: Mapping[str, Any]) -> int | None:
    """All tokens that the weights were trained on, those of the model that they began from included."""
    own, origin = card.get("training_tokens"), card.get("initialised_from") or {}
    return None if own is None else own + (origin.get("training_tokens") or 0)


def before(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop text in it; blanks and line breaks at its beginning are left out first."""
    text = text.lstrip()
    return text[: min((at for at in map(text.find, stop) if at >= 0), default=len(text))]


def is_finite(state: State) -> bool:
    """Whether no number of the state is infinite or not a number."""
    return all(bool(torch.isfinite(x).all()) for layer in state for part in layer.values() for x in part.values())
