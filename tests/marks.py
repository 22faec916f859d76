"""What runs without `make test-all`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sweep(names: str, values: Iterable[Any], *, quick: Collection[Any], **options: Any) -> pytest.MarkDecorator:
    """`pytest.mark.parametrize`, where all values but the quick ones run in `make test-all` alone.

    names   "op", or "form, op" for values that are tuples
    """
    values, one = list(values), "," not in names
    assert all(value in values for value in quick), f"no values of the sweep: {[v for v in quick if v not in values]}"
    marked = [
        pytest.param(*([value] if one else value), marks=[] if value in quick else pytest.mark.slow) for value in values
    ]
    return pytest.mark.parametrize(names, marked, **options)
