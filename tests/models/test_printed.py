"""`printed=true`: every row against its paper's equation, stated here once more in a loop of its own, in float64.

An equation sees one stream and one head: queries, keys and values [T, .] as the projections give them, and the logits
[T] of the gates. It shares nothing with the package but the weights. Gradients of losses are by autograd.
"""

from itertools import combinations_with_replacement

import pytest
import torch
import torch.nn.functional as F

from atlas_bench import registry
from atlas_bench.comparison import verify
from atlas_bench.errors import UserError
from atlas_bench.models.alterations import alterations
from atlas_bench.models.decoder import Config, Decoder
from tests.models.test_equations import EQUATIONS as NEWER

LENGTH = 24  # more than a mini-batch of TTT
MEMORIES = [name for name in registry.MEMORIES if "printed" in registry.memory_options(name)]


def build(name, **options):
    name, given = registry.parse_memory(name)
    options = registry.memory_options(name, {**given, **options})
    memory = verify.builder(registry.memory(name), options)()
    with torch.no_grad():  # coefficients of phi away from where they begin, so that they count
        for parameter in memory.features.parameters():
            parameter *= 1.0 + 0.1 * torch.arange(parameter.numel()).view_as(parameter)
    return memory


def heads(memory, linear, x):
    """A projection of x [B, T, D] as [B, H, T, K]."""
    return (x @ linear.weight.T).unflatten(-1, (memory.n_heads, -1)).transpose(1, 2)


def check(memory, equation, length=LENGTH):
    """The outputs of a whole stream against those of the equation, row by row and head by head."""
    x = verify.tokens(2, length)
    q, k, v = (heads(memory, linear, x) for linear in (memory.query, memory.key, memory.value))
    gates = {name: linear(x).transpose(1, 2) for name, linear in memory.gate.items()}  # [B, H, T]
    y = torch.stack([
        torch.stack([
            equation(memory, h, q[b, h], k[b, h], v[b, h], {name: z[b, h] for name, z in gates.items()})
            for h in range(memory.n_heads)
        ], -2)
        for b in range(len(x))
    ])  # fmt: skip
    wanted = (y.flatten(2) @ memory.out.weight.T).detach()
    found = memory(x)[0].detach()
    assert found.abs().max() > 0.01
    assert (found - wanted).abs().max() < 1e-10 * max(1, float(wanted.abs().max()))


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def phi(memory, x):
    """All monomials to the degree 2 with the weights of ATLAS eq. (5), the constant last, of unit keys [.., K]."""
    x = unit(x)
    root_a1, root_a2 = memory.features.coefficients
    second = [x[..., i] * x[..., j] * (1 if i == j else 2**0.5) for i, j in pairs(x.shape[-1])]
    one = torch.ones_like(x[..., :1]) * memory.features.constant
    return torch.cat([root_a1 * x, root_a2 * torch.stack(second, -1), one], -1)


def pairs(width):
    return combinations_with_replacement(range(width), 2)


def descend(loss, weights):
    """The gradient of a loss of the weights, a list of matrices."""
    with torch.enable_grad():
        at = [w.detach().requires_grad_() for w in weights]
        return torch.autograd.grad(loss(at), at)


# Matrices --------------------------------------------------------------------------------------------------------


def linear_attention(memory, h, q, k, v, gates):
    """arXiv 2006.16236 eq. (18) to (20)."""
    q, k = F.elu(q) + 1, F.elu(k) + 1
    s, z, outputs = torch.zeros(k.shape[-1], v.shape[-1], dtype=v.dtype), torch.zeros_like(k[0]), []
    for t in range(len(q)):
        s, z = s + torch.outer(k[t], v[t]), z + k[t]
        outputs.append(q[t] @ s / (q[t] @ z))
    return torch.stack(outputs)


def deltanet(memory, h, q, k, v, gates):
    """arXiv 2406.06484 eq. (2), S as [V, K]."""
    q, k, beta = unit(q), unit(k), torch.sigmoid(gates["lr"])
    S, outputs = torch.zeros(v.shape[-1], k.shape[-1], dtype=v.dtype), []
    for t in range(len(q)):
        S = S - beta[t] * torch.outer(S @ k[t] - v[t], k[t])
        outputs.append(S @ q[t])
    return torch.stack(outputs)


