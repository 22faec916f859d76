"""Rules of 2023 to 2026 against their papers' equations, each written out here for one token and one head in float64.

The safe form is the same equation with the gates that its file names. Nothing of the memory's own code is used but its
weights.
"""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from atlas_bench import registry
from atlas_bench.comparison import verify
from atlas_bench.comparison.fixtures import WIDTH

LENGTH = 40
hard = F.hardsigmoid


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def eye(x):
    return torch.eye(len(x), dtype=x.dtype)


def decay(t):
    """exp(-exp(A) softplus(.)), of Mamba-2 and its successors."""
    return torch.exp(-t.c.rate.exp() * F.softplus(t.z.dt))


# Each takes M [K, V] and a token: q, k, v as projected, z the logits of its gates, c its constants. Returns M and y.


def gla(M, t):
    a = torch.sigmoid(t.z.forget) ** (1 / 16)
    M = a.diag() @ M + torch.outer(t.k, t.v)
    return M, t.q @ M


def safe_gla(M, t):
    w = hard(t.z.write)
    M = (1 - w * hard(t.z.forget)).diag() @ M + w * torch.outer(unit(t.k), t.v)
    return M, unit(t.q) @ M


def mamba2(M, t):
    M = decay(t) * M + F.softplus(t.z.dt) * torch.outer(t.k, t.v)
    return M, t.q @ M


def safe_mamba2(M, t):
    w = hard(t.z.write)
    M = (1 - w * hard(t.z.forget)) * M + w * torch.outer(unit(t.k), t.v)
    return M, unit(t.q) @ M


def kda(M, t):
    k, b = unit(t.k), torch.sigmoid(t.z.lr)
    M = (eye(k) - b * torch.outer(k, k)) @ decay(t).diag() @ M + b * torch.outer(k, t.v)
    return M, unit(t.q) @ M


def safe_kda(M, t):
    k, w = unit(t.k), hard(t.z.write)
    a = 1 - w * hard(t.z.forget)
    M = (eye(k) - w * torch.outer(k, k)) @ a.diag() @ M + w * torch.outer(k, t.v)
    return M, unit(t.q) @ M


def gdn2(M, t):
    k = unit(t.k)
    erase, add = torch.sigmoid(t.z.erase), torch.sigmoid(t.z.add)
    M = (eye(k) - torch.outer(k, erase * k)) @ decay(t).diag() @ M + torch.outer(k, add * t.v)
    return M, unit(t.q) @ M


def safe_gdn2(M, t):
    k, w = unit(t.k), hard(t.z.write)
    erase, add, a = w * hard(t.z.erase), w * hard(t.z.add), 1 - w * hard(t.z.forget)
    M = (eye(k) - torch.outer(k, erase * k)) @ a.diag() @ M + torch.outer(k, add * t.v)
    return M, unit(t.q) @ M


def steps(M, t, a, sizes):
    M = a * M
    for k, v, b in zip(unit(t.k), t.v, sizes, strict=True):
        M = (eye(k) - b * torch.outer(k, k)) @ M + b * torch.outer(k, v)
    return M, unit(t.q) @ M


def deltaproduct(M, t):
    return steps(M, t, decay(t), 2 * torch.sigmoid(t.z.lr))


def safe_deltaproduct(M, t):
    w = hard(t.z.write)
    return steps(M, t, 1 - w * hard(t.z.forget), 2 * w * hard(t.z.lr))


def negative_deltanet(M, t):
    return steps(M, SimpleNamespace(k=t.k[None], v=t.v[None], q=t.q), 1.0, [2 * hard(t.z.write)])


def negative_gated_deltanet(M, t):
    w = hard(t.z.write)
    return steps(M, SimpleNamespace(k=t.k[None], v=t.v[None], q=t.q), 1 - w * hard(t.z.forget), [2 * w])


def rwkv7_step(M, t, k, a, b, w):
    r = unit(t.c.removal * k)
    into = k * (1 + t.c.boost * (b - 1))
    return (a.diag() - w * torch.outer(b * r, r)) @ M + w * torch.outer(into, t.v)


def rwkv7(M, t):
    a = torch.exp(-torch.exp(torch.tensor(-0.5, dtype=M.dtype)) * torch.sigmoid(t.z.forget))
    M = rwkv7_step(M, t, t.k, a, torch.sigmoid(t.z.lr), 1.0)
    return M, t.q @ M


def safe_rwkv7(M, t):
    w = hard(t.z.write)
    M = rwkv7_step(M, t, unit(t.k), 1 - w * hard(t.z.forget), hard(t.z.lr), w)
    return M, unit(t.q) @ M


