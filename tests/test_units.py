"""Lengths and sizes as people write them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from atlas_bench.comparison.page import comparison_html
from atlas_bench.comparison.paired import compare
from atlas_bench.comparison.text import compare_lines
from atlas_bench.errors import UserError
from atlas_bench.results import report
from atlas_bench.running.run_table import render
from atlas_bench.units import (
    counted,
    format_bytes,
    format_count,
    format_length,
    format_seconds,
    parse_length,
    parse_lengths,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("512", 512),
        ("1", 1),
        ("16K", 16_000),
        ("16k", 16_000),
        ("4Ki", 4096),
        ("1.5K", 1500),
        ("0.5Ki", 512),
        ("1.1M", 1_100_000),
        ("10M", 10_000_000),
        ("1B", 10**9),
        ("1G", 10**9),
        ("1Mi", 2**20),
        ("1G", 10**9),
        (" 10 M ", 10_000_000),
        ("10_000", 10_000),
    ],
)
def test_parse_length(text, tokens):
    assert parse_length(text) == tokens


@pytest.mark.parametrize("text", ["", "K", "-1", "0", "1.5", "0.1K ish", "1T", "1e6", "ten", "1 0", ".5K", "1.0001K"])
def test_wrong_lengths_are_quoted(text):
    with pytest.raises(UserError, match=f"'{text}'.* Write 512"):
        parse_length(text)


@given(st.integers(1, 10**12))
def test_format_length_reads_back(tokens):
    assert parse_length(format_length(tokens)) == tokens


@given(st.integers(1, 9999), st.sampled_from(["K", "Ki", "M", "Mi"]))
def test_written_lengths_keep_their_value(count, unit):
    tokens = parse_length(f"{count}{unit}")
    assert parse_length(format_length(tokens)) == tokens


@given(st.integers(1, 999_999))
def test_decimals_are_exact(thousandths):
    """1.001K is 1001 tokens, whatever binary fractions make of 1.001."""
    assert parse_length(f"{thousandths / 1000:.3f}K") == thousandths


def test_huge_lengths_are_exact():
    assert parse_length("9007199254740993") == 9007199254740993
    for text in ("9" * 400, "9" * 5000, f"0.{'1' * 5000}", f"{'9' * 400}.5G", f"{10**17 + 1}", "1_" * 3000 + "1"):
        with pytest.raises(UserError, match=r"more than 100,000,000,000,000,000 tokens") as refusal:
            parse_length(text)
        assert len(str(refusal.value)) < 320


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (10**9, "1B"),
        (1_500_000_000, "1500M"),
        (10_000_000, "10M"),
        (16_000, "16K"),
        (4096, "4Ki"),
        (1234, "1234"),
        (2**20, "1Mi"),
        (1, "1"),
    ],
)
def test_format_length(tokens, text):
    assert format_length(tokens) == text


def test_parse_lengths():
    assert parse_lengths("1K,4K") == [1000, 4000]
    assert parse_lengths("1K..8K") == [1000, 2000, 4000, 8000]
    assert parse_lengths("1K..4K,4Ki") == [1000, 2000, 4000, 4096]
    assert parse_lengths("1K..1K") == [1000]


def test_lengths_in_the_documents_can_be_typed():
    root = Path(__file__).parents[1]
    files = [root / "README.md", *root.glob("docs/*.md"), *root.glob("examples/*")]
    typed = [each for file in files for each in re.findall(r"--len[= ]([0-9][\w.,]*\w)", file.read_text("utf-8"))]
    assert len(typed) > 20 and all(map(parse_lengths, typed))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1K..100K", r"'1K\.\.100K' doubles to 64K and never meets 100K\. Write 1K\.\.64K,100K\."),
        ("4K..7K", r"doubles to 4K and never meets 7K\. Write 4K,7K\."),
        ("1K..64Ki", r"Write 1K\.\.64K,64Ki\."),
    ],
)
def test_a_range_that_never_meets_its_end_is_refused(text, said):
    with pytest.raises(UserError, match=said):
        parse_lengths(text)


@given(st.integers(1, 10**6), st.integers(0, 20), st.integers(0, 10**6))
def test_a_range_is_its_doublings_or_what_to_write_instead(low, doublings, more):
    high = (low << doublings) + more % (low << doublings)  # below the next doubling
    doubled = [low << i for i in range(doublings + 1)]
    if high == doubled[-1]:
        assert parse_lengths(f"{low}..{high}") == doubled
    else:
        with pytest.raises(UserError) as told:
            parse_lengths(f"{low}..{high}")
        assert parse_lengths(str(told.value).partition("Write ")[2].removesuffix(".")) == [*doubled, high]


@pytest.mark.parametrize("text", ["", "1K,", "1K..", "..1K", "4K..1K", "1K..2K..4K"])
def test_wrong_length_lists(text):
    with pytest.raises(UserError):
        parse_lengths(text)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**20, "1.0 MiB"), (2**50, "1024.0 TiB")],
)
def test_format_bytes(count, text):
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0"), (7, "7"), (4.25, "4.2"), (812, "812"), (19_990.0, "20.0K"), (128_000, "128.0K"), (2.5e9, "2.5G")],
)
def test_counts_are_short(count, said):
    assert format_count(count) == said


def test_one_of_a_thing_is_singular_everywhere(make):
    assert [counted(n, "record") for n in (0, 1, 2, 1234)] == ["0 records", "1 record", "2 records", "1,234 records"]
    answers = [{**answer, "context": 0} for answer in make().answers]
    records = [make(answers=answers, model=model) for model in ("one", "two")]
    console = Console(file=io.StringIO(), width=80)
    render(records[:1], console)
    comparison = compare(records)
    told = [report.main(records[:1], form=form) for form in ("text", "md", "tex", "html")]
    told += [console.file.getvalue(), "\n".join(compare_lines(comparison)), comparison_html(comparison)]
    for text in told:
        assert not re.findall(r"\b1 (?:record|context|cell|model|comparison|question|sample)s\b", text)
    assert "1 comparison;" in " ".join(told[-2].split()) and "Only 1 context:" in told[-2]


def test_no_time_is_no_nanosecond():
    assert [format_seconds(seconds) for seconds in (0, 0.0, 2e-9)] == ["0 s", "0 s", "2.0 ns"]
