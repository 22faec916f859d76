"""What changed between two record sets: numbers worked out by hand, what is not compared, what is only counted."""

from __future__ import annotations

import json
import tempfile
from math import comb
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.comparison.changes import changes
from atlas_bench.comparison.text import changes_lines as lines
from atlas_bench.errors import UserError
from atlas_bench.results.record import Record, answer_row
from atlas_bench.results.store import append
from tests.records import FACTS


def cell(verdicts, texts=None, **changed) -> Record:
    """A record with the given verdicts, question by question, by the scorer `s`."""
    answers = [
        answer_row(i, question="q", targets=["a"], answer=texts[i] if texts else "a", correct={"s": verdict})
        for i, verdict in enumerate(verdicts)
    ]
    score = {"scores": {"s": {"correct": sum(verdicts), "n": len(verdicts)}}, "scorer_version": {"s": "1"}}
    facts = {"length": 16_000, "headline": "s", "samples": len(verdicts), "answers": answers, **score}
    return Record(**{**FACTS, **facts, **changed})


def lost(status, reason, **changed) -> Record:
    return cell([], status=status, reason=reason, scores={}, scorer_version={}, **{"samples": 2} | changed)


def found(old, new, warn=None):
    """The changes between two sets, written to disk and read again."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("old.jsonl", "new.jsonl")]
        for path, records in zip(paths, (old, new), strict=True):
            path.write_text("".join(record.to_json() + "\n" for record in records))
        return changes(*paths, warn=warn)


def flat(text) -> str:
    return " ".join(" ".join(text).split())


def test_the_numbers_are_those_worked_out_by_hand():
    """10 questions right in both, 9 only in the new set, 1 only in the old one, 20 in neither, 3 in other words."""
    old = cell([True] * 10 + [False] * 9 + [True] + [False] * 20)
    new = cell(
        [True] * 10 + [True] * 9 + [False] + [False] * 20, ["a"] * 37 + ["b"] * 3,
        weights_hash="feed", tokens_per_second=9_995.0,
    )  # fmt: skip
    changed = found([old], [new])
    (row,) = changed["rows"]
    p = 2 * (comb(10, 0) + comb(10, 1)) / 2**10
    versus = row["versus"]
    assert versus["difference"] == pytest.approx(8 / 40) and versus["low"] < 0.2 < versus["high"]
    assert versus["p"] == pytest.approx(p) == versus["p_holm"] and row["verdict"] == versus["verdict"] == "better"
    assert (versus["right_to_wrong"], versus["wrong_to_right"], versus["other_text"]) == (1, 9, 3)
    assert row["notes"] == ["other weights"] and row["ratios"]["tokens_per_second"] == 0.5
    assert (row["old"]["correct"], row["new"]["correct"], row["old"]["scorer"]) == (11, 19, "s 1")
    assert json.loads(json.dumps(changed)) == changed
    text = lines(changed)
    assert "27.5 40 16.1-42.8 47.5 40 32.9-62.5 +20.0" in flat(text) and max(map(len, text)) <= 79
    assert "other weights; 1 right -> wrong; 9 wrong -> right; 3 other text, judged as before; tok/s 0.50x" in flat(
        text
    )
    assert "by s 1. Chance: 16.7 % (babilong:qa1)." in flat(text)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"scorer_version": {"s": "2"}}, "scorer s 1 -> s 2"),
        ({"task_version": "2"}, "task version 1 -> 2"),
        ({"tokenizer_key": "other"}, "tokenizer atlas-8k -> other"),
        ({"prompt_hash": "0123456789abcdef"}, "prompt 90cd -> 0123456789ab"),
        ({"data_hash": None}, "data 77ab -> not recorded"),
        ({"corpus_key": "generated-2"}, "background text generated-1 -> generated-2"),
        ({"plan_hash": "77ab"}, "plan 3f1c -> 77ab"),
    ],
)
def test_what_was_asked_or_judged_otherwise_has_no_difference(changed, said):
    before = cell([True, False])
    (row,) = (changes_found := found([before], [cell([True, True], **changed)]))["rows"]
    assert (row["verdict"], row["versus"], row["notes"]) == ("not comparable", None, [said])
    assert changes_found["comparisons"] == 0 and "diff: points" not in flat(lines(changes_found))
    assert said in flat(lines(changes_found)) and row["new"]["accuracy"] == 1.0


def test_what_is_the_same_is_counted_and_its_surroundings_are_told_once():
    old = [cell([True, False], length=length) for length in (1000, 2000, 4000)]
    others = {
        "versions": {**FACTS["versions"], "torch": "2.14.0"},
        "products": "bf16",
        "seconds": 1.0,
        "ended": "later",
    }
    new = [
        cell([True, False], length=length, tokens_per_second=19_990.0 * ratio, **others)
        for length, ratio in ((1000, 0.5), (2000, 2.0), (4000, 3.0))
    ]
    changed = found(old, new)
    assert changed["rows"] == [] and changed["identical"]["cells"] == 3
    assert changed["identical"]["ratios"]["tokens_per_second"] == pytest.approx([0.5, 2.0, 3.0])
    assert changed["around"] == [
        {"what": "torch", "old": "2.13.0", "new": "2.14.0", "cells": 3},
        {"what": "products", "old": "not recorded", "new": "bf16", "cells": 3},
    ]
    text = flat(lines(changed))
    assert "3 cells in both: 0 worse, 0 better, 3 identical;" in text and "tok/s 0.50x to 3.00x" in text
    assert "torch 2.13.0 -> 2.14.0 (3 cells)" in text and "16K" not in text


@pytest.mark.parametrize("changed", [{"state_bytes": 1}, {"weights_hash": "feed"}, {"chunk_size": 1}])
def test_another_model_with_the_same_answers_is_listed(changed):
    (row,) = found([cell([True, False])], [cell([True, False], **changed)])["rows"]
    assert row["verdict"] == "not separable" and row["versus"]["difference"] == 0 == row["versus"]["other_text"]


def test_the_most_important_comes_first():
    wrong, right, some = [False] * 12, [True] * 12, [True] * 11 + [False]
    pairs = [
        (lost("failed", "no luck"), lost("failed", "still no luck")),
        (cell(right), cell(some)),
        (cell(right), lost("oom", "28.6 GiB needed\x1b[31m", samples=12)),
        (cell(right), cell(right, plan_hash="0")),
        (cell(wrong), cell(right)),
        (cell(right), cell([True] + [False] * 11)),
        (cell(right), cell(wrong)),
    ]
    old, new = (
        [Record(**{**vars(pair[i]), "seed": seed}) for seed, pair in enumerate(pairs)] for i in range(2)
    )  # fmt: skip
    changed = found(old, new)
    verdicts = ["worse", "worse", "better", "not comparable", "other status", "not separable", "no score"]
    assert [row["verdict"] for row in changed["rows"]] == verdicts
    assert [row["seed"] for row in changed["rows"]] == [6, 5, 4, 3, 2, 1, 0]
    text = flat(lines(changed))
    assert "ok -> oom; new: 28.6 GiB needed\\x1b[31m" in text and "babilong:qa1, 16K, atlas, seed 2" in text
    assert "7 cells in both: 2 worse, 1 better, 1 not comparable, 1 other status, 1 not separable, 1 no score" in text
    assert changed["comparisons"] == 4


def test_of_several_records_of_one_cell_the_one_that_counts_is_taken():
    told = []
    old = [cell([True, True]), lost("oom", "no memory", weights_hash=FACTS["weights_hash"])]
    new = [cell([True, True], weights_hash="early"), cell([True, False], weights_hash="late")]
    (row,) = found(old, new, told.append)["rows"]
    assert (row["old"]["status"], row["new"]["weights_hash"], row["new"]["correct"]) == ("ok", "late", 1)
    assert len(told) == 1 and "1 record left out" in told[0]


def test_cells_of_one_set_alone_are_named_by_subset_and_model():
    old = [cell([True], length=1000), cell([True], length=4000, subset="qa2")]
    new = [cell([True], length=length) for length in (1000, 16_000, 2000)]
    changed = found(old, new)
    assert [row["length"] for row in changed["only_new"]] == [2000, 16_000]
    text = "\n".join(lines(changed))
    assert "only in the old set (1)\nbabilong:qa2, atlas: 4K" in text
    assert "only in the new set (2)\nbabilong:qa1, atlas: 2K, 16K" in text
    assert "No cell is in both" in flat(lines(found(old[1:], new)))


def test_metrics_stand_beside_each_other_without_a_verdict():
    """The task `loss` has no scorer: nats are no share of right answers."""
    old, new = (
        cell([], headline=None, scores={}, scorer_version={}, samples=4, metrics={"nats_per_token": nats})
        for nats in (3.4123, 3.3)
    )
    changed = found([old], [new])
    assert [row["verdict"] for row in changed["rows"]] == ["no score"]
    assert "nats_per_token 3.412 -> 3.3" in flat(lines(changed))


def test_too_few_contexts_are_said_to_be_too_few():
    text = flat(lines(found([cell([True] * 4)], [cell([False] * 4)])))
    assert "Only 4 contexts: no difference could reach p < 0.05" in text and "1 not separable" in text


def test_a_set_without_records_is_an_error_and_bad_lines_are_told(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "one.jsonl").write_text(cell([True]).to_json() + "\nno record\n")
    told = []
    with pytest.raises(UserError, match=r"no records in '.*empty.jsonl'. Give"):
        changes(tmp_path / "one.jsonl", tmp_path / "empty.jsonl", warn=told.append)
    assert any("one.jsonl:2" in message for message in told)


def test_names_that_would_steer_a_terminal_do_not():
    model = "a\x1b[31m\u202e" + "x" * 5000
    text = lines(found([cell([True, True], model=model)], [cell([False, True], model=model, weights_hash="feed")]))
    assert all(line.isascii() and line.isprintable() and len(line) <= 79 for line in text) and len(text) < 40


_SETS = st.dictionaries(
    st.integers(1, 4), st.tuples(st.lists(st.booleans(), min_size=8, max_size=8), st.sampled_from("AB")), min_size=1
)


@settings(max_examples=25, deadline=None)
@given(_SETS, _SETS)
def test_every_cell_is_told_once_and_turning_the_sets_round_turns_the_signs(old, new):
    old, new = (
        [cell(verdicts, seed=seed, plan_hash=plan) for seed, (verdicts, plan) in each.items()] for each in (old, new)
    )
    there, back = found(old, new), found(new, old)
    both = len(there["rows"]) + there["identical"]["cells"]
    assert (both + len(there["only_old"]), both + len(there["only_new"])) == (len(old), len(new))
    assert [row["seed"] for row in there["only_old"]] == [row["seed"] for row in back["only_new"]]
    turned = {"better": "worse", "worse": "better"}
    other = {row["seed"]: row for row in back["rows"]}
    assert len(other) == len(there["rows"])
    for row in there["rows"]:
        twin = other[row["seed"]]
        assert twin["verdict"] == turned.get(row["verdict"], row["verdict"])
        if row["versus"]:
            assert row["versus"]["difference"] == pytest.approx(-twin["versus"]["difference"])
            assert row["versus"]["p_holm"] == pytest.approx(twin["versus"]["p_holm"])
            assert row["versus"]["right_to_wrong"] == twin["versus"]["wrong_to_right"]


def test_cells_that_differ_in_samples_alone_are_told(tmp_path, make):
    append(tmp_path / "old.jsonl", make(samples=200))
    append(tmp_path / "new.jsonl", make(samples=50))
    told = " ".join(lines(changes(tmp_path / "old.jsonl", tmp_path / "new.jsonl")))
    assert "1 cell of both differ in --samples alone (200 against 50)" in " ".join(told.split())


def test_what_was_stopped_by_its_answers_is_compared_by_bets_and_says_so():
    protocol = {"stopping": {"rule": "width", "points": 20.0}}
    sides = ([True] * 12, [False] * 12)
    stopped = found(*([cell(side, protocol=protocol, weights_hash=str(side))] for side in sides))
    plain = found(*([cell(side, weights_hash=str(side))] for side in sides))
    assert "(by betting)" in flat(lines(stopped)) and "(by betting)" not in flat(lines(plain))
