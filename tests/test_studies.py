"""What the studies' documents show is what their committed records say."""

from pathlib import Path

import pytest

from studies import atlas

HERE = Path(__file__).parents[1]


@pytest.mark.parametrize("variant", atlas.VARIANTS)
def test_a_folders_name_tells_its_variant_and_seed(variant):
    assert atlas.variant_of(str(atlas.folder(Path("runs"), "mqar:128", variant, 1))) == (variant, 1)


def test_the_ablation_of_atlas_in_the_results_is_the_table_of_its_records():
    lines = atlas.table(HERE / "results" / "atlas")
    shown = (HERE / "docs" / "results.md").read_text("utf-8").splitlines()
    assert [line for line in lines if line not in shown] == []
    assert sum(line.startswith("| `") for line in lines) > 2
