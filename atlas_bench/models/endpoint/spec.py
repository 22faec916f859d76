"""How to write a model behind an endpoint: `openai:URL#MODEL;option=value;...`.

    url, model, options = parse("openai:http://localhost:8000/v1#qwen;tokenizer=Qwen/Qwen3-8B;context=128Ki")
    tokenizer(options.tokenizer)              # the types.Tokenizer that measures lengths

Quote the whole word in a shell, where ';' ends a command. The key is never part of it: see client.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from atlas_bench.errors import UserError, clip, did_you_mean
from atlas_bench.files.home import expanded
from atlas_bench.models.endpoint.client import REPLY_CHARS, clean
from atlas_bench.models.tokenizer import Tokenizer, embedded
from atlas_bench.units import parse_length

PREFIX = "openai:"
MOST = 10**9  # of any number in a spec
ENDPOINTS = {"chat": "/chat/completions", "completions": "/completions"}


@dataclass(frozen=True)
class Options:
    """The options that may follow the model.

    tokenizer            Hugging Face name, folder or tokenizer.json that measures lengths; None: the embedded models'
    endpoint             "chat" or "completions": the prompt as a user message, or raw
    concurrency          requests in flight
    max_retries          tries after the first
    timeout              seconds for one try, and the longest wait that a server may ask for
    context              tokens a prompt may have; None: what GET /models says, if anything
    thinking             tokens a reasoning model may think on top of its answer; thoughts are left out of it
    usd_per_million_in   price of a million prompt tokens, as the server counts them
    usd_per_million_out  price of a million answer tokens, thoughts included
    canary               whether one question is first asked in ways that should make no difference: see canary.py
    """

    tokenizer: str | None = None
    endpoint: str = "chat"
    concurrency: int = 8
    max_retries: int = 6
    timeout: float = 600.0
    context: int | None = None
    thinking: int = 0
    usd_per_million_in: float | None = None
    usd_per_million_out: float | None = None
    canary: bool = False


def parse(spec: str) -> tuple[str, str, Options]:
    """(URL, model, options) of a written model.

    Raises UserError for an invalid URL or one that may hold a secret, a missing model, an unknown option or a wrong
    value.
    """
    url, _, rest = spec.removeprefix(PREFIX).partition("#")
    _check_url(url)
    model, *written = (part.strip() for part in rest.split(";"))
    if not model:
        raise UserError(f"'{spec}' names no model of that server. Write {PREFIX}{url}#MODEL.")
    given = dict(_option(spec, part) for part in filter(None, written))
    if len(given.keys() & {"usd_per_million_in", "usd_per_million_out"}) == 1:
        raise UserError(f"model '{spec}' has one price. Give both usd_per_million_in and usd_per_million_out.")
    return url.rstrip("/"), model, Options(**given)


def with_canary(models: Mapping[str, Any]) -> dict[str, Any]:
    """Shown name -> what to load, as from specs.typed(), with a canary for each endpoint; UserError without an
    endpoint."""
    behind = {name for name, spec in models.items() if isinstance(spec, str) and spec.startswith(PREFIX)}
    if not behind:
        raise UserError(f"--canary is for endpoints ({PREFIX}URL#MODEL), and no model is one. Leave it out.")
    return {
        f"{name};canary=true" if name in behind and name == spec else name: (
            f"{spec};canary=true" if name in behind else spec
        )
        for name, spec in models.items()
    }


def _check_url(url: str) -> None:
    """Raise UserError for anything but a plain http address; the message does not repeat one that may hold a secret."""
    try:
        parts = urlsplit(url)
        secret = "@" in parts.netloc or "?" in url
        plain = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        secret, plain = "@" in url, False
    if secret:
        raise UserError(
            "the URL of an openai: model holds a user, a password or a query, which would stand in every record. "
            "Put the key into the environment variable OPENAI_API_KEY."
        )
    if not plain:
        raise UserError(f"'{url}' is no address of an endpoint. Write {PREFIX}http://localhost:8000/v1#MODEL.")


def _option(spec: str, part: str) -> tuple[str, Any]:
    """(name, value) of one written option."""
    name, _, value = (x.strip() for x in part.partition("="))
    if name not in _READS:
        raise UserError(
            f"model '{spec}' has no option '{name}'.{did_you_mean(name, _READS)} Its options: {', '.join(_READS)}."
        )
    reads, wanted = _READS[name]
    try:
        return name, reads(value)
    except (KeyError, ValueError, UserError):
        raise UserError(f"model '{clip(spec)}': {name} is '{clip(value, 40)}'. Give {wanted}.") from None


def _text(text: str) -> str:
    if not text:
        raise ValueError
    return text


def _number(kind: type, *, least: float = 0, above: float = -1) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = kind(text)
        if not (max(least, above) <= value <= MOST and value != above):  # nan is neither
            raise ValueError
        return value

    return read


_READS: dict[str, tuple[Callable[[str], Any], str]] = {
    "tokenizer": (_text, "a Hugging Face name, a folder or a tokenizer.json"),
    "endpoint": ({name: name for name in ENDPOINTS}.__getitem__, " or ".join(ENDPOINTS)),
    "concurrency": (_number(int, least=1), "a whole number from 1 to a billion"),
    "max_retries": (_number(int), "a whole number from 0 to a billion"),
    "timeout": (_number(float, above=0), "seconds above 0"),
    "context": (parse_length, "tokens, such as 131072 or 128Ki"),
    "thinking": (_number(int), "tokens from 0 to a billion"),
    "canary": ({"true": True, "false": False}.__getitem__, "true or false"),
    "usd_per_million_in": (_number(float), "dollars from 0 to a billion"),
    "usd_per_million_out": (_number(float), "dollars from 0 to a billion"),
}

# As tasks join them: words after spaces and newlines, figures, marks, letters of several bytes, a long text
_PIECES = ("Mary went to the kitchen.", " John", "\n", "\n\nQ: 7 x", "  12,345", " 'tis", "ß漢字🙂", " hall" * 5000)


def tokenizer(name: str | None) -> Tokenizer:
    """The tokenizer of a Hugging Face name, a folder or a tokenizer.json; None: the embedded models'.

    Raises UserError if there is none, and for one that does not reproduce texts: prompts would differ from the plan.
    (One that puts a space before every piece does not, as Llama 2's; a byte-level one does.)
    """
    if name is None:
        return embedded()
    path = expanded(name)
    try:
        if not path.exists():
            from huggingface_hub import hf_hub_download

            path = Path(hf_hub_download(name, "tokenizer.json"))
        found = Tokenizer(path / "tokenizer.json" if path.is_dir() else path)
    except Exception as error:  # the hub's, the system's and the library's own have nothing in common
        raise UserError(
            f"tokenizer '{name}' cannot be read ({clean(f'{type(error).__name__}: {error}')[:REPLY_CHARS]}). Give a "
            "Hugging Face name, a folder or a tokenizer.json, or leave it out: lengths are then in the embedded BPE's."
        ) from None
    for first, second in product(_PIECES, repeat=2):
        if found.decode([*found.encode(first), *found.encode(second)]) != first + second:
            raise UserError(
                f"tokenizer '{name}' does not give back {(first + second)[:40]!r}, joined of two pieces, so prompts "
                "would not be those planned. Give a byte-level one, or leave the option out."
            )
    return found
