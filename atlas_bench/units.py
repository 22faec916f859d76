"""Numbers as people write them, and their ranges: 16K = 16 000 (BABILong), 4Ki = 4 096 (RULER), 10M, 1.5K, 512."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from atlas_bench.errors import UserError, clip

LONGEST = 10**17  # tokens: more than anybody has written, and below what a record may state
DIGITS = 40  # characters of a number
SEEDS = 2**31 - 1  # the largest seed: generators multiply and add to it, and must stay below 2**63
_FACTOR = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "B": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def parse_length(given: str | int, *, least: int = 1) -> int:
    """Tokens of one length: '10M' -> 10_000_000, '4Ki' -> 4096, 512 -> 512."""
    text = str(given)
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


def parse_lengths(given: str | int | Iterable[str | int]) -> list[int]:
    """Comma-separated lengths, and doubling ranges: '1K,4K' or '1K..64K'; '0' is BABILong's 0k, facts alone.

    given  a text or a number, or several of them
    """
    each = [given] if isinstance(given, str) or not isinstance(given, Iterable) else given
    lengths = [length for one in each for length in _parse_list(str(one))]
    if not lengths:
        raise UserError("no length is given. Write 16K, 1K..64K or a list of them.")
    return lengths


def parse_shard(text: str) -> tuple[int, int]:
    """(number of the shard from 1, how many there are) of 'i/N'; UserError for what is none."""
    numbers = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
    shard, shards = map(int, numbers.groups()) if numbers else (0, 0)
    if not 1 <= shard <= shards:
        raise UserError(f"shard '{clip(text)}' is none. Write i/N, from 1/N to N/N, such as 2/4.")
    return shard, shards


def parse_samples(given: str | int | Mapping[Any, int] | None) -> dict[int | None, int]:
    """Questions in each cell by its length, None standing for every other length; nothing where None is given.

    given  a number for all lengths, '100'; numbers for some, '1K=500,10M=20', or a mapping; both, '100,10M=20'

    Raises UserError for anything else, and for a length that is given twice.
    """
    if given is None:
        return {}
    if not isinstance(given, (str, Mapping)):
        return {None: whole("samples", given, least=1)}
    if isinstance(given, Mapping):
        pairs: list[tuple[Any, Any]] = list(given.items())
    else:
        parts = (part.partition("=") for part in given.split(","))
        pairs = [(length, number) if sign else (None, length) for length, sign, number in parts]
    found: dict[int | None, int] = {}
    for length, number in pairs:
        key = None if length is None else parse_length(length, least=0)
        if key in found:
            which = "a number for all other lengths" if key is None else f"length {format_length(key)}"
            raise UserError(f"samples '{clip(str(given))}': {which} stands twice. Write 100, or 1K=500,10M=20.")
        found[key] = _samples(number, given)
    return found


def _samples(number: Any, given: Any) -> int:
    """One number of questions, as text or not."""
    text = str(number).strip()
    if isinstance(number, str) and re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        number = int(text)
    try:
        return whole("samples", number, least=1)
    except UserError:
        raise UserError(
            f"samples '{clip(str(given))}': '{clip(text, DIGITS)}' is no whole number from 1 up. "
            "Write 100, or 1K=500,10M=20."
        ) from None


def _parse_list(text: str) -> list[int]:
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


def whole(name: str, value: Any, *, least: int, most: int = 2**63 - 1) -> int:
    """The value as a whole number from `least` to `most`; UserError that names it otherwise."""
    try:
        number = int(value)
        if number == value and least <= number <= most:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    allowed = f"from {least} to {most}" if most < 2**63 - 1 else f"from {least} up"
    raise UserError(f"{name} is {clip(repr(value), DIGITS)}. Give a whole number {allowed}.")


def amount(name: str, value: Any) -> float:
    """Returns the value as a number; raises a UserError that names it if it is not a number or is below 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not number >= 0:
        raise UserError(f"{name} is {clip(repr(value), DIGITS)}. Give a number from 0 up.")
    return number


def few(threads: int | None) -> int | None:
    """The number of threads, if the machine has that many cores: torch accepts any number, and crashes on large
    ones."""
    cores = os.cpu_count() or 1
    if threads is not None and whole("threads", threads, least=1) > (most := max(16, 4 * cores)):
        raise UserError(f"threads {threads} is too many for the {cores} cores of this machine. Give {most} or fewer.")
    return threads


def share_of(percent: float) -> float:
    """80 % -> 0.8; UserError for anything else, and for 0.8 % where 80 % was meant."""
    if 0 < percent <= 1:
        raise UserError(f"threshold {percent} is {percent:g} %. Write {100 * percent:g} for {100 * percent:g} %.")
    if not 0 <= percent <= 100:
        raise UserError(f"threshold {percent} is no per cent. Give a number from 0 to 100; 80 is usual.")
    return percent / 100


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
    if not seconds:
        return "0 s"
    _, size, unit = next((each for each in _TIMES if seconds >= each[0]), (0, 1e-9, "ns"))
    return f"{seconds / size:.{int(seconds < 10 * size)}f} {unit}"


def format_count(count: float) -> str:
    """128_000 -> '128.0K', 19_990.0 -> '20.0K', 812 -> '812', 4.25 -> '4.2'."""
    for unit, factor in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f}{unit}"
    return f"{count:.0f}" if count >= 10 or count == int(count) else f"{count:.1f}"


def counted(count: int, noun: str) -> str:
    """1, 'record' -> '1 record'; 1234 -> '1,234 records'. The noun's plural ends in s."""
    return f"{count:,} {noun}{'s' * (count != 1)}"
