"""Others' numbers: spot values typed again from the papers' tables, sums that must come out, blanks that stay blank."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest

from atlas_bench.results.reference import ROWS, SOURCES, TABLES, Published, of

K, M = 1000, 1_000_000


def value(table: str, model: str, subset: str, length: int | None = None, **more: str) -> float:
    """The one number of that place."""
    wanted = {"table": table, "model": model, "subset": subset, "length": length, **more}
    (row,) = [row for row in ROWS if all(getattr(row, name) == each for name, each in wanted.items())]
    return row.value


def place(row: Published) -> tuple:
    return row.model, row.table, row.subset, row.length, row.source, row.kind


def test_every_table_is_whole():
    assert Counter(row.table for row in ROWS) == {
        "babilong": 297, "lm": 240, "s-niah": 121, "ablation": 43, "recall": 35, "mad": 20,
    }  # fmt: skip
    assert Counter((row.source, row.kind) for row in ROWS if row.kind == "derived") == {
        ("babilong", "derived"): 15, ("babilong-leaderboard", "derived"): 2, ("atlas", "derived"): 1,
    }  # fmt: skip


def test_no_place_has_two_numbers():
    assert [key for key, count in Counter(map(place, ROWS)).items() if count > 1] == []


def test_every_row_is_well_formed():
    assert {row.source for row in ROWS} == set(SOURCES)
    assert {row.table for row in ROWS} == set(TABLES)
    for row in ROWS:
        assert row.kind in ("quoted", "derived")
        assert row.unit == ("ppl" if row.subset.endswith("ppl") else "%")
        assert row.value > 1 if row.unit == "ppl" else 0 <= row.value <= 100
        assert "^" not in row.model + row.subset and ":" not in row.subset
        assert row.length is not None or not TABLES[row.table].by_length


@pytest.mark.parametrize(
    ("table", "model", "subset", "length", "expected"),
    [
        ("s-niah", "TTT", "niah_single_2", 8192, 10.2),
        ("s-niah", "Mamba2", "niah_single_1", 4096, 61.4),
        ("s-niah", "DeltaNet", "W", 16384, 0.0),
        ("s-niah", "Titans (MAG)", "niah_single_2", 16384, 98.6),
        ("s-niah", "Titans (MAL)", "W", 2048, 98.0),
        ("s-niah", "Atlas", "niah_single_2", 16384, 84.0),
        ("s-niah", "Atlas (MAG)", "niah_single_1", 16384, 98.6),
        ("s-niah", "Dot", "W", 16384, 93.2),
        ("s-niah", "Transformer", "niah_single_3", 16384, 40.8),
        ("s-niah", "DLA", "niah_single_2", 4096, 79.6),
        ("babilong", "RMT 137M, fine-tuned", "qa1", 512 * K, 87),
        ("babilong", "GPT-4-0125", "qa2", 32 * K, 42),
        ("babilong", "Llama3-ChatQA-1.5-8B + RAG", "qa3", 10 * M, 11),
        ("babilong", "RMT 137M, fine-tuned", "qa4", 1 * M, 24),
        ("babilong", "Mamba 130M, fine-tuned", "qa5", 128 * K, 98),
        ("babilong", "Llama-3.1-70B", "qa1", 64 * K, 66),
        ("babilong", "GPT-4o-mini", "qa1", 128 * K, 33),
        ("babilong", "Qwen2.5-72B", "qa4", 128 * K, 54),
        ("babilong", "RWKV-6-7B", "qa1-5 mean", 2 * K, 48),
        ("babilong", "RMT 137M, fine-tuned", "qa1-5 mean", 0, 99.36),
        ("recall", "Transformer(++)", "FDA", None, 72.5),
        ("recall", "Atlas", "FDA", None, 40.7),
        ("recall", "OmegaNet", "avg", None, 43.13),
        ("recall", "Transformer", "SQuAD", 16384, 33.4),
        ("lm", "TTT, 340M, 15B tokens", "LMB ppl", None, 34.19),
        ("lm", "Samba*, 760M, 30B tokens", "SIQA", None, 38.98),
        ("lm", "Gated DeltaNet-H2*, 760M, 30B tokens", "Wiki ppl", None, 19.88),
        ("lm", "Atlas++, 760M, 30B tokens", "Avg", None, 53.09),
        ("lm", "Titans (LMM), 1.3B, 100B tokens", "Winogrande", None, 59.81),
        ("lm", "Dot, 1.3B, 100B tokens", "Avg", None, 57.35),
        ("lm", "SWLA, 760M", "LMB ppl", None, 22.74),
        ("ablation", "Titans (MAC), 400M", "Long Context", None, 97.95),
        ("ablation", "Titans (LMM), w/o weight decay, 400M", "Language Modeling ppl", None, 29.04),
        ("ablation", "Atlas, omega window 1, 760M", "Reasoning", None, 49.26),
        ("mad", "Atlas", "fuzzy ICR", None, 54.9),
        ("mad", "Gated DeltaNet", "avg", None, 71.04),
    ],
)
def test_spot_values(table, model, subset, length, expected):
    assert value(table, model, subset, length) == expected


def test_one_model_by_two_sources():
    armt = {row.source: row.value for row in of("babilong", "qa1") if row.length == 50 * M}
    assert armt == {"armt": 79.9, "babilong": 77}
    titans = [row for row in of("ruler", "niah_single_3") if row.model == "Titans (LMM)" and row.length == 16384]
    assert {row.source: row.value for row in titans} == {"titans": 80.6, "memory-caching": 21.2}


def means(source: str, kind: str) -> list[tuple[Published, list[float]]]:
    """The means of a source, each with its qa1 to qa5, where all five are printed."""
    parts = {(row.model, row.subset, row.length): row.value for row in ROWS
             if row.table == "babilong" and row.kind == "quoted"}  # fmt: skip
    found = [(row, [parts.get((row.model, f"qa{i}", row.length)) for i in range(1, 6)]) for row in ROWS
             if (row.subset, row.source, row.kind) == ("qa1-5 mean", source, kind)]  # fmt: skip
    return [(row, five) for row, five in found if None not in five]


def test_derived_means_are_the_means_of_their_parts():
    made = means("babilong", "derived") + means("babilong-leaderboard", "derived")
    assert [(row.model, row.length) for row, _ in made] == [
        ("Qwen2.5-72B", 4 * K), ("Qwen2.5-72B", 32 * K), ("Qwen2.5-72B", 128 * K),
        ("ARMT 137M, fine-tuned", 1 * M), ("ARMT 137M, fine-tuned", 10 * M),
    ]  # fmt: skip
    for row, five in made:
        assert row.value == pytest.approx(fmean(five))


def test_gpt_4o_minis_mean_fits_what_is_printed_of_it():
    """Of its five tasks qa1 alone is here; the other four, in whole per cent, sum to a whole number."""
    rows = [row for row in ROWS if (row.model, row.subset) == ("GPT-4o-mini", "qa1-5 mean")]
    assert len(rows) == 6
    for row in rows:
        others = 5 * row.value - value("babilong", "GPT-4o-mini", "qa1", row.length)
        assert 0 <= others <= 400 and others == pytest.approx(round(others))


def test_quoted_means_fit_their_parts_but_for_the_copying_mistake():
    quoted = means("babilong-leaderboard", "quoted")
    assert len(quoted) == 24
    for row, five in quoted:
        if row.model.startswith("ARMT"):  # repeats qa5, which stands rounded
            assert row.value == pytest.approx(five[4], abs=0.5) and "copying mistake" in row.note
        else:
            assert row.value == pytest.approx(fmean(five), abs=0.51)


COMMON_SENSE = ("LMB", "PIQA", "HellaSwag", "Winogrande", "ARC-e", "ARC-c", "SIQA", "BoolQ")


@pytest.mark.parametrize(
    ("table", "parts", "mean", "whole"),
    [
        ("lm", COMMON_SENSE, "Avg", 18),
        ("recall", ("SWDE", "NQ", "DROP", "FDA", "SQuAD", "TQA"), "avg", 3),
        ("mad", ("compression", "noisy ICR", "fuzzy ICR", "selective copy", "memorisation"), "avg", 3),
    ],
)
def test_printed_averages_are_those_of_their_columns(table, parts, mean, whole):
    cells = {(row.model, row.subset): row.value for row in ROWS if row.table == table and row.length is None}
    models = [model for model, subset in cells if subset == mean and all((model, part) in cells for part in parts)]
    assert len(models) == whole
    for model in models:
        assert cells[model, mean] == pytest.approx(fmean(cells[model, part] for part in parts), abs=0.0101)


@pytest.mark.parametrize(
    ("ablated", "trained"),
    [
        ("Atlas", "Atlas"),
        ("Atlas + gated MLP", "Atlas++"),
        ("Atlas + attention (MAG)", "Atlas (MAG)"),
        ("Atlas + attention (MAL)", "Atlas (MAL)"),  # whose LMB is derived from it
        ("Atlas, w/o Muon", "OmegaNet"),
    ],
)
def test_ablations_perplexity_is_the_mean_of_two(ablated, trained):
    ablated, trained = f"{ablated}, 760M", f"{trained}, 760M, 30B tokens"
    both = [value("lm", trained, "Wiki ppl"), value("lm", trained, "LMB ppl")]
    assert value("ablation", ablated, "Language Modeling ppl") == pytest.approx(fmean(both), abs=0.0101)
    assert value("ablation", ablated, "Reasoning") == value("lm", trained, "Avg")


def test_doubtful_numbers_carry_their_flag():
    flagged = {
        ("babilong", "RecurrentGemma-9b-it"): "medium confidence",
        ("lm", "TTT, 760M, 30B tokens"): "49.37",
        ("ablation", "Atlas, w/o Muon, 760M"): "OmegaNet",
    }
    for (table, model), words in flagged.items():
        assert all(words in row.note for row in ROWS if (row.table, row.model) == (table, model))
    assert all("niah_single_3" in row.note for row in ROWS if row.subset == "W")
    assert [row.value for row in ROWS if "typing mistake" in row.note] == [30.98]
    assert all(row.note for row in ROWS if row.kind == "derived")


def test_what_nobody_printed_is_blank():
    babilong = [row for row in ROWS if row.table == "babilong"]
    assert not [row for row in babilong if "Titans" in row.model or "Atlas" in row.model]
    assert max(row.length for row in babilong if row.model == "GPT-4-0125") == 128 * K
    assert max(row.length for row in babilong if row.model == "Mamba 130M, fine-tuned") == 512 * K
    assert [row.subset for row in ROWS if (row.table, row.model) == ("recall", "OmegaNet")] == ["avg"]
    assert not [row for row in ROWS if "mqar" in (row.table + row.subset).lower()]


def test_rows_beside_ours():
    for subset in ("qa1", "qa2", "qa3", "qa4", "qa5"):
        rows = of("babilong", subset)
        assert rows and {(row.table, row.subset) for row in rows} == {("babilong", subset)}
        lines = [(row.model, row.source, row.kind, row.length) for row in rows]
        assert lines == sorted(lines)
    assert {row.subset for row in of("ruler", "niah_single_1")} == {"niah_single_1"}
    assert {row.subset for row in of("ruler", "niah_single_3")} == {"niah_single_3", "W"}
    assert {row.length for row in of("ruler", "niah_single_2")} == {2048, 4096, 8192, 16384}
    for task, subset in (("babilong", "qa6"), ("babilong", "W"), ("ruler", "vt"), ("niah", "single"), ("mqar", "8")):
        assert of(task, subset) == []


def test_the_page_about_them_names_every_table_and_source():
    page = (Path(__file__).parents[2] / "docs" / "published.md").read_text()
    for table, count in Counter(row.table for row in ROWS).items():
        assert f"| `{table}` | {count} |" in page
    for source in SOURCES.values():
        assert source.url in page
