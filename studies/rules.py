"""Six update rules on four tasks: three seeds each, at the best of three learning rates, all on the same small budget.

    python -m studies.rules                  trains, asks, prints the tables; goes on where it was stopped
    python -m studies.rules --show           the tables alone, from the records

Each task is one `atlas-bench compare`; the first rule is the baseline. All verdicts are corrected together. The page is
docs/rules.html, the records and what each learning rate reached lie in results/rules.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

RULES = ("gated-deltanet", "mamba2", "kda", "deltaproduct", "titans:map=matrix", "omeganet")
ASKED = {  # task -> lengths, questions in each cell
    "track:parity": ("256,4K", 200),
    "retention": ("1K,10K", 110),
    "babilong:qa2": ("0,1K", 200),
    "mqar:32": ("1K", 320),
}
TOKENS = "60K"  # of each training
SEEDS, RATES = 3, 3
RUNS, RECORDS, PAGE = Path("runs/rules"), Path("results/rules"), Path("docs/rules.html")
REACHED = RECORDS / "rates.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--show", action="store_true", help="train nothing")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once [1]")
    options = parser.parse_args()
    if not options.show:
        run(options.jobs)
    comparison = compared()
    from atlas_bench.comparison.page import comparison_html

    PAGE.write_text(comparison_html(comparison), encoding="utf-8")
    print("\n".join(table(comparison)))


def run(jobs: int) -> None:
    """Train and ask what is missing; what was printed of rates and budgets is kept beside the records."""
    reached: list[dict[str, Any]] = []
    for task, (lengths, samples) in ASKED.items():
        words = ["compare", *RULES, "--task", task, "--len", lengths, "--samples", str(samples), "--train", TOKENS]
        words += ["--seeds", str(SEEDS), "--rates", str(RATES), "--jobs", str(jobs), "--out", str(RUNS), "--json"]
        told = subprocess.run([sys.executable, "-m", "atlas_bench", *words], check=True, stdout=subprocess.PIPE).stdout
        reached += json.loads(told)["rates"]
    RECORDS.mkdir(parents=True, exist_ok=True)
    for file in RUNS.glob("*.jsonl"):
        shutil.copy(file, RECORDS)
    REACHED.write_text(json.dumps(reached, indent=1) + "\n")


def compared() -> dict[str, Any]:
    """All tasks as one comparison, with the rates that were chosen."""
    from atlas_bench.comparison import paired
    from atlas_bench.results import store

    found = paired.compare(store.read_all([RECORDS])[0], RULES)
    found["rates"] = json.loads(REACHED.read_text())
    found["training"] = (
        f"Trained by one recipe from nothing: {TOKENS} tokens a model, one for each task; seeds 0 to {SEEDS - 1}. "
        f"Each of {RATES} learning rates was tried with seed 0; the one with the least loss on held-out lessons is "
        "compared."
    )
    return found


def table(comparison: dict[str, Any]) -> list[str]:
    """Lines of Markdown: for each task and length a row for each rule, with the score of every seed."""
    lines = ["| task | length | rule | acc % | seeds | diff | verdict |", "|---|---|---|---|---|---|---|"]
    return lines + [f"| {' | '.join(cells(row))} |" for row in comparison["rows"]]


def cells(row: dict[str, Any]) -> list[str]:
    """One row of the table: 'track:parity', '256', 'deltaproduct', '84.2 (16-100)', '100 100 52', ..

    The interval of a score, and of a difference to the baseline, is over seeds.
    """
    from atlas_bench.units import format_length

    task, length = f"{row['task']}:{row['subset']}", format_length(row["length"])
    if row["status"] != "ok":
        return [task, length, f"`{row['model']}`", row["status"], "", "", ""]
    score = f"{100 * row['accuracy']:.1f} ({100 * row['low']:.0f}-{100 * row['high']:.0f})"
    seeds = " ".join(f"{100 * each:.0f}" for each in row["by_seed"])
    versus = row["versus"]
    if versus is None:
        return [task, length, f"`{row['model']}`", score, seeds, "", "baseline"]
    low, high = (f"{100 * versus[end]:+.0f}" for end in ("low", "high"))
    difference = f"{100 * versus['difference']:+.1f} ({low}..{high})"
    return [task, length, f"`{row['model']}`", score, seeds, difference, versus["verdict"]]


if __name__ == "__main__":
    main()
