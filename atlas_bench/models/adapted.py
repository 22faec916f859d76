"""An object of the user's own as a Model: what it does not have is Model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from atlas_bench.errors import UserError
from atlas_bench.types import Model

if TYPE_CHECKING:
    import numpy as np


class _Adapted(Model):
    """An object that has a model's methods and does not derive from Model: what it lacks is Model's."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        for name in ("name", "tokenizer", *OPTIONAL):
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))

    def start(self, batch: int) -> Any:
        return self._inner.start(batch)

    def feed(self, state: Any, tokens: np.ndarray) -> Any:
        return self._inner.feed(state, tokens)

    def answer(self, state: Any, question: Sequence[int], max_tokens: int, stop: Sequence[str] = ("\n",)) -> str:
        said: str = self._inner.answer(state, question, max_tokens, stop)
        return said


def is_users(model: Model) -> bool:
    """Whether the code that reads streams is the user's, which no test of ours has read in parts."""
    module = type(model).__module__
    return module in AROUND_USERS or module.partition(".")[0] != "atlas_bench"


AROUND_USERS = (__name__, "atlas_bench.models.torch_model")  # modules whose classes call a user's code
NEEDED = ("name", "tokenizer", "start", "feed", "answer")
OPTIONAL = tuple(
    name
    for name, member in vars(Model).items()
    if not name.startswith("_") and name not in NEEDED and not isinstance(member, property)
)


def as_model(model: Any, *, name: str | None = None) -> Model:
    """The object as a Model: itself if it is one, else with Model's defaults for missing members.

    name  that it is given elsewhere, so that it needs none of its own

    Raises UserError naming everything that a model must have and this object has not, and for facts() that are none.
    """
    kind = model if isinstance(model, type) else type(model)
    missing = [each for each in NEEDED if not hasattr(model, each) and not (each == "name" and name)]
    if isinstance(model, type):
        raise UserError(f"model {kind.__name__} is a class. Pass an object of it: {kind.__name__}().")
    if missing:
        raise UserError(
            f"model {kind.__name__} has no {', '.join(missing)}. A model has {', '.join(NEEDED)}; derive it from "
            "atlas_bench.Model, which has everything else."
        )
    if not hasattr(model.tokenizer, "key"):
        raise UserError(
            f"model {kind.__name__} has a tokenizer of type {type(model.tokenizer).__name__} without a key. One "
            "has key, vocab_size, encode, encode_batch and decode; atlas_bench.models.tokenizer.embedded() is ours."
        )
    adapted = model if isinstance(model, Model) else _Adapted(model)
    if not isinstance(facts := adapted.facts(), Mapping):
        raise UserError(f"facts() of model {kind.__name__} returned {type(facts).__name__}. It returns a dict.")
    return adapted
