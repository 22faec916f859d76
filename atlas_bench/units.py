"""Lengths as people write them: 16K = 16 000 (BABILong), 4Ki = 4 096 (RULER), 10M, 1.5K, 512."""

from __future__ import annotations

import re
from fractions import Fraction

from atlas_bench.errors import UserError, clip

LONGEST = 10**17  # tokens: more than anybody has written, and below what a record may state
DIGITS = 40  # characters of a number
_FACTOR = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def parse_length(text: str, *, least: int = 1) -> int:
    """Tokens of one written length: '10M' -> 10_000_000, '4Ki' -> 4096."""
    match = re.fullmatch(r"\s*(\d[\d_]*(?:\.\d+)?)\s*([A-Za-z]*)\s*", text, re.ASCII)
    factor = _FACTOR.get(match[2].upper()) if match else None
    if match is None or factor is None:
        raise UserError(
            f"length '{clip(text)}' is not a number of tokens. Write 512, 16K (16 000), 4Ki (4 096), 10M or 1B."
        )
    if len(text) > DIGITS or Fraction(match[1].replace("_", "")) * factor > LONGEST:
        raise UserError(f"length '{clip(text)}' is more than {LONGEST:,} tokens. Write 512, 4Ki or 10M.")
    value = Fraction(match[1].replace("_", "")) * factor
    if value.denominator != 1 or value < least:
        raise UserError(f"length '{text}' is no whole number of tokens from {least} up. Write 512 or 4Ki.")
    return int(value)


def parse_lengths(text: str) -> list[int]:
    """Comma-separated lengths, and doubling ranges: '1K,4K' or '1K..64K'; '0' is BABILong's 0k, facts alone."""
    lengths: list[int] = []
    if not all(part.strip() for part in text.split(",")):
        raise UserError(f"length list '{text}' has a comma too many. Write a list without blanks: 4K,8K.")
    for part in text.split(","):
        lengths += _doubling(part) if ".." in part else [parse_length(part, least=0)]
    return lengths


def _doubling(text: str) -> list[int]:
    """'1K..8K' -> [1000, 2000, 4000, 8000]."""
    first, last = text.split("..", 1)
    low, high = parse_length(first), parse_length(last)
    if low > high:
        raise UserError(f"length range '{text}' runs backwards. Write the shorter length first.")
    lengths = [low << i for i in range((high // low).bit_length())]
    if lengths[-1] != high:
        met = format_length(lengths[-1])
        reached = f"{first}..{met}" if len(lengths) > 1 else first
        raise UserError(f"length range '{text}' doubles to {met} and never meets {last}. Write {reached},{last}.")
    return lengths


def format_length(tokens: int) -> str:
    """10_000_000 -> '10M', 16_000 -> '16K', 4096 -> '4Ki', 1234 -> '1234'."""
    for unit, factor in (("B", 10**9), ("M", 10**6), ("Mi", 2**20), ("K", 10**3), ("Ki", 2**10)):
        if tokens >= factor and tokens % factor == 0:
            return f"{tokens // factor}{unit}"
    return str(tokens)


def format_bytes(count: float) -> str:
    """1536 -> '1.5 KiB'."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


# from so many seconds on: seconds of the unit
_TIMES = ((3e5, 86400, "d"), (6e3, 3600, "h"), (100, 60, "min"), (1, 1, "s"), (1e-3, 1e-3, "ms"), (1e-6, 1e-6, "us"))


def format_seconds(seconds: float) -> str:
    """'45 s', '9.8 min', '142 h': two digits are as many as an estimate has."""
    _, size, unit = next((each for each in _TIMES if seconds >= each[0]), (0, 1e-9, "ns"))
    return f"{seconds / size:.{int(seconds < 10 * size)}f} {unit}"


def format_count(count: float) -> str:
    """128_000 -> '128.0K', 19_990.0 -> '20.0K', 812 -> '812', 4.25 -> '4.2'."""
    for unit, factor in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f}{unit}"
    return f"{count:.0f}" if count >= 10 or count == int(count) else f"{count:.1f}"
