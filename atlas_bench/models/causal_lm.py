"""The backbone as a transformers model: AutoModelForCausalLM, generate(), Trainer; its cache is the state.

Importing this file registers model type "atlas-bench" with AutoConfig and AutoModelForCausalLM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    initialization,
)
from transformers.modeling_outputs import CausalLMOutputWithPast

from atlas_bench import registry
from atlas_bench.errors import UserError, reason
from atlas_bench.models import loading
from atlas_bench.models.config import Config
from atlas_bench.models.decoder import Decoder, State
from atlas_bench.models.tokenizer import PRETRAINED

END = "<|end|>"  # the tokenizer's one special token
# What transformers calls the cache: `cache` from 5.24 on, `past_key_values` before. forward() takes both.
CACHE_NAMES = ("cache", "past_key_values")
CACHE = next(name for name in CACHE_NAMES if name in CausalLMOutputWithPast.__dataclass_fields__)
# Arguments of transformers' callers that change no logit here: a state counts its tokens itself.
WITHOUT_EFFECT = frozenset({"position_ids", "cache_position", "num_items_in_batch"})


class AtlasBenchConfig(PretrainedConfig):
    """The fields of decoder.Config as a transformers configuration."""

    model_type = "atlas-bench"
    attribute_map = {"hidden_size": "d_model", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
    keys_to_ignore_at_inference = [CACHE]

    def __init__(self, **options: Any):
        for field in fields(Config):
            default = field.default_factory() if field.default is MISSING else field.default
            setattr(self, field.name, options.pop(field.name, default))
        super().__init__(**options)

    def architecture(self) -> Config:
        """The decoder.Config that this configuration holds."""
        return Config(**{field.name: getattr(self, field.name) for field in fields(Config)})


class StateCache:
    """A Decoder's state where transformers keeps its cache; forward() moves it on in place.

    The tensors themselves are never changed, so copy.copy(cache) is a fork that costs nothing.
    """

    is_compileable = False  # what generate() asks of any cache
    is_croppable = False
    is_linear = (False,)  # of each layer: False lets generate() skip the tokens that get_seq_length() counts

    def __init__(self) -> None:
        self.state: State | None = None  # None at the beginning of the streams
        self.length = 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens read so far, padding included; of every layer."""
        return self.length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """For beam search: row i gets the old state of row beam_idx[i]."""
        if self.state is not None:
            self.state = _each(lambda x: x.index_select(0, beam_idx.to(x.device)), self.state)


def _each(f: Callable[..., Tensor], *states: State) -> State:
    """f over the tensors of like name in all states."""
    return [
        {part: {name: f(*(x[part][name] for x in layers)) for name in layers[0][part]} for part in layers[0]}
        for layers in zip(*states, strict=True)
    ]


