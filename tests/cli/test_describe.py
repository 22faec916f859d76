"""Listings, descriptions with one real sample, and completion of names."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench import registry
from atlas_bench.cli import completion, describe, describe_task, fold
from atlas_bench.errors import UserError
from atlas_bench.models import loading
from atlas_bench.running import excerpt, listing, plan
from atlas_bench.types import Sample

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_task.py"
FOUND_IN_CONTEXT = (  # subsets whose right answer stands in the context as it is
    "babilong:qa1", "niah", "niah:multi", "ruler:niah_multikey_3", "ruler:vt", "mqar:8", "mqar:4096", "zoology", "mad",
    "retention", "robust:contradict-4", "robust:shift-4", "ordinal:8",
    "aggregate", "graph", "icl", "nolink",
)  # fmt: skip
WITHOUT = {"recall": "--data hub", "recall:fda-twice": "--data hub", "ruler:qa_1": "squad.json"}


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("name", [*registry.TASKS, "ruler:qa_1", "recall:fda-twice", "loss:restart", *FOUND_IN_CONTEXT])
def test_a_task_is_described_in_80_columns_with_a_sample_or_why_there_is_none(name):
    data = describe.describe(name)
    text = "\n".join(describe.lines(data))
    about = registry.task(data["name"]).describe()
    assert text.split()[: len(about.split())] == about.split() and max(map(len, text.splitlines())) < 80
    if name in WITHOUT:
        assert data["sample"] is None and WITHOUT[name] in data["why"] and "No sample: " in text
        return
    sample = data["sample"]
    assert 0 < sample["length"] <= describe_task.LENGTHS[-1] and len(sample["context"]) < 5000
    assert " ".join(sample["context"].split()) in " ".join(text.split())
    if name in FOUND_IN_CONTEXT:
        assert sample["question"] and sample["right"]
        assert all(right in sample["context"] for target in sample["right"] for right in target.split(", "))


def test_a_memory_is_described_with_the_options_it_is_given_and_so_is_a_file_of_one():
    usual, given = (describe.describe(name) for name in ("gated-deltanet", "gated-deltanet:printed=true"))
    assert not usual["options"]["printed"] and given["options"] == {**usual["options"], "printed": True}
    assert given["about"] == usual["about"]
    mine = describe.describe(f"{EXAMPLE.with_name('my_memory.py')}:most_caution=0.5")
    assert mine["kind"] == "memory" and mine["options"] == {"most_caution": 0.5}
    assert mine["about"].startswith("Surprise-gated delta")
    assert describe.describe(str(EXAMPLE))["kind"] == "task"
    with pytest.raises(UserError, match=r"memory or task file 'none\.py' cannot be read"):
        describe.describe("./none.py")


def test_a_subset_says_its_own_scorers_and_chance():
    (line,) = [line for line in describe.lines(describe.describe("niah:multi")) if line.startswith("multi: ")]
    assert "niah/word (version 1)" in line and set(describe.describe("niah:multi")["subsets"]) == {"multi"}
    assert describe.describe("niah:multi")["subsets"]["multi"]["chance"] == 0.01
    with pytest.raises(UserError, match="Did you mean 'qa2'"):
        describe.describe("babilong:qa21")


@pytest.mark.parametrize("name", ["babilong", "ruler:niah_multikey_2", "robust:shift-4"])
def test_a_sample_waits_for_no_million_tokens(tmp_path, monkeypatch, name):
    monkeypatch.setenv("ATLAS_BENCH_CACHE", str(tmp_path))
    assert describe.describe(name)["sample"]
    files = [file.stat().st_size for file in tmp_path.rglob("*.tok")]
    assert files and max(files) < 4 * describe_task.SMALL


class Words:
    """A tokenizer whose token i is the word 'wi', or where i is divisible by 3 the end of a word, '.i'."""

    def decode(self, ids):
        return "".join(f".{i}" if i % 3 == 0 else f" w{i}" for i in ids)


class Numbers:
    """A context of the tokens 1, 2, .. with facts in some places."""

    def __init__(self, length, facts):
        self.length, self.spans = length, facts

    def read(self, start, stop):
        return np.arange(start, stop) + 1

    def facts(self):
        return iter([(start, tuple(range(start, stop))) for start, stop in self.spans])


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3000), st.lists(st.tuples(st.integers(0, 2999), st.integers(1, 200)), max_size=12))
def test_what_is_left_out_is_counted_and_what_answers_is_shown(length, facts):
    facts = sorted((start, min(start + size, length)) for start, size in facts if start < length)
    wanted = facts[-1:]
    sample = Sample(0, Numbers(length, facts), (), (), {"supporting": [start for start, _ in wanted]})
    text = excerpt.excerpt(sample, Words())
    shown = [int(n) for n in re.findall(r"[w.](\d+)", re.sub(r"\[\.\. \d+ tokens \.\.\]", "", text))]
    left_out = [int(n) for n in re.findall(r"\[\.\. (\d+) tokens \.\.\]", text)]
    assert len(shown) + sum(left_out) == length and shown == sorted(set(shown))
    assert all(count > excerpt.AROUND // 2 or count < 3 for count in left_out)
    for start, stop in wanted:
        if stop - start <= excerpt.LONGEST:
            assert set(range(start + 1, stop + 1)) <= set(shown)


def test_a_user_s_task_is_described_and_its_mistakes_are_told(tmp_path):
    data = describe.describe(str(EXAMPLE))
    assert data["name"].startswith("my_task.py@") and data["sample"]["right"][0] in data["sample"]["context"]
    broken = tmp_path / "broken.py"
    broken.write_text(EXAMPLE.read_text().replace("return Hidden(", "return 1 / 0, Hidden("))
    assert "1 / 0" in broken.read_text()
    with pytest.raises(UserError, match=r"makes no sample of 512 tokens: ZeroDivisionError.*line \d+ of broken.py"):
        describe.describe(str(broken))


def test_what_steers_a_terminal_is_shown_harmlessly(tmp_path):
    shutil.copy(EXAMPLE, tmp_path / "evil.py")
    text = (tmp_path / "evil.py").read_text().replace("The pass key is", r"\x1b[2J\u202eThe pass key is")
    (tmp_path / "evil.py").write_text(text)
    said = "\n".join(describe.lines(describe.describe(str(tmp_path / "evil.py"))))
    assert r"\x1b[2J\u202e" in said and "\x1b" not in said and "\u202e" not in said


@pytest.mark.parametrize(
    "name", ["oracle", "constant", "none", "atlas", "ttt-mlp", "gated-deltanet", "170M", "atlas-nano"]
)
def test_models_memories_and_sizes_are_described(name):
    data = describe.describe(name)
    assert data["name"] == name and len("\n".join(describe.lines(data))) > 20


def test_a_memory_s_description_is_its_file_s_equation():
    assert "\n".join(describe.lines(describe.describe("titans"))).startswith("Titans: deep memory")
    with pytest.raises(UserError, match="Did you mean 'titans'"):
        describe.describe("titan")


@pytest.mark.parametrize("kind", listing.KINDS)
def test_a_listing_has_every_name_first_and_fits_80_columns(kind):
    found = listing.listing(kind)
    lines = list(describe.listed({kind: found}))
    assert [line.split("\t")[0] for line in lines] == list(found) and all(found.values())
    assert max(len(line.expandtabs()) for line in lines) < 80
    starts = {
        len(line.expandtabs()) - len(line.expandtabs().split("  ")[-1].lstrip()) for line in lines if "\t\t" in line
    }
    assert len(starts) <= 1, "not aligned"


def test_listings_are_whole():
    assert list(listing.listing("tasks")) == list(registry.TASKS)
    assert list(listing.listing("memories")) == list(registry.MEMORIES)
    assert {"oracle", "constant", "atlas-nano"} <= set(listing.listing("models"))
    assert listing.listing("tasks")["babilong"].startswith("BABILong (Kuratov et al. 2024): bAbI facts")
    with pytest.raises(UserError, match="unknown kind 'cats'"):
        listing.listing("cats")


@pytest.mark.parametrize("typed", ["", "bab", "babilong:", "babilong:qa1", "niah:multi,babilong:qa", "loss,"])
def test_every_completion_is_a_task(typed):
    found = [each for each in completion.complete(typed, "tasks") if each.startswith(typed)]
    assert found
    for each in found:
        assert plan.parse_tasks(each)
    assert ("babilong:qa7" in found) == (typed == "babilong:")


def test_nothing_is_completed_from_what_is_unknown():
    assert not [each for each in completion.complete("nobody:", "tasks") if each.startswith("nobody:")]
    assert "titans" in completion.complete("", "memories", "models")
    assert "atlas-nano" in completion.complete("", "models")


# folding

WORDS = st.sampled_from(
    ["a", "it", "is.", "word", "(two", "three)", "The", "atlas-bench", "x^2", "M_t", "sentence.", "?"]
)


@st.composite
def written(draw):
    """A text as people write it: paragraphs broken by hand, columns, equations, stray blanks."""
    lines = draw(
        st.lists(st.tuples(st.sampled_from([0, 0, 4, 10]), st.lists(WORDS, max_size=30), st.booleans()), max_size=12)
    )
    return "\n".join(" " * indent + ("   " if gap else " ").join(words) for indent, words, gap in lines)


@settings(max_examples=200, deadline=None)
@given(written(), st.integers(41, 130))
def test_folding_loses_no_word_and_keeps_the_width(text, columns):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        lines = list(fold.folded(text))
    assert " ".join(lines).split() == text.split()
    assert all(len(line) < min(columns, 121) for line in lines if not line.lstrip().startswith("atlas-bench "))


def test_lines_broken_by_hand_are_put_together_and_items_are_not():
    text = (
        "pitfalls  Use --samples in multiples of 11, or the depths have unequal numbers of samples.\n"
        "          kamradt's needle never changes and has been published often: who knows it by heart is right with\n"
        "          no reading, so its chance of 0 holds for models that have never seen it."
    )
    assert list(fold.folded(text)) == [
        "pitfalls  Use --samples in multiples of 11, or the depths have unequal numbers",
        "          of samples.",
        "          kamradt's needle never changes and has been published often: who",
        "          knows it by heart is right with no reading, so its chance of 0 holds",
        "          for models that have never seen it.",
    ]


def test_a_scorer_s_text_keeps_its_column_and_an_equation_its_source():
    niah = list(describe.lines(describe.describe("niah")))
    assert " " * 37 + "names the word, and no other of the 100," in niah
    titans = list(describe.lines(describe.describe("titans")))
    assert f"{'    M_t = (1 - f_t) M_{t-1} + S_t':<64}Titans eq. (13)" in titans


def test_a_command_stays_whole():
    command = "    atlas-bench run examples/my_task.py:changed --len 1K..64K --model atlas-nano --samples 4"
    assert list(fold.folded(f"{'word ' * 22}\n{command}\n{command}   what it does"))[-3:-1] == [command] * 2
    described = "\n".join(describe.lines(describe.describe(str(EXAMPLE))))
    assert "\n    atlas-bench run examples/my_task.py --len 1M\n    atlas-bench run" in described


# memories and models


@pytest.mark.parametrize("name", [*registry.MEMORIES, *registry.MODELS])
def test_a_memory_is_described_in_80_columns_with_its_options(name):
    data = describe.describe(name)
    text = "\n".join(describe.lines(data))
    assert max(map(len, text.splitlines())) < 80
    assert text.split()[: len(data["about"].split())] == data["about"].split()
    if name in registry.MEMORIES:
        assert data["options"] == registry.memory_options(name)
        assert all(f"{option}={default!r}" in text for option, default in data["options"].items())


def test_a_model_is_told_in_words_and_its_card_is_whole_in_the_data():
    data = describe.describe("atlas-nano")
    card, parameters = data["card"], data["measured"]["parameters"]
    assert card == loading.card("atlas-nano") and parameters == loading.load("atlas-nano").facts()["parameters"]
    text = " ".join("\n".join(describe.lines(data)).split())
    checked = card["final"]["babilong accuracy at 4096"]
    for said in (
        f"{parameters:,} parameters",
        "attention over 16 tokens",
        "memory atlas (",
        "map='matrix'",
        f"{data['measured']['state_bytes'] / 1024:.1f} KiB per stream",
        f"{card['training_tokens']:,} tokens",
        "without pride_and_prejudice",
        f"from gated-deltanet, trained on {card['initialised_from']['training_tokens']:,} tokens",
        f"{checked['correct']} of {checked['n']} right",
        "atlas-bench describe atlas-nano --json",
    ):
        assert said in text
    assert "grows with the text" in "\n".join(describe.lines(describe.describe("transformer-nano")))


@pytest.mark.parametrize(
    ("card", "said"),
    [
        ({"config": {"memory": "none", "layers": 2}}, '"layers": 2'),
        ({"config": {"memory": "my.py@1f2e3d4c", "n_layers": 1, "d_model": 8, "n_heads": 1}}, "memory      my.py@1f2e"),
        ({"config": {"memory": "\x1b[2J\u202e", "n_layers": 1, "d_model": 8, "n_heads": 1}}, r"\x1b[2J\u202e"),
    ],
)
def test_a_card_that_states_what_it_likes_is_shown_harmlessly(tmp_path, card, said):
    (tmp_path / "card.json").write_text(json.dumps(card))
    data = describe.describe(str(tmp_path))
    text = "\n".join(describe.lines(data))
    assert said in text and data["measured"] is None and "\x1b" not in text and "\u202e" not in text


def test_a_question_on_the_way_says_after_how_much_of_its_stream():
    data = describe.describe("retention:along")
    assert data["sample"]["reads"] < data["sample"]["length"] < data["sample"]["stream"] == 512
    said = f"asked after {data['sample']['reads']} of 512 tokens"
    assert said in "\n".join(describe.lines(data))
    assert "A sample of babilong:qa1, 512 tokens, seed 0:" in "\n".join(describe.lines(describe.describe("babilong")))


def test_lm_eval_s_tasks_are_told_where_they_are_listed():
    with pytest.raises(UserError, match="`atlas-bench lm-eval ls tasks`"):
        describe.describe("lm-eval:piqa")
