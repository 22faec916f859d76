"""The texts of a training: what contexts are drawn from, and what is held out to examine a language model by."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atlas_bench import registry
from atlas_bench.errors import UserError, did_you_mean
from atlas_bench.files.home import expanded
from atlas_bench.results.record import clip
from atlas_bench.running import plan
from atlas_bench.tasks import corpora, haystack
from atlas_bench.tasks.corpora import Corpus
from atlas_bench.training.recipe import is_language

NO_FOLDERS = ("generated", "pg19")  # backgrounds by name


@dataclass(frozen=True)
class Texts:
    """Corpora of a training.

    training  contexts are drawn from these in equal parts
    held_out  what training never reads
    keys      name -> hash of everything that decides the tokens of what is trained on
    """

    training: list[Corpus]
    held_out: list[Corpus]
    keys: dict[str, str]


def open_texts(
    wanted: Iterable[str], background: Sequence[str], hold_out: Sequence[str], encoding: str | None, tokenizer: Any
) -> Texts:
    """The texts that the tasks are trained on; UserError for a task without lessons, and for options without effect."""
    specs = _backgrounds(wanted, background, hold_out, encoding)
    opened = {spec: _open(spec, tokenizer, hold_out, encoding) for spec in specs}
    held_out = [
        corpora.folder(spec, tokenizer, encoding, only=hold_out)
        for spec in opened
        if _is_folder(spec) and _stems(spec) & set(hold_out)
    ]
    held_out += [corpus for corpus in opened.values() if corpus.n_documents is None]  # without end: training is far on
    keys = {Path(spec).name: corpus.key for spec, corpus in opened.items()}
    return Texts([opened[spec] for spec in specs], held_out, keys)


def _backgrounds(
    wanted: Iterable[str], background: Sequence[str], hold_out: Sequence[str], encoding: str | None
) -> list[str]:
    """The backgrounds to train on; UserError for a task without lessons, and for options that nothing would read."""
    plan.check_lessons(wanted)
    reading = any(map(registry.reads_text, wanted))
    if not reading and (background or hold_out):
        raise UserError(
            f"{', '.join(wanted)} has no background, so '{(*background, *hold_out)[0]}' would not be read. "
            "Leave --background and --hold-out out."
        )
    backgrounds = list(background) or ["generated"] * reading
    if streamed := [spec for spec in backgrounds if spec.startswith(corpora.DATA_SET) and not is_language(wanted)]:
        raise UserError(f"--background '{streamed[0]}': a data set is for running text alone, --task loss:text.")
    if encoding and not any(map(_is_folder, backgrounds)):
        raise UserError(
            f"--encoding '{encoding}' would do nothing: no --background is a folder of texts. Leave it out."
        )
    _check_held_out(hold_out, backgrounds)
    return backgrounds


def _check_held_out(names: Sequence[str], backgrounds: Sequence[str]) -> None:
    """Raise UserError for a text that no background folder has: the card would say that it was held out."""
    folders = [spec for spec in backgrounds if _is_folder(spec)]
    if names and not folders:
        raise UserError(f"--hold-out '{names[0]}': no --background is a folder of texts. Name one, or leave it out.")
    texts = sorted(set[str]().union(*map(_stems, folders)))
    for name in names if texts else ():  # a folder without a text is refused when it is opened
        if name not in texts:
            where, known = ", ".join(folders), clip(", ".join(texts), 400)
            raise UserError(
                f"--hold-out '{name}': no {name}.txt in {where}.{did_you_mean(name, texts)} There are: {known}."
            )


def _open(spec: str, tokenizer: Any, hold_out: Sequence[str], encoding: str | None = None) -> corpora.Corpus:
    """A corpus as for `run --background`; a folder without its held-out files."""
    if spec.startswith(corpora.DATA_SET):
        return corpora.data_set(spec, tokenizer)
    if not _is_folder(spec) or not hold_out:
        return corpora.open_corpus(spec, tokenizer, encoding)
    return corpora.folder(spec, tokenizer, encoding, exclude=tuple(hold_out))


def _is_folder(spec: str) -> bool:
    return spec not in NO_FOLDERS and not spec.startswith(corpora.DATA_SET)


def _stems(folder: str) -> set[str]:
    return {file.stem for file in expanded(folder).rglob("*.txt")}


def clean(texts: Sequence[corpora.Corpus], length: int) -> np.ndarray:
    """[corpora, length] tokens of background that states nothing; of a generated corpus, what training never reads."""
    rows = []
    for corpus in dict.fromkeys(texts):
        spans = haystack.background(corpus, length, random.Random("clean background"))
        rows.append(haystack.Pieces(corpus, spans).read(0, length))
    return np.stack(rows)
