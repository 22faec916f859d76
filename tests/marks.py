"""What runs without `make test-all`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def sweep(names: str, values: Iterable[Any], *, quick: Collection[Any], **options: Any) -> pytest.MarkDecorator:
    """Like `pytest.mark.parametrize`, but `make test` runs only the quick values; `make test-all` runs all of them.

    names   "op", or "form, op" for values that are tuples
    """
    values, one = list(values), "," not in names
    assert all(value in values for value in quick), f"no values of the sweep: {[v for v in quick if v not in values]}"
    marked = [
        pytest.param(*([value] if one else value), marks=[] if value in quick else pytest.mark.slow) for value in values
    ]
    return pytest.mark.parametrize(names, marked, **options)
