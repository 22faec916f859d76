"""Lengths and sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_bench.errors import UserError
from atlas_bench.units import format_bytes, format_length, parse_length, parse_lengths


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
    with pytest.raises(UserError, match=f"'{text}'"):
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
    assert parse_length("9" * 400) == int("9" * 400)


@pytest.mark.parametrize(
    ("tokens", "text"),
    [(10_000_000, "10M"), (16_000, "16K"), (4096, "4Ki"), (1234, "1234"), (2**20, "1Mi"), (1, "1")],
)
def test_format_length(tokens, text):
    assert format_length(tokens) == text


def test_parse_lengths():
    assert parse_lengths("1K,4K") == [1000, 4000]
    assert parse_lengths("1K..8K") == [1000, 2000, 4000, 8000]
    assert parse_lengths("1K..7K,4Ki") == [1000, 2000, 4000, 4096]
    assert parse_lengths("1K..1K") == [1000]


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
