"""Memories that are MLPs and descend a loss of their own, one gradient step per token.

    W_t = a_t W_{t-1} - l_t grad loss(M(k_t), v_t),   M(x) = x + W1 silu(W2 x)          MIRAS, arXiv 2504.13173 eq. (5)

A variant states `slope`, the loss' derivative by M(k), and, where the weights are not the state itself, `weights`.
Safe: the gradient is divided by a bound of the squared norm of dM(k)/dW, so that a step moves M(k) by the fraction l of
the slope at most. printed: it is not, and M(x) = x + LN(W1 gelu(W2 x)) as in the paper's section 5.3; a and l are
sigmoids per head (the paper's are per channel and low-rank; it does not say of which side of a matrix).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from atlas_bench.kernels.anchored.maps import MLP, Normed, PlainGeluMLP
from atlas_bench.models.memory.base import ALWAYS, Gate, Memory, State
from atlas_bench.models.memory.matrix import SIGMOID

STEEPNESS = 10.0
START = {"W1": 0.5, "W2": 1.5}  # standard deviation of the learnt weights that a stream begins with


def smooth_sign(error: Tensor) -> Tensor:
    """tanh(10 e), in the place of sign(e), which has no gradient: the paper's remark 5."""
    return torch.tanh(STEEPNESS * error)


class DeepMemory(Memory):
    """Base of the MLP memories that state `slope`.

    expansion  hidden width over head_dim
    printed    gradients, gates and map as the paper has them
    """

    gates: Mapping[str, float | Gate] = {"write": -0.6, "forget": -2.5, "lr": 2.0}
    printed_gates: Mapping[str, float | Gate] = {
        "write": ALWAYS, "forget": SIGMOID._replace(bias=-5.0), "lr": SIGMOID._replace(bias=-5.0),
    }  # fmt: skip

    def __init__(self, d_model: int, n_heads: int, head_dim: int, *, expansion: int = 2, printed: bool = False):
        super().__init__(d_model, n_heads, head_dim, gates=self.printed_gates if printed else self.gates)
        self.printed = printed
        self.norm = nn.LayerNorm(head_dim) if printed else None
        self.map = Normed(PlainGeluMLP, self.norm) if printed else MLP
        for name, (rows, columns) in MLP.shapes(head_dim, head_dim, expansion * head_dim).items():
            weight = START[name] * torch.randn(n_heads, rows, columns)
            self.register_parameter(name.lower(), nn.Parameter(weight))

    def slope(self, error: Tensor, gates: dict[str, Tensor]) -> Tensor:
        """dloss / dM(k) for the error M(k) - v, both [.., 1, V]; gates [.., 1, 1]."""
        raise NotImplementedError

    def weights(self, state: State) -> State:
        """W1 and W2 of a state."""
        return state

    def init_state(self, batch: int) -> State:
        weights = {name: getattr(self, name.lower()) for name in MLP.layers}
        return {name: w.expand(batch, *w.shape).contiguous() for name, w in weights.items()}

    def step(self, state: State, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> State:
        gates = {name: gate[..., None, None] for name, gate in gates.items()}

        def slope(predicted: Tensor, size: Callable[[], Tensor]) -> Tensor:
            slope = gates["lr"] * self.slope(predicted - v, gates)
            return slope if self.printed else slope / size()[..., None]

        products = self.map.products(k, self.weights(state), slope)
        return {name: (1 - gates["forget"]) * state[name] - x.mT @ e for name, (x, e) in products.items()}

    def read(self, state: State, q: Tensor) -> Tensor:
        weights = self.weights(state)
        return self.map.read(q, lambda name, z: z @ weights[name])
