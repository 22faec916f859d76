"""Prompts of the in-context recall set, as published: lm-eval's, and those of "Just read twice" (JRT).

    once({"text": "... Directed by Ann Lee. director:", "key": "director", "value": "Ann Lee"})
    -> Prompt("... Directed by Ann Lee.", " Director:")

The rules are those of lm-eval 0.4.13 (tasks swde, fda, squad_completion) and of the fork of lm-eval in
HazyResearch/prefix-linear-attention, commit 7490f22 (tasks based_*, and truncate_context of api/task.py), which
made the tables of the JRT paper (Arora et al. 2024).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from atlas_bench.types import Tokenizer

ANSWER = 50  # tokens that JRT keeps free for the answer when it cuts
SUMMARY = "Summary of information above..."

Row = Mapping[str, Any]


class Prompt(NamedTuple):
    """A whole prompt is document + ask."""

    document: str
    ask: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """One set of documents.

    hub      its repository on the hub
    text     the column that holds the document and is cut
    around   columns; a document is cut around the place where one of them stands first; none: at its beginning
    answers  the column of the right answers, a text or a list
    raw      lm-eval's prompt, or JRT's where lm-eval has none
    once     JRT's prompt
    twice    JRT's prompt with the document twice
    """

    hub: str
    text: str
    around: tuple[str, ...]
    answers: str
    raw: Callable[[Row], Prompt]
    once: Callable[[Row], Prompt]
    twice: Callable[[Row], Prompt]


def cut(row: Row, source: Source, size: int, tokenizer: Tokenizer) -> dict[str, Any] | None:
    """The row with its document cut to `size` - ANSWER tokens as JRT does; None for the rows that it leaves out.

    Half of the tokens stand before the first place of any column in source.around, ignoring case, and the
    rest follows; a document in which none stands keeps its end. Rows with an empty or one-letter text in such a
    column are left out.
    """
    text = row[source.text].strip()
    wanted = [_first(row[column]) for column in source.around]
    if any(len(each) <= 1 for each in wanted):
        return None
    at = min((place for each in wanted if (place := _find(each, text)) >= 0), default=-1) if wanted else 0
    if at < 0:
        at = next((place for each in row.get("alt_answers") or () if (place := _find(each, text)) >= 0), -1)
    ids, before, room = tokenizer.encode(text), len(tokenizer.encode(text[:at])), size - ANSWER
    if at < 0 and before > room:
        before = row.get("tok_pos", before)
    start = max(0, before - room // 2)
    return {**row, source.text: tokenizer.decode(ids[start : start + room])}


def _first(value: Any) -> str:
    return value if isinstance(value, str) else next(iter(value), "")


def _find(wanted: str, text: str) -> int:
    found = re.search(re.escape(wanted), text, re.IGNORECASE)
    return found.start() if found else -1


def _without(text: str, end: str) -> str:
    """The text without any number of repeats of that ending, ignoring case."""
    while end and text.lower().endswith(end.lower()):
        text = text[: -len(end)]
    return text


def _stop(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _field(row: Row) -> str:
    return f"{row['key'][:1].upper()}{row['key'][1:]}"


def _cloze(row: Row) -> Prompt:
    """lm-eval's: the text without the spaces around it; its last line or sentence is what asks."""
    text = row["text"].strip()
    last = re.split(r"(?<=[.?!])\s+|\n", text)[-1] or text
    document = text.removesuffix(last).rstrip()
    return Prompt(document, text[len(document) :])


def _swde(row: Row) -> str:
    return _without(row["text"].split(SUMMARY)[0], f"{row['key']}:")


def _swde_once(row: Row) -> Prompt:
    return Prompt(f"{_swde(row).strip().strip('.')}.", f" {_field(row)}:")


def _swde_twice(row: Row) -> Prompt:
    return _field_twice(row, _stop(_swde(row).strip("\n").strip(".").strip()))


def _fda(row: Row) -> str:
    return _stop(_without(row["text"], f"{row['key']}:").strip("\n").strip("."))


def _fda_once(row: Row) -> Prompt:
    return Prompt(_fda(row), f" {_field(row)}:")


def _fda_twice(row: Row) -> Prompt:
    return _field_twice(row, _fda(row))


def _field_twice(row: Row, text: str) -> Prompt:
    name = _field(row)
    return Prompt(f"Information about {name.strip(':')}. {text}\n{text}", f" {name}:")


def _squad_twice(row: Row) -> Prompt:
    document, ask = _cloze(row)
    return Prompt(f"{row['question']} {row['context'].split('Question:')[0]}\n{document}", ask)


def _nq_once(row: Row) -> Prompt:
    return _asked(row["context"].strip().removesuffix(row["question"].strip()), row)


def _context(row: Row) -> str:
    return _without(row["context"].strip(), row["question"].strip())


def _drop_once(row: Row) -> Prompt:
    return _asked(_context(row), row)


def _question_twice(row: Row) -> Prompt:
    return _asked_twice(row["orig_question"].strip(":"), _context(row), row)


def _trivia(row: Row) -> str:
    """A TriviaQA context without the marks of its paragraphs."""
    return _without(re.sub(r"\[(PAR|DOC|TLE)\]", "", row["context"].strip()), row["question"].strip())


def _trivia_once(row: Row) -> Prompt:
    return _asked(_trivia(row), row)


def _trivia_twice(row: Row) -> Prompt:
    return _asked_twice(row["orig_question"], _trivia(row), row)


def _asked(context: str, row: Row) -> Prompt:
    return Prompt(f"{context.strip().strip('.')}.", f" {row['question'].strip()}")


def _asked_twice(question: str, context: str, row: Row) -> Prompt:
    text = f"{context.strip().strip('.').strip()}."
    return Prompt(f"{question} {text}\n{text}", f" {row['question'].strip()}")


_FIELD = {"text": "text", "around": ("key", "value"), "answers": "value", "raw": _cloze}
_QUESTION = {"text": "context", "answers": "answers"}
_NQ = {"around": ("answers",), "raw": _nq_once, "once": _nq_once, "twice": _question_twice, **_QUESTION}
SOURCES = {
    "swde": Source(hub="hazyresearch/based-swde-v2", once=_swde_once, twice=_swde_twice, **_FIELD),
    "fda": Source(hub="hazyresearch/based-fda", once=_fda_once, twice=_fda_twice, **_FIELD),
    "squad": Source(
        hub="hazyresearch/based-squad", once=_cloze, twice=_squad_twice, **{**_FIELD, "around": ("value",)}
    ),
    **{f"nq_{size}": Source(hub=f"hazyresearch/based_nq_{size}", **_NQ) for size in (512, 1024, 2048)},
    "triviaqa": Source(
        hub="hazyresearch/based_triviaqa",
        around=(),
        raw=_trivia_once,
        once=_trivia_once,
        twice=_trivia_twice,
        **_QUESTION,
    ),
    "drop": Source(
        hub="hazyresearch/based_drop", around=(), raw=_drop_once, once=_drop_once, twice=_question_twice, **_QUESTION
    ),
}
