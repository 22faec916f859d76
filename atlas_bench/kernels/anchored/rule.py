"""The general inner optimiser, stated once: naive.py computes it literally, chunk.py fast.

Tokens come in chunks of `chunk_size`. Within a chunk every gradient is taken at the *anchor*, the memory as
it stood when the chunk began (ATLAS eq. 15, Titans eq. 16):

    G_t = sum_{j<W} g_{t,j} grad l(M_anchor; k_{t-j}, v_{t-j})          the Omega window, ATLAS eq. (9)
    U_t = m_t S_{t-1} + G_t                                             momentum, ATLAS eq. (33)
    M_t = a_t M_{t-1} - l_t O_t,   O_t = U_t or NewtonSchulz            retention, lr, Muon; ATLAS eq. (32)
    S_t = U_t
    y_t = M_t(q_t)

with a write gate w_t in [0, 1], by which the new (M, S) is blended with the old one: at 1 this is the rule,
at 0 the token makes no step (it may still stand in the window of an open one). chunk_size = 1 is the online
rule: every gradient at the current memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor


@dataclass(frozen=True)
class Rule:
    """The rule to compute; part of a model's definition.

    map            a class of maps.MAPS or GELU_MAPS, or a Normed, which only unbounded rules have and online.py has not
    bias           the attentional bias l: "l2", |M(k) - v|^2 / 2, or "dot", -<M(k), v>
    chunk_size     tokens between two anchors
    orthogonalise  None, or what makes O of U, [.., I, O] -> [.., I, O]: a newton_schulz.step.Step (online.py calls its
                   pullback), elsewhere any function
    every          orthogonalise every that many tokens r: O_t = NS(U_t) for r = 1, else NS(S) as of the last
                   multiple of r, which needs momentum; divides chunk_size
    bounded        divide each gradient by the squared norm of dM(k)/dW, so that a step of size l corrects the
                   fraction l of an error, and scale the steps from one anchor back to one step where their
                   sizes add up to more. False is the rule as printed, which diverges on an MLP.
    """

    map: Any
    bias: Literal["l2", "dot"] = "l2"
    chunk_size: int = 1
    orthogonalise: Callable[[Tensor], Tensor] | None = None
    every: int = 1
    bounded: bool = True

    def __post_init__(self):
        if self.chunk_size < 1 or self.every < 1 or self.chunk_size % self.every:
            raise ValueError(f"every {self.every} does not divide chunk_size {self.chunk_size}")
        if self.every > 1 and self.orthogonalise is None:
            raise ValueError(f"every is {self.every}, and there is nothing to orthogonalise")

    def error(self, predicted: Tensor, v: Tensor) -> Tensor:
        """dl/dM(k)."""
        return predicted - v if self.bias == "l2" else -v

    def most(self, gates: Gates) -> float:
        """Sizes of steps from one anchor that may add up: one; a single token's with momentum, up to two, is let be.

        Raises ValueError for `every` > 1 without momentum: there is no S to hold.
        """
        if gates.momentum is None and self.every > 1:
            raise ValueError(f"every is {self.every}, which needs momentum")
        return 2.0 if self.chunk_size == 1 and gates.momentum is not None else 1.0


@dataclass(frozen=True)
class Gates:
    """The tokens' gates, each in [0, 1].

    write      w [B, T, H]
    retention  a [B, T, H]
    lr         l [B, T, H]
    window     g [B, T, H, W], of the token j steps back; sum over W at most 1 where `bounded` is to hold
    momentum   m [B, T, H], or None without momentum (and without S)
    """

    write: Tensor
    retention: Tensor
    lr: Tensor
    window: Tensor
    momentum: Tensor | None = None


def surprise_of(layer: str) -> str:
    """The name of a layer's momentum in the state: M -> S, W1 -> S1."""
    return "S" + layer[1:]
