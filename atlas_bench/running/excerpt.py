"""A sample's prompt in a few lines: its ends and the text around its facts, with the number of tokens between them.

    excerpt(sample, tokenizer)      # 'Mary went to the kitchen. [.. 4012 tokens ..] Where is Mary?'

This reads only what it shows, so a prompt of 10M tokens is as quick as one of a thousand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from atlas_bench.types import Context, Sample, Tokenizer

AROUND = 12  # tokens shown around a fact and at both ends
FACTS = 6  # facts shown
LONGEST = 80  # tokens of a fact that is shown whole; of a longer one we show both ends
WORD = 40  # tokens of a word at most: base64 and the like have no blanks


def excerpt(sample: Sample, tokenizer: Tokenizer) -> str:
    """The context up to the question, with '[.. 412 tokens ..]' for text far from facts and ends."""
    size, parts, at = sample.reads, [], 0
    for start, stop in sorted(_windows(sample)):
        start, stop = (_next_word(sample.context, max(edge, at), size, tokenizer) for edge in (start, stop))
        if start - at <= AROUND // 2:  # hardly more than the mark in its place
            start = at
        if start < stop:
            if start > at:
                parts.append(f" [.. {start - at} tokens ..]")
            parts.append(tokenizer.decode(_tokens(sample.context, start, stop)))
            at = stop
    if at < size:
        parts.append(f" [.. {size - at} tokens ..]")
    return "".join(parts).strip()


def facts(sample: Sample) -> list[tuple[int, int]]:
    """(start, stop) of the facts to show, in tokens of the context: those that answer first, then the others."""
    found = sorted(span for span in _facts(sample) if span[0] < sample.reads)
    wanted = set(sample.meta.get("supporting", ())) or set(sample.meta.get("needle_positions", ()))
    return sorted(found, key=lambda span: span[0] not in wanted)[:FACTS]


def _facts(sample: Sample) -> Iterator[tuple[int, int]]:
    context = sample.context
    if hasattr(context, "facts"):
        yield from ((start, start + len(ids)) for start, ids in context.facts())
        return
    at = 0
    for item in getattr(context, "items", ()):  # haystack.Pieces: literal tokens, and spans of a corpus
        size = len(item) if isinstance(item, tuple) else item.stop - item.start
        if isinstance(item, tuple) and (at or 0 in sample.meta.get("needle_positions", ())):  # at 0 may be a prompt
            yield at, at + size
        at += size


def _windows(sample: Sample) -> Iterator[tuple[int, int]]:
    """(start, stop) of what is shown: both ends, and the neighbourhood of each fact."""
    size = sample.reads
    yield 0, min(AROUND, size)
    yield max(0, size - AROUND), size
    for start, stop in facts(sample):
        if stop - start > LONGEST:
            half = LONGEST // 2
            shown = (start, start + half), (stop - half, stop)
        else:
            shown = ((start, stop),)
        for first, last in shown:
            yield max(0, first - AROUND), min(size, last + AROUND)


def _tokens(context: Context, start: int, stop: int) -> Sequence[int]:
    return [int(token) for token in context.read(start, stop)]


def _next_word(context: Context, at: int, size: int, tokenizer: Tokenizer) -> int:
    """The next token that begins a word, or the end; `at` itself where no word begins soon."""
    if at in (0, size):
        return at
    ahead = _tokens(context, at, min(at + WORD, size))
    found = next((i for i, token in enumerate(ahead) if tokenizer.decode([token])[:1].isspace()), None)
    if found is not None:
        return at + found
    return size if at + WORD >= size else at
