"""In-context recall: prompts and scorer against lm-eval's own code, cuts against JRT's rules stated anew; mistakes."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.errors import UserError
from atlas_bench.models.tokenizer import embedded
from atlas_bench.tasks import corpora, recall
from atlas_bench.tasks.recall import SCORERS, Recall, contains, stripped
from atlas_bench.tasks.recall_prompts import SOURCES, SUMMARY, cut
from atlas_bench.types import Sample, TaskOptions

TOKENIZER = embedded()


class Spaced:
    """A token is a word with the space behind it; what is decoded is what was encoded."""

    key, vocab_size = "spaced", 1 << 20

    def __init__(self) -> None:
        self.words: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        return [self.words.setdefault(word, len(self.words)) for word in re.findall(r"^\s+|\S+\s*", text)]

    def decode(self, ids) -> str:
        return "".join(list(self.words)[i] for i in ids)


def film(i: int, words: int) -> dict[str, Any]:
    """A document of a SWDE or FDA row, `words` words long but for a few."""
    filling = " ".join(f"w{j}" for j in range(words))
    return {
        "text": f"Film {i}. {filling} Directed by Ann Lee{i}. {filling}",
        "key": "directed by",
        "value": f"Ann Lee{i}",
    }


def page(i: int, words: int) -> dict[str, Any]:
    """A row of questions."""
    filling = " ".join(f"w{j}" for j in range(words))
    return {
        "context": f" [DOC] [TLE] The house. [PAR] {filling}. It was built in {1900 + i}. {filling}. The answer is",
        "question": "The answer is",
        "orig_question": "When was the house built?:",
        "answers": [str(1900 + i), f"in {1900 + i}"],
    }


def rows_of(base: str, n: int = 30) -> list[dict[str, Any]]:
    """Rows like the published ones, of rising length."""
    rows = [(page if SOURCES[base].text == "context" else film)(i, 20 + 10 * i) for i in range(n)]
    for row in rows:
        if base == "swde":
            row["text"] += f"\n{SUMMARY}\n directed by:"
        elif base == "fda":
            row["text"] += "\ndirected by:"
        elif base == "squad":
            row |= {"context": row["text"] + "\nQuestion: who?", "question": "Who made it?"}
            row["text"] += "\nThe film was made by"
    return rows


def write_folder(folder: Path, n: int = 30) -> Path:
    """A folder of all sources' files."""
    for base in SOURCES:
        (folder / f"{base}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(base, n)))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_folder(tmp_path_factory.mktemp("recall")))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setattr(corpora, "endless", partial(corpora.endless, cache=cache, shard_tokens=20_000))
    monkeypatch.setattr(corpora, "generated", partial(corpora.generated, cache=cache, shard_tokens=20_000))


def samples(subset: str, length: int, n: int, data: str, seed: int = 0, tokenizer: Any = TOKENIZER) -> list[Sample]:
    return list(Recall().samples(subset, length, n, seed, tokenizer, TaskOptions(data=data)))


def prompt(sample: Sample) -> str:
    return TOKENIZER.decode([*sample.context.read(0, sample.context.length).tolist(), *sample.question])


def lm_eval_task(name: str, cls: str) -> Any:
    return getattr(pytest.importorskip(f"lm_eval.tasks.{name}.task"), cls)


# ---- the scorer


@given(
    st.text(st.sampled_from("aAbB .*(\n"), max_size=12),
    st.lists(st.text(st.sampled_from("aAb .*("), max_size=3), min_size=1),
)
@settings(max_examples=400, deadline=None)
def test_contains_is_lm_evals_rule(answer: str, targets: list[str]) -> None:
    theirs = pytest.importorskip("lm_eval.tasks.swde.task").contains_score
    assert contains(answer, Sample(0, None, (), tuple(targets))) == bool(theirs(answer, targets))


@given(st.text(string.printable, max_size=30), st.text(string.printable, min_size=1, max_size=5))
@settings(max_examples=400, deadline=None)
def test_contains_looks_for_the_letters_whatever_the_case(answer: str, target: str) -> None:
    """Stated without regular expressions; of ASCII alone, where lower() and IGNORECASE agree."""
    assert contains(answer, Sample(0, None, (), (target,))) == (target.lower() in answer.lower())


@pytest.mark.parametrize(
    ("answer", "targets", "found", "found_stripped"),
    [
        ("", ("",), True, False),  # an empty target stands in everything
        ("Ann Lee", ("Ann Lee ",), False, True),  # JRT's targets keep their spaces
        ("1942", ("4",), True, True),
        ("It is ANN LEE.", ("bob", "ann lee"), True, True),
        ("a+b", ("a.b",), False, False),
        ("a.b", ("a.b",), True, True),
        ("", ("x",), False, False),
    ],
)
def test_known_defects_and_the_scorer_without_them(answer, targets, found, found_stripped) -> None:
    sample = Sample(0, None, (), targets)
    assert (contains(answer, sample), stripped(answer, sample)) == (found, found_stripped)


# ---- prompts


@pytest.mark.parametrize(
    ("base", "module", "cls"),
    [("swde", "swde", "SWDE"), ("fda", "fda", "FDA"), ("squad", "squad_completion", "SQUADCompletion")],
)
def test_alone_the_prompts_and_targets_are_lm_evals(data: str, base: str, module: str, cls: str) -> None:
    task = lm_eval_task(module, cls)
    for row, sample in zip(rows_of(base), samples(base, 10_000, 30, data), strict=True):
        assert prompt(sample) == task.doc_to_text(None, row)
        assert sample.targets == (task.doc_to_target(None, row),)
    row = {"text": "  one two.\n\nthree four ", "key": "x", "value": " v\n"}
    assert "".join(SOURCES[base].raw(row)) == task.doc_to_text(None, row)


ROW = {"text": "A page.. \n\nDirector: Ann.\ndirector:Director:", "key": "director", "value": "Ann"}
WHO = {"context": " Bob ran. Who ran?", "question": "Who ran? ", "orig_question": "Who was it?:", "answers": ["Bob"]}


@pytest.mark.parametrize(
    ("base", "form", "row", "said"),
    [
        ("swde", "once", ROW, "A page.. \n\nDirector: Ann. Director:"),
        ("swde", "once", {**ROW, "text": f"A page. {SUMMARY} director: x"}, "A page. Director:"),
        (
            "swde",
            "twice",
            {**ROW, "text": f"A page {SUMMARY}"},
            "Information about Director. A page.\nA page. Director:",
        ),
        ("fda", "once", ROW, "A page.. \n\nDirector: Ann. Director:"),
        ("fda", "twice", {**ROW, "text": "A report"}, "Information about Director. A report.\nA report. Director:"),
        (
            "squad",
            "twice",
            {"text": " Bob ran. He ran ", "context": "Bob ran. Question: who?", "question": "Who?"},
            "Who? Bob ran. \nBob ran. He ran",
        ),
        ("nq_512", "once", WHO, "Bob ran. Who ran?"),
        ("nq_512", "once", {**WHO, "context": "Bob ran. who ran?"}, "Bob ran. who ran?. Who ran?"),  # whatever its case
        ("drop", "once", {**WHO, "context": "Bob ran. who ran?Who ran?"}, "Bob ran. Who ran?"),
        ("drop", "twice", WHO, "Who was it? Bob ran.\nBob ran. Who ran?"),
        ("nq_2048", "twice", WHO, "Who was it? Bob ran.\nBob ran. Who ran?"),
        ("triviaqa", "once", {**WHO, "context": "[DOC] [TLE] Bob[PAR] ran."}, "Bob ran. Who ran?"),
        ("triviaqa", "twice", WHO, "Who was it?: Bob ran.\nBob ran. Who ran?"),
    ],
)
def test_jrts_prompts(base: str, form: str, row: dict[str, str], said: str) -> None:
    """Written out by hand from the rules of the fork's task files."""
    assert "".join(getattr(SOURCES[base], form)(row)) == said


def test_targets_are_stripped_where_lm_eval_strips_them(tmp_path: Path) -> None:
    row = {**ROW, "text": "one two\nDirector:", "value": " Ann\n"}
    (tmp_path / "swde.jsonl").write_text(json.dumps(row))
    found = {
        subset: samples(subset, 2000, 1, str(tmp_path))[0].targets
        for subset in ("swde", "swde-twice", "swde-cut512", "swde-hidden")
    }
    assert found == {"swde": ("Ann",), "swde-twice": (" Ann\n",), "swde-cut512": (" Ann\n",), "swde-hidden": ("Ann",)}


# ---- cuts


@given(
    before=st.integers(0, 300),
    after=st.integers(0, 300),
    size=st.sampled_from([60, 61, 100, 250]),
    named=st.integers(0, 300) | st.none(),
)
@settings(max_examples=200, deadline=None)
def test_a_cut_keeps_half_before_the_first_place(before: int, after: int, size: int, named: int | None) -> None:
    """JRT's truncate_context stated on lists of words: of the value's and the key's first places the earlier one."""
    words = [f"w{i}" for i in range(before)] + ["Value"] + [f"x{i}" for i in range(after)]
    if named is not None:
        words.insert(min(named, len(words)), "KEY")
    row = cut({"text": " " + " ".join(words) + "\n", "key": "key", "value": "value"}, SOURCES["fda"], size, Spaced())
    place = min(words.index(word) for word in ("Value", "KEY") if word in words)
    room = size - 50
    start = place - room // 2 if place > room // 2 else 0
    assert row["text"].split() == words[start : start + room]
    assert words[place] in row["text"].split()


@pytest.mark.parametrize(
    ("base", "row", "kept"),
    [
        ("drop", {"context": "a b c d e f g h i j k l"}, "a b c d e f g h i j"),  # no anchor: the beginning
        ("triviaqa", {"context": " a b c d e f g h i j k l"}, "a b c d e f g h i j"),
        ("squad", {"text": "a b c d e f G h i j k l m n", "value": "g "}, "b c d e f G h i j k"),
        (
            "nq_512",
            {"context": "a b c d e f g h i j k l m n", "answers": ["gg", "hh"]},
            "i j k l m n",
        ),  # nowhere: the end
        (
            "nq_512",
            {"context": "a b c d e f g h i j k l m n", "answers": ["gg"], "alt_answers": ["k"]},
            "f g h i j k l m n",
        ),
        ("nq_512", {"context": "a b c d e f g h i j k l m n", "answers": ["gg"], "tok_pos": 2}, "a b c d e f g h i j"),
        ("nq_512", {"context": "a b c d e", "answers": ["gg"], "tok_pos": 2}, "a b c d e"),
        ("nq_512", {"context": "a b", "answers": ["g"]}, None),  # one letter: left out
        ("nq_512", {"context": "a b", "answers": []}, None),
        ("swde", {"text": "a b", "key": "key", "value": ""}, None),
        ("squad", {"text": "a b", "key": "k", "value": "a b"}, "a b"),
    ],
)
def test_cuts_of_ten_tokens(base: str, row: dict[str, Any], kept: str | None) -> None:
    """By hand: 60 tokens less 50 for the answer, five of them before the place."""
    found = cut(row, SOURCES[base], 60, Spaced())
    assert (found and " ".join(found[SOURCES[base].text].split())) == kept


# ---- samples


@pytest.mark.parametrize("subset", Recall.subsets)
def test_every_subset_has_samples_with_their_answers_in_the_document(data: str, subset: str) -> None:
    base, hidden = subset.partition("-")[0], subset.endswith("-hidden")
    made = samples(subset, 9000, 30, data)
    assert len(made) == 30
    for sample in made:
        assert sample.length == 9000 if hidden else sample.length <= 9000
        assert sample.context.length > 0 and len(sample.question) > 0
        for name, scorer in Recall().rules(subset).scorers.items():
            assert scorer(sample.targets[0], sample) and not scorer("", sample), name
        lost = "-cut" in subset and not SOURCES[base].around  # by JRT's rule these keep their beginning
        times = prompt(sample).count(sample.targets[0])
        assert lost or times >= 1 + ("-twice" in subset)
        if "-cut" in subset and "-twice" not in subset:
            assert sample.length < int(re.search(r"cut(\d+)", subset)[1])
        asked = {"context": "The answer is", "text": "The film was made by"}[SOURCES[base].text]
        ends = asked if base in ("squad", *(b for b in SOURCES if SOURCES[b].text == "context")) else "irected by:"
        if "-cut" not in subset or base != "squad":
            assert prompt(sample).endswith(ends)


def test_alone_the_prompt_is_encoded_as_one_text(data: str) -> None:
    for row, sample in zip(rows_of("drop"), samples("drop", 10_000, 30, data), strict=True):
        whole = TOKENIZER.encode("".join(SOURCES["drop"].raw(row)))
        assert [*sample.context.read(0, 10**6).tolist(), *sample.question] == whole
        assert list(sample.context.facts()) == [(0, tuple(whole[: -len(sample.question)]))]
        assert sample.meta["question"] == "The answer is"


def test_the_length_is_the_most_a_prompt_may_have(data: str) -> None:
    everything = samples("fda", 10_000, 30, data)
    lengths = [sample.length for sample in everything]
    assert lengths == sorted(lengths) and len(set(lengths)) > 10
    fitting = samples("fda", lengths[12], 13, data)
    assert [sample.meta["row"] for sample in fitting] == list(range(13))
    with pytest.raises(
        UserError, match=r"more than the 13 documents .* fit in \d+ tokens. Use --samples 13, or a longer"
    ):
        samples("fda", lengths[12], 14, data)
    with pytest.raises(UserError, match=r"more than the 30 documents .* Use --samples 30\.$"):
        samples("fda", 10_000, 31, data)
    options = TaskOptions(data=data)
    Recall().check("fda", lengths[0], TOKENIZER, options)
    with pytest.raises(UserError, match=rf"length {lengths[0] - 1} is too short .* Use --len {lengths[0]} or more"):
        Recall().check("fda", lengths[0] - 1, TOKENIZER, options)


def test_hidden_documents_stand_whole_in_running_text_and_move_with_the_seed(data: str) -> None:
    places = []
    for seed in range(4):
        for row, sample in zip(rows_of("swde", 5), samples("swde-hidden", 20_000, 5, data, seed), strict=True):
            (at,) = sample.meta["needle_positions"]
            document = TOKENIZER.encode(f" {SOURCES['swde'].once(row).document}")
            assert sample.context.read(at, at + len(document)).tolist() == document
            assert sample.context.length + len(sample.question) == 20_000
            assert row["value"] not in TOKENIZER.decode(sample.context.read(0, at).tolist())
            places.append(at)
    assert len(set(places)) == 20 and min(places) < 6000 and max(places) > 12_000


@pytest.mark.parametrize("subset", ["swde", "drop-hidden", "nq_1024-cut1000-twice"])
def test_the_same_seed_gives_the_same_samples_whatever_n(data: str, subset: str) -> None:
    for few, many in zip(samples(subset, 9000, 3, data), samples(subset, 9000, 20, data), strict=False):
        assert (few.question, few.targets, few.meta) == (many.question, many.targets, many.meta)
        whole = few.context.read(0, few.context.length)
        assert np.array_equal(whole, many.context.read(0, many.context.length))
        edges = [0, 1, 777, few.context.length]
        assert np.array_equal(np.concatenate([few.context.read(a, b) for a, b in pairwise(edges)]), whole)


# ---- mistakes


def broken(folder: Path, text: str) -> str:
    (folder / "drop.jsonl").write_text(text)
    return str(folder)


@pytest.mark.parametrize(
    ("subset", "options", "said"),
    [
        ("swde", lambda path: {}, r"none are generated\. Give --data hub, or a folder with a file swde\.jsonl"),
        ("swde", lambda path: {"data": str(path)}, r"has no readable file swde\.jsonl \(No such file"),
        ("swed", lambda path: {"data": "hub"}, r"no subset 'swed'\. Did you mean 'swde'"),
        ("swde", lambda path: {"data": "hub", "prompt": "official"}, r"no --prompt 'official'"),
        ("fda-cut512", lambda path: {"data": "hub", "background": "pg19"}, r"or ask for fda-hidden"),
        ("drop", lambda path: {"data": broken(path, "{}\n")}, r"row 1 of .*drop\.jsonl is not like the published"),
        ("drop", lambda path: {"data": broken(path, '"x"\n')}, r"row 1 of .* TypeError"),
        ("drop", lambda path: {"data": broken(path, "{}\n{x\n")}, r"line 2 of .*drop\.jsonl is not JSON"),
        ("drop", lambda path: {"data": broken(path, "")}, r"has no document for recall:drop"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, subset: str, options: Callable[[Path], dict[str, str]], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Recall().check(subset, 1000, TOKENIZER, TaskOptions(**options(tmp_path)))


def test_the_hub_is_read_once_and_its_rows_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(recall.hub, "rows", lambda name, split, advice: asked.append(name) or rows_of("nq_512"))
    task, options = Recall(), TaskOptions(data="hub")
    for subset in ("nq_512", "nq_512-twice"):
        task.check(subset, 9000, TOKENIZER, options)
        assert len(list(task.samples(subset, 9000, 30, 0, TOKENIZER, options))) == 30
    assert asked == ["hazyresearch/based_nq_512"]


def test_describe_names_everything() -> None:
    text = Recall().describe()
    assert all(name in text for name in (*Recall.subsets, *SCORERS, *(source.hub for source in SOURCES.values())))
