"""The parameters of a request beside the prompt, and those that a server refuses.

    parameters = Parameters()
    parameters.of({"max_tokens": 16, "seed": 0})                  # as they are
    parameters.learn(error, sent_without=frozenset())             # "Unsupported parameter: 'max_tokens'": ask again
    parameters.of({"max_tokens": 16, "seed": 0})                  # {"max_completion_tokens": 16, "seed": 0}

Reasoning models accept no temperature or stop texts, and newer ones have another name for max_tokens. A refused
parameter is omitted or renamed; the change is undone if it did not help.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from atlas_bench.models.endpoint.client import ApiError

INSTEAD = {"max_tokens": "max_completion_tokens", "temperature": None, "seed": None, "stop": None}
_ORIGINAL = {name: name for name in INSTEAD} | {new: name for name, new in INSTEAD.items() if new}
_NAME = re.compile(rf"(?<![\w-])(?:{'|'.join(_ORIGINAL)})(?![\w-])")
_VERB = re.compile(
    r"unsupported|not[ _]support|unrecogni[sz]ed|unknown|unexpected|not (?:permitted|allowed)|forbidden", re.I
)
_SENTENCE = re.compile(r"(?<=[.;!?])\s+")


class Parameters:
    """The parameters that one server accepts; `left_out` names those that it refused, for the record."""

    def __init__(self) -> None:
        self.left_out: set[str] = set()
        self._first: dict[str, ApiError] = {}  # name -> the error that refused it first
        self._refused_anyhow: set[str] = set()

    def of(self, asks: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as this server takes them."""
        changed = {INSTEAD[name] if name in self.left_out else name: value for name, value in asks.items()}
        changed.pop(None, None)
        return changed

    def learn(self, error: ApiError, sent_without: frozenset[str]) -> None:
        """Leave out, or rename, what an error refuses, so that the request is worth sending again.

        sent_without  the names that were left out or renamed in the request which the error answers

        Raises the error if it refuses no parameter of ours. If a change did not help, undoes it and raises the error
        that led to it.
        """
        for name in refused_names(error):
            if name in sent_without:
                self.left_out.discard(name)
                self._refused_anyhow.add(name)
                error = self._first.get(name, error)
            elif name not in self._refused_anyhow:
                self._first.setdefault(name, error)
                self.left_out.add(name)
                return
        raise error


def refused_names(error: ApiError) -> list[str]:
    """The parameters that a server's error refuses, the likeliest first.

    A structured error says which (OpenAI's `param`, the last `loc` of pydantic). In a sentence it is the name nearest
    to the refusing word: "max_tokens is fine, but seed is not supported" is about seed.
    """
    if error.status not in (400, 422) or not _VERB.search(error.reply):
        return []
    try:
        reply = json.loads(error.reply)
    except (ValueError, RecursionError):
        reply = None
    fields = reply.get("error", reply) if isinstance(reply, dict) else {}
    fields = fields if isinstance(fields, dict) else {"message": fields}
    if isinstance(fields.get("param"), str) and fields["param"]:
        return _known([fields["param"]])
    if isinstance(fields.get("detail"), list):
        places = [each.get("loc") for each in fields["detail"] if isinstance(each, dict)]
        return _known(name for place in places if isinstance(place, list) for name in place)
    message = next((fields[key] for key in ("message", "detail") if isinstance(fields.get(key), str)), error.reply)
    near = sorted(pair for sentence in _SENTENCE.split(message) for pair in _distances(sentence))
    return _known(name for _, name in near)


def _distances(sentence: str) -> Iterable[tuple[int, str]]:
    """(characters to the nearest refusing word, name) of each known name in a sentence."""
    verbs = [match.span() for match in _VERB.finditer(sentence)]
    for match in _NAME.finditer(sentence):
        start, end = match.span()
        gaps = [max(start - after, before - end) for before, after in verbs]
        if gaps:
            yield min(gaps), match.group()


def _known(names: Iterable[Any]) -> list[str]:
    """The names of INSTEAD that stand after the given ones, each once."""
    return list(dict.fromkeys(_ORIGINAL[name] for name in names if isinstance(name, str) and name in _ORIGINAL))
