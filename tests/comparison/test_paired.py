"""The comparison against numbers worked out by hand, and what it refuses to compare."""

from __future__ import annotations

import json
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.comparison.paired import compare
from atlas_bench.comparison.text import compare_lines as lines
from atlas_bench.results.record import answer_row
from tests.records import FACTS


@pytest.fixture
def cell(make):
    """A record of a model with the given verdicts, question by question."""

    def record(model: str, verdicts, contexts=None, **changes):
        answers = [
            answer_row(i, question="q", targets=["a"], answer="a", correct={"s": verdict})
            for i, verdict in enumerate(verdicts)
        ]
        for i, context in enumerate(contexts or ()):
            answers[i]["context"] = context
        score = {"scores": {"s": {"correct": sum(verdicts), "n": len(verdicts)}}, "scorer_version": {"s": "1"}}
        facts = {"length": 16_000, "headline": "s", "samples": len(verdicts), "answers": answers, **score}
        return make(model=model, **{**facts, **changes})

    return record


def versus(comparison, model="b"):
    (row,) = [row for row in comparison["rows"] if row["model"] == model]
    return row["versus"]


def test_the_numbers_are_those_worked_out_by_hand(cell):
    """10 questions both right, 9 only the candidate, 1 only the baseline, 20 neither."""
    a = [True] * 10 + [False] * 9 + [True] + [False] * 20
    b = [True] * 10 + [True] * 9 + [False] + [False] * 20
    comparison = compare([cell("a", a), cell("b", b)])
    found = versus(comparison)
    p = 2 * (comb(10, 0) + comb(10, 1)) / 2**10
    assert found["difference"] == pytest.approx(8 / 40) and found["low"] < 0.2 < found["high"]
    assert (found["only_candidate"], found["only_baseline"], found["test"]) == (9, 1, "McNemar")
    assert found["p"] == pytest.approx(p) and found["p_holm"] == pytest.approx(p) and found["verdict"] == "better"
    assert comparison["baseline"] == "a" and versus(comparison, "a") is None
    text = "\n".join(lines(comparison))
    assert "b 47.5 40 32.9-62.5 +20.0" in " ".join(text.split()) and " 0.021 better" in text
    assert json.loads(json.dumps(comparison)) == comparison


def test_many_comparisons_raise_the_bar(cell):
    """The same p = 0.021 three times over is 0.064 after Holm."""
    a, b = [False] * 9 + [True] + [False] * 30, [True] * 9 + [False] + [False] * 30
    records = [cell(name, side, length=length) for length in (1, 2, 3) for name, side in (("a", a), ("b", b))]
    comparison = compare(records)
    found = [row["versus"] for row in comparison["rows"] if row["versus"]]
    assert comparison["comparisons"] == 3
    assert [v["p_holm"] for v in found] == pytest.approx([3 * 22 / 1024] * 3)
    assert {v["verdict"] for v in found} == {"not separable"}


