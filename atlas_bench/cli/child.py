"""Commands as a child of another process of ours, one after the other; it ends when its parent does.

    worker = Popen([sys.executable, "-P", "-m", "atlas_bench.cli.child"], stdin=PIPE, stdout=PIPE)  # by workers.py
    worker.stdin.write(json.dumps(["train", "--memory", "titans", ..]) + "\\n")

Each line of standard input is a command. What it prints is followed by a line that begins with ENDED and has its exit
code. torch is imported once for all of them. The parent keeps standard input open: when it is gone, the kernel closes
that end, and the child ends at once.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback

ENDED = "\0ended "  # no command prints a NUL


def main() -> None:
    """Run the commands of standard input; end at once, as by a kill, when it is closed."""
    from atlas_bench.__main__ import main as command

    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    while True:
        sys.argv = ["atlas-bench", *json.loads(lines.get())]
        try:
            command()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except Exception:
            traceback.print_exc()
            code = 1
        sys.stderr.flush()
        print(f"{ENDED}{code}", flush=True)


def _read(lines: queue.Queue[str]) -> None:
    rest = b""
    while read := os.read(0, 65_536):  # not sys.stdin, whose lock would be in the way at the interpreter's end
        *whole, rest = (rest + read).split(b"\n")
        for line in whole:
            lines.put(line.decode())
    os._exit(143)  # as SIGTERM's; checkpoints are replaced as a whole, so any moment will do


if __name__ == "__main__":
    main()
