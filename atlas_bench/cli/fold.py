"""Text folded to the terminal's width: paragraphs, labelled columns, equations.

print("\\n".join(folded(task.describe())))
"""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence

HAND, SLACK = 120, 12  # columns of a line that a hand has broken, and how far from the margin it may have been
_LABEL = re.compile(r" *(?:\S+(?: \([^)]*\))? {2,})*")  # "scorers   niah/word (version 1)  "
COMMAND = "atlas-bench "


def folded(text: str) -> Iterator[str]:
    """Wrap paragraphs, labelled columns and equations to the terminal's width; leave commands unchanged."""
    for line in _joined([plain(line) for line in text.splitlines()]):
        start, command = _LABEL.match(line)[0], line.lstrip().startswith(COMMAND)
        left, gap, right = re.fullmatch(r"(?:(.*\S)( {2,}))?(\S.*)?", line[len(start) :].rstrip()).groups()
        if len(line) <= _width() or not (gap or command):
            yield from wrapped(line, len(start))
        elif not gap:
            yield line
        elif len(start + left + right) + 2 <= _width():  # an equation and its source, nearer
            yield start + left + right.rjust(_width() - len(start + left))
        else:
            yield from [start + left] if command else wrapped(start + left, len(start) + 4)
            yield from (each.rjust(_width()) for each in wrapped(right, 0))


def _joined(lines: Sequence[str]) -> Iterator[str]:
    """Lines, those put together that a hand has broken: where the next word would have passed the margin.

    In a column of items, one ends where a sentence ends with its line.
    """
    margin = max(60, *(len(line) for line in lines if len(line) <= HAND), 0) - SLACK
    whole = last = ""
    for i, line in enumerate(lines):
        said, column = line.strip(), len(_LABEL.match(whole)[0])
        broken = max(len(last), len(line)) <= HAND and margin < len(last) + 1 + len(said.partition(" ")[0])
        item = column and last.endswith((".", "?", "!"))
        command = any(text.startswith(COMMAND) for text in (said, whole.lstrip()))
        flat = not command and "  " not in said + whole[column:]
        if said and broken and flat and not item and line == " " * column + said:
            whole = f"{whole} {said}"
        else:
            yield from [whole] * (i > 0)
            whole = line
        last = line
    yield whole


def wrapped(line: str, hang: int) -> list[str]:
    """Wrap a line to the terminal's width, with the continuation lines under its column `hang`."""
    if len(line) <= _width():
        return [line]
    if hang > 0.6 * _width():  # too little is left beside the label
        line, hang = line.lstrip(), 4
    return textwrap.wrap(line, _width(), subsequent_indent=" " * hang, break_on_hyphens=False)


def _width() -> int:
    return max(40, min(shutil.get_terminal_size().columns, 120) - 1)


def plain(text: str) -> str:
    from atlas_bench.errors import printable

    return printable(text, ascii_only=False)
