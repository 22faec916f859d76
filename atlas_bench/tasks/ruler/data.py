"""SQuAD and HotpotQA as RULER reads them: every paragraph once, and the questions in the order of the file.

    read = load("qa_1", "my/folder")          # squad.json, or hotpotqa.json for qa_2
    read.questions[0].query                   # "In what country is Normandy located?"
    read.paragraphs[read.questions[0].paragraphs[0]]

A folder has the files under the names that RULER's download script gives them: squad.json is SQuAD's
dev-v2.0.json, hotpotqa.json is HotpotQA's hotpot_dev_distractor_v1.json. "hub" reads the same questions from
the Hugging Face hub: rajpurkar/squad_v2 and the distractor setting of hotpotqa/hotpot_qa, validation split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from atlas_bench.errors import UserError
from atlas_bench.files import hub, text_files
from atlas_bench.files.home import expanded


@dataclass(frozen=True)
class Asked:
    """One question, and numbers of paragraphs: those it comes with, which of them answer it, its article's others."""

    query: str
    answers: tuple[str, ...]
    paragraphs: tuple[int, ...]
    supporting: tuple[int, ...]
    others: tuple[int, ...] = ()


@dataclass(frozen=True)
class Data:
    """Every paragraph once, sorted; the questions in their order; a hash of both."""

    paragraphs: tuple[str, ...]
    questions: tuple[Asked, ...]
    key: str


@dataclass(frozen=True)
class Source:
    """Where a subset's data are, and how they are read."""

    file: str
    original: str
    hub: tuple[str, ...]
    parse: Callable[[Any], Data]
    from_hub: Callable[[Iterable[Mapping[str, Any]]], Any]


def load(subset: str, where: str, encoding: str | None = None) -> Data:
    """The data of a subset from a folder or, where that is "hub", from the hub; UserError if they are not there.

    They are kept as long as the folder's file is not edited.
    """
    edited = () if where == "hub" else text_files.version(Path(where) / SOURCES[subset].file)
    return _load(subset, where, encoding, edited)


@cache
def _load(subset: str, where: str, encoding: str | None, version: Any) -> Data:
    source = SOURCES[subset]
    if where == "generated":
        raise UserError(
            f"ruler:{subset} asks about real paragraphs, which cannot be generated. Use --data hub, or --data FOLDER"
            f" with {source.original} in it as {source.file}."
        )
    if where == "hub":
        rows = hub.rows(*source.hub, split="validation", advice="Use --data FOLDER with the published file.")
        return source.parse(source.from_hub(list(rows)))
    path = expanded(where) / source.file
    try:
        read = json.loads(text_files.read(path, encoding, choice=True))
    except FileNotFoundError:
        raise UserError(
            f"data '{where}' has no file {source.file} for ruler:{subset}. Put {source.original} there under that"
            f" name, or use --data hub."
        ) from None
    except ValueError as error:
        raise UserError(f"{path} is no JSON: {error}. It should be {source.original}.") from None
    try:
        found = source.parse(read)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not in the form of {source.original}: {type(error).__name__}: {error}.") from error
    if not found.questions:
        raise UserError(f"{path} has no question with an answer. It should be {source.original}.")
    return found


def squad(read: Mapping[str, Any]) -> Data:
    """SQuAD's file: articles of paragraphs with questions, some of which have no answer."""
    articles = [[(p["context"], p["qas"]) for p in article["paragraphs"]] for article in read["data"]]
    numbers = _numbered(text for article in articles for text, _ in article)
    questions = []
    for article in articles:
        own = dict.fromkeys(numbers[text] for text, _ in article)
        for text, asked in article:
            here = numbers[text]
            others = tuple(number for number in own if number != here)
            questions += [
                Asked(qa["question"], tuple(a["text"] for a in qa["answers"]), (here,), (here,), others)
                for qa in asked
                if not qa["is_impossible"]
            ]
    return _data(numbers, questions)


def hotpotqa(read: Iterable[Mapping[str, Any]]) -> Data:
    """HotpotQA's file: questions with ten paragraphs each, title and sentences."""
    rows = [(row, [(title, f"{title}\n{''.join(sentences)}") for title, sentences in row["context"]]) for row in read]
    numbers = _numbered(text for _, context in rows for _, text in context)
    questions = []
    for row, context in rows:
        named = {title for title, _ in row["supporting_facts"]}
        own = tuple(dict.fromkeys(numbers[text] for _, text in context))
        supporting = tuple(dict.fromkeys(numbers[text] for title, text in context if title in named))
        questions.append(Asked(row["question"], (row["answer"],), own, supporting or own))
    return _data(numbers, questions)


def _squad_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The hub's rows, one a question, as SQuAD's file has them."""
    articles = []
    for _, article in groupby(rows, key=lambda row: row["title"]):
        paragraphs = []
        for text, asked in groupby(article, key=lambda row: row["context"]):
            answers = [(row["question"], row["answers"]["text"]) for row in asked]
            qas = [
                {"question": query, "answers": [{"text": text} for text in texts], "is_impossible": not texts}
                for query, texts in answers
            ]
            paragraphs.append({"context": text, "qas": qas})
        articles.append({"paragraphs": paragraphs})
    return {"data": articles}


def _hotpotqa_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The hub's rows, whose lists stand side by side, as HotpotQA's file has them."""
    return [
        {
            "question": row["question"],
            "answer": row["answer"],
            "context": list(zip(row["context"]["title"], row["context"]["sentences"], strict=True)),
            "supporting_facts": list(
                zip(row["supporting_facts"]["title"], row["supporting_facts"]["sent_id"], strict=True)
            ),
        }
        for row in rows
    ]


SOURCES = {
    "qa_1": Source("squad.json", "SQuAD's dev-v2.0.json", ("rajpurkar/squad_v2",), squad, _squad_rows),
    "qa_2": Source(
        "hotpotqa.json",
        "HotpotQA's hotpot_dev_distractor_v1.json",
        ("hotpotqa/hotpot_qa", "distractor"),
        hotpotqa,
        _hotpotqa_rows,
    ),
}


def _numbered(texts: Iterable[str]) -> dict[str, int]:
    return {text: number for number, text in enumerate(sorted(set(texts)))}


def _data(numbers: Mapping[str, int], questions: list[Asked]) -> Data:
    key = hashlib.sha256(repr((list(numbers), questions)).encode()).hexdigest()[:16]
    return Data(tuple(numbers), tuple(questions), key)