class AtlasBenchForCausalLM(PreTrainedModel, GenerationMixin):
    """A Decoder for transformers; the output embedding is the input embedding."""

    config_class = AtlasBenchConfig
    base_model_prefix = "decoder"
    _is_stateful = True  # a state cannot be cut back: transformers refuses assisted generation by itself

    def __init__(self, config: AtlasBenchConfig):
        super().__init__(config)
        self.decoder = Decoder(config.architecture())
        self.post_init()

    def init_weights(self) -> None:
        """Nothing is left to do: the Decoder initialises itself."""

    @torch.no_grad()
    def _init_weights(self, module: torch.nn.Module) -> None:
        """Tensors that from_pretrained found in no file and left empty: buffers are computed again, missing weights are
        an error."""

        def empty(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
            return [name for name, x in tensors if not getattr(x, "_is_hf_initialized", False)]

        if isinstance(module, torch.nn.Embedding) and module is not self.decoder.embedding:
            module.weight.normal_(std=self.config.d_model**-0.5)  # resize_token_embeddings asks for new rows
            return
        if missing := empty(module.named_parameters(recurse=False)):
            raise UserError(
                f"the weights file lacks {missing[0]} of a {type(module).__name__}: it is of another architecture than "
                f"the config.json beside it. Export the model again."
            )
        if empty(module.named_buffers(recurse=False)):  # blocks are alike: one new block has the values for all
            fresh = Decoder(replace(self.config.architecture(), n_layers=1, vocab_size=1)).blocks[0]
            for block in self.decoder.blocks:
                for old, new in zip(block.buffers(), fresh.buffers(), strict=True):
                    initialization.copy_(old, new)  # spares what the file held

    def get_input_embeddings(self) -> torch.nn.Embedding:
        return self.decoder.embedding

    def set_input_embeddings(self, value: torch.nn.Embedding) -> None:
        self.decoder.embedding = value

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        return False  # generate() would make key-value layers; forward() makes the StateCache

    def generate(self, *args: Any, **options: Any) -> Any:
        """transformers' generate(), which takes the cache by either name, whatever the version of transformers."""
        for name in CACHE_NAMES:
            if name != CACHE and name in options:
                options[CACHE] = options.pop(name)
        return super().generate(*args, **options)

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """The inputs of one step of generate().

        Raises UserError for right padding, where nothing follows a row's last token, and for new tokens beside a
        cache without a mask that says so: transformers would take them for the whole stream.
        """
        fresh = kwargs.get("next_sequence_length")  # how many of the last ids no cache has read
        if fresh is not None and fresh < 1:
            past = input_ids.shape[1] - fresh
            raise UserError(
                f"generate() got {input_ids.shape[1]} tokens and a cache that has read {past}. Give the whole stream, "
                f"or new tokens alone with attention_mask=torch.ones({len(input_ids)}, {past + input_ids.shape[1]})."
            )
        if attention_mask is not None and not bool(attention_mask[:, -1].all()):
            raise UserError(
                "a prompt padded on the right has no last token to go on from. Set tokenizer.padding_side = 'left'."
            )
        return super().prepare_inputs_for_generation(input_ids, attention_mask=attention_mask, **kwargs)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        cache: StateCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        return_dict: bool | None = None,
        past_key_values: StateCache | None = None,
        **options: Any,
    ) -> CausalLMOutputWithPast | tuple[Tensor, ...]:
        """Logits [B, T, vocab_size] after each token, and the cache moved on by T.

        input_ids        [B, T], the tokens that the cache has not read
        attention_mask   [B, T] or [B, past + T]; rows skip the tokens with 0, whose logits mean nothing
        cache            the cache of an earlier call, or an empty StateCache(); None begins new streams
        labels           [B, T], shifted inside; -100 is not counted
        use_cache        whether to return the cache [not in training]
        logits_to_keep   0 for all positions, n for the last n, or the positions
        past_key_values  another name of `cache`, which transformers used before 5.24
        options          num_items_in_batch for the loss; position_ids and cache_position, which change nothing

        Raises UserError for another model's cache, another batch size, and what the model cannot do or return.
        """
        _refuse_unknown(options)
        if cache is not None and past_key_values is not None:
            raise UserError("forward() got both cache and past_key_values, two names of one argument. Give one.")
        given = past_key_values if cache is None else cache
        use_cache = not self.training if use_cache is None else use_cache
        cache = StateCache() if given is None else _checked(given, len(input_ids))
        mask = None if attention_mask is None else attention_mask[:, -input_ids.shape[1] :].bool()
        if mask is None or bool(mask.all()):
            hidden, state = self.decoder(input_ids, cache.state)
        else:
            hidden, rows = self._skip_padding(input_ids, mask, cache.state)
            state = _joined(rows) if use_cache else None
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.decoder.logits(hidden[:, kept])
        loss = None
        if labels is not None:
            items = {"num_items_in_batch": options.get("num_items_in_batch")}
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **items)
        if use_cache:
            cache.state, cache.length = state, cache.length + input_ids.shape[1]
        output = CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: cache if use_cache else None})
        return output if (self.config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _skip_padding(self, ids: Tensor, mask: Tensor, state: State | None) -> tuple[Tensor, list[State]]:
        """Each row alone, without the tokens that the mask leaves out: a state cannot unread a token."""
        hidden = self.decoder.embedding.weight.new_zeros(*ids.shape, self.config.d_model)
        rows = []
        for i, real in enumerate(mask):
            row = self.decoder.start(1) if state is None else _each(lambda x, i=i: x[i : i + 1], state)
            if bool(real.any()):
                y, row = self.decoder(ids[i : i + 1, real], row)
                hidden[i, real] = y[0].to(hidden.dtype)
            rows.append(row)
        return hidden, rows


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    """Raise UserError for an argument that asks for something and would have no effect.

    A caller that names the cache in a third way must hear of it: without its cache a model forgets the stream, and
    still answers.
    """
    unknown = [
        name
        for name, value in options.items()
        if value is not None and value is not False and name not in WITHOUT_EFFECT
    ]
    if unknown:
        raise UserError(
            f"forward() of this model has no argument {', '.join(map(repr, unknown))}. It takes input_ids, "
            "attention_mask, cache (or past_key_values), labels, use_cache, logits_to_keep and return_dict."
        )


def _checked(cache: Any, batch: int) -> StateCache:
    """The cache if it is one of ours for that many streams."""
    if not isinstance(cache, StateCache):
        raise UserError(
            f"the cache is a {type(cache).__name__}, but this model's past is a state. "
            f"Give StateCache(), or leave it out."
        )
    if cache.state is not None:
        streams = len(next(x for part in cache.state[0].values() for x in part.values()))
        if streams != batch:
            raise UserError(f"the cache holds {streams} streams and input_ids {batch}. Give one row for each.")
    return cache


def _joined(rows: list[State]) -> State:
    """One state of all rows; an error if all rows must be at the same place of the stream."""

    def join(*x: Tensor) -> Tensor:
        for y in x[1:]:  # a key-value cache of another length, or another place in a segment or chunk
            if y.shape != x[0].shape or (not y.is_floating_point() and not torch.equal(y, x[0])):
                raise UserError(
                    "padded rows of different lengths cannot share this model's state, which stands at one place of "
                    "the stream for all rows. Give one row at a time or rows of one length, or use_cache=False."
                )
        return torch.cat(x)

    return _each(join, *rows)


def from_atlas_bench(name: str) -> AtlasBenchForCausalLM:
    """The transformers model of an embedded model ("atlas-nano") or a folder written by `train`, in eval mode.

    Its generation ends at a newline, as every answer in the embedded models' training does.
    Raises UserError if there is no such model, or it has no weights.
    """
    if name in registry.MODELS:
        raise UserError(f"'{name}' is a control without weights. Choose a trained model of `atlas-bench list models`.")
    loading.folder_of(name)  # tells what is no model of ours
    source = loading.load(name)
    with torch.device("meta"):
        model = AtlasBenchForCausalLM(AtlasBenchConfig(**source.model.config.to_dict()))
    model.decoder = source.model.requires_grad_(True)
    model.generation_config.eos_token_id = source.newline
    model.generation_config.pad_token_id = tokenizer().convert_tokens_to_ids(END)
    return model.eval()


def tokenizer() -> PreTrainedTokenizerFast:
    """The embedded models' tokenizer for transformers; it pads on the left, as generate() needs."""
    return PreTrainedTokenizerFast(
        tokenizer_file=str(PRETRAINED / "tokenizer.json"),
        eos_token=END,
        pad_token=END,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def export(name: str, folder: Path) -> None:
    """Writes a model as a transformers folder: config.json, model.safetensors and the tokenizer's files.

    name    as from_atlas_bench takes it
    folder  new or empty

    Raises UserError if the folder holds anything.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"'{folder}' is not an empty folder. Choose a new one: nothing is overwritten.")
    model = from_atlas_bench(name)
    try:
        model.save_pretrained(folder)
        tokenizer().save_pretrained(folder)
    except (SafetensorError, OSError) as error:
        raise UserError(f"folder '{folder}' cannot be written ({reason(error)}). Choose another.") from None


AutoConfig.register(AtlasBenchConfig.model_type, AtlasBenchConfig, exist_ok=True)
AutoModelForCausalLM.register(AtlasBenchConfig, AtlasBenchForCausalLM, exist_ok=True)
