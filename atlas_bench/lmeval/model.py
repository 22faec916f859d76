"""Any of our models as an lm-eval model: a request of any length is one stream, and nothing is ever cut.

    lm = AtlasLM(loading.load("atlas-nano"))
    lm_eval.simple_evaluate(model=lm, tasks=["lambada_openai", "wikitext"])

A string is tokenised in parts and fed block by block, so memory does not grow with it. Requests in a row on one
context (the choices of a question) read it once and go on from its state.

As lm-eval's own HFLM does: spaces at the end of a context are scored with the continuation; the tokens of a
continuation are those that context + continuation has beyond the context's own; where nothing precedes, a token
does: the model's first one, else the tokenizer's BOS or EOS, which is `<|end|>` for the embedded models; a chat
template is applied where lm-eval is told to.

Unlike it: `loglikelihood_rolling` reads a text as one stream, without windows, since a memory reads it all, and no
first token twice; answers are greedy, sampling is refused; a prompt longer than the model can read raises
Unsupported, where HFLM cuts it on the left; answers come without spaces around them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.utils import simple_parse_args_string
from tqdm import tqdm

from atlas_bench import registry
from atlas_bench.errors import UserError, unknown
from atlas_bench.lmeval.tokenization import Strings, Tail
from atlas_bench.models import loading
from atlas_bench.models.adapted import as_model
from atlas_bench.running import streams
from atlas_bench.types import Context, Model, Sample

BLOCK = 4096  # tokens fed or scored at once
NAME = "atlas-bench"  # of AtlasLM among lm-eval's models
ARGUMENTS = ("name", "device", "matmul_precision", "threads", "code")

_opened: dict[str, Model] = {}


class Unsupported(UserError):
    """Not run: a prompt longer than the model can read, or a task that would run the model's code."""


class Prompt(str):
    """A sample's prompt as text, for every model; AtlasLM reads the sample's own tokens instead.

    A text cut in the middle of a word may come back from the tokenizer as other tokens than it was made of.
    """

    sample: Sample
    tokenizer_key: str

    @classmethod
    def of(cls, text: str, sample: Sample, tokenizer_key: str) -> Prompt:
        self = cls(text)
        self.sample, self.tokenizer_key = sample, tokenizer_key
        return self


@dataclass(frozen=True)
class _Place:
    """The place of a text's stream.

    state  after all tokens but `last`
    read   tokens so far, `last` among them
    tail   the last part of the text
    """

    state: Any
    last: int
    read: int
    tail: Tail


