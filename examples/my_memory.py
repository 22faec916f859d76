"""Surprise-gated delta: a matrix memory that leaves alone what it already knows.

    e_t = k_t M_{t-1} - v_t                                    how wrong the memory is about this token
    s_t = |e_t|^2 / (|e_t|^2 + c_t |v_t|^2)                    how surprised: 0 where the answer is known, below 1
    M_t = (1 - f_t) M_{t-1} - s_t k_t^T e_t                    the delta rule, Gated DeltaNet with s_t for b_t

The delta rule corrects small errors at full strength. In a memory that is nearly full a small error is mostly
the interference of other facts, and correcting it spoils those. Here the step shrinks with the square of the
error: c_t, "caution", is how large an error must be, relative to the value, to be worth a write. c_t = 0 is the
delta rule. With a key of norm 1 the step is at most the error itself, so the memory cannot diverge.

    atlas-bench verify examples/my_memory.py
    atlas-bench compare gated-deltanet examples/my_memory.py --task mqar:32 --len 1K..16K --train 5M
"""

from __future__ import annotations

from torch import Tensor

from atlas_bench.models.memory.base import Memory, State


class SurpriseGatedDelta(Memory):
    """One matrix [K, V] for each stream and head."""

    # Numbers in [0, 1] that the base computes from each token, one for each head: name -> where the bias begins
    # (hard sigmoid: 0 is half open, -3 shut, 3 fully open). The base uses "write" itself and must find it here:
    # a token of which it is 0 never reaches step() and leaves no trace.
    gates = {"write": -0.6, "forget": -2.5, "caution": -1.0}

    # Options are keyword arguments with a default: `examples/my_memory.py:most_caution=0.5`.
    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, most_caution: float = 1.0):
        super().__init__(d_model, n_heads, head_dim)
        self.most_caution = most_caution

    def init_state(self, batch: int) -> State:
        """What survives between tokens, [B, H, ...]; its size may not depend on how many there were."""
        return {"M": self.key.weight.new_zeros(batch, self.n_heads, self.head_dim, self.head_dim)}

    def step(self, state: State, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> State:
        """One token: k [.., 1, K] of norm 1, v [.., 1, V], gates [..]; the dots are streams and heads."""
        forget, caution = (gates[name][..., None, None] for name in ("forget", "caution"))
        error = k @ state["M"] - v
        size = error.square().sum(-1, keepdim=True)
        known = self.most_caution * caution * v.square().sum(-1, keepdim=True)
        surprise = size / (size + known + 1e-6)
        return {"M": (1 - forget) * state["M"] - surprise * k.mT @ error}

    def read(self, state: State, q: Tensor) -> Tensor:
        """M(q), for any number of queries at once: q [.., T, K] -> [.., T, V]."""
        return q @ state["M"]
