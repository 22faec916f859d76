"""Panels hold what compares; cells are sums over seeds; lengths and ranks follow from the intervals alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas_bench.results.leaderboard import Leaderboard, make
from atlas_bench.results.panels import Panel, above, shade
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
    order = [-1 if row.effective is None else row.effective for row in panel.rows]
    assert order == sorted(order, reverse=True)


@settings(max_examples=80, deadline=None)
@given(grids())
def test_a_rank_is_shared_exactly_where_intervals_overlap_with_its_first(found):
    (panel,) = board(found).panels
    scored = [row for row in panel.rows if any(cell.n for cell in row.cells.values())]
    assert all(row.rank is None for row in panel.rows if row not in scored)
    assert [row.rank for row in scored[:1]] == [1][: len(scored)]
    places = {id(row): place for place, row in enumerate(panel.rows, start=1)}
    first: dict[int, object] = {}
    for before, row in zip([None, *scored], scored, strict=False):
        leader = first.setdefault(row.rank, row)
        if leader is row:
            assert row.rank == places[id(row)]
            assert before is None or stands_above(first[before.rank], row)
        else:
            assert not stands_above(leader, row) and before.rank == row.rank


def stands_above(a, b) -> bool:
    """Whether all of a's interval at the longest common length is above b's."""
    common = [length for length in LENGTHS if all(length in row.cells and row.cells[length].n for row in (a, b))]
    if not common:
        return False
    (low, _), (_, high) = (row.cells[common[-1]].interval for row in (a, b))
    return low > high


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


def test_no_common_length_tells_nothing_apart():
    (panel,) = board(
        [record(model="a", length=1000, n=99, correct=99), record(model="b", length=4000, correct=0)]
    ).panels
    assert not above(*panel.rows) and [row.rank for row in panel.rows] == [1, 1]


def test_no_record_makes_no_panel():
    assert board([]) == Leaderboard((), (), 0.8)