class AtlasLM(LM):
    """A types.Model for lm-eval, one stream at a time.

    tokens_read  fed so far, over all requests
    longest      tokens of the longest stream
    state_bytes  of the largest state that was asked
    """

    max_length = 2**62  # nothing is cut: a model with a limit of its own raises Unsupported
    eot_token_id = None

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = as_model(model)
        self.strings = Strings(self.model)
        self.tokens_read = self.longest = self.state_bytes = 0
        self._text: tuple[str, _Place] | None = None  # the context read last
        self._stream: tuple[Context, int, Any] | None = None  # of the sample read last

    @classmethod
    def create_from_arg_obj(cls, arg_dict: Mapping[str, Any], additional_config: Mapping[str, Any] | None = None):
        """lm-eval's constructor from --model_args name=..,device=..,matmul_precision=..,threads=..,code=.."""
        model = _open(dict(arg_dict), dict(additional_config or {}))
        if isinstance(arg_dict, dict):
            arg_dict.setdefault("model", model.name)  # lm-eval names the folder of its results by it
        return cls(model)

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Mapping[str, Any] | None = None):
        """The same from "name=..,device=.."."""
        return cls.create_from_arg_obj(simple_parse_args_string(arg_string), additional_config)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy answers, up to the request's `until` texts or the model's end of text, spaces around them left out.

        Raises UserError for sampling or beams, Unsupported for a prompt that the model cannot read.
        """
        return self._each("generate_until", self._generate, requests, disable_tqdm)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log-probability in nats of the continuation, whether each of its tokens is the likeliest)."""
        return self._each("loglikelihood", self._loglikelihood, requests, disable_tqdm)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log-probability in nats of each text, all of it read as one stream."""
        return self._each("loglikelihood_rolling", self._rolling, requests, disable_tqdm)

    @property
    def tokenizer_name(self) -> str:
        """Names the token ids in lm-eval's cache of requests."""
        return self.model.tokenizer.key

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The chat in the model's own template; UserError if it has none."""
        return self.strings.rendered(chat_history, add_generation_prompt)

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The template's source, for lm-eval's results."""
        return self.strings.template()

    def get_model_info(self) -> dict[str, Any]:
        """The facts about the model that lm-eval's results add to its arguments."""
        facts = self.model.facts()
        return {"model_num_parameters": facts.get("parameters", -1), "atlas_bench": facts}

    def _each(self, kind: str, respond: Callable[[Instance], Any], requests: list[Instance], quiet: bool) -> list[Any]:
        responses = []
        for request in tqdm(requests, desc=f"Running {kind} requests", disable=quiet or None):  # None: on a terminal
            responses.append(respond(request))
            self.cache_hook.add_partial(kind, request.args, responses[-1])
        self._text = self._stream = None  # a state may be large
        return responses

    def _generate(self, request: Instance) -> str:
        context, options = request.args[:2]
        limit, stop = _greedy(options, request)
        if isinstance(context, Prompt) and context.tokenizer_key == self.model.tokenizer.key:
            state, question = self._after_sample(context.sample, request)
        else:
            place = self._after(context, request)
            state, question = place.state, [place.last]
        self.state_bytes = max(self.state_bytes, self.model.state_bytes(state))
        return self.model.answer(state, question, limit, stop)

    def _loglikelihood(self, request: Instance) -> tuple[float, bool]:
        context, continuation = request.args
        if not continuation:
            return 0.0, True
        head = context.rstrip()
        place = self._after(head, request)
        return self._score(place, self.strings.beyond(place.tail, context[len(head) :] + continuation), request)

    def _rolling(self, request: Instance) -> float:
        return self._score(self._begin(), (ids for _, ids in self.strings.parts(request.args[0])), request)[0]

    def _begin(self) -> _Place:
        first = self.strings.nothing
        return _Place(self._feed(self.model.start(1), first[:-1]), first[-1], len(first), Tail())

    def _after(self, text: str, request: Instance) -> _Place:
        """The place after a text; kept, so that the next request on the same text does not read it again."""
        if not text:
            return self._begin()
        if self._text is None or self._text[0] != text:
            state, read, waiting = self.model.start(1), 0, []
            for tail, ids in self.strings.parts(text):
                row = waiting + (self.strings.opening(ids) if tail.first else []) + ids
                read += len(row) - len(waiting)
                self._check(read, request)
                state, waiting = self._feed(state, row[:-1]), row[-1:]
            if not waiting:  # a text without a token
                return self._begin()
            self._text = text, _Place(state, waiting[0], read, tail)
        return self._text[1]

    def _after_sample(self, sample: Sample, request: Instance) -> tuple[Any, tuple[int, ...]]:
        """(state, tokens to ask with): the context is read on where the last sample shares it."""
        self._check(sample.length, request)
        context, at, state = self._stream or (None, 0, None)
        if context is not sample.context or at > sample.reads:
            at, state = 0, self.model.start(1)
        for tokens in streams.blocks([sample.context], at, sample.reads, BLOCK):
            state = self._feed(state, tokens[0])
        self._stream = sample.context, sample.reads, state
        return state, (*sample.question, *sample.prefill)

    def _feed(self, state: Any, ids: Sequence[int]) -> Any:
        for at in range(0, len(ids), BLOCK):
            tokens = np.array([ids[at : at + BLOCK]], dtype=np.int32)
            state = self.model.feed(state, tokens)
            self.tokens_read += tokens.size
            if not self.model.finite(state):
                raise FloatingPointError("the state is not finite: the memory diverged, and answers would mean nothing")
        return state

    def _score(self, place: _Place, chunks: Iterable[Sequence[int]], request: Instance) -> tuple[float, bool]:
        """(nats, greedy) of the tokens that follow a place."""
        if not self.model.has_logprobs:
            raise UserError(
                f"task {request.task_name} scores given texts, and model '{self.model.name}' tells no probabilities of "
                "tokens. Choose a task whose output_type is generate_until, or another model."
            )
        state, last, read = place.state, place.last, place.read
        nats, greedy = 0.0, True
        for ids in chunks:
            self._check(read + len(ids), request)
            row = [last, *ids]
            for at in range(0, len(ids), BLOCK):
                tokens = np.array([row[at : at + BLOCK + 1]], dtype=np.int32)
                state, scores, likeliest = self.model.logprobs(state, tokens)
                nats += float(np.sum(scores, dtype=np.float64))
                greedy = greedy and bool(np.all(likeliest))
            last, read = row[-1], read + len(ids)
            self.tokens_read += len(ids)
        if not math.isfinite(nats):
            raise FloatingPointError("the logits are not finite: the memory or the weights diverged")
        self.state_bytes = max(self.state_bytes, self.model.state_bytes(state))
        return nats, greedy

    def _check(self, length: int, request: Instance) -> None:
        """Raise Unsupported where the model cannot read that many tokens."""
        self.longest = max(self.longest, length)
        if why := self.model.supports(length):
            raise Unsupported(
                f"document {request.doc_id} of {request.task_name} has {length} tokens or more, and is not cut: {why}. "
                "`atlas-bench lm-eval run --samples` can leave documents out."
            )


