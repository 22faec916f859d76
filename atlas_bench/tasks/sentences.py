"""Sentences of running text, as BABILong splits books."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from atlas_bench.errors import needs
from atlas_bench.files import text_files


def split_sentences(texts: Iterable[str], block: int = text_files.BLOCK) -> Iterator[str]:
    """Sentences of a text given in pieces of any size, by untrained Punkt as in BABILong, one space a gap.

    block  characters that are split at once
    """
    punkt = _punkt()
    rest = ""
    for text in texts:
        for at in range(0, len(text), block):
            rest += text[at : at + block]
            if len(rest) < block:
                continue
            spans = list(punkt.span_tokenize(rest))
            # the last sentence may go on in the next piece, unless it is a whole block without any stop
            open_end = bool(spans) and len(rest) - spans[-1][0] < block
            keep = len(spans) - open_end
            for start, stop in spans[:keep]:
                yield " ".join(rest[start:stop].split())
            rest = rest[spans[keep][0] :] if open_end else ""
    for sentence in punkt.tokenize(rest):
        yield " ".join(sentence.split())


@cache
def _punkt() -> Any:
    advice = "Or use --background generated."
    with needs("nltk", extra="books", to="find the sentences of books", advice=advice):
        from nltk.tokenize.punkt import PunktSentenceTokenizer  # 0.3 s: only where books are read

    return PunktSentenceTokenizer()
