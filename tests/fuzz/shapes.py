"""JSON that is still JSON: some of its values are others, or gone. Changed bytes are hardly ever that."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

ODD = (
    "null", "true", "false", "0", "-1", "1", "1.5", "-0.0", "1e300", "1e999", "9223372036854775808", "1" + "0" * 30,
    '""', '"\\u0000"', '"\\ud800"', '"<b>"', '"2026-01-01"', '"' + "a" * 3000 + '"', "[]", "{}", "[[]]", "[null]",
    '{"a": null}', "[1, 2, 3]", '"loss"', '"track"', '"babilong"',
)  # fmt: skip


def reshaped(data: bytes, rng: random.Random) -> bytes:
    """The lines of JSON with up to four values changed or taken away; the data itself where a line is no JSON."""
    try:
        rows = [json.loads(line) for line in data.splitlines() if line.strip()]
        places = [place for row in rows for place in _places(row)]
    except (ValueError, RecursionError):
        return data
    for _ in range(rng.choice((1, 1, 2, 4)) if places else 0):
        container, key = rng.choice(places)
        if isinstance(container, dict) and rng.random() < 0.2:
            container.pop(key, None)
        else:
            container[key] = json.loads(rng.choice(ODD))
    return b"\n".join(json.dumps(row).encode() for row in rows) + b"\n"


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(dict or list, key or index) of every value inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)