@pytest.mark.parametrize("stopping", [False, True], ids=["asked all", "stopped by bets"])
@pytest.mark.parametrize("each", [1, 8], ids=lambda each: f"{each} questions a context")
@pytest.mark.parametrize("candidates", [1, 2, 15])
def test_too_few_contexts_are_named_with_a_number_that_suffices(cell, candidates, each, stopping):
    """A candidate that is wrong everywhere is worse at the number that is named, and not separable with one less."""

    def compared(samples):
        protocol = {"stopping": {"rule": "verdict"}} if stopping else {}
        contexts = [i // each for i in range(samples)] if each > 1 else None
        names = [f"c{i}" for i in range(candidates)]
        others = [cell(name, [False] * samples, contexts, protocol=protocol) for name in names]
        found = compare([cell("a", [True] * samples, contexts), *others])
        return " ".join(" ".join(lines(found)).split()), {versus(found, name)["verdict"] for name in names}

    text, verdicts = compared(3 * each)
    assert verdicts == {"not separable"} and "Only 3 contexts: no difference could reach p < 0.05" in text
    needed = int(text.split("Ask for --samples ")[1].split()[0])
    assert needed % each == 0
    if not stopping:
        assert needed // each == {1: 6, 2: 7, 15: 10}[candidates]
    text, verdicts = compared(needed)
    assert verdicts == {"worse"} and "no difference could" not in text
    text, verdicts = compared(needed - each)
    assert verdicts == {"not separable"} and f"Ask for --samples {needed} or more" in text


def test_a_few_contexts_suffice_beside_comparisons_that_are_decided(cell):
    """Holm multiplies by the comparisons that are left: 6 contexts can be separated once the other 2 are."""
    sides = [(length, n, verdict) for length, n in ((1, 40), (2, 40), (3, 6)) for verdict in (True, False)]
    found = compare([cell("ab"[not verdict], [verdict] * n, length=length) for length, n, verdict in sides])
    few = next(row["versus"] for row in found["rows"] if row["length"] == 3 and row["versus"])
    assert few["contexts_needed"] is None and few["verdict"] == "worse" and few["p_holm"] == pytest.approx(1 / 32)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_turning_the_candidates_round_turns_the_signs(triples):
    from atlas_bench.results.record import Record

    def record(model, side):
        rows = [
            answer_row(i, question="", targets=[], answer="", correct={"s": triple[side]}) | {"context": triple[2]}
            for i, triple in enumerate(triples)
        ]
        score = {"correct": sum(triple[side] for triple in triples), "n": len(triples)}
        return Record(**{**FACTS, "model": model, "answers": rows, "headline": "s", "scores": {"s": score}})

    records = [record("a", 0), record("b", 1)]
    one, other = versus(compare(records, ["a", "b"])), versus(compare(records, ["b", "a"]), "a")
    assert one["difference"] == pytest.approx(-other["difference"]) and one["p"] == pytest.approx(other["p"])
    assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]))
    turned = {"better": "worse", "worse": "better", "not separable": "not separable"}
    assert one["verdict"] == turned[other["verdict"]]


def test_questions_of_one_context_count_as_one_unit(cell):
    """Four contexts of eight questions, all won: 2 of 16 sign patterns are as extreme, whatever McNemar says."""
    contexts = [8 * (i // 8) for i in range(32)]
    found = compare([cell("a", [False] * 32, contexts), cell("b", [True] * 32, contexts)])
    assert versus(found)["test"] == "sign flips of contexts" and versus(found)["p"] == pytest.approx(2 / 16)
    assert versus(found)["contexts"] == 4 and versus(found)["verdict"] == "not separable"
    text = "\n".join(lines(found))
    assert "Only 4 contexts: no difference could reach p < 0.05" in text and "is over contexts" in text.replace(
        "\n", " "
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"plan_hash": "77ab"}, "not comparable: asked other samples: plan 77ab, the baseline 3f1c"),
        ({"task_version": "2"}, "not comparable: of task version 2, the baseline 1"),
        ({"scorer_version": {"s": "2"}}, "not comparable: scored by s 2, the baseline s 1"),
        ({"status": "unsupported", "reason": "too long"}, "ok -> unsupported"),
    ],
)
def test_what_is_not_the_same_is_not_compared(cell, changes, said):
    comparison = compare([cell("a", [True, False]), cell("b", [True, True], **changes)])
    assert versus(comparison) == {"note": said}
    assert said in " ".join(" ".join(lines(comparison)).split())


def test_only_questions_that_both_answered_are_paired(cell, make):
    whole, part = cell("a", [True, True, False, False]), cell("b", [True, False])
    found = versus(compare([whole, part]))
    assert found["n"] == 2 and found["difference"] == -0.5
    later = cell("b", [True] * 4)
    for row in later.answers:
        row["index"] += 4
    assert versus(compare([whole, later])) == {"note": "not comparable: no sample in common"}
    assert versus(compare([part], ["a", "b"])) == {"note": "not comparable: the baseline has no record of this cell"}


