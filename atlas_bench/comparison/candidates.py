"""The candidates: words of a command as trained models, or as memories to train by the one recipe.

titans  atlas:degree=1  ./my_memory.py     memories, with --train
transformer  swa                           attention alone, full or over a window; with --train
atlas-nano  some/folder  small=hf:..       trained models, as `run` takes them; `atlas` without --train
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from atlas_bench import registry
from atlas_bench.errors import UserError
from atlas_bench.files.home import expanded
from atlas_bench.models import loading, specs
from atlas_bench.models.adapted import as_model
from atlas_bench.types import Model

WINDOW = 16  # tokens of attention beside a memory, and of "swa"
ATTENTION = {"transformer": 0, "swa": WINDOW}  # no memory -> attention window, 0 for full attention
ATTENTION_LAYERS = 3  # have as many weights as 2 with a memory


@dataclass(frozen=True)
class Candidate:
    """One word of the command.

    label  its name in records and tables
    model  name or folder of a trained model, or a model object; None for one that is to be trained
    flags  the architecture, as `train` takes it
    key    everything that decides the architecture, a file's version included; of a trained model, its folder
    file   name of a memory that is a user's file, 'my_memory.py@1f2e3d4c'
    """

    label: str
    model: str | Model | None = None
    flags: tuple[str, ...] = ()
    key: str = ""
    file: str = ""


def resolve(words: Sequence[str | Model], *, train: bool) -> list[Candidate]:
    """The candidates of the command line, in order; files that it names are executed. A model object is a candidate as
    it is.

    Raises UserError for fewer than two, one named twice, an unknown one, or a memory that nobody has trained.
    """
    found = [_candidate(word, train) for word in words]
    first: dict[str, str | Model] = {}  # key -> word
    for word, candidate in zip(words, found, strict=True):
        if candidate.key in first:
            raise UserError(
                f"candidate '{candidate.label}' is named twice, as '{_said(first[candidate.key])}' and "
                f"'{_said(word)}'. Name each once; the first is the baseline."
            )
        first[candidate.key] = word
    if len(found) < 2:
        raise UserError("one candidate cannot be compared. Name the baseline and at least one other.")
    return _told_apart(words, found)


def _candidate(word: str | Model, train: bool) -> Candidate:
    if not isinstance(word, str):
        model = as_model(word)
        return Candidate(model.name, model=model, key=model.name)
    return (_trainable(word) if train else None) or _trained(word)


def _trainable(word: str) -> Candidate | None:
    """The candidate of a word that `train` can make a model of, else None."""
    if loading.is_elsewhere(word):
        return None
    if word in ATTENTION:
        flags = ("--memory", "none", "--attention-window", str(ATTENTION[word]), "--layers", str(ATTENTION_LAYERS))
        return Candidate(word, flags=flags, key=" ".join(flags))
    name, given = registry.parse_memory(word)
    if not _is_memory(name):
        return None
    name, options = registry.typed_memory(word)
    written = ",".join(f"{option}={value}" for option, value in given.items())
    written = f":{written}" if written else ""
    file = name if registry.source_of(name) is not None else ""
    key = f"{name} {json.dumps(options, sort_keys=True)}"
    return Candidate(name.partition("@")[0] + written, flags=("--memory", name + written), key=key, file=file)


def _trained(word: str) -> Candidate:
    """The candidate of a word that is a trained model, which may have a name to be shown: 'small=hf:..'."""
    shown, spec = specs.shown(word)
    if shown != spec or loading.is_elsewhere(word):
        specs.check(spec)
        return Candidate(shown, model=spec, key=spec)
    name, _ = registry.parse_memory(word)
    if word in specs.names():
        return Candidate(word, model=word, key=word)
    if f"{word}-nano" in specs.names():
        return Candidate(f"{word}-nano", model=f"{word}-nano", key=f"{word}-nano")
    if _is_memory(name):
        raise UserError(f"memory '{word}' has no trained model. Add --train TOKENS, such as --train 20M.")
    if not expanded(word).is_dir():
        known = [*specs.names(), *filter(_is_memory, registry.MEMORIES), *ATTENTION]
        raise specs.unknown_model(word, known, kind="candidate")
    return Candidate(word, model=word, key=str(loading.folder_of(word).resolve()))


def _said(word: str | Model) -> str:
    return word if isinstance(word, str) else type(word).__name__


def _told_apart(words: Sequence[str | Model], found: Sequence[Candidate]) -> list[Candidate]:
    """Candidates whose labels differ: versions of one file by the folders they lie in, else by their digits."""
    labels = [candidate.label for candidate in found]
    shared = [label for label in labels if labels.count(label) > 1]
    for other in (_with_folder, _with_version):
        labels = [
            other(word, each) if each.label in shared and isinstance(word, str) else each.label
            for word, each in zip(words, found, strict=True)
        ]
        if len(set(labels)) == len(labels):
            break
    return [replace(candidate, label=label) for candidate, label in zip(found, labels, strict=True)]


def _with_folder(word: str, candidate: Candidate) -> str:
    return f"{expanded(registry.parse_memory(word)[0]).resolve().parent.name}/{candidate.label}"


def _with_version(word: str, candidate: Candidate) -> str:
    return candidate.flags[1]


def _is_memory(name: str) -> bool:
    return registry.is_file(name) or registry.MEMORIES.get(name) is not None
