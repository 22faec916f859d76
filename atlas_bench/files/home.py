"""Paths as a user types them."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with `~` replaced by the home folder; '~nobody/x' stays as it is, where Path.expanduser() raises."""
    return Path(os.path.expanduser(path))
