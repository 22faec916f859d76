"""What the studies' documents show is what their committed records say."""

from pathlib import Path

import pytest

from studies import atlas, lm, rules, track

HERE = Path(__file__).parents[1]


@pytest.mark.parametrize("variant", atlas.VARIANTS)
def test_a_folders_name_tells_its_variant_and_seed(variant):
    assert atlas.variant_of(str(atlas.folder(Path("runs"), "mqar:128", variant, 1))) == (variant, 1)


@pytest.mark.parametrize("row", track.ROWS)
def test_a_folders_name_tells_the_row_of_a_state_tracker(row):
    assert track.row_of(str(track.folder("s5", row, 2))) == (row, 2)


def test_state_trackers_read_no_more_than_256_tokens_in_training():
    recipe = track.recipe_of("parity", 0, 2_000_000)
    assert max(recipe.longest, recipe.segment, recipe.stream_length) == track.LONGEST and not recipe.stream_tokens
    assert recipe.curriculum_tokens + recipe.mixed_tokens == 2_000_000 and recipe.paced


def test_the_ablation_of_atlas_in_the_results_is_the_table_of_its_records():
    lines = atlas.table(HERE / "results" / "atlas")
    shown = (HERE / "docs" / "results.md").read_text("utf-8").splitlines()
    assert [line for line in lines if line not in shown] == []
    assert sum(line.startswith("| `") for line in lines) > 2


def test_the_table_of_state_tracking_in_the_results_is_that_of_its_records():
    shown = (HERE / "docs" / "results.md").read_text("utf-8").splitlines()
    rows = [line for line in track.table() if line.startswith("|")]
    assert len(rows) > 4 and [line for line in rows if line not in shown] == []


def test_the_loss_by_position_in_the_results_is_that_of_its_study():
    shown = (HERE / "docs" / "results.md").read_text("utf-8").splitlines()
    rows = lm.table()
    assert len(rows) > 5 and [line for line in rows if line not in shown] == []


def test_the_comparison_of_six_rules_in_the_results_is_that_of_its_records(monkeypatch):
    monkeypatch.chdir(HERE)
    shown = (HERE / "docs" / "results.md").read_text("utf-8").splitlines()
    comparison = rules.compared()
    rows = [line for line in rules.table(comparison) if line.startswith("|")]
    assert len(rows) == 2 + 6 * (2 + 4 + 2 + 1) and [line for line in rows if line not in shown] == []
    assert {row["trainings"] for row in comparison["rows"]} == {rules.SEEDS}
    assert {len(each["tried"]) for each in comparison["rates"]} == {rules.RATES}
    page = (HERE / "docs" / "rules.html").read_text("utf-8")
    assert "The small circles are the seeds" in page and len(page) < 500_000
