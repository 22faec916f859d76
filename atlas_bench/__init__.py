"""atlas-bench: how far does a sequence model really remember?"""

import os

__version__ = "0.1.0"

# Before torch is imported: its threads sleep while they wait. Spinning ones lose four fifths of the speed as soon as
# anything else wants a core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
