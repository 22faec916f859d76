"""The commands as a child of another process of ours: it ends when its parent does, however that ends.

    Popen([sys.executable, "-P", "-m", "atlas_bench.cli.child", "train", ..], stdin=PIPE)  # by candidates.py

The parent holds the other end of standard input and never writes: when it is gone, the kernel closes that end.
"""

from __future__ import annotations

import os
import threading


def main() -> None:
    """Run the command that follows; end at once, as by a kill, when standard input does."""
    from atlas_bench.__main__ import main as command

    threading.Thread(target=_end_with_parent, daemon=True).start()
    command()


def _end_with_parent() -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock would be in the way at the interpreter's end
        pass
    os._exit(143)  # as SIGTERM's; checkpoints are replaced as a whole, so any moment will do


if __name__ == "__main__":
    main()
