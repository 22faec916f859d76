"""Panels hold what compares; cells are sums over seeds; lengths and ranks follow from the intervals alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.results.leaderboard import Leaderboard, make
from atlas_bench.results.panels import Panel, shade
from atlas_bench.results.record import Record
from atlas_bench.results.summary import only, summaries
from atlas_bench.stats.intervals import wilson
from tests.records import FACTS

LENGTHS = (0, 1000, 4000, 16_000, 64_000)
STATUSES = ("ok", "ok", "ok", "oom", "timeout", "unsupported", "failed")


def record(**changes) -> Record:
    """A record with a score, or without one where its status says so."""
    correct, n = changes.pop("correct", 8), changes.pop("n", 10)
    facts = FACTS | {"headline": "s", "scorer_version": {"s": "1"}, "answers": []} | changes
    return Record(**facts | {"scores": {"s": {"correct": correct, "n": n}} if facts["status"] == "ok" else {}})


def board(records, **named) -> Leaderboard:
    return make(summaries(records), **named)


@st.composite
def grids(draw, twins: int = 1) -> list[Record]:
    """Records of a few models, lengths and seeds, none of the same identity; so many of a seed, by their samples."""
    keys = st.tuples(st.sampled_from("abcd"), st.sampled_from(LENGTHS), st.integers(0, 2), st.integers(1, twins))
    found = []
    for model, length, seed, twin in draw(st.lists(keys, unique=True, min_size=1, max_size=24)):
        n = draw(st.integers(0, 400))
        near = draw(st.sampled_from([0.1, 0.8, 0.9, 1.0]))
        status, right = draw(st.sampled_from(STATUSES)), round(near * n)
        changes = {"samples": 400 + twin, "status": status, "n": n, "correct": right}
        found.append(record(model=model, length=length, seed=seed, **changes))
    return found


def plain(panel: Panel) -> dict:
    """All that a panel says, free of order."""
    return {
        row.model: (
            row.rank,
            row.effective,
            {at: (cell.status, cell.correct, cell.n, len(cell.without)) for at, cell in row.cells.items()},
        )
        for row in panel.rows
    }


@settings(max_examples=80, deadline=None)
@given(grids())
def test_a_cell_is_the_sum_of_its_seeds(found):
    (panel,) = board(found).panels
    for row in panel.rows:
        for length, cell in row.cells.items():
            of_cell = [r for r in found if (r.model, r.length) == (row.model, length)]
            scored = [r.scores["s"] for r in of_cell if r.status == "ok"]
            assert (cell.correct, cell.n) == (sum(s["correct"] for s in scored), sum(s["n"] for s in scored))
            assert cell.interval == wilson(cell.correct, cell.n)
            assert len(cell.counted) == len(scored) and len(cell.without) == len(of_cell) - len(scored)
            assert (cell.status == "ok") == bool(scored)
            assert cell.accuracy == (cell.correct / cell.n if cell.n else None)
    assert sum(len(row.cells) for row in panel.rows) == len({(r.model, r.length) for r in found})


@settings(max_examples=80, deadline=None)
@given(grids(), st.sampled_from([0.0, 0.5, 0.8, 0.95]))
def test_effective_length_is_the_longest_that_the_lower_bound_passes(found, threshold):
    (panel,) = board(found, threshold=threshold).panels
    for row in panel.rows:
        passing = [length for length in LENGTHS if length in row.cells and row.cells[length].n]
        passing = [length for length in passing if row.cells[length].interval[0] >= threshold]
        assert row.effective == (passing[-1] if passing else None)
    order = [(row.rank or 99, 0 if row.effective is None else -1 - row.effective) for row in panel.rows if row.scored]
    assert order == sorted(order)


@settings(max_examples=80, deadline=None)
@given(grids())
def test_a_rank_is_one_more_than_the_number_of_models_above(found):
    (panel,) = board(found).panels
    scored = {row.model: {at: cell.interval for at, cell in row.cells.items() if cell.n} for row in panel.rows}
    for row in panel.rows:
        own = scored[row.model]
        others = [intervals for model, intervals in scored.items() if model != row.model and intervals]
        if not own or (others and not any(own.keys() & other.keys() for other in others)):
            assert row.rank is None
        else:
            assert row.rank == 1 + sum(stands_above(other, own) for other in others)
    ranks = [row.rank for row in panel.rows if row.rank is not None]
    assert ranks == sorted(ranks) and all(row.rank is None for row in panel.rows[len(ranks) :])


def stands_above(a, b) -> bool:
    """Whether an interval of a lies above b's at some length, and none of b's above a's."""
    sides = {(a[at][0] > b[at][1]) - (b[at][0] > a[at][1]) for at in LENGTHS if at in a and at in b}
    return 1 in sides and -1 not in sides


