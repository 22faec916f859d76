"""A summary's tallies equal a direct count over the answers, and the answers themselves are gone."""

from __future__ import annotations

import io
import json
import math
import re
from collections import defaultdict
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from atlas_bench.comparison.changes import changes
from atlas_bench.comparison.paired import compare
from atlas_bench.results import report, store, summary
from atlas_bench.results.record import Record, answer_row
from atlas_bench.results.score import Score as Tally
from atlas_bench.results.score import score
from atlas_bench.results.summary import reported, summaries
from atlas_bench.running.run_table import render
from tests.records import FACTS

LENGTH = 100_000
VERDICTS = st.sampled_from([True, False, 0.0, 0.25, 1.0, None])


@st.composite
def records(draw, most: int = 12) -> Record:
    """A record whose answers have any of the fields that some tasks give theirs."""
    answers = []
    for index in range(draw(st.integers(0, most))):
        verdict = draw(VERDICTS)
        correct = {} if verdict is None else {"s": verdict}
        answer = answer_row(index, question=f"q{index}", targets=["t"], answer="said", correct=correct)
        for name, values in (
            ("needle_depth", st.floats(0, 1)),
            ("distance", st.integers(0, LENGTH)),
            ("asked_at", st.integers(1, LENGTH)),
            ("context", st.integers(0, index)),
        ):
            if draw(st.booleans()):
                answer[name] = draw(values)
        answers.append(answer)
    return Record(**FACTS | {"length": LENGTH, "headline": "s", "answers": answers})


@settings(max_examples=60, deadline=None)
@given(records())
def test_tallies_equal_a_direct_count(record):
    (found,) = summaries([record])
    depths, distances = defaultdict(list), defaultdict(list)
    for answer in record.answers:
        score = answer["correct"].get("s")
        if score is not None and "needle_depth" in answer:
            depths[round(10 * answer["needle_depth"])].append(float(score))
        if score is not None and "distance" in answer:
            ends = (answer["distance"], answer.get("asked_at", LENGTH))
            distances[tuple(round(2 * math.log10(max(1, end))) for end in ends)].append(float(score))
    assert found.depths == {key: Tally(sum(scores), len(scores)) for key, scores in depths.items()}
    assert found.distances == {key: Tally(sum(scores), len(scores)) for key, scores in distances.items()}
    assert found.contexts == len({answer.get("context", answer["index"]) for answer in record.answers})
    assert found.along == any(answer.get("asked_at", LENGTH) < LENGTH / 2 for answer in record.answers)


@settings(max_examples=60, deadline=None)
@given(records())
def test_examples_are_the_first_right_and_wrong_answers(record):
    (found,) = summaries([record])
    judged = [(answer["index"], answer["correct"]["s"]) for answer in record.answers if answer["correct"]]
    assert [each["index"] for each in found.right] == [i for i, score in judged if score == 1][: summary.EXAMPLES]
    assert [each["index"] for each in found.wrong] == [i for i, score in judged if score < 1][: summary.EXAMPLES]


@settings(max_examples=30, deadline=None)
@given(st.lists(records(most=3), max_size=5))
def test_all_is_kept_but_the_answers(found):
    before = [replace(record) for record in found]
    kept = [each.record for each in summaries(found)]
    assert kept == [replace(record, answers=[]) for record in found]
    assert found == before  # the records themselves stay as they were


def test_examples_are_clipped(make):
    long = answer_row(0, question="q" * 1999, targets=["t" * 999] * 9, answer="a" * 1999, correct={"s": True})
    (found,) = summaries([make(headline="s", answers=[long])])
    (example,) = found.right
    assert example["answer"] == "a" * 300 + " [... 1699 characters cut]" and len(example["targets"]) == 5


def test_a_score_is_that_of_the_whole_record(make):
    record = make()
    (found,) = summaries([record])
    for name in record.scores:
        assert found.score(name) == score(record, name)
    (nothing,) = summaries([make(scores={"s": {"correct": 0, "n": 0}}, scorer_version={"s": "1"})])
    assert nothing.score("s") == {"version": "1", "correct": 0, "n": 0}


def test_foreign_answers_without_the_usual_fields_are_counted_nowhere(make):
    bare = {"index": 0, "correct": {}, "needle_depth": 0.5, "distance": 3}
    (found,) = summaries([make(headline="s", answers=[bare])])
    assert (found.depths, found.distances, found.right, found.wrong, found.contexts) == ({}, {}, (), (), 1)


def test_costs_that_are_not_the_models_are_left_out(make, failed):
    server = reported(make(device="server"))
    assert (server.state_bytes, server.peak_rss_bytes) == (None, None) and server.tokens_per_second == 19_990
    lost = reported(failed("failed", "full", tokens_per_second=12.5, peak_rss_bytes=100))
    assert lost.tokens_per_second is None and lost.peak_rss_bytes == 100
    assert reported(make()) == make()


def test_nothing_shows_the_memory_of_an_endpoints_client(make, tmp_path):
    """Neither a run's table nor any form of a report, nor comparisons and changes."""
    clients = {"device": "server", "state_bytes": 987_654_321, "peak_rss_bytes": 876_543_210}
    found = [make(model=model, **clients) for model in "ab"]
    for name, weights in (("old", "beef"), ("new", "feed")):
        store.append(tmp_path / f"{name}.jsonl", make(weights_hash=weights, **clients))
    console = Console(file=io.StringIO(), width=80)
    render(found, console)
    told = [report.main(found, form=form) for form in report.FORMS]
    told += report.with_answers(found, tmp_path / "all.html", leaderboard=None)[1].values()
    told += [console.file.getvalue(), json.dumps(compare(found))]
    told.append(json.dumps(changes(tmp_path / "old.jsonl", tmp_path / "new.jsonl")))
    assert all(len(text) > 300 and not re.search('987|941.9|876|835.9|peak_rss_bytes": 1', text) for text in told)
