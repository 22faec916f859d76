"""`import=fla`: packages that teach transformers their architectures when they are imported.

bring("fla")                                    # transformers now knows gated_deltanet, mesa_net, rwkv7, ..

Importing runs a package's code, so only packages of this list are imported, only where the user has named one, and only
as they are installed: a folder `fla` beside the command's working folder is never taken for the package.
"""

from __future__ import annotations

import importlib
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

from atlas_bench.errors import UserError, reason

PACKAGES = {  # name that is imported -> what is installed
    "fla": "flash-linear-attention",
    "mamba_ssm": "mamba-ssm",
}


def bring(name: str) -> None:
    """Import the package of PACKAGES. Raises UserError if it is not installed, or cannot be imported."""
    installed = f"pip install {PACKAGES[name]}"
    if name not in packages_distributions():
        raise UserError(f"import={name}: the package {PACKAGES[name]} is not installed. Type: {installed}")
    spec = find_spec(name)
    origin = Path(spec.origin).resolve() if spec and spec.origin else None
    if origin is None or Path.cwd().resolve() in (origin.parent, origin.parent.parent):
        where = origin.parent if origin else "nothing"
        raise UserError(
            f"import={name}: '{where}' of the working folder would be imported in place of the installed package. Call "
            "the command from another folder."
        )
    try:
        importlib.import_module(name)
    except Exception as error:  # of a package's own imports: no GPU, another torch, another transformers
        what = f"{type(error).__name__}: {reason(error)}"[:300]
        raise UserError(
            f"import={name}: the installed package cannot be imported ({what}). Mend it: {installed}"
        ) from None
