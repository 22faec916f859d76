"""Others' numbers: spot values typed again from the papers' tables, sums that must come out, blanks that stay blank."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import fmean

import pytest

from atlas_bench.results.reference import MEAN_OF_13, ROWS, SOURCES, TABLES, Published, of

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
        "s-niah": 553, "babilong": 352, "ruler-mean": 332, "lm": 240, "ablation": 43, "recall": 35, "mad": 20,
    }  # fmt: skip
    assert Counter((row.source, row.kind) for row in ROWS if row.kind == "derived") == {
        ("babilong-answers", "derived"): 55, ("babilong", "derived"): 15, ("babilong-leaderboard", "derived"): 2,
        ("atlas", "derived"): 1,
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


# Typed from the tables a second time: niah_single_1 | 2 | 3, from the first length on
NEEDLES = {
    ("gated-deltanet", 1024): {
        "DeltaNet, 1.3B": "97.4 96.8 99.0 98.8 | 98.4 45.6 18.6 14.4 | 85.2 47.0 22.4",
        "Mamba2, 1.3B": "99.2 98.8 65.4 30.4 | 99.4 98.8 56.2 17.0 | 64.4 47.6 4.6",
        "Gated DeltaNet, 1.3B": "98.4 88.4 91.4 91.8 | 100 99.8 92.2 29.6 | 86.6 84.2 27.6",
    },
    ("ttt-e2e", 8192): {
        "full attention, 3B": "100 100 100 100 99 | 99 100 100 100 86 | 64 64 67 83 64",
        "SWA (8K), 3B": "100 50 26 13 7 | 100 43 28 16 5 | 57 41 24 9 5",
        "SWA + full attention 5:1, 3B": "100 93 88 69 21 | 100 100 99 89 29 | 63 56 32 17 6",
        "Mamba 2, 3B": "99 49 26 13 7 | 99 43 28 16 5 | 77 36 24 8 4",
        "Gated DeltaNet, 3B": "100 50 26 13 7 | 100 43 27 16 5 | 91 45 23 7 3",
        "TTT-KVB, 3B": "98 43 22 10 1 | 100 43 27 16 5 | 74 34 23 6 4",
        "TTT-E2E, 3B": "100 46 24 13 6 | 99 43 28 16 5 | 77 44 24 10 3",
    },
    ("raven", 1024): {
        "Transformer (RoPE), 340M": "100 100 0 0 0 0 | 100 100 0 0 0 0 | 71.6 47.6 0 0 0 0",
        "FoX, 376M": "100 100 32.2 8 4.2 0 | 100 100 100 24 11.6 3.2 | 95.4 85.6 64.2 11.6 7.2 0",
        "GLA, 475M": "74.6 25.1 8.2 2.2 0 0 | 91.2 37.2 21.4 3.6 0 0 | 84.2 57.1 20.8 10.2 2.3 0",
        "GSA, 399M": "99.2 97.1 90 67.4 29.6 11 | 96.6 98.8 28 5.1 1 0 | 60 30.1 13.5 1 0 0",
        "Gated DeltaNet, 475M": "99.2 100 99.8 92 41.8 22.1 | 99.2 92 43.6 17.8 6.2 4 | 92.6 80.6 37.8 5.2 6.8 2.5",
        "Mamba2, 382M": "99.2 95.6 52.2 12.8 5.4 2.8 | 99.8 98 68.2 15.4 4.4 3.8 | 53.4 53.6 17.4 1.8 2.2 3.2",
        "SWA, 374M": "29.8 11 6.2 3.4 1.2 0 | 36.2 14.4 10.2 3.8 3.2 0 | 26.2 9.2 7.4 1.4 1.8 0",
        "Raven, 424M": "99.8 100 99.8 99.8 99.4 91.4 | 98.8 98 98.8 81.6 23 8.8 | 76.8 43.6 13.4 1 0 0",
        "Gated DeltaNet, hybrid, ~400M": "100 100 100 100 93.2 70.5 | 100 100 100 8 0 0 | 93.2 70.2 50 0 0 0",
        "Mamba2, hybrid, ~400M": "100 100 16.4 0 0 0 | 100 100 85.8 0 0 0 | 76.9 80.6 60.8 0 0 0",
        "SWA, hybrid, ~400M": "100 100 100 100 98.2 60.4 | 100 100 100 98.2 3.1 0 | 93.4 78.2 12.8 60 4.4 0",
        "Raven, hybrid, ~400M": "100 100 100 100 98.4 78.6 | 100 100 100 100 95.4 65.4 | 90 67 73.8 60 10.2 14.4",
    },
    ("proteus", 4096): {
        "Transformer": "97.8 86.2 83.8 | 100 99.2 96.4 | 82.2 72.0 48.4",
        "Hope-Attention": "100 100 100 | 100 99.4 96.8 | 83.4 72.8 50.0",
        "Comba": "100 100 99.4 | 92.6 47.2 13.4 | 62.4 13.8 7.4",
        "Titans": "100 100 100 | 99.6 84.6 69.4 | 74.2 42.8 21.4",
    },
    ("rwkv-x", 1024): {
        "RWKV-7, 0.19B": "100 100 100 100 | 100 98.4 5.2 3.2 | 98.4 96.8 27.6 6.6",
        "RWKV-X, 3.6B": "100 100 100 100 | 100 100 100 99.8 | 100 100 99.8 95.6",
    },
}
GEMINI = {
    "qa1": "100 99.9 99.8 99.5 99.7 91.3 77.2 75 66 61 57",
    "qa2": "98.3 94.7 92.8 84.2 68.7 59.1 49.7 44 31 35 28",
    "qa3": "87.0 85.7 80.8 70.0 54.9 44.9 29.7 27 21 21 30",
    "qa4": "100 99.4 99.3 97.4 96.8 87.8 78.9 74 62 74 71",
    "qa5": "97.4 97.4 95.8 94.2 91.7 89.3 82.4 77 62 67 67",
}


@pytest.mark.parametrize("place", NEEDLES, ids=lambda place: place[0])
def test_needles_are_those_of_the_tables_cell_by_cell(place):
    source, first = place
    subsets = ("niah_single_1", "niah_single_2", "niah_single_3")
    printed = {
        (model, subset, first << i): float(number)
        for model, text in NEEDLES[place].items()
        for subset, part in zip(subsets, text.split("|"), strict=True)
        for i, number in enumerate(part.split())
    }
    rows = [row for row in ROWS if row.source == source and row.subset in subsets]
    assert {(row.model, row.subset, row.length): row.value for row in rows} == printed
    assert {(row.kind, row.table) for row in rows} == {("quoted", "s-niah")}


def test_gemini_on_babilong_is_derived_cell_by_cell():
    lengths = [0, *(K << i for i in range(8)), 512 * K, 1 * M]
    printed = {
        (subset, length): float(number)
        for subset, text in GEMINI.items()
        for length, number in zip(lengths, text.split(), strict=True)
    }
    rows = [row for row in ROWS if row.source == "babilong-answers"]
    assert {(row.subset, row.length): row.value for row in rows} == printed
    assert {(row.kind, row.model) for row in rows} == {("derived", "gemini-3-flash-preview")}


# RULER's README prints the mean over 4K to 128K beside its six columns (of Qwen2.5-14B, 95.7: see its note)
@pytest.mark.parametrize(
    ("model", "average"),
    [
        ("Qwen3-235B-A22B-Thinking-2507", 99.4), ("Qwen3-30B-A3B-Thinking-2507 (sparse attention)", 98.5),
        ("Qwen3-235B-A22B-Instruct-2507", 96.7), ("Jamba-1.5-large (94B/398B)", 96.0), ("Gemini-1.5-pro", 95.8),
        ("Qwen2.5-14B-Instruct-1M", 95.2), ("Qwen3-235B-A22B", 95.0), ("Qwen3-14B", 94.6), ("Qwen3-32B", 93.7),
        ("Jamba-1.5-mini (12B/52B)", 93.9), ("EXAONE-4.0-32B", 93.1), ("Qwen2.5-7B-Instruct-1M", 91.8),
        ("Qwen3-30B-A3B", 91.6), ("GPT-4-1106-preview", 91.6), ("Llama3.1 (70B)", 89.6), ("Qwen3-8B", 89.1),
        ("Mistral-Large-2411 (123B)", 86.0), ("Command-R-plus-0824 (104B)", 87.9), ("Qwen2 (72B)", 85.9),
        ("Command-R-plus (104B)", 87.4), ("Command-R-0824 (32B)", 88.9), ("GLM4 (9B)", 89.9), ("Llama3.1 (8B)", 88.3),
        ("ProLong (8B)", 88.9), ("Command-R (35B)", 88.3), ("MegaBeam-Mistral (7B)", 89.1),
        ("Mistral-Large-2407 (123B)", 80.5), ("GradientAI/Llama3 (70B)", 86.5), ("Mixtral-8x22B (39B/141B)", 81.9),
        ("Yi (34B)", 87.5), ("Qwen3-4B", 85.2), ("Phi3-mini (3.8B)", 84.8), ("Phi3-medium (14B)", 81.5),
        ("Mixtral-8x7B (12.9B/46.7B)", 80.4), ("GradientAI/Llama3 (8B)", 82.4), ("FILM-7B (7B)", 75.5),
        ("InternLM2.5 (7B)", 80.9), ("Mistral (7B)", 68.4), ("Mistral-Nemo", 66.2), ("GLM3 (6B)", 69.6),
        ("LWM (7B)", 72.8), ("DBRX (36B/132B)", 56.3), ("Qwen1.5 (72B)", 55.7), ("Together (7B)", 50.3),
        ("LongChat (7B)", 49.1), ("LongAlpaca (13B)", 36.3), ("Qwen3-235B-A22B-Thinking-2507 (sparse attention)", 99.6),
        ("Qwen3-30B-A3B-Thinking-2507", 98.8), ("Qwen3-235B-A22B-Instruct-2507 (sparse attention)", 96.7),
        ("Qwen3-30B-A3B-Instruct-2507", 95.2), ("Qwen3-30B-A3B-Instruct-2507 (sparse attention)", 94.7),
    ],
)  # fmt: skip
def test_rulers_means_fit_the_average_that_it_prints(model, average):
    rows = [row for row in of("ruler", MEAN_OF_13) if (row.source, row.model) == ("ruler", model)]
    assert [row.length for row in sorted(rows, key=lambda row: row.length)] == [4096 << i for i in range(6)]
    assert fmean(row.value for row in rows) == pytest.approx(average, abs=0.0751)  # columns and mean are rounded


def test_what_authors_report_of_their_own_models_is_said():
    rows = [row for row in ROWS if row.table == "ruler-mean"]
    told = {row.model.partition("-")[0] for row in rows if "own authors" in row.note}
    assert told == {"Qwen3", "Qwen2.5", "Jamba", "EXAONE", "FILM", "SelfLong"}
    assert {row.model for row in rows if "95.7" in row.note} == {"Qwen2.5-14B-Instruct-1M"}
    window = {row.model for row in ROWS if "what the window holds" in row.note}
    assert window == {*NEEDLES["ttt-e2e", 8192]} - {"full attention, 3B", "SWA + full attention 5:1, 3B"}


def test_one_model_by_two_sources():
    armt = {row.source: row.value for row in of("babilong", "qa1") if row.length == 50 * M}
    assert armt == {"armt": 79.9, "babilong": 77}
    titans = [row for row in of("ruler", "niah_single_3") if row.model == "Titans (LMM)" and row.length == 16384]
    assert {row.source: row.value for row in titans} == {"titans": 80.6, "memory-caching": 21.2}
    plain = [row for row in of("ruler", "niah_single_3") if row.model == "Transformer" and row.length == 16384]
    assert {row.source: row.value for row in plain} == {"memory-caching": 40.8, "proteus": 48.4}


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
    assert {row.length for row in of("ruler", "niah_single_2")} == {1024 << i for i in range(8)}
    assert len(of("ruler", MEAN_OF_13)) == 332
    for task, subset in (("babilong", "qa6"), ("babilong", "W"), ("ruler", "vt"), ("niah", "single"), ("mqar", "8")):
        assert of(task, subset) == []


def test_the_page_about_them_names_every_table_and_source():
    page = (Path(__file__).parents[2] / "docs" / "published.md").read_text()
    for table, count in Counter(row.table for row in ROWS).items():
        assert f"| `{table}` | {count} |" in page
    for source in SOURCES.values():
        assert source.url in page