def gated_deltanet(memory, h, q, k, v, gates):
    """arXiv 2412.06464 eq. (10), with the decay of Mamba-2."""
    q, k, beta = unit(q), unit(k), torch.sigmoid(gates["lr"])
    alpha = torch.exp(-torch.exp(memory.constant["rate"][h]) * F.softplus(gates["dt"]))
    S, eye, outputs = torch.zeros(v.shape[-1], k.shape[-1], dtype=v.dtype), torch.eye(k.shape[-1]).double(), []
    for t in range(len(q)):
        S = S @ (alpha[t] * (eye - beta[t] * torch.outer(k[t], k[t]))) + beta[t] * torch.outer(v[t], k[t])
        outputs.append(S @ q[t])
    return torch.stack(outputs)


def omeganet(memory, h, q, k, v, gates):
    """ATLAS eq. (10) for a matrix, with the gradient of eq. (11) as its expansion has it, M as [V, P]."""
    q, k, alpha = phi(memory, q), phi(memory, k), 1 - torch.sigmoid(gates["forget"])
    M, outputs = torch.zeros(v.shape[-1], k.shape[-1], dtype=v.dtype), []
    for t in range(len(q)):
        surprise = (M @ k[t] - v[t]).square().sum() / ((M @ k[t]).square().sum() + v[t].square().sum() + 1e-6)
        kept = alpha[t] if memory.kernel != "events" else 1 - (1 - alpha[t]) * surprise.clamp(max=1)  # ours
        step = torch.zeros_like(M)
        for i in range(max(0, t - memory.omega_window + 1), t + 1):
            gamma = torch.sigmoid(gates[f"lag{t - i}"][t])
            step = step + gamma * 2 * torch.outer(M @ k[i] - v[i], k[i])
        M = kept * M - step
        outputs.append(M @ q[t])
    return torch.stack(outputs)


def deep_transformer(memory, h, q, k, v, gates):
    """ATLAS eq. (25), (26) for a matrix; SWDT: the sum over a window; M as [V, P]."""
    q, k = phi(memory, q), phi(memory, k)
    M, outputs = torch.zeros(v.shape[-1], k.shape[-1], dtype=v.dtype), []
    for t in range(len(q)):
        if gates:
            for i in range(max(0, t - memory.omega_window + 1), t + 1):
                M = M + torch.sigmoid(gates[f"lag{t - i}"][t]) * torch.outer(v[i], k[i])
        else:
            M = M + torch.outer(v[t], k[t])
        outputs.append(M @ q[t])
    return torch.stack(outputs)


def dot(memory, h, q, k, v, gates):
    """ATLAS eq. (27) for a matrix: OmegaNet without retention."""
    return omeganet(memory, h, q, k, v, {**gates, "forget": torch.full_like(gates["lag0"], -torch.inf)})


# MLPs ------------------------------------------------------------------------------------------------------------


def mlp(weights, x, activation, width):
    """ATLAS eq. (42), or with a third matrix (43); x [.., P]."""
    W1, W2, *W3 = weights
    hidden = activation(x @ W2) * (x @ W3[0] if W3 else 1)
    return x[..., :width] + hidden @ W1


def start(memory, h):
    """The weights at the start, each [I, O]."""
    return [getattr(memory, name.lower())[h].T for name in memory.rule.map.layers]


def ttt(memory, h, q, k, v, gates):
    """arXiv 2407.04620 eq. (1), (4), (6) and sec. 2.7: mini-batches of 16, base 1 (linear) and 0.1 (MLP)."""
    W = start(memory, h)

    def f(weights, x):
        z = x @ weights[0] if len(weights) == 1 else F.gelu(x @ weights[1]) @ weights[0]
        return x + F.layer_norm(z, z.shape[-1:], memory.norm.weight, memory.norm.bias)

    eta, outputs = (1.0 if len(W) == 1 else 0.1) * torch.sigmoid(gates["lr"]), []
    for t in range(len(q)):
        if t % memory.chunk_size == 0:
            anchor = W
        gradients = descend(lambda weights: (f(weights, k[t]) - v[t]).square().sum(), anchor)  # noqa: B023
        W = [w - eta[t] * g for w, g in zip(W, gradients, strict=True)]
        outputs.append(f(W, q[t]))
    return torch.stack(outputs)


def titans(memory, h, q, k, v, gates):
    """Titans eq. (12) to (14), or (16) to (18) where chunk_size is above 1."""
    q, k = unit(q), unit(k)
    eta, theta, alpha = (torch.sigmoid(gates[name]) for name in ("momentum", "lr", "forget"))
    M, outputs = start(memory, h), []
    S = [torch.zeros_like(w) for w in M]
    for t in range(len(q)):
        if t % memory.chunk_size == 0:
            anchor = M
        gradients = descend(
            lambda weights: (mlp(weights, k[t], F.silu, v.shape[-1]) - v[t]).square().sum(),  # noqa: B023
            anchor,
        )
        S = [eta[t] * s - theta[t] * g for s, g in zip(S, gradients, strict=True)]
        M = [(1 - alpha[t]) * w + s for w, s in zip(M, S, strict=True)]
        outputs.append(mlp(M, q[t], F.silu, v.shape[-1]))
    return torch.stack(outputs)


