"""What a model's card.json may hold: checked field by field when it is read, before anything is built of it.

about = read(Path("model/card.json"))         # {"config": {"memory": "titans", ..}, "recipe": {..}, ..}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from atlas_bench.errors import UserError, clip, reason
from atlas_bench.files import text_files

LARGEST = 10_000_000  # bytes; ours have some 5000


class _Part(BaseModel):
    """Fields that are read somewhere have types; others are kept as they are."""

    model_config = ConfigDict(strict=True, extra="allow")


class _Architecture(_Part):
    """The types of decoder.Config's fields; their ranges are checked there."""

    memory: str
    memory_options: dict[str, bool | int | float | str | None] = {}
    vocab_size: int = 4096
    d_model: int = 128
    n_layers: int = 2
    n_heads: int = 4
    attention_window: int = 16
    mlp_ratio: int = 2
    placement: str = "behind"
    n_persistent: int = 0
    segment: int = 16
    screen: int = 0


class _Recipe(_Part):
    tasks: list[str] | None = None
    subsets: list[str] = []


class _Origin(_Part):
    memory: str | None = None
    training_tokens: NonNegativeInt | None = None
    recipe: _Recipe | None = None


class _Data(_Part):
    corpora: dict[str, str] = {}
    held_out: list[str] = []


class _Card(_Part):
    config: _Architecture
    recipe: _Recipe | None = None
    initialised_from: _Origin | None = None
    training_tokens: NonNegativeInt | None = Field(default=None, lt=10**18)
    data: _Data | None = None
    history: list[dict[str, Any]] | None = None
    final: dict[str, Any] | None = None


def read(path: Path) -> dict[str, Any]:
    """The card as plain data; UserError for a file that cannot be read, or is not JSON or not a card."""
    try:
        size = path.stat().st_size
        text = text_files.read(path) if size <= LARGEST else ""
    except OSError as error:
        raise UserError(f"model card '{path}' cannot be read: {reason(error)}. Restore the file.") from None
    if size > LARGEST:
        raise UserError(f"model card '{path}' has {size:,} bytes, and a card has a few thousand. Restore the file.")
    try:
        _Card.model_validate_json(text)  # refuses what is nested deeply, which json would fall over
        return json.loads(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise UserError(
            f"model card '{path}' is no card: {clip(where)}: {clip(first['msg'])}. Train again, or restore the file."
        ) from None
    except (ValueError, RecursionError) as error:  # a number of 5000 digits
        raise UserError(f"model card '{path}' is no card: {error}. Train again, or restore the file.") from None


def learnt(about: Mapping[str, Any]) -> list[str] | None:
    """'babilong:qa1' and every other task that a card's weights saw in training, earlier trainings included; None if
    unknown."""
    found: list[str] = []
    for recipe in (about.get("recipe"), (about.get("initialised_from") or {}).get("recipe")):
        if recipe:
            found += recipe.get("tasks") or [f"babilong:{subset}" for subset in recipe.get("subsets", ())]
    return sorted(set(found)) or None
