"""A transformers model as a types.Model: a context read block by block into a state that is forked, saved and weighed.

    model = hf.load("hf:state-spaces/mamba-130m-hf")
    state = model.feed(model.start(1), tokens)                  # [1, T]; may be repeated
    model.answer(state, model.tokenizer.encode(" Where is John?"), 20)

A part of a context that is read after another gives the logits that it would give read at once; forward.py
tries that for every model before it is used. A prompt beyond the model's context limit is `unsupported`, never
truncated.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PreTrainedModel

from atlas_bench.kernels import cpu
from atlas_bench.models import answers
from atlas_bench.models.huggingface import cache as hf_cache
from atlas_bench.models.huggingface import tokenizer as hf_tokenizer
from atlas_bench.models.huggingface.forward import Forward, free_memory
from atlas_bench.types import Model
from atlas_bench.units import format_bytes, format_length

LEARNED = re.compile(r"(wpe|position\w*)$")  # modules that hold a row for every position
DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}  # torch's name -> a record's `products`


@dataclass(frozen=True)
class State:
    """The cache of `batch` streams that have read `tokens` tokens each; None before the first."""

    batch: int
    tokens: int = 0
    cache: Any = None


class HuggingFaceModel(Model):
    """types.Model over a transformers model and tokenizer; nothing is sampled, nothing truncated, nothing padded.

    name          as the command has it
    chat          whether prompts are one user message of the tokenizer's chat template
    thinking      tokens that the model may think before its answer
    matmul_precision  of float32 matrices, "fp32", "tf32" or "bf16"
    context_limit tokens the model reads; None: what its configuration says
    weights_hash  of its files

    Raises UserError for a chat template that does not fit, ValueError for a model that cannot be read in parts.
    """

    def __init__(
        self, name: str, model: PreTrainedModel, tokenizer: hf_tokenizer.Tokenizer, *, chat: bool = False,
        thinking: int = 0, matmul_precision: str = "fp32", context_limit: int | None = None,
        weights_hash: str | None = None,
    ):  # fmt: skip
        self.name, self.tokenizer, self.weights_hash = name, tokenizer, weights_hash
        self.model = model.eval().requires_grad_(False)
        self.device, self.matmul_precision = model.device.type, matmul_precision
        self.template = hf_tokenizer.template_hash(tokenizer) if chat else "none"
        self.thinking = thinking
        self.wrap = hf_tokenizer.wrap(tokenizer, chat=chat, thinking=thinking > 0)
        self.thoughts_opened = chat and answers.opens_thoughts(tokenizer.decode_all(self.wrap[1]))
        self.special = tokenizer.special()
        self.opening, _ = hf_tokenizer.wrap(tokenizer, chat=False)
        self.reads = Forward(self.model)
        self.positions = _learned_positions(model)
        self.limit = min(filter(None, (context_limit or limit_of(model, tokenizer), self.positions)), default=None)
        self.ends = _ends(model, tokenizer)
        cpu.keep_freed_memory()

    def supports(self, length: int) -> str | None:
        """Why a prompt of that length is not read: the context limit, or a cache that memory does not hold."""
        length += self.thinking
        if self.limit is not None and length > self.limit:
            beyond = "" if self.positions else ", or write context_limit=N after the name to try it beyond"
            return (
                f"the context limit of '{self.name}' is {self.limit:,} tokens, and nothing is truncated; ask for --len "
                f"{format_length(self.limit)} or less{beyond}"
            )
        if (ends := _rope_changes(self.model)) is not None and length > ends:
            return (
                f"the rotary frequencies of '{self.name}' change for all tokens once a stream passes {ends:,}, so its "
                f"keys cannot be kept from block to block; ask for --len {format_length(ends)} or less, or write "
                "rope=long after the name for the frequencies of long streams from the first token on"
            )
        cache, memory = self._cache_bytes(length), free_memory(self.device)
        if cache > memory:
            return (
                f"{format_length(length)} tokens need a key-value cache of {format_bytes(cache)}, and "
                f"{format_bytes(memory)} of the {'GPU' if self.device == 'cuda' else 'machine'}'s memory are free; "
                "a recurrent or sliding-window model reads them in constant memory"
            )
        return None

    def streams(self, length: int) -> int:
        """How many streams of that length fit side by side, one at least."""
        cache = self._cache_bytes(length)
        return max(1, free_memory(self.device) // cache) if cache else sys.maxsize

    def _cache_bytes(self, length: int) -> int:
        return self.reads.growth * length * 5 // 4  # with room to grow

    def start(self, batch: int) -> State:
        return State(batch)

    @torch.inference_mode()
    def feed(self, state: State, tokens: np.ndarray) -> State:
        ids = self._ids(tokens)
        cache = hf_cache.fork(state.cache)
        for part in self._parts(ids, state.tokens):
            _, cache = self._forward(part, cache)
        return State(state.batch, state.tokens + ids.shape[1], cache)

    def row(self, state: State, index: int) -> State:
        if state.batch == 1:  # states are never changed
            return state
        return State(1, state.tokens, hf_cache.row(state.cache, index, state.batch))

    def answer(self, state: State, question: Sequence[int], max_tokens: int, stop: Sequence[str] = ("\n",)) -> str:
        """Greedy text after the question, up to a stop text, an end-of-text token or max_tokens; see answers.py.

        It excludes thoughts: if the model has room for them, max_tokens count from their end.

        Raises NoAnswer if thoughts do not end, FloatingPointError for logits that are not finite.
        """
        how = {"stop": stop, "opened": self.thoughts_opened, "special": self.special}
        ids: list[int] = []
        text, cut, limit = "", False, max_tokens
        with closing(self._greedy(state, question)) as tokens:
            for token in islice(tokens, max_tokens + self.thinking):
                ids.append(token)
                text = self.tokenizer.decode_all(ids)
                so_far = answers.read(text, **how)
                if so_far.thinking:
                    limit = min(len(ids), self.thinking) + max_tokens
                cut = not so_far.ended and len(ids) >= limit
                if so_far.ended or cut:
                    break
        return answers.answer(text, cut=cut, thinking=self.thinking, **how)

    @torch.inference_mode()
    def _greedy(self, state: State, question: Sequence[int]) -> Iterator[int]:
        """The likeliest tokens after the question, up to an end-of-text token."""
        read = state.tokens + len(question)
        with hf_cache.scratch(state.cache) as cache:
            for part in self._parts(self._ids([question]), state.tokens):
                logits, cache = self._forward(part, cache)
            for n in count(1):
                if not torch.isfinite(logits).all():  # argmax would take a NaN for the answer
                    raise FloatingPointError(
                        f"the logits are not finite at token {n} of the answer; the state or the weights left the "
                        f"range of {logits.dtype}, and an answer from them would mean nothing"
                    )
                token = int(logits[0, -1].argmax(-1))
                if token in self.ends:
                    return
                yield token
                if self.positions is not None and read + n > self.positions:
                    raise ValueError(f"the answer needs more than the model's {self.positions:,} positions")
                logits, cache = self._forward(self._ids([[token]]), cache)

    @torch.inference_mode()
    def logprobs(self, state: State, tokens: np.ndarray) -> tuple[State, np.ndarray, np.ndarray]:
        """The state after all tokens [B, T + 1] but the last; of tokens[:, 1:] the log-probability and if likeliest.

        Returns (state, nats [B, T] float32, greedy [B, T] bool).
        """
        ids = self._ids(tokens)
        cache, read = hf_cache.fork(state.cache), 0
        nats, greedy = [np.zeros((len(ids), 0), np.float32)], [np.zeros((len(ids), 0), bool)]
        for part in self._parts(ids[:, :-1], state.tokens, every=True):
            logits, cache = self._forward(part, cache, every=True)
            wanted = ids[:, read + 1 : read + 1 + part.shape[1]]
            read += part.shape[1]
            logits = logits.float()
            said = logits.gather(-1, wanted[..., None]).squeeze(-1)
            nats.append((said - logits.logsumexp(-1)).cpu().numpy())
            greedy.append((logits.argmax(-1) == wanted).cpu().numpy())
        state = State(state.batch, state.tokens + read, cache)
        return state, np.concatenate(nats, 1), np.concatenate(greedy, 1)

    def finite(self, state: State) -> bool:
        """False once any number of the state is infinite or not a number."""
        return hf_cache.is_finite(state.cache)

    def state_bytes(self, state: State) -> int:
        return hf_cache.nbytes(state.cache, state.batch)

    def pack(self, state: State) -> dict[str, np.ndarray]:
        shape = {"batch": np.array(state.batch), "tokens": np.array(state.tokens)}
        return shape | {f"cache.{path}": x for path, x in hf_cache.pack(state.cache).items()}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> State:
        """The packed state; ValueError for one of another model or version of transformers."""
        batch, tokens = int(arrays["batch"]), int(arrays["tokens"])
        packed = {path.removeprefix("cache."): x for path, x in arrays.items() if path.startswith("cache.")}
        if not packed:
            return State(batch, tokens)
        like = self.feed(self.start(batch), np.zeros((batch, 2), dtype=np.int32)).cache
        return State(batch, tokens, hf_cache.unpack(packed, like, self.device))

    def facts(self) -> dict[str, Any]:
        config = self.model.config
        dtype = str(self.model.dtype).removeprefix("torch.")
        attention = f" ({config._attn_implementation})" if self.reads.growth else ""
        return {
            "generation": {"ends": sorted(self.ends), "answers": answers.VERSION},
            "parameters": self.model.num_parameters(),
            "memory": config.model_type,
            "weights_hash": self.weights_hash,
            "kernel": f"transformers {transformers.__version__}{attention}",
            "kernel_why": self.reads.why,
            "config": config.to_dict(),
            "context_limit": self.limit,
            "chat_template": self.template,
            "device": self.device,
            "products": self.matmul_precision if dtype == "float32" else DTYPES.get(dtype, dtype),
            "gpu": torch.cuda.get_device_name() if self.device == "cuda" else None,
        }

    def _forward(self, ids: torch.Tensor, cache: Any, *, every: bool = False) -> tuple[torch.Tensor, Any]:
        with cpu.matmul_precision(self.matmul_precision):
            return self.reads(ids, cache, every=every)

    def _ids(self, tokens: Any) -> torch.Tensor:
        return torch.from_numpy(np.asarray(tokens, dtype=np.int64)).to(self.device)

    def _parts(self, ids: torch.Tensor, read: int, *, every: bool = False) -> Iterator[torch.Tensor]:
        """The tokens [B, T] in the form that the model reads, after `read` earlier ones."""
        at = 0
        while at < ids.shape[1]:
            size = self.reads.part(len(ids), read + at, every=every)
            yield ids[:, at : at + size]
            at += size


def limit_of(model: PreTrainedModel, tokenizer: hf_tokenizer.Tokenizer) -> int | None:
    """The model's context length by its configuration, else by its tokenizer; None for no limit."""
    config = model.config.get_text_config(decoder=True)
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(getattr(config, name, None), int):
            return getattr(config, name)
    said = tokenizer.inner.model_max_length
    recurrent = getattr(model, "_is_stateful", False)  # Mamba and others have no positions
    return None if recurrent or said > 10**9 else int(said)


def _rope_changes(model: PreTrainedModel) -> int | None:
    """The length above which rotary frequencies of kind "longrope" or "dynamic" change for all tokens; else None."""
    for module in model.modules():
        kinds = getattr(module, "rope_type", None)
        for layer_type, kind in (kinds if isinstance(kinds, dict) else {None: kinds}).items():
            if kind in ("longrope", "dynamic"):
                rope = module.config.rope_parameters
                rope = rope[layer_type] if layer_type else rope
                return rope.get("original_max_position_embeddings") or module.config.max_position_embeddings
    return None


def _learned_positions(model: PreTrainedModel) -> int | None:
    """How many positions there are where each is a row of a table, as in GPT-2 and OPT."""
    tables = (n for n, x in model.named_modules() if isinstance(x, torch.nn.Embedding) and LEARNED.search(n))
    return getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None) if any(tables) else None


def _ends(model: PreTrainedModel, tokenizer: hf_tokenizer.Tokenizer) -> set[int]:
    """Tokens that end a text."""
    told = [getattr(x, "eos_token_id", None) for x in (model.generation_config, model.config, tokenizer.inner)]
    return {int(x) for each in told for x in (each if isinstance(each, list) else [each]) if x is not None}
