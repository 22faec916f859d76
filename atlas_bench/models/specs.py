"""What a user gives as models: names, folders, hf:.., openai:.., py:.., lists, objects, each with a name to be shown.

    typed(["atlas-nano,omeganet-nano", "small=hf:Qwen/Qwen2.5-0.5B"])
    # {'atlas-nano': 'atlas-nano', 'omeganet-nano': 'omeganet-nano', 'small': 'hf:Qwen/Qwen2.5-0.5B'}

    typed({"mine": MyModel(), "small": "hf:Qwen/Qwen2.5-0.5B"})      # from Python, objects too

A word that names no model is answered with what to type instead, before torch is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from atlas_bench import registry
from atlas_bench.errors import UserError, clip, did_you_mean
from atlas_bench.models.adapted import as_model

PRETRAINED = Path(__file__).parent / "pretrained"
CARD = "card.json"
SCHEMES = {  # what a name may begin with -> who loads it
    "hf": "atlas_bench.models.huggingface.load:load",
    "openai": "atlas_bench.models.endpoint.model:load",
    "py": "atlas_bench.models.user_model:load",
}
NAME = r"[A-Za-z0-9][\w.+-]*"
SHOWN = re.compile(rf"({NAME})=(.+)", re.DOTALL)  # 'small=hf:..'
REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")  # 'Qwen/Qwen2.5-0.5B'
KINDS = "A folder that `train` wrote, hf:NAME, openai:URL#MODEL and py:FILE.py:FOLDER are models too."


def names() -> list[str]:
    """Embedded models and controls."""
    return sorted(p.parent.name for p in PRETRAINED.glob(f"*/{CARD}")) + sorted(registry.MODELS)


def is_elsewhere(name: str) -> bool:
    """Whether a name is that of a Hugging Face model or an endpoint: 'hf:..', 'openai:..'."""
    scheme, colon, _ = name.partition(":")
    return bool(colon) and scheme in SCHEMES


def typed(models: Any) -> dict[str, Any]:
    """Shown name -> what to load, or the model itself, in order; without a name of its own, the word is the name.

    models  a word as it stands after --model, a model object, several of both, or a mapping of shown names to them

    Raises UserError for an unknown model, an empty one, and a name that is given twice.
    """
    found: dict[str, Any] = {}
    for name, spec in _named(models) if isinstance(models, Mapping) else _listed(models):
        if isinstance(spec, str):
            check(spec)
        if found.setdefault(name, spec) != spec:
            both = [each if isinstance(each, str) else type(each).__name__ for each in (found[name], spec)]
            raise UserError(f"the name '{name}' is given to '{both[0]}' and to '{both[1]}'. Give each its own.")
    if not found:
        raise UserError("no model is named. Name one, such as atlas-nano.")
    return found


def _named(models: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The pairs of a mapping, where the names are such as `NAME=SPEC` may give."""
    for name, given in models.items():
        spec = os.fspath(given) if isinstance(given, os.PathLike) else given
        if spec != name and not re.fullmatch(NAME, str(name)):
            raise UserError(f"'{name}' is no name for a model. Use letters, digits and _ . + -, such as my-model.")
        yield name, spec if isinstance(spec, str) else as_model(spec, name=name)


def _listed(models: Any) -> Iterator[tuple[str, Any]]:
    """(shown name, what to load) of one word or model object, or of several; an object's name is its own."""
    alone = isinstance(models, (str, os.PathLike)) or not isinstance(models, Iterable) or hasattr(models, "feed")
    for given in [models] if alone else models:
        word = os.fspath(given) if isinstance(given, os.PathLike) else given
        if isinstance(word, str):
            yield from map(shown, _parts(word))
        else:
            model = as_model(word)
            yield model.name, model


def shown(word: str) -> tuple[str, str]:
    """(shown name, what to load) of 'NAME=SPEC'; without a name, both are the word."""
    named = None if os.path.exists(_path(word)) else SHOWN.fullmatch(word)
    return (named[1], named[2].strip()) if named else (word, word)


def check(spec: str) -> None:
    """Raise UserError for what can be seen to be no model without loading it."""
    if spec.startswith("openai:"):
        from atlas_bench.models.endpoint import spec as endpoint

        endpoint.parse(spec)
    elif spec.startswith("py:"):
        from atlas_bench.models import user_model

        user_model.parse(spec)
    elif spec.startswith("hf:"):
        path = re.split("[:;]", spec.removeprefix("hf:"))[0].strip()
        if path.startswith((".", "/", "~")) and not _is_dir(path) and not _is_dir(spec[3:]):
            raise UserError(
                f"no folder '{path}' for '{spec}'.{_beside(path)} Give one that save_pretrained() has written."
            )
    elif spec not in registry.MODELS:
        from atlas_bench.models import card  # pydantic, 0.1 s: only where a card is read

        card.read(folder_of(spec) / CARD)