def test_costs_that_differ_are_told_once(cell):
    a = [cell("a", [True] * 8, length=n, parameters=1000, state_bytes=100, training_tokens=50) for n in (1000, 2000)]
    b = [cell("b", [True] * 8, length=n, parameters=1040, state_bytes=n, training_tokens=40) for n in (1000, 2000)]
    comparison = compare(a + b)
    assert comparison["warnings"] == [
        "b: 2,000 bytes of state at 2K, 20.0 times a's 100.",
        "b: 40 training tokens, 20 % less than a's 50.",
    ]
    assert [(cost["model"], cost["length"], cost["state_bytes"]) for cost in comparison["costs"]] == [
        ("a", 2000, 100), ("b", 2000, 2000),
    ]  # fmt: skip
    text = lines(comparison)
    assert max(map(len, text)) <= 79 and sum(line.startswith("unequal:") for line in text) == 2


def test_a_failure_and_a_long_name_fit_the_page(cell, failed):
    name = "gated-deltanet:some_option=1,other=2"
    lost = failed("failed", "training failed: \x1b[31mit ran out of luck " * 5, model="b", length=16_000)
    text = lines(compare([cell("a", [True] * 6), cell(name, [True] * 6), lost]))
    assert max(map(len, text)) <= 79 and name in text and "\x1b" not in "\n".join(text)
    assert any(line.startswith("b: failed: ok -> failed. training failed:") for line in text)
    assert lines(compare([]))[0].startswith("Baseline: None")


def test_cells_of_two_data_choices_and_subsets_stand_apart_and_in_order(cell):
    """qa2 comes before qa10, and one cell's rows are never another's."""
    choices = [("qa10", "bare"), ("qa2", "bare"), ("qa2", "official")]
    records = [
        cell(name, [True, False], subset=subset, options={"prompt": prompt})
        for subset, prompt in choices
        for name in ("a", "b")
    ]
    titles = [line for line in lines(compare(records)) if "(chance" in line]
    assert titles == [
        "babilong:qa2, 16K, prompt bare (chance 16.7 %)",
        "babilong:qa2, 16K, prompt official (chance 16.7 %)",
        "babilong:qa10, 16K (chance 16.7 %)",
    ]


def test_the_scorer_is_named_with_its_version(cell):
    assert "acc %, with a 95 % Wilson interval, by s version 1." in lines(compare([cell("a", [True])]))


def test_metrics_are_shown_where_there_is_no_score(cell):
    """The task `loss` has no scorer, so nothing is paired."""
    bare = {"headline": None, "scores": {}, "scorer_version": {}}
    records = [cell(name, [], metrics={"nats_per_token": nats}, **bare) for name, nats in (("a", 3.4123), ("b", 3.3))]
    comparison = compare(records)
    assert versus(comparison) == {"note": "not tested: metrics are no scores"} and comparison["comparisons"] == 0
    assert "a: nats_per_token 3.412" in lines(comparison)


def seeded(cell, model: str, shares, n=40, **changes):
    """A record for each seed, with weights of its own, of which that share of n answers is right."""
    return [
        cell(model, [i < round(n * share) for i in range(n)], seed=seed, weights_hash=f"{model}{seed}", **changes)
        for seed, share in enumerate(shares)
    ]


