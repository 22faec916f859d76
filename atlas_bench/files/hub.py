"""The Hugging Face hub: whether it can be reached, found out within seconds, and rows of its data sets.

    reach("Qwen/Qwen2.5-0.5B")                                       # UserError if neither hub nor cache has it
    for row in rows("emozilla/pg19", split="test", advice="Use --background generated."): ...

The hub's own clients retry for half a minute or longer before they report that there is no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from atlas_bench.errors import UserError, clip, needs

TIMEOUT = 5.0  # seconds
OFFLINE = "HF_HUB_OFFLINE=1 takes what has been downloaded before, without asking."


def reach(model: str) -> bool:
    """Whether the hub answers; if not, the cached copy of a model is used without further requests.

    Raises UserError if neither is there, and for what can be no name on the hub.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(model)
    except HFValidationError as error:
        raise UserError(
            f"model '{clip(model)}' is no folder, and no name on the hub: {clip(str(error)).removesuffix('.')}. Write "
            "hf:ORGANISATION/NAME or hf:./FOLDER."
        ) from None
    if constants.HF_HUB_OFFLINE or (why := _unreachable()) is None:
        return not constants.HF_HUB_OFFLINE
    if not isinstance(try_to_load_from_cache(model, "config.json"), str):
        raise UserError(
            f"model '{model}' is not in the cache, and {why}. Check the connection, or give a folder: hf:./.."
        )
    constants.HF_HUB_OFFLINE = True
    return False


def rows(*name: str, split: str, advice: str, skip: int = 0) -> Iterator[Mapping[str, Any]]:
    """Stream the rows of one split of a data set on the hub, or of a folder that the datasets library reads.

    name    repository and, where it has several, configuration
    skip    rows to leave out at the beginning
    advice  what the user can do without the hub, in a sentence

    Raises UserError if the datasets library is missing or the hub cannot be read.
    """
    with needs("datasets", extra="hub", to=f"read '{name[0]}' from the Hugging Face hub", advice=advice):
        import datasets
    from huggingface_hub import constants

    local = Path(name[0]).is_dir()
    if constants.HF_HUB_OFFLINE and not local:
        raise UserError(f"'{name[0]}' is read from the hub, and HF_HUB_OFFLINE forbids that. {advice}")
    if not local and (why := _unreachable()):
        raise UserError(f"'{name[0]}' cannot be read: {why}. Check the connection. {advice}")
    try:
        stream = datasets.load_dataset(*name, split=split, streaming=True)
        yield from stream.skip(skip) if skip else stream
    except Exception as error:  # the hub's client raises many kinds
        cause = f"{type(error).__name__}: {error}"
        raise UserError(f"'{' '.join(name)}' could not be read by datasets: {cause}. {advice}") from error


def _unreachable() -> str | None:
    """Why the hub does not answer; None if it gives any answer."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception as error:  # of the HTTP library that the installed version uses
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        return f"the Hugging Face hub at {constants.ENDPOINT} cannot be reached ({cause}). {OFFLINE}".removesuffix(".")
    return None