def folder_of(name: str) -> Path:
    """The folder of the embedded model of that name, or of the model at that path; UserError for neither."""
    if "/" not in name and os.path.exists(PRETRAINED / name / CARD):
        return PRETRAINED / name
    folder = Path(_path(name))
    if name.strip() and _is_dir(name):
        if (folder / CARD).exists():
            return folder
        if (folder / "config.json").exists():
            raise UserError(f"model folder '{name}' is one of transformers, without {CARD}. Write hf:{name}.")
        raise UserError(
            f"model folder '{name}' has no {CARD}. Give a folder that `atlas-bench train --out` has written, or "
            "hf:FOLDER for one that save_pretrained() has."
        )
    raise unknown_model(name)


def unknown_model(name: str, known: Iterable[str] | None = None, *, kind: str = "model") -> UserError:
    """What to type instead of a word that names no model.

    known  the names that would do; None: those of `list models`
    kind   what the word was to be
    """
    known = list(names() if known is None else known)
    said = f"unknown {kind} '{clip(name)}'"
    memory = registry.parse_memory(name)[0] if _reads_as_memory(name) else ""
    if not name.strip():
        return UserError(f"{said}: it is empty. Give one of {', '.join(known)}.")
    if name.lower().startswith(("http://", "https://")):
        return UserError(f"{said}: a URL alone is none. {_of_url(name)}")
    if registry.is_file(memory):
        return UserError(f"{said}: a .py file is a memory, to be trained first. {_training(name)}")
    if memory in registry.MEMORIES:
        trained = did_you_mean(f"{memory}-nano", known)
        return UserError(f"{said}: that is a memory, to be trained first.{trained} {_training(name)}")
    if os.path.isfile(_path(name)):
        return UserError(f"{said}: it is a file. Give the folder that it lies in, or hf:FOLDER.")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        return UserError(f"{said}: there is no such folder.{_beside(name)} Check the path.")
    if REPOSITORY.fullmatch(name):
        return UserError(f"{said}: there is no such folder. A model of Hugging Face is written hf:{name}.")
    return UserError(f"{said}.{did_you_mean(name, known)} Known: {', '.join(known)}. {KINDS}")


def _parts(word: str) -> list[str]:
    """The models of a list, 'atlas-nano,hf:a/b:dtype=float32,chat=false,swa-nano'.

    A comma begins the next model, but where what follows is none and may belong to an hf:, openai: or py: before it.
    """
    if "," not in word or _is_dir(word):
        return [word]
    parts: list[str] = []
    for part in word.split(","):
        if not part.strip():
            raise UserError(f"--model '{word}' has a comma too many. Write atlas-nano,omeganet-nano, without blanks.")
        if parts and _goes_on(shown(parts[-1].strip())[1], part):
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    return [part.strip() for part in parts]


def _goes_on(spec: str, part: str) -> bool:
    """Whether what stands behind a comma belongs to the spec before it: an option, or a part of a path."""
    if not is_elsewhere(spec) or _is_model(shown(part.strip())[1]):
        return False
    return not spec.startswith("hf:") or "=" in part or _is_dir(f"{spec.removeprefix('hf:')},{part}")


def _is_model(spec: str) -> bool:
    return is_elsewhere(spec) or spec in names() or (_is_dir(spec) and (Path(_path(spec)) / CARD).exists())


def _path(word: str) -> str:
    """The word as a path; os.path takes any text for one, where pathlib raises for some: no such user, a null byte."""
    return os.path.expanduser(word)


def _is_dir(word: str) -> bool:
    return os.path.isdir(_path(word))


def _reads_as_memory(name: str) -> bool:
    try:
        registry.parse_memory(name)
    except UserError:
        return False
    return True


def _training(memory: str) -> str:
    return (
        f"`atlas-bench train --memory {memory} --out MODEL`, or "
        f"`atlas-bench compare gated-deltanet {memory} --task mqar:8 --len 1K --train 2M`."
    )


def _of_url(name: str) -> str:
    url, _, model = name.partition("#")
    parts = urlsplit(url)
    if parts.hostname in ("huggingface.co", "hf.co") and (repository := REPOSITORY.match(parts.path.strip("/"))):
        return f"Write hf:{repository[0]}."
    slash = url.rstrip("/") + ("" if parts.path.strip("/") else "/v1")
    return f"An OpenAI-compatible endpoint is written 'openai:{slash}#{model or 'MODEL'}'."


def _beside(path: str) -> str:
    """' Did you mean ..?', of the folders where the path looks for one."""
    parent, name = os.path.split(_path(path).rstrip("/"))
    try:
        return did_you_mean(name, [each.name for each in os.scandir(parent or ".") if each.is_dir()])
    except (OSError, ValueError):
        return f" '{parent}' is no folder either."