def titans_matrix(memory, h, q, k, v, gates):
    """Titans eq. (12) to (14) for M(k) = M k, M as [V, K]."""
    q, k = unit(q), unit(k)
    eta, theta, alpha = (torch.sigmoid(gates[name]) for name in ("momentum", "lr", "forget"))
    M, outputs = torch.zeros(v.shape[-1], k.shape[-1], dtype=v.dtype), []
    S = torch.zeros_like(M)
    for t in range(len(q)):
        S = eta[t] * S - theta[t] * 2 * torch.outer(M @ k[t] - v[t], k[t])
        M = (1 - alpha[t]) * M + S
        outputs.append(M @ q[t])
    return torch.stack(outputs)


def newton_schulz(S):
    """Five steps with Muon's coefficients."""
    a, b, c = 3.4445, -4.7750, 2.0315
    X = S / (S.norm() + 1e-7)
    for _ in range(5):
        A = X @ X.T
        X = a * X + (b * A + c * A @ A) @ X
    return X


def window(memory, gates, weights, loss, t):
    """grad of sum_i g_i loss_i over the last c tokens."""
    parts = [
        descend(lambda at, i=i: torch.sigmoid(gates[f"lag{t - i}"][t]) * loss(at, i), weights)
        for i in range(max(0, t - memory.omega_window + 1), t + 1)
    ]
    return [sum(part) for part in zip(*parts, strict=True)]


def atlas(memory, h, q, k, v, gates):
    """ATLAS eq. (32), (33) with the map (42) or (43)."""
    q, k = phi(memory, q), phi(memory, k)
    theta, eta, alpha = (torch.sigmoid(gates[name]) for name in ("momentum", "lr", "forget"))
    M, outputs = start(memory, h), []
    S = [torch.zeros_like(w) for w in M]
    for t in range(len(q)):
        if t % memory.chunk_size == 0:
            anchor = M
        G = window(
            memory, gates, anchor, lambda at, i: (mlp(at, k[i], F.gelu, v.shape[-1]) - v[i]).square().sum(), t
        )  # fmt: skip
        S = [theta[t] * s + g for s, g in zip(S, G, strict=True)]
        M = [(1 - alpha[t]) * w - eta[t] * newton_schulz(s) for w, s in zip(M, S, strict=True)]
        outputs.append(mlp(M, q[t], F.gelu, v.shape[-1]))
    return torch.stack(outputs)


def deep(memory, h, q, k, v, gates, bias):
    """M_t = a M_{t-1} - (l) grad sum_i g_i l(M; phi(k_i), v_i): ATLAS eq. (10), (19), (20), (25), (27) on an MLP."""
    q, k = phi(memory, q), phi(memory, k)
    alpha = 1 - torch.sigmoid(gates["forget"]) if "forget" in gates else torch.ones_like(q[:, 0])
    M, outputs = start(memory, h), []

    def loss(at, i):
        y = mlp(at, k[i], F.gelu, v.shape[-1])
        return (y - v[i]).square().sum() if bias == "l2" else -y @ v[i]

    for t in range(len(q)):
        G = window(memory, gates, M, loss, t) if "lag0" in gates else descend(lambda at: loss(at, t), M)  # noqa: B023
        lr = torch.sigmoid(gates["lr"][t]) if "lr" in gates else 1.0
        M = [alpha[t] * w - lr * g for w, g in zip(M, G, strict=True)]
        outputs.append(mlp(M, q[t], F.gelu, v.shape[-1]))
    return torch.stack(outputs)


def deep_dot(*args):
    return deep(*args, bias="dot")


def deep_l2(*args):
    return deep(*args, bias="l2")


EQUATIONS = {
    "linear-attention": linear_attention,
    "deltanet": deltanet,
    "gated-deltanet": gated_deltanet,
    "ttt-linear": ttt,
    "ttt-linear:chunk_size=1": ttt,
    "ttt-mlp": ttt,
    "dla": deep_dot,
    "swla": deep_dot,
    "titans": titans,
    "titans:chunk_size=8": titans,
    "titans:map=matrix": titans_matrix,
    "omeganet": omeganet,
    "omeganet:omega_window=5": omeganet,
    "omeganet:omega_window=1": omeganet,
    "omeganet:map=mlp": deep_l2,
    "surprise-omeganet": omeganet,
    "atlas": atlas,
    "atlas:chunk_size=8,omega_window=3": atlas,
    "atlas++": atlas,
    "deep-transformer": deep_transformer,
    "deep-transformer:map=mlp": deep_dot,
    "swdt": deep_transformer,
    "dot": dot,
    "dot:map=mlp": deep_l2,
}