def test_a_verdict_over_seeds_is_about_trainings(cell):
    """Every answer of two of three seeds is won, and the third is lost: no verdict, whatever 120 answers say."""
    records = [*seeded(cell, "a", [0.5, 0.5, 0.5]), *seeded(cell, "b", [1.0, 1.0, 0.4])]
    comparison = compare(records)
    _, row = comparison["rows"]
    assert row["seeds"] == [0, 1, 2] and row["trainings"] == 3 and row["by_seed"] == [1.0, 1.0, 0.4]
    assert (row["n"], row["correct"]) == (120, 96) and row["low"] == 0.0 and row["high"] == 1.0
    found = row["versus"]
    assert found["test"] == "t over 3 seeds" and found["by_seed"] == pytest.approx([0.5, 0.5, -0.1])
    assert found["p"] > 0.2 and found["low"] < 0 < found["high"] and found["verdict"] == "not separable"
    text = "\n".join(lines(comparison))
    assert "3 seeds: 100.0, 100.0, 40.0; sd 34.6" in text and "3 seeds: 50.0, 50.0, 50.0; sd 0.0" in text
    assert "Each seed is a training" in text and max(map(len, text.splitlines())) <= 79
    assert json.loads(json.dumps(comparison)) == comparison


def test_seeds_that_agree_are_no_surer_than_their_answers(cell):
    """Three equal differences have no variance over seeds, so the questions alone decide."""
    records = [*seeded(cell, "a", [0.5] * 3), *seeded(cell, "b", [0.6] * 3)]
    found = versus(compare(records))
    pooled = 2 * sum(comb(12, i) for i in range(1)) / 2**12
    assert found["p"] == pytest.approx(pooled) and found["low"] < 0.1 < found["high"]
    assert found["verdict"] == "better"


def test_seeds_of_one_model_are_more_questions(cell):
    records = [cell(name, side, seed=seed) for seed in (0, 1) for name, side in (("a", [False] * 4), ("b", [True] * 4))]
    row = compare(records)["rows"][1]
    assert row["trainings"] == 1 and row["versus"]["n"] == 8 and row["versus"]["test"] == "McNemar"
    assert row["versus"]["p"] == pytest.approx(2 / 2**8)


def test_a_seed_that_failed_speaks_for_its_candidate(cell, failed):
    records = [*seeded(cell, "a", [0.5] * 3), *seeded(cell, "b", [1.0, 1.0])]
    records.append(failed("failed", "training failed: it diverged", model="b", length=16_000, seed=2))
    row = compare(records)["rows"][1]
    assert (row["status"], row["reason"]) == ("failed", "seed 2: training failed: it diverged")
    assert row["accuracy"] is None and row["versus"] == {"note": "ok -> failed"}
    found = compare([*seeded(cell, "a", [0.5] * 2), *seeded(cell, "b", [1.0] * 3)])["rows"][1]["versus"]
    assert found == {"note": "seed 2: not comparable: the baseline has no record of this seed"}


def test_what_stopped_by_its_answers_is_judged_by_what_holds_at_any_stop(cell):
    a, b = [True, False] * 20, [True] * 40
    protocol = {"stopping": {"rule": "verdict", "against": "a", "comparisons": 1}}
    row = compare([cell("a", a), cell("b", b, samples=100, protocol=protocol)])["rows"][1]
    fixed = compare([cell("a", a), cell("b", b)])["rows"][1]
    assert row["versus"]["test"] == "betting" and row["versus"]["p"] > fixed["versus"]["p"]
    assert row["versus"]["low"] < fixed["versus"]["low"] and row["low"] < fixed["low"]
    text = "\n".join(lines(compare([cell("a", a), cell("b", b, samples=100, protocol=protocol)])))
    assert "asked 40 of 100: the verdict was decided" in text and "hold at any stop" in " ".join(text.split())


def test_the_rates_that_were_tried_are_told(cell):
    comparison = compare(seeded(cell, "a", [0.5]))
    tried = [{"factor": 1 / 3, "loss": 2.3}, {"factor": 1.0, "loss": 1.1042}, {"factor": 3.0, "loss": None}]
    comparison["rates"] = [{"candidate": "a", "task": "mqar", "chosen": 1.0, "tried": tried}]
    assert "a on mqar: x0.333 2.300, x1 1.104 (chosen), x3 failed" in lines(comparison)
    comparison["rates"][0] |= {"beyond": 5}
    assert "x3 failed; --rates 5 tries rates beyond it" in " ".join(" ".join(lines(comparison)).split())
