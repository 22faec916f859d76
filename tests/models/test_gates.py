"""Gates of every shape and form, constants, and the layer's input, in a memory that states step() alone."""

import pytest
import torch
import torch.nn.functional as F

from atlas_bench.comparison import verify
from atlas_bench.errors import UserError
from atlas_bench.models.memory.base import Gate, Memory

LENGTH = 40


class Everything(Memory):
    """A delta rule with a gate of every shape, a constant per key channel, and a step that depends on the input."""

    gates = {
        "write": -0.6,
        "lr": 1.0,
        "forget": Gate(-2.5, per="key"),
        "add": Gate(0.0, per="value", form=torch.sigmoid),
        "mix": Gate(0.0, per=3, form=F.softplus),
    }
    constants = {"bias": Gate(0.5, per="key", form=torch.tanh)}
    sees_input = True

    def init_state(self, batch):
        return {"M": self.key.weight.new_zeros(batch, self.n_heads, self.head_dim, self.head_dim)}

    def step(self, state, k, v, gates):
        M = (1 - gates["forget"][..., None]) * state["M"]
        size = gates["lr"] * torch.sigmoid(gates["input"].mean(-1)) * gates["mix"].sum(-1).tanh()
        error = k @ M - gates["add"][..., None, :] * v
        return {"M": M - size[..., None, None] * (gates["bias"][..., None, :] * k).mT @ error}

    def read(self, state, q):
        return q @ state["M"]


@pytest.mark.parametrize("contract", verify.CONTRACTS)
def test_the_contract_holds(contract):
    said = verify.CONTRACTS[contract](verify.builder(Everything))
    assert not verify.is_broken(said), said


@torch.no_grad()
def test_the_step_gets_what_the_file_asks_for():
    memory, x = verify.builder(Everything)(write_bias=0.0), verify.tokens(rows=2, length=LENGTH)
    H, K = memory.n_heads, memory.head_dim
    z = {name: linear(x) for name, linear in memory.gate.items()}
    lr, write = F.hardsigmoid(z["lr"]), F.hardsigmoid(z["write"])
    forget, add = F.hardsigmoid(z["forget"]).unflatten(-1, (H, K)), torch.sigmoid(z["add"]).unflatten(-1, (H, K))
    mix, bias = F.softplus(z["mix"]).unflatten(-1, (H, 3)), memory.constant["bias"].tanh()
    k, v = memory._pairs(x)
    q, outputs = memory._queries(x), torch.zeros_like(v)
    for b in range(len(x)):
        for h in range(H):
            M = x.new_zeros(K, K)
            for t in range(LENGTH):
                at = (b, t, h)
                new = (1 - forget[at]).diag() @ M
                size = lr[at] * torch.sigmoid(x[b, t].mean()) * torch.tanh(mix[at].sum())
                new = new - size * torch.outer(bias[h] * k[at], k[at] @ new - add[at] * v[at])
                M = M + write[at] * (new - M)
                outputs[at] = q[at] @ M
    assert (memory(x)[0] - memory.out(outputs.flatten(2))).abs().max() < 1e-10


def test_the_write_gate_is_per_head():
    variant = type("PerChannel", (Everything,), {"gates": {**Everything.gates, "write": Gate(0.0, per="key")}})
    with pytest.raises(UserError, match="the write gate is per 'key'"):
        variant(16, 2, 8)