def comba_step(M, t, a, b):
    k = unit(t.k)
    p = torch.sigmoid(t.c.feedback) * k
    M = a * M + b * torch.outer(k, t.v - p @ (a * M))
    return M, (unit(t.q) - t.c.correction * k) @ M


def comba(M, t):
    return comba_step(M, t, decay(t), torch.sigmoid(t.z.lr))


def safe_comba(M, t):
    w = hard(t.z.write)
    return comba_step(M, t, 1 - w * hard(t.z.forget), w)


def mesa_step(M, t, a, b):
    k, size = unit(t.k), len(t.k)
    M = a * M + b * torch.outer(k, torch.cat([k, t.v]))  # [H | G]
    ridge = (0.25 + F.softplus(t.p.ridge)).diag()
    return M, unit(t.q) @ torch.linalg.inv(M[:, :size] + ridge) @ M[:, size:]


def mesanet(M, t):
    return mesa_step(M, t, torch.sigmoid(-t.z.forget), torch.sigmoid(t.z.lr))


def safe_mesanet(M, t):
    w = hard(t.z.write)
    return mesa_step(M, t, 1 - w * hard(t.z.forget), w)


EQUATIONS = {
    "gla:printed=true": gla,
    "gla": safe_gla,
    "mamba2:printed=true": mamba2,
    "mamba2": safe_mamba2,
    "kda:printed=true": kda,
    "kda": safe_kda,
    "gated-deltanet-2:printed=true": gdn2,
    "gated-deltanet-2": safe_gdn2,
    "deltaproduct:steps=3,printed=true": deltaproduct,
    "deltaproduct:steps=3": safe_deltaproduct,
    "rwkv7:printed=true": rwkv7,
    "rwkv7": safe_rwkv7,
    "comba:printed=true": comba,
    "comba": safe_comba,
    "mesanet:printed=true": mesanet,
    "mesanet": safe_mesanet,
    "mesanet:iterations=32": safe_mesanet,
    "deltanet:negative_eigenvalues=true": negative_deltanet,
    "gated-deltanet:negative_eigenvalues=true": negative_gated_deltanet,
}


def build(spec, write_bias=0.0):
    name, options = registry.typed_memory(spec, feed=False)
    return verify.builder(registry.memory(name), options)(write_bias=write_bias)


def token_loop(memory, x, rule):
    """Outputs [B, T, D] and the memories [B, H, K, V] after the last token."""
    heads, size = memory.n_heads, memory.head_dim
    q = memory.query(x).unflatten(-1, (heads, size))
    k, v = ((linear(x)).unflatten(-1, (heads, -1, size)).squeeze(3) for linear in (memory.key, memory.value))
    logits = {name: linear(x).unflatten(-1, (heads, -1)).squeeze(-1) for name, linear in memory.gate.items()}
    y = x.new_zeros(*x.shape[:2], heads, size)
    last = memory.init_state(len(x))["M"]
    parameters = dict(memory.named_parameters(recurse=False))
    for b in range(len(x)):
        for h in range(heads):
            M, constants = last[b, h], SimpleNamespace(**{n: c[h] for n, c in memory.constant.items()})
            own = SimpleNamespace(**{n: p[h] for n, p in parameters.items()})
            for i in range(x.shape[1]):
                gates = SimpleNamespace(**{name: z[b, i, h] for name, z in logits.items()})
                token = SimpleNamespace(q=q[b, i, h], k=k[b, i, h], v=v[b, i, h], z=gates, c=constants, p=own)
                M, y[b, i, h] = rule(M, token)
            last[b, h] = M
    return memory.out(y.flatten(2)), last


@pytest.mark.parametrize("spec", EQUATIONS)
@torch.no_grad()
def test_a_rule_is_its_equation(spec):
    memory, x = build(spec), verify.tokens(rows=2, length=LENGTH)
    for constant in [*memory.constant.values(), *(p for _, p in memory.named_parameters(recurse=False))]:
        constant.add_(0.3 * torch.randn(constant.shape, generator=torch.Generator().manual_seed(1)))
    y, state = memory(x)
    expected, last = token_loop(memory, x, EQUATIONS[spec])
    assert (y - expected).abs().max() < 1e-10
    assert (state["M"] - last).abs().max() < 1e-10


# MLP memories. Each loss is of the error e, a threshold and a form; each shape makes the weights of what is summed up.


def huber(e, t, printed):
    size = e.norm()
    if size <= t:
        return e.square().sum() / 2
    return t * ((torch.tanh(10 * e.detach()) * e).sum() if printed else size)