def opened(name: str) -> Model:
    """The model of that name, or AtlasLM's own: our tasks count in its tokens."""
    if name not in _opened:
        _opened[name] = loading.load(name)
    return _opened[name]


def _open(arguments: dict[str, Any], config: Mapping[str, Any]) -> Model:
    """The model of lm-eval's --model_args and options; a UserError names an unknown one."""
    arguments.pop("trust_remote_code", None)  # lm-eval adds it for data sets
    if "products" in arguments:  # its name in version 0.1
        arguments["matmul_precision"] = arguments.pop("products")
    for name in arguments:
        if name not in ARGUMENTS:
            raise unknown("argument of --model_args", name, ARGUMENTS)
    if not arguments.get("name"):
        raise UserError(
            "--model atlas-bench needs --model_args name=MODEL; `atlas-bench list models` names them. A name with a "
            """comma goes into JSON: --model_args '{"name": "hf:NAME:dtype=bfloat16,chat=false"}'."""
        )
    if str(config.get("batch_size") or 1) != "1":
        raise UserError(
            f"--batch_size is {config['batch_size']}, but requests are read one stream at a time. Leave it out."
        )
    if "device" not in arguments and str(config.get("device") or "cuda:0").startswith("cpu"):
        arguments["device"] = "cpu"  # lm-eval's default is cuda:0, whatever the machine: a GPU where there is one
    if code := arguments.pop("code", None):
        registry.name_file(code)
    name = str(arguments.pop("name"))
    _opened[name] = loading.load(name, **arguments)
    return _opened[name]


def _greedy(options: Mapping[str, Any], request: Instance) -> tuple[int, tuple[str, ...]]:
    """(most tokens of an answer, texts that end it) of a request's generation options."""
    from lm_eval.models.utils import normalize_gen_kwargs

    asked = normalize_gen_kwargs(dict(options))
    sampling = asked["do_sample"] and options.get("temperature") != 0
    if sampling or asked.get("num_beams", 1) != 1:
        how = "num_beams" if asked.get("num_beams", 1) != 1 else "do_sample"
        raise UserError(
            f"task {request.task_name} asks for {how}={asked[how]}, and answers here are greedy. Add --gen_kwargs "
            "do_sample=False,temperature=0,num_beams=1 to ask for the likeliest tokens, and say so beside the number."
        )
    return asked["max_gen_toks"], tuple(text for text in asked["until"] if text)
