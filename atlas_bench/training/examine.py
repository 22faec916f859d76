"""A trained model examined: answers on fresh contexts, and the loss by position on texts that were held out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from atlas_bench.models.alterations import alterations, altered
from atlas_bench.models.decoder import Decoder
from atlas_bench.models.lm import LanguageModel
from atlas_bench.running import losses
from atlas_bench.tasks.corpora import Corpus
from atlas_bench.tasks.lessons import Lessons
from atlas_bench.training.step import ask_all, tag_all, token_rows
from atlas_bench.types import Tokenizer

VALIDATED = (1024, 4096)  # lengths of the contexts that rates are chosen by,
VALIDATION_CONTEXTS, VALIDATION_SEGMENT = 8, 512  # so many of each, so many tokens at a time
STREAM, SHORTEST = 8192, 128  # tokens of a stream of held-out text: halved until two streams fit, to the shortest
STREAMS, BLOCK = 24, 512  # streams at most, and tokens of them read at once


def accuracy(model: Decoder, examinations: Iterable[Lessons], length: int) -> dict[str, Any]:
    """{"correct", "n", "kinds": {kind: [correct, n]}} of the questions at the end of 16 contexts of each examination.

    The scored answers of the last block of a context with answers along it. Auxiliary questions are left out.
    """
    kinds: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    block = 4096
    for lessons in examinations:
        state = None
        with torch.inference_mode():
            for segments in zip(*(lessons.stream(length, block) for _ in range(16)), strict=True):
                tokens = token_rows(model, [segment.tokens for segment in segments])
                tags = [segment.tags for segment in segments]
                hidden, state = model(tokens, state, output=any(tags))
            asks = [(row, ask) for row, segment in enumerate(segments) for ask in segment.asks if not ask.auxiliary]
            right = ask_all(model, state, asks)[1].tolist() if asks else ()
            answers = list(zip([ask.kind for _, ask in asks], right, strict=True))
            if any(tags):
                answers += tag_all(model, hidden, tags)[2]
            for kind, is_right in answers:
                kinds[kind][0] += is_right
                kinds[kind][1] += 1
    correct, n = (sum(tally[i] for tally in kinds.values()) for i in (0, 1))
    return {"correct": correct, "n": n, "kinds": dict(kinds)}


@torch.inference_mode()
def validation(model: Decoder, examinations: Iterable[Lessons], lengths: Sequence[int] = VALIDATED) -> dict[str, Any]:
    """{"loss", "accuracy", "n"} of the answers to all questions on lessons that training never draws.

    As in training, contexts are read in segments, asked after each and answered along them; loss is the mean
    cross-entropy of an answer's tokens. The lessons are the same for every model; no evaluation asks one of them.
    """
    loss = right = asked = judged = 0.0
    for lessons in examinations:
        for length in lengths:
            state = None
            contexts = [lessons.stream(length, VALIDATION_SEGMENT) for _ in range(VALIDATION_CONTEXTS)]
            for segments in zip(*contexts, strict=True):
                tags = [each.tags for each in segments]
                hidden, state = model(token_rows(model, [each.tokens for each in segments]), state, output=any(tags))
                asks = [(row, ask) for row, each in enumerate(segments) for ask in each.asks if not ask.auxiliary]
                if asks:
                    mean, correct = ask_all(model, state, asks)
                    loss, right = loss + float(mean) * len(asks), right + int(correct.sum())
                    asked, judged = asked + len(asks), judged + len(asks)
                if any(tags):
                    total, number, scored = tag_all(model, hidden, tags)
                    loss, right = loss + float(total), right + sum(is_right for _, is_right in scored)
                    asked, judged = asked + number, judged + len(scored)
    return {"loss": loss / asked if asked else None, "accuracy": right / max(judged, 1), "n": int(asked)}


def by_position(model: Decoder, held_out: Sequence[Corpus], tokenizer: Tokenizer) -> dict[str, Any]:
    """The loss on held-out text by position, of the model and of the same with its memories closed.

    {"length", "streams": numbers, "positions": [{"from", "to", "n", "nats", "low", "high", "accuracy"}, ..]}, as
    running/losses.py has them; with a memory also "closed", such a list, and "gain" [{"nats", "low", "high"}, ..]: what
    the closed one loses more, paired stream by stream. {} where the texts are too short for two streams.
    """
    if (rows := streams(held_out)) is None:
        return {}
    n, length = rows.shape
    machine = {"device": str(model.device), "matmul_precision": "fp32"}
    whole = LanguageModel("whole", model, tokenizer, {}, **machine)
    sums = [sums_of(whole, rows)]
    found = {"length": length, "streams": n, "positions": _curve(sums[0], length)}
    if closing := [each for each in alterations(model) if each.name == "memory=closed"]:
        sums.append(sums_of(altered(whole, closing[0]), rows))
        found |= {"closed": _curve(sums[1], length), "gain": gain(*sums)}
    return found


def streams(held_out: Sequence[Corpus]) -> np.ndarray | None:
    """[n, T] tokens: consecutive pieces of the held-out texts, those of each text in turn; None for less than two."""
    texts = [corpus.document(i).tokens for corpus in held_out for i in range(corpus.n_documents or 1)]
    length = STREAM
    while length >= SHORTEST:
        pieces = [text[i : i + length] for text in texts for i in range(0, len(text) - length + 1, length)]
        if len(pieces) > 1:
            return np.stack(pieces[:STREAMS]).astype(np.int32)
        length //= 2
    return None


def sums_of(model: LanguageModel, rows: np.ndarray) -> np.ndarray:
    """losses.py's sums [n, ranges, 3] of the rows, read in blocks."""
    n, length = rows.shape
    state, sums = model.start(n), losses.empty(n, length)
    for start in range(0, length - 1, BLOCK):
        state, nats, greedy = model.logprobs(state, rows[:, start : start + BLOCK + 1])
        sums = losses.add(sums, length, start + 1, nats, greedy)
    return sums


def _curve(sums: np.ndarray, length: int) -> list[dict[str, Any]]:
    return losses.curve([{"losses": losses.of_row(row)} for row in sums], length)


def gain(whole: np.ndarray, closed: np.ndarray) -> list[dict[str, Any]]:
    """In each range, how much more nats/token the closed model loses, with its interval over the streams."""
    gains = (closed[..., 1] - whole[..., 1]) / whole[..., 0]  # [streams, ranges]
    rows = []
    for each in gains.T:
        low, high = losses.interval(each)
        rows.append({"nats": round(float(each.mean()), 5), "low": low, "high": high})
    return rows


def position_lines(found: dict[str, Any]) -> list[str]:
    """by_position() as a table."""
    if not found:
        return ["no text is held out that has two streams of 128 tokens: the loss by position is not measured."]
    lines = [f"loss on held-out text: {found['streams']} streams of {found['length']:,} tokens, nats/token"]
    lines.append("     position        n      loss  95 % int." + "  closed  closed - loss" * ("gain" in found))
    for i, row in enumerate(found["positions"]):
        line = (
            f"{row['from']:>6}-{row['to'] - 1:<6} {row['n']:>8} {row['nats']:>9.3f}  {row['low']:.2f}-{row['high']:.2f}"
        )
        if "gain" in found:
            gain = found["gain"][i]
            line += f"{found['closed'][i]['nats']:>8.3f}  {gain['nats']:.3f} ({gain['low']:.3f} to {gain['high']:.3f})"
        lines.append(line)
    return lines