def cubic(e, t, printed):
    """l_3 with the smooth sign and size held for constants, so that its gradient is theirs."""
    size = (e.square() + 1e-6).sqrt().detach()
    if printed:
        return (3 * torch.tanh(10 * e.detach()) * size**2 * e).sum()
    return (e.detach() * size.clamp(max=1) * e).sum()


def as_it_is(A, printed):
    return A


def by_its_norm(A, printed):
    norm = A.abs().pow(4).sum() ** (1 / 4)
    return A / (norm if printed else norm.clamp_min(1.0)) ** 2


def mlp(memory, x, W1, W2):
    if memory.norm is None:
        return x + F.silu(x @ W2) @ W1
    return x + F.layer_norm(F.gelu(x @ W2) @ W1, x.shape, memory.norm.weight, memory.norm.bias)


def bound(x, W1, W2):
    """Of the squared norm of dM(x)/dW."""
    z = (x @ W2).requires_grad_()
    (slope,) = torch.autograd.grad(F.silu(z).sum(), z)
    return F.silu(x @ W2).square().sum() + (slope.square() * W1.square().sum(1)).sum() * x.square().sum() + 1e-3


@pytest.mark.parametrize("printed", [True, False])
@pytest.mark.parametrize(("name", "loss", "shape"), [("yaad", huber, as_it_is), ("moneta", cubic, by_its_norm)])
def test_an_mlp_rule_is_its_equation(name, loss, shape, printed):
    memory, x = build(f"{name}:printed={'true' if printed else 'false'}"), verify.tokens(rows=1, length=12)
    heads, size = memory.n_heads, memory.head_dim
    gate, positive = (torch.sigmoid if printed else hard), F.softplus
    y = x.new_zeros(*x.shape[:2], heads, size)
    with torch.no_grad():
        if printed:
            memory.norm.weight.normal_(), memory.norm.bias.normal_()
            memory.gate["lr"].bias.fill_(-6.0)  # not finite otherwise
        got, state = memory(x)
        q, k, v = (getattr(memory, n)(x).unflatten(-1, (heads, size)) for n in ("query", "key", "value"))
        z = {n: linear(x) for n, linear in memory.gate.items()}
    for h in range(heads):
        A = {"W1": memory.w1[h].detach(), "W2": memory.w2[h].detach()}
        for i in range(x.shape[1]):
            f, lr = gate(z["forget"][0, i, h]), gate(z["lr"][0, i, h])
            w = 1.0 if printed else hard(z["write"][0, i, h])
            t = positive(z["threshold"][0, i, h]) if "threshold" in z else None
            W = {n: shape(a, printed).requires_grad_() for n, a in A.items()}
            cost = loss(mlp(memory, unit(k[0, i, h]), **W) - v[0, i, h], t, printed)
            slopes = torch.autograd.grad(cost, list(W.values()))
            step = lr if printed else lr / bound(unit(k[0, i, h]), **{n: weight.detach() for n, weight in W.items()})
            new = {n: (1 - f) * A[n] - step * slope for n, slope in zip(W, slopes, strict=True)}
            A = {n: a + w * (new[n] - a) for n, a in A.items()}
            with torch.no_grad():
                y[0, i, h] = mlp(memory, unit(q[0, i, h]), **{n: shape(a, printed) for n, a in A.items()})
        assert all((state[n][0, h] - a).abs().max() < 1e-10 for n, a in A.items())
    assert (got - memory.out(y.flatten(2))).abs().max() < 1e-10


def hold(memory, **gates):
    """Holds gates at a value in [0, 1] for every token, head and channel."""
    for name, value in gates.items():
        gate = memory.gate[name]
        gate.weight.zero_()
        gate.bias.fill_(6 * value - 3)


