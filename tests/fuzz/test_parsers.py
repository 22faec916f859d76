"""Every parser reads its seeds, and returns or refuses on anything else; what once broke one stays mended."""

from __future__ import annotations

import random
import warnings

import pytest

from tests.fuzz.parsers import FOUND, PARSERS
from tests.fuzz.shapes import reshaped

PIECES = (
    b"{", b"[", b"=", b",", b":", b"\n", b"\0", b"1e999", b"-1", b"NaN", b"\xff", b"..", b"@", b"\xc2\x85", b"9" * 40,
    b'"', b"'", b"0x1", b"_", b"(", b"~", b"/", b"\xe2\x80\xa8", b"\xd9\xa3", b"<think>", b"%00", b";",
)  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The input with some bytes changed, put in, taken away or doubled."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at, how = rng.randrange(len(made) + 1), rng.random()
        if how < 0.3 and made:
            made[at - 1] = rng.randrange(256)
        elif how < 0.6:
            made[at:at] = rng.choice(PIECES)
        elif how < 0.8:
            del made[at : at + rng.randrange(8)]
        else:
            made[at:at] = made[at : at + 20]
    return bytes(made)


@pytest.mark.parametrize("name", PARSERS)
def test_what_others_wrote_is_read_or_refused(name):
    parser, rng = PARSERS[name], random.Random(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of Python literals that hardly are some
        for _ in range(200):
            parser.check(mutated(rng.choice(parser.seeds), rng))
            parser.check(reshaped(rng.choice(parser.seeds), rng))
            parser.check(rng.randbytes(rng.randrange(40)))


@pytest.mark.parametrize("name", PARSERS)
def test_seeds_are_read(name):
    parser = PARSERS[name]
    for data in parser.seeds if name not in ("checkpoint", "model", "model_file") else ():
        parser.read(data)


@pytest.mark.parametrize("path", sorted(FOUND.glob("*/*")), ids=lambda path: f"{path.parent.name}-{path.name[:20]}")
def test_an_input_that_once_broke_a_parser_breaks_it_no_more(path):
    PARSERS[path.parent.name].check(path.read_bytes())
