"""Whether a user's model reads the same stream alike however it is split into blocks, and beside other streams.

    fault(evaluation, batch=8)     # None, or Fault("the answer depends on how a stream is split ..", certain=True)

We read the first samples of a cell in one block, then in several blocks, then beside another stream, and compare the
probabilities of the next tokens, or the answers of a model that gives no probabilities. Pieces grow from a few tokens
to a block as long as time is left. models/huggingface/forward.py tries models of transformers in the same way.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np

from atlas_bench.models.adapted import is_users
from atlas_bench.running.evaluation import Evaluation
from atlas_bench.types import Model, Sample

SECONDS = 0.4  # that the comparison takes, about
SAMPLES = 8  # that are compared, at most
FIRST, LONGEST, GROWTH = 32, 4096, 4  # tokens of the first piece, of the longest, and how much longer the next is
CUTS = (0.002, 0.12, 0.33, 0.3302, 0.75)  # shares of a piece where it is split: some blocks are long, some one token
ANSWER = 8  # tokens of an answer that are compared
TAIL = 16  # last tokens of a piece whose probabilities are compared
NOISE = 0.05  # what rounding to 16 bits may change, as a share of the spread of log-probabilities or of a state


class Fault(NamedTuple):
    """What a model does otherwise, and whether it is certain to be more than rounding."""

    why: str
    certain: bool


class _Seen(NamedTuple):
    """What a model shows after a piece: log-probabilities, or an answer and its state as far as it packs one."""

    nats: np.ndarray | None
    answer: str
    state: dict[str, np.ndarray]


def fault(evaluation: Evaluation, batch: int) -> Fault | None:
    """What makes a user's model give another result for the same streams; None if nothing shows, and for ours.

    batch  streams that the cell reads side by side

    An exception of the model is left to the run, which reports it.
    """
    model = evaluation.model
    if not is_users(model) or model.is_control or model.is_remote or model.answers_together:
        return None
    try:
        return next(filter(None, _compared(evaluation, beside=batch > 1)), None)
    except Exception:
        return None


def _compared(evaluation: Evaluation, *, beside: bool) -> Iterator[Fault | None]:
    """What differs for one piece after another, while there is time."""
    began = time.perf_counter()
    for sample, length in _pieces(evaluation):
        start = time.perf_counter()
        yield _difference(evaluation, sample, length, beside=beside)
        now = time.perf_counter()
        if now - began + GROWTH * (now - start) > SECONDS:
            return


def _pieces(evaluation: Evaluation) -> Iterator[tuple[Sample, int]]:
    """(sample, tokens of its context) to compare: the first sample in growing pieces, then others."""
    for number, sample in enumerate(islice(evaluation.samples(), SAMPLES)):
        whole, length = min(sample.reads, LONGEST), FIRST
        while number == 0 and length < whole:
            yield sample, length
            length *= GROWTH
        yield sample, whole


def _difference(evaluation: Evaluation, sample: Sample, length: int, *, beside: bool) -> Fault | None:
    """What differs between readings of a piece."""
    tokens = sample.context.read(0, length)[None]
    cuts = sorted({cut for share in CUTS if 0 < (cut := max(1, int(share * (length - 1)))) < length - 1})
    whole = _seen(evaluation, sample, tokens, [])
    kind = "answer" if whole.nats is None else "probability of a token"
    split = _seen(evaluation, sample, tokens, cuts)
    if _differ(whole, split) is not None:
        again = _seen(evaluation, sample, tokens, [])
        if (certain := _differ(whole, again)) is not None:
            return Fault(
                f"the {kind} is another when the same {length} tokens are read again: {_told(whole, again)}. start() "
                "begins a new stream, and answer() is greedy",
                certain,
            )
    ways = [(split, f"how a stream is split into blocks: {length} tokens in one block, and in {len(cuts) + 1} blocks")]
    if beside:
        other = _seen(evaluation, sample, np.concatenate([tokens[:, ::-1], tokens]), [])
        ways.append((other, f"what is read side by side: {length} tokens alone, and as the second row of a batch"))
    for seen, what in ways:
        if (certain := _differ(whole, seen)) is not None:
            return Fault(f"the {kind} depends on {what}, give {_told(whole, seen)}", certain)
    return None


def _seen(evaluation: Evaluation, sample: Sample, tokens: np.ndarray, cuts: Sequence[int]) -> _Seen:
    """What the model shows of the last stream of tokens [B, T], read in blocks that end at the cuts."""
    model, state = evaluation.model, evaluation.model.start(len(tokens))
    if not evaluation.rules.scorers:
        found = []
        for first, end in pairwise([0, *cuts, tokens.shape[1] - 1]):
            state, nats, _ = model.logprobs(state, tokens[:, first : end + 1])
            found.append(nats)
        return _Seen(np.concatenate(found, 1)[-1], "", {})
    for part in np.split(tokens, cuts, 1):
        state = model.feed(state, part)
    state = state if len(tokens) == 1 else model.row(state, len(tokens) - 1)
    if model.has_logprobs:
        asked = np.array([[*tokens[-1, -TAIL:], *sample.asked]], dtype=np.int32)
        return _Seen(model.logprobs(state, asked)[1][0], "", {})
    limit = min(evaluation.rules.max_answer_tokens, ANSWER)
    return _Seen(None, model.answer(state, sample.asked, limit, evaluation.rules.stop), _packed(model, state))


def _packed(model: Model, state: Any) -> dict[str, np.ndarray]:
    """Copies of the state's arrays; none where the model cannot pack this state."""
    try:
        return {name: np.array(array) for name, array in model.pack(state).items()}
    except Exception:
        return {}


def _told(one: _Seen, other: _Seen) -> str:
    """'kitchen' and 'garden', or the log-probabilities that differ most."""
    if one.nats is None or other.nats is None:
        return f"{one.answer!r} and {other.answer!r}"
    at = int(np.abs(one.nats - other.nats).argmax())
    return f"{one.nats[at]:.3f} and {other.nats[at]:.3f} nats"


def _differ(one: _Seen, other: _Seen) -> bool | None:
    """Whether a difference is certain to be more than rounding; None for no difference, or one by rounding.

    Rounding may decide a near tie: then the states differ a little. Other answers from the same state, or from states
    that lie far apart, are certain. A state as bytes, or none at all, does not tell.
    """
    if one.nats is not None and other.nats is not None:
        return True if _far(one.nats, other.nats, around=float(np.mean(one.nats))) else None
    if one.answer == other.answer:
        return None
    if not one.state or one.state.keys() != other.state.keys() or any(a.dtype == np.uint8 for a in one.state.values()):
        return False
    pairs = [(array, other.state[name]) for name, array in one.state.items()]
    if any(a.shape != b.shape for a, b in pairs) or all(np.array_equal(a, b) for a, b in pairs):
        return True
    close = all(not _far(a, b) if a.dtype.kind == "f" else np.array_equal(a, b) for a, b in pairs)
    return None if close else True


def _far(one: np.ndarray, other: np.ndarray, *, around: float = 0.0) -> bool:
    """Whether the root mean square of the difference exceeds NOISE of the first's own, taken around that value."""
    first = np.asarray(one, np.float64)
    with np.errstate(all="ignore"):  # numbers that are not finite are left to the run
        difference, size = (float(np.sqrt(np.mean(np.square(x)))) for x in (first - other, first - around))
        return difference > NOISE * size