def ranks(*scores: tuple[str, int, int, int]) -> dict[str, int | None]:
    """Model -> its rank, in the order of the panel, from (model, length, right answers, n)."""
    found = [record(model=model, length=length, correct=correct, n=n) for model, length, correct, n in scores]
    return {row.model: row.rank for row in board(found).panels[0].rows}


def test_few_questions_do_not_rank_a_model_below_one_that_it_beats():
    """The oracle's ten questions reach no effective length, and still lie above those of the second model."""
    found = ranks(
        ("gated", 1000, 60, 60), ("transformer", 1000, 57, 60), ("oracle", 1000, 10, 10),
        ("gated", 16_000, 10, 10), ("transformer", 16_000, 2, 10), ("oracle", 16_000, 10, 10),
    )  # fmt: skip
    assert found == {"gated": 1, "oracle": 1, "transformer": 3} and [*found] == ["gated", "oracle", "transformer"]


def test_two_that_fail_at_the_longest_length_are_told_apart_at_a_shorter_one():
    weak, strong = [("swa", 1000, 25, 200), ("swa", 4000, 24, 200)], [("full", 1000, 193, 200), ("full", 4000, 30, 200)]
    assert ranks(*weak, *strong) == {"full": 1, "swa": 2}


def test_of_two_that_win_at_a_length_each_none_is_above():
    assert ranks(("a", 1000, 200, 200), ("b", 1000, 9, 200), ("a", 4000, 9, 200), ("b", 4000, 200, 200)) == {
        "b": 1, "a": 1,
    }  # fmt: skip


def test_a_model_at_lengths_of_its_own_has_no_rank():
    shared = [("a", 1000, 99, 99), ("b", 1000, 0, 99)]
    assert ranks(*shared, ("c", 4000, 99, 99)) == {"a": 1, "b": 2, "c": None}
    assert ranks(("c", 4000, 99, 99)) == {"c": 1}


@settings(max_examples=80, deadline=None)
@given(grids(twins=2), st.randoms(use_true_random=False))
def test_the_order_of_records_changes_nothing(found, random):
    (before,) = board(found).panels
    random.shuffle(found)
    (after,) = board(found).panels
    assert plain(before) == plain(after)
    assert [row.model for row in before.rows] == [row.model for row in after.rows]


@settings(max_examples=80, deadline=None)
@given(grids(), st.sampled_from(STATUSES[3:]), st.integers(0, 23))
def test_a_record_without_a_score_never_changes_one(found, status, at):
    twin = found[at % len(found)]
    (before,) = board(found).panels
    lost = [replace(twin, status=status, scores={}, seed=seed, samples=999) for seed in (twin.seed, 77)]
    (after,) = board([*found, *lost]).panels
    scores = [{m: (rank, effective) for m, (rank, effective, _) in plain(p).items()} for p in (before, after)]
    assert scores[0] == scores[1]
    for row, other in zip(before.rows, after.rows, strict=True):
        assert row.model == other.model
        assert [(c.correct, c.n) for c in row.cells.values()] == [(c.correct, c.n) for c in other.cells.values()]


