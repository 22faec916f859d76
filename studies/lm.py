"""A language model of novels: its loss by position in a novel that it has not read, with its memory and without.

    python -m studies.lm run --books FOLDER   trains the model and reads the held-out novel; goes on where it stopped
    python -m studies.lm show                 the table of docs/results.md, from results/lm.json

FOLDER has plain texts, HELD_OUT.txt among them. The trained model reads each stream of the held-out novel twice, with
its memories and with them closed, so the differences are paired, stream by stream (training/examine.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

HELD_OUT, TOKENS, MEMORY = "pride_and_prejudice", "2M", "gated-deltanet"
MODEL, RESULTS = Path("runs/lm"), Path("results/lm.json")
KEPT = ("config", "recipe", "training_tokens", "training_minutes", "data", "hardware", "versions", "date")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["run", "show"])
    parser.add_argument("--books", type=Path)
    options = parser.parse_args()
    if options.what == "run":
        run(options.books)
    print("\n".join(table()))


def run(books: Path) -> None:
    """Trains the model, which ends with the loss by position, and keeps what its card says."""
    words = ["train", "--memory", MEMORY, "--task", "loss:text", "--tokens", TOKENS, "--threads", "1"]
    words += ["--background", str(books), "--hold-out", HELD_OUT, "--out", str(MODEL)]
    subprocess.run([sys.executable, "-m", "atlas_bench", *words], check=True)
    card = json.loads((MODEL / "card.json").read_text())
    kept = {name: card[name] for name in KEPT} | {"loss_by_position": card["final"]["loss_by_position"]}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


def table() -> list[str]:
    """A line for each range of positions: the loss with the memory, and closed, and their paired difference."""
    found = json.loads(RESULTS.read_text())["loss_by_position"]
    lines = ["| position | n | with its memory | memory closed | closed loses more |", "|---|---|---|---|---|"]
    for own, closed, gain in zip(found["positions"], found["closed"], found["gain"], strict=True):
        losses = [f"{each['nats']:.3f} ({each['low']:.2f}-{each['high']:.2f})" for each in (own, closed)]
        more = f"{gain['nats']:.3f} ({gain['low']:.3f} to {gain['high']:.3f})"
        lines.append(f"| {own['from']:,}-{own['to'] - 1:,} | {own['n']:,} | {' | '.join(losses)} | {more} |")
    return lines


if __name__ == "__main__":
    main()
