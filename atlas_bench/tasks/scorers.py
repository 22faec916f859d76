"""Scorers for answers out of a small set of labels: BABILong's own rule, and the rule it meant.

    official("The most recent location of Mary is office.", sample)  -> True if the target is "office"
    word("none", sample)                                             -> True; official says False: "one"

Both read the first sentence of the answer, set aside the labels that the question names, and ask that what is
left be the target and nothing else. `official` looks for labels as substrings, so it has known defects, kept
because published numbers have them too:

  qa7       "one" is a part of "none", so no answer to a question whose target is "none" is ever right
  qa6,9,10  "no" is a part of "know", "not", "now": "I don't know." is a right "no", and
            "I do not know, maybe." is a wrong "maybe"
  all       a line break does not end an answer, so a guess that rambles into the next question is wrong
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from atlas_bench.types import Sample, Scorer

_ROOMS = ("bathroom", "bedroom", "garden", "hallway", "kitchen", "office")
_YES_NO = ("no", "yes")

# BABILong's answers per bAbI task.
LABELS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("qa1", "qa2", "qa3", "qa4", "qa11", "qa12", "qa13"), _ROOMS),
    **dict.fromkeys(("qa6", "qa9", "qa17", "qa18"), _YES_NO),
    "qa5": ("Bill", "Fred", "Jeff", "Mary", "apple", "football", "milk"),
    "qa7": ("none", "one", "three", "two"),
    "qa8": ("apple", "football", "milk", "nothing"),
    "qa10": ("maybe", "no", "yes"),
    "qa14": ("bedroom", "cinema", "kitchen", "office", "park", "school"),
    "qa15": ("cat", "mouse", "sheep", "wolf"),
    "qa16": ("gray", "green", "white", "yellow"),
    "qa19": ("e,e", "e,n", "e,s", "n,e", "n,n", "n,w", "s,e", "s,s", "s,w", "w,n", "w,s", "w,w"),
    "qa20": ("bedroom", "bored", "garden", "hungry", "kitchen", "thirsty", "tired"),
}

_OFFICIAL_END = re.compile(r"\.|<context>|<example>")
_WORD_END = re.compile(r"[.!?\n]|<context>|<example>|\bquestion\s*:")


def official(answer: str, sample: Sample) -> bool:
    """True if BABILong's metrics.compare_answers says so; its defects are in the module's docstring."""
    question, target, labels = _lowered(sample)
    said = _OFFICIAL_END.split(answer.lower(), maxsplit=1)[0]
    named = {label for label in labels if label in said} - {label for label in labels if label in question}
    # Longer than 3: qa8's "apple,milk" is two labels, qa19's "e,n" is one.
    wanted = target.split(",") if len(target) > 3 else [target]
    return len(named) == len(wanted) and all(label in named for label in wanted)


def word(answer: str, sample: Sample) -> bool:
    """True if the first sentence names the target's labels as whole words, and no other label."""
    question, target, labels = _lowered(sample)
    wanted = {target} if target in labels else set(target.split(","))
    said = _WORD_END.split(answer.lower().strip(), maxsplit=1)[0]
    return _words(said, labels) - (_words(question, labels) - wanted) == wanted


def only(answer: str, sample: Sample) -> bool:
    """True if the first sentence names the target as a whole word, and no other label, the question's included."""
    _, target, labels = _lowered(sample)
    return _words(_WORD_END.split(answer.lower().strip(), maxsplit=1)[0], labels) == {target}


SCORERS: Mapping[str, Scorer] = {"babilong/official": Scorer(official), "babilong/word": Scorer(word)}


def _lowered(sample: Sample) -> tuple[str, str, set[str]]:
    labels = {label.lower() for label in sample.meta["labels"]}
    return sample.meta["question"].lower(), sample.targets[0].lower(), labels


def _words(text: str, labels: Collection[str]) -> set[str]:
    return {label for label in labels if re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text)}