def test_every_row_has_an_equation():
    newer = {name.partition(":")[0] for name in NEWER if "printed" in name} | {"yaad", "moneta"}  # test_equations.py
    assert {name.partition(":")[0] for name in EQUATIONS} | newer == set(MEMORIES)


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_row_is_its_papers_equation(name):
    check(build(name, printed=True), EQUATIONS[name])


# What stands around the equations --------------------------------------------------------------------------------


def test_the_features_have_the_inner_product_of_the_paper():
    """ATLAS eq. (5), where a_i = 1/i!."""
    with torch.no_grad():
        memory, x = verify.builder(registry.memory("omeganet"), {"printed": True, "degree": 3})(), verify.tokens()
        q, k = (unit(heads(memory, linear, x)).transpose(1, 2) for linear in (memory.query, memory.key))
        found = (memory._queries(x) * memory._pairs(x)[0]).sum(-1)
    product = (q * k).sum(-1)
    assert (found - (1 + product + product**2 / 2 + product**3 / 6)).abs().max() < 1e-6  # coefficients are float32


@pytest.mark.parametrize("name", MEMORIES)
def test_every_row_has_both_forms_and_safe_is_the_default(name):
    assert registry.memory_options(name)["printed"] is False
    safe, printed = (registry.memory(name)(32, 2, 16, printed=printed) for printed in (False, True))
    assert safe.closes and not printed.closes
    assert "write" in safe.gate and "write" not in printed.gate


def test_a_card_says_the_options_of_the_form():
    assert registry.memory_options("atlas") == {
        **registry.memory_options("atlas", {"printed": True}),
        "printed": False, "bounded": True, "most_momentum": 0.5, "features": "powers", "muon": "sized",
    }  # fmt: skip
    as_printed = registry.memory_options("atlas", {"printed": True})
    assert {"bounded": False, "most_momentum": 1.0, "features": "taylor", "muon": "plain"}.items() <= as_printed.items()


def test_an_option_that_is_given_goes_before_that_of_the_form():
    """One ingredient of the safe form in the rule as printed."""
    options = registry.memory_options("atlas", {"printed": True, "muon": "sized"})
    assert options["muon"] == "sized" and options["features"] == "taylor"
    memory = registry.memory("atlas")(32, 2, 16, **options)
    assert memory.rule.orthogonalise.sized and not memory.rule.bounded


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("titans", {"bounded": True}, "no step is bounded"),
        ("atlas", {"window_counts": "written"}, "every token is written"),
        ("omeganet", {"chunk_size": 8, "features": "power"}, "Did you mean 'powers'"),
    ],
)
def test_what_is_not_as_printed_is_refused(name, options, said):
    with pytest.raises(UserError, match=said):
        registry.memory(name)(32, 2, 16, printed=True, **options)


@torch.no_grad()
def test_a_screen_still_closes_a_rule_as_printed():
    """The screen is the model's, not the memory's: it stands before a rule that has no write gate."""
    memory, x = build("deltanet", printed=True), verify.tokens(2, 70)
    _, state = memory(x, screen=torch.zeros(2, 70))
    assert not state["M"].any()


def test_what_diverges_as_printed_is_a_remark_that_says_so():
    said = verify.finite(verify.builder(registry.memory("dla"), registry.memory_options("dla", {"printed": True})))
    assert isinstance(said, verify.Remark) and "as printed, nothing bounds a step" in said
    assert verify.finite(verify.builder(registry.memory("titans"), {"printed": True})) is None


@torch.no_grad()
def test_a_rule_as_printed_takes_part_in_probing():
    """Its gates can be held one by one, and its memory can be closed though it has no write gate."""
    config = Config("atlas", registry.memory_options("atlas", {"printed": True}), vocab_size=64, d_model=32, n_heads=2)
    decoder, tokens = Decoder(config), torch.arange(40).view(1, 40)
    found = {each.name: each for each in alterations(decoder)}
    assert {"muon=off", "momentum=off", "newest=1", "window=1", "memory=closed"} <= set(found)
    found["memory=closed"].apply(decoder)
    _, state = decoder(tokens)
    memory = decoder.blocks[0].memory
    start = memory.start(1)
    assert all(torch.equal(state[0]["memory"][name], start[name]) for name in memory.init_state(1))