def test_a_seed_counts_once_by_its_record_with_the_most_questions():
    found = [record(n=n, correct=n, samples=n) for n in (50, 200, 100)] + [record(n=10, correct=0, seed=1)]
    (panel,) = board(found).panels
    (cell,) = panel.rows[0].cells.values()
    assert (cell.correct, cell.n, len(cell.counted)) == (200, 210, 2)


def test_of_one_cell_the_latest_counts_and_a_score_before_all():
    (panel,) = board([record(correct=1), record(correct=9), record(status="oom")]).panels
    (cell,) = panel.rows[0].cells.values()
    assert (cell.correct, cell.n, cell.without) == (9, 10, ())


APART = {
    "task": "other",
    "subset": "qa2",
    "task_version": "2",
    "options": {"data": "hub"},
    "scorer_version": {"s": "2"},
    "headline": "t",
}


@pytest.mark.parametrize("names", [names for k in (1, 2) for names in combinations(APART, k)], ids="+".join)
def test_what_does_not_compare_shares_no_panel(names):
    other = replace(record(model="b"), **{name: APART[name] for name in names})
    other = replace(other, scores={other.headline: {"correct": 1, "n": 10}})
    panels = board([record(model="a"), other]).panels
    assert sorted(row.model for panel in panels for row in panel.rows) == ["a", "b"]
    assert len(panels) == 2


def test_a_score_without_a_version_joins_no_other_scorers():
    other = replace(record(model="b"), headline="t", scores={"t": {"correct": 1, "n": 10}})
    assert [panel.scorer for panel in board([record(model="a"), other]).panels] == ["s", "t"]


def test_the_order_of_options_is_no_choice_of_data():
    turned = dict(reversed(FACTS["options"].items()))
    assert len(board([record(), record(model="b", options=turned)]).panels) == 1


def test_a_failed_record_that_names_no_scorer_stands_with_the_scored():
    lost = replace(record(model="b", status="failed"), headline=None, scorer_version={})
    (panel,) = board([lost, record(model="a")]).panels
    assert (panel.scorer, panel.scorer_version) == ("s", "1")
    assert {row.model: row.rank for row in panel.rows} == {"a": 1, "b": None}
    (alone,) = board([lost]).panels
    assert alone.scorer is None and alone.rows[0].effective is None


def test_weights_of_one_name_are_rows_of_their_own():
    (panel,) = board([record(weights_hash="a" * 64), record(weights_hash="b" * 64), record(model="m")]).panels
    assert {row.model for row in panel.rows} == {"atlas weights=aaaaaaaa", "atlas weights=bbbbbbbb", "m"}


def test_panels_come_by_task_and_subset_in_counting_order():
    subsets = [("babilong", "qa10"), ("niah", ""), ("babilong", "qa2"), ("babilong", "qa1")]
    names = [panel.name for panel in board([record(task=t, subset=s) for t, s in subsets]).panels]
    assert names == ["babilong:qa1", "babilong:qa2", "babilong:qa10", "niah"]


def test_only():
    found = list(summaries([record(subset=s, model=m) for s in ("qa1", "qa2") for m in "ab"]))
    assert only(found) == found
    assert only(found, tasks=["babilong"]) == found and only(found, tasks=["niah"]) == []
    assert [d.record.subset for d in only(found, tasks=["babilong:qa2"])] == ["qa2", "qa2"]
    assert [d.record.model for d in only(found, tasks=["babilong:qa2"], models=["b", "c"])] == ["b"]


@given(st.floats(0, 1), st.floats(0, 1))
def test_shade_rises_from_chance_to_perfect(accuracy, chance):
    assert 0 <= shade(accuracy, chance) <= 1
    assert shade(chance, chance) in (0.0, 1.0) and (chance == 1 or shade(chance, chance) == 0)
    assert shade(1.0, chance) == 1 and (accuracy > chance or chance == 1 or shade(accuracy, chance) == 0)
    assert shade(accuracy, None) == accuracy


def test_no_record_makes_no_panel():
    assert board([]) == Leaderboard((), (), 0.8)