def same_weights(memory, other):
    """Gives `memory` the weights of `other` under the same names; a gate per channel gets the head's row repeated."""
    theirs = other.state_dict()
    for name, weight in memory.state_dict().items():
        if name in theirs and theirs[name].shape == weight.shape:
            weight.copy_(theirs[name])
        elif name in theirs:
            weight.copy_(theirs[name].repeat_interleave(len(weight) // len(theirs[name]), 0))


def gap(memory, other):
    x = verify.tokens(length=LENGTH)
    return float((memory(x)[0] - other(x)[0]).abs().max())


@torch.no_grad()
def test_comba_with_all_feedback_and_no_correction_is_gated_deltanet():
    comba, gated = build("comba"), build("gated-deltanet")
    same_weights(comba, gated)
    comba.constant["feedback"].fill_(50.0), comba.constant["correction"].fill_(0.0)
    assert gap(comba, gated) < 1e-10


@torch.no_grad()
def test_rwkv_7_that_removes_where_it_writes_and_forgets_nothing_is_deltanet():
    rwkv7, deltanet = build("rwkv7"), build("deltanet")
    same_weights(rwkv7, deltanet)
    hold(rwkv7, lr=1.0, forget=0.0)
    assert gap(rwkv7, deltanet) < 1e-10


@torch.no_grad()
def test_mesanet_of_a_huge_ridge_is_mamba_2_scaled_by_it():
    """(H + L)^-1 -> 1 / L."""
    mesanet, mamba2 = build("mesanet"), build("mamba2")
    same_weights(mesanet, mamba2)
    mesanet.ridge.fill_(1e9)
    mamba2.out.weight.div_(1e9 + 0.25)
    assert gap(mesanet, mamba2) < 1e-6 * mamba2(verify.tokens(length=LENGTH))[0].abs().max()


@torch.no_grad()
def test_gla_with_one_decay_for_all_channels_is_mamba_2():
    gla, mamba2 = build("gla"), build("mamba2")
    same_weights(gla, mamba2)
    assert gap(gla, mamba2) < 1e-10


@torch.no_grad()
def test_mamba_2_that_forgets_nothing_is_linear_attention():
    mamba2, linear = build("mamba2"), build("linear-attention")
    same_weights(mamba2, linear)
    hold(mamba2, forget=0.0)
    assert gap(mamba2, linear) < 1e-10


@torch.no_grad()
def test_gated_deltanet_2_with_both_gates_open_is_kda():
    gdn2, kda = build("gated-deltanet-2"), build("kda")
    same_weights(gdn2, kda)
    hold(gdn2, erase=1.0, add=1.0)
    assert gap(gdn2, kda) < 1e-10


@torch.no_grad()
def test_gated_deltanet_2_that_erases_nothing_is_gla():
    gdn2, gla = build("gated-deltanet-2"), build("gla")
    same_weights(gdn2, gla)
    hold(gdn2, erase=0.0, add=1.0)
    assert gap(gdn2, gla) < 1e-10


@torch.no_grad()
def test_kda_with_one_decay_for_all_channels_is_gated_deltanet():
    kda, gated = build("kda"), build("gated-deltanet")
    same_weights(kda, gated)
    assert gap(kda, gated) < 1e-10


@torch.no_grad()
def test_gated_deltanet_that_forgets_nothing_is_deltanet():
    gated, deltanet = build("gated-deltanet"), build("deltanet")
    same_weights(gated, deltanet)
    hold(gated, forget=0.0)
    assert gap(gated, deltanet) < 1e-10


@pytest.mark.parametrize("negative", ["true", "false"])
@torch.no_grad()
def test_deltaproduct_of_one_step_is_deltanet_and_gated_deltanet(negative):
    for forgetting, name in (("false", "deltanet"), ("true", "gated-deltanet")):
        spec = f"deltaproduct:steps=1,forgetting={forgetting},negative_eigenvalues={negative}"
        product, other = build(spec), build(f"{name}:negative_eigenvalues={negative}")
        same_weights(product, other)
        hold(product, lr=1.0)
        assert gap(product, other) < 1e-10


@torch.no_grad()
def test_a_step_of_deltaproduct_of_size_0_is_left_out():
    two, one = build("deltaproduct:steps=2"), build("deltaproduct:steps=1")
    heads, size = two.n_heads, two.head_dim
    for part in ("query", "out"):
        getattr(two, part).weight.copy_(getattr(one, part).weight)
    for part in ("key", "value"):
        mine, theirs = (getattr(memory, part).weight.view(heads, -1, size, WIDTH) for memory in (two, one))
        mine[:, 1:] = theirs
    for name in ("write", "forget"):
        two.gate[name].load_state_dict(one.gate[name].state_dict())
    for lr in (two, one):
        hold(lr, lr=1.0)
    two.gate["lr"].bias.view(heads, 2)[:, 0] = -3.0
    assert gap(two, one) < 1e-10


@torch.no_grad()
def test_a_step_of_size_2_reflects_and_one_of_size_1_cannot():
    """A negative eigenvalue: a key written twice with nothing gives back what it held, with its sign turned once."""
    memory = build("deltanet:negative_eigenvalues=true")
    k = unit(torch.randn(2, 1, memory.head_dim, dtype=torch.float64))
    M, v = torch.randn(2, memory.head_dim, memory.head_dim, dtype=torch.float64), torch.zeros(2, 1, memory.head_dim)
    gates = {"write": torch.ones(2, dtype=torch.float64)}
    once = memory.write({"M": M}, k, v.double(), gates)["M"]
    assert torch.allclose(k @ once, -(k @ M))
    assert torch.allclose(memory.write({"M": once}, k, v.double(), gates)["M"], M)
