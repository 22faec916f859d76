"""RULER's summary of a model: its average at each length, weighted averages, and the effective length.

    means = averages({("niah_single_1", 4096): 1.0, ("vt", 4096): 0.93, ...})      # {4096: 94.1, 8192: 91.4, ...}
    effective_length(means)                                                        # 65536
    weighted_averages(means)                                                       # (90.8, 93.6)

The published rule (Hsieh et al. 2024, Table 3): a score is the unweighted mean of the 13 tasks, in per cent. "The
effective context length is the maximum length passing" the threshold, 85.6, which is Llama2-7B-chat's score at 4K; for
base models the paper takes Llama2-7B's, 79.4. Shorter lengths need not pass, and a score of 85.6 passes: RULER's README
underlines one. The weights rise or fall linearly with the rank of the length: 1/21, 2/21, .. 6/21 for six lengths.
"""

from __future__ import annotations

from collections.abc import Mapping

from atlas_bench.errors import UserError

THRESHOLD = 85.6
TASKS = (
    "niah_single_1", "niah_single_2", "niah_single_3", "niah_multikey_1", "niah_multikey_2", "niah_multikey_3",
    "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe", "qa_1", "qa_2",
)  # fmt: skip


def averages(scores: Mapping[tuple[str, int], float]) -> dict[int, float]:
    """Mean of the 13 tasks in per cent at each length that has them all, by rising length.

    scores  (subset, length) -> mean score of the subset, in 0..1

    A length at which a task is missing is left out. Raises UserError for a subset that is not one of the 13.
    """
    for subset, _ in scores:
        if subset not in TASKS:
            raise UserError(f"ruler has no subset '{subset}'. The 13 tasks are {', '.join(TASKS)}.")
    lengths = sorted({length for _, length in scores})
    whole = [length for length in lengths if all((subset, length) in scores for subset in TASKS)]
    return {length: 100 * sum(scores[subset, length] for subset in TASKS) / len(TASKS) for length in whole}


def effective_length(averages: Mapping[int, float], threshold: float = THRESHOLD) -> int | None:
    """The longest length whose average is at least the threshold, both in per cent; None where there is none."""
    return max((length for length, average in averages.items() if average >= threshold), default=None)


def weighted_averages(averages: Mapping[int, float]) -> tuple[float, float]:
    """The averages over lengths with weights 1, 2, 3, ..: rising with the length, and falling.

    Raises UserError where there is no length.
    """
    if not averages:
        raise UserError("a weighted average over lengths needs at least one length with all 13 ruler tasks.")
    ordered = [averages[length] for length in sorted(averages)]
    total = len(ordered) * (len(ordered) + 1) / 2
    rising = sum(weight * average for weight, average in enumerate(ordered, start=1))
    falling = sum(weight * average for weight, average in enumerate(reversed(ordered), start=1))
    return rising / total, falling / total
