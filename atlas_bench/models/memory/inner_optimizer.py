"""The memory as an inner optimiser: what a variant of the family is a row of.

    G_t = sum_{j<W} g_{t,j} grad l(M; k_{t-j}, v_{t-j}),   U_t = m_t S_{t-1} + G_t,   O_t = U_t or Muon(U_t)
    M_t = (1 - f_t) M_{t-1} - l_t O_t,   S_t = U_t,   y_t = M_t(q_t)

kernels/anchored/rule.py states it in full. A row names the map M, the bias l, the features of keys and
queries, the window W, and which gates there are: `momentum` (m), `forget` (f), `lr` (l).

Every row has two forms. The safe one is the default; `printed=True` is the rule exactly as its paper prints it.
docs/printed.md lists row by row where the two differ, and why.

As printed, the only write gate is a paper's own: every token is written. Gates are sigmoids of x_t per head, unless
the paper says otherwise; nothing ties or clamps them, and a window has one for each of its tokens, the newest too. The
gradient is that of the loss as printed, so twice the error for |M(k) - v|^2, and no step is bounded.

The safe form has a write gate, and each gate is a hard sigmoid of x_t per head. Window gates: the newest token counts
1, each older one a hard sigmoid of x_t, divided by their sum. window_counts=written multiplies an older token's gate by
its own write gate first: a closed token is then in no window, and every error that is descended is of a written token.

Momentum is at most `most_momentum`, 1/2 by default: a gradient and all its echoes, 1 / (1 - m), are then at most two
gradients. As printed, momentum near 1 adds up gradients without forgetting any: S grows with the number of steps, the
memory overshoots, and an MLP grows without limit on random input within 4,000 tokens. Where m may pass 1/2, the
gradient is therefore multiplied by min(1, 2 (1 - m)): S then never passes twice the largest gradient, whatever the
sequence of m. bounded=False leaves this out too.

`chunk_size` is where the gradient is taken. 1, the default of most rows: at the current memory, so facts keep
their order; open tokens are few, and only they cost. C > 1: at the memory of every C-th token, the papers'
form for parallel training, which changes what is computed, and is therefore part of the model. The tokens of
the open chunk are kept in the state, so any split of the stream still gives the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench.errors import UserError, unknown
from atlas_bench.kernels import dispatch
from atlas_bench.kernels.anchored import chunk, mlp
from atlas_bench.kernels.anchored.maps import MAPS
from atlas_bench.kernels.anchored.online import online
from atlas_bench.kernels.anchored.rule import Gates, Rule, surprise_of
from atlas_bench.kernels.cpu import through
from atlas_bench.kernels.newton_schulz.step import Step
from atlas_bench.kernels.omega.chunk import omega
from atlas_bench.models.memory.base import ALWAYS, DENSE, TOGETHER, Gate, Memory, State

MOST_MOMENTUM = 0.5
COUNTS = ("all", "written")  # what `window_counts` can be
LAG_BIAS = -2.5  # of the window gates: 0.08 open at first
# Initial biases as printed: no paper states any. Steps are small, for nothing bounds them, and memories long.
FORGET, MOMENTUM, LR = Gate(-5.0, form=torch.sigmoid), Gate(-2.0, form=torch.sigmoid), Gate(-3.0, form=torch.sigmoid)
LAG = Gate(LAG_BIAS, form=torch.sigmoid)
# Events in a block of 64 from which taking all its tokens in turn costs less than each row's own events (about: from
# one reading of training on one core); with Newton-Schulz nothing is cheaper than leaving tokens out.
ABREAST, ABREAST_MUON = 36, 60


class InnerOptimizer(Memory):
    """A row of the family.

    map            matrix, mlp or gated (kernels/anchored/maps.py)
    expansion      hidden width of an MLP over head_dim
    features       phi, None for the identity
    omega_window   tokens W that one step descends
    window_counts  all; written, an older token of the window counts as much as its write gate lets it (chunk_size 1)
    chunk_size     tokens between two anchors
    muon           none; plain, the step is NewtonSchulz-5(U) as printed; sized, which keeps the size of the surprise
                   (kernels/newton_schulz/step.py)
    muon_every     every that many tokens; divides chunk_size
    bounded        False: gradients and sums of steps as printed, which diverge on an MLP (rule.py)
    most_momentum  upper bound of the momentum gate in [0, 1]; 0 leaves out the gate and its state
    forgetting     False leaves out the forget gate: everything is kept
    printed        True: the rule exactly as its paper prints it

    An option that is None takes the value of the form: see `forms`.

    Raises UserError for options that do not go together.
    """

    bias = "l2"
    lr_on = "step"  # or "gradient": a changing lr then also weighs what momentum remembers

    # The form as printed
    printed_gates: Mapping[str, Gate] = {}
    printed_lag = LAG  # each window gate
    printed_maps = MAPS  # map -> its class
    printed_slope = 2.0  # of the L2 loss, in errors: 2 for |M(k) - v|^2, 1 where the paper prints its half
    weighs_newest = False  # whether a window of 1 has a gate too; longer ones have one for each token
    forms: Mapping[str, tuple[Any, Any]] = {  # option -> its value where none is given: in the safe form, as printed
        "bounded": (True, False),
        "most_momentum": (MOST_MOMENTUM, 1.0),
    }

    def __init__(
        self, d_model: int, n_heads: int, head_dim: int, *, map: str = "matrix", expansion: int = 1,
        features: nn.Module | None = None, omega_window: int = 1, window_counts: str = "all", chunk_size: int = 1,
        muon: str = "none", muon_every: int = 1, bounded: bool | None = None, most_momentum: float | None = None,
        forgetting: bool = True, printed: bool = False,
    ):  # fmt: skip
        bounded = self.chosen("bounded", bounded, printed)
        most_momentum = self.chosen("most_momentum", most_momentum, printed)
        _check(
            map, muon, window_counts, most_momentum, printed=printed, bounded=bounded, expansion=expansion,
            omega_window=omega_window, chunk_size=chunk_size, muon_every=muon_every,
        )  # fmt: skip
        sums = map == "matrix" and self.bias == "dot"  # the gradient does not depend on the memory: no anchor
        if chunk_size > 1 and (sums or type(self).step is not InnerOptimizer.step):
            why = "its gradient is the same wherever it is taken" if sums else "its step is not the family's"
            raise UserError(f"chunk_size is {chunk_size}, which this memory does not have: {why}. Leave it at 1.")
        left_out = ({"momentum"} if not most_momentum else set()) | (set() if forgetting else {"forget"})
        weighed = range(omega_window) if self.weighs_newest or omega_window > 1 else range(0)
        if printed:
            gates = {f"lag{j}": self.printed_lag for j in weighed} | {"write": ALWAYS, **self.printed_gates}
        else:
            gates = {f"lag{j}": LAG_BIAS for j in weighed if j} | dict(self.gates)
        gates = {name: gate for name, gate in gates.items() if name not in left_out}
        super().__init__(d_model, n_heads, head_dim, omega_window=omega_window, gates=gates)
        self.printed = printed
        self.counts_written = window_counts == "written"
        self.most_momentum = most_momentum
        if features is not None:
            self.features = features
        self.chunk_size = chunk_size
        self.rule = Rule(
            (self.printed_maps if printed else MAPS)[map],
            bias=self.bias,
            chunk_size=chunk_size,
            orthogonalise=MUON_PRINTED[muon] if printed else MUON[muon],
            every=muon_every,
            bounded=bounded and not sums,
        )
        self.linear = map == "matrix" and muon == "none" and "momentum" not in self.gates
        self.together = TOGETHER if self.linear else 1
        self.dense = DENSE if self.linear else ABREAST if muon == "none" else ABREAST_MUON
        width = getattr(self.features, "width", head_dim)
        self.shapes = self.rule.map.shapes(width, head_dim, expansion * head_dim)
        for name, (rows, columns) in self.shapes.items():
            if name != "M":  # a matrix starts empty, an MLP where training puts it
                start = torch.zeros if name == "W1" else torch.randn
                scale = rows**-0.5 if printed else 1.5  # as printed, no step is divided by what the size of W does
                self.register_parameter(name.lower(), nn.Parameter(scale * start(n_heads, columns, rows)))

    @classmethod
    def chosen(cls, option: str, given: Any, printed: bool) -> Any:
        """The value of an option: as given, or the form's default for None."""
        return cls.forms[option][printed] if given is None else given

    def init_state(self, batch: int) -> State:
        state = {}
        for name in self.rule.map.layers:
            learnt = getattr(self, name.lower(), None)
            start = self.query.weight.new_zeros(self.n_heads, *self.shapes[name]) if learnt is None else learnt.mT
            state[name] = start.expand(batch, *start.shape).contiguous()
        if "momentum" in self.gates:
            state |= {surprise_of(name): torch.zeros_like(w) for name, w in state.items()}
        return state

    def terms(self, gates: dict[str, Tensor]) -> Gates:
        """The kernels' gates [..] of this row's."""
        one = torch.ones_like(gates["write"])
        lr = gates.get("lr", one)
        if self.printed:
            lags = [gates[f"lag{j}"] for j in range(self.omega_window)] if "lag0" in gates else [one]
            window = torch.stack(lags, -1) * (self.printed_slope if self.bias == "l2" else 1.0)
        else:
            window = window_weights(gates, self.omega_window)
        if self.lr_on == "gradient":
            window, lr = window * lr[..., None], one
        retention = 1 - gates["forget"] if "forget" in gates else one
        momentum = gates["momentum"].clamp(max=self.most_momentum) if "momentum" in gates else None
        if self.rule.bounded and self.most_momentum > MOST_MOMENTUM and momentum is not None:
            window = window * (2 * (1 - momentum)).clamp(max=1)[..., None]
        return Gates(gates["write"], retention, lr, window, momentum)

    def step(self, state: State, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> State:
        terms = self.terms(gates)
        window = terms.window.flip(-1)[..., None]  # oldest first, as k and v

        def error(predicted: Tensor, size) -> Tensor:
            scaled = window / size()[..., None] if self.rule.bounded else window
            return scaled * self.rule.error(predicted, v)

        products = self.rule.map.products(k, state, error)
        new = {}
        for name, (x, e) in products.items():
            surprise = x.mT @ e
            if terms.momentum is not None:
                surprise = surprise + terms.momentum[..., None, None] * state[surprise_of(name)]
                new[surprise_of(name)] = surprise
            step = surprise if self.rule.orthogonalise is None else self.rule.orthogonalise(surprise)
            new[name] = terms.retention[..., None, None] * state[name] - terms.lr[..., None, None] * step
        return new

    def read(self, state: State, q: Tensor) -> Tensor:
        return self.rule.map.read(q, lambda name, z: through(z, state[name]))

    def read_flops(self) -> int:
        with torch.device("meta"):
            return 2 * sum(x.numel() for name, x in self.init_state(1).items() if name in self.rule.map.layers)

    # Dense blocks ---------------------------------------------------------------------------------

    @property
    def kernel(self) -> str:
        if self.chunk_size > 1:
            return "anchored"
        return "events, omega" if self.linear and self.bias == "l2" else "events, anchored"

    def has_closed_form(self) -> bool:
        return self.chunk_size == 1

    def write_chunk(self, state, q, k, v, gates):
        """A triangular solve or a sum where the memory is linear; else token after token, all rows abreast."""
        if not self.linear:
            return self._write_online(state, q, k, v, gates)
        terms = self.terms(gates)
        if self.bias == "dot":
            rule = replace(self.rule, chunk_size=64)  # a knob of speed alone
            return chunk.anchored(rule, q, k, v, terms, state)
        size = self.rule.map.size(k, state) if self.rule.bounded else torch.ones_like(k[..., 0])
        size = size.unfold(1, self.omega_window, 1).flip(-1)  # [B, T, H, W]
        y, M = omega(
            q,
            k,
            v,
            beta=(terms.write * terms.lr)[..., None] * terms.window / size,
            retention=1 - terms.write * (1 - terms.retention),
            state=state["M"],
            chunk_size=max(4, 64 // self.omega_window),
        )
        return y, {"M": M}

    def _write_online(self, state, q, k, v, gates):
        """Token after token, all rows abreast; every token's weights are kept until all have read theirs."""
        batch, _, heads = gates["write"].shape
        k, v = (x.unfold(1, self.omega_window, 1).permute(1, 0, 2, 4, 3).flatten(1, 2) for x in (k, v))  # [T, X, W, .]
        gates = {name: gate.transpose(0, 1).flatten(1, 2) for name, gate in gates.items()}
        state = {name: x.flatten(0, 1) for name, x in state.items()}
        versions, state = online(self.rule, k, v, self.terms(gates), state)
        state = {name: x.unflatten(0, (batch, heads)) for name, x in state.items()}
        if q is None:
            return None, state
        q = F.pad(q.transpose(0, 1).flatten(1, 2), (0, 0, 0, 0, 1, 0))  # no token reads the first version
        y = self.read(versions, q[:, :, None])[1:, :, 0]
        return y.unflatten(1, (batch, heads)).transpose(0, 1), state

    def _write_events(self, state, k, v, gates, active):
        if self.has_closed_form() and type(self).step is InnerOptimizer.step:
            return online(self.rule, k, v, self.terms(gates), state, active)
        return super()._write_events(state, k, v, gates, active)

    # Streaming ------------------------------------------------------------------------------------

    def _sparse(self, state, q, write, part):
        if not self.counts_written:
            return super()._sparse(state, q, write, part)
        halo = self.omega_window - 1
        written = torch.cat([state["halo_write"].to(write.dtype), write], 1)

        def counted(start, stop):
            k, v, gates = part(start, stop)
            lags = {f"lag{j}": gates[f"lag{j}"] * written[:, halo - j + start :][:, : stop - start]
                    for j in range(1, halo + 1)}  # fmt: skip
            return k, v, {**gates, **lags}

        memory = {name: x for name, x in state.items() if name != "halo_write"}
        y, memory = super()._sparse(memory, q, write, counted)
        return y, {**memory, "halo_write": written[:, -halo:].clone()}

    def start(self, batch: int) -> State:
        if self.chunk_size == 1:
            state = super().start(batch)
            if self.counts_written:  # write gates of the window's older tokens, whose inputs are the halo
                state["halo_write"] = self.query.weight.new_zeros(batch, self.omega_window - 1, self.n_heads)
            return state
        kept = self.omega_window - 1 + self.chunk_size - 1  # the halo and the open chunk
        return {
            **self.init_state(batch),
            "tail": self.query.weight.new_zeros(batch, kept, self.query.in_features),
            "open": torch.zeros(batch, dtype=torch.int64, device=self.query.weight.device),
        }

    def forward(
        self, x: Tensor, state: State | None = None, *, output: bool = True, screen: Tensor | None = None
    ) -> tuple[Tensor, State]:
        if self.chunk_size == 1:
            return super().forward(x, state, output=output, screen=screen)
        if screen is not None:  # decoder.Config says so to a user
            raise ValueError("an open chunk is read again, and what its tokens were screened with is not kept")
        state = dict(self.start(x.shape[0]) if state is None else state)
        tail, is_open = state.pop("tail"), state.pop("open")
        pending = int(is_open[0])  # tokens of the open chunk: read again, from their anchor
        halo = self.omega_window - 1
        seen = torch.cat([tail[:, tail.shape[1] - halo - pending :].to(x.dtype), x], 1)
        gates = self._gates(seen[:, halo:])
        self.written = gates["write"][:, pending:].mean(-1)
        q = self._queries(seen[:, halo:]) if output else None
        y, state = self._chunks(state, seen, q, gates)
        state["tail"] = torch.cat([tail.to(x.dtype), x], 1)[:, -tail.shape[1] :].clone()  # lets the block go
        state["open"] = torch.full_like(is_open, (pending + x.shape[1]) % self.chunk_size)
        return (self._output(y[:, pending:], x) if output else x), state

    def _chunks(self, state: State, seen: Tensor, q: Tensor | None, gates: dict[str, Tensor]):
        """From an anchor on: chunks without an open gate are only read. The state returned is the last anchor."""
        size, length = self.chunk_size, gates["write"].shape[1]
        busy = F.pad(gates["write"].detach().amax((0, 2)), (0, -length % size)).unflatten(0, (-1, size)).amax(1) > 0
        busy, outputs = busy.tolist(), []
        for (is_busy, whole), chunks in groupby(range(len(busy)), lambda i: (busy[i], (i + 1) * size <= length)):
            chunks = list(chunks)
            start, stop = chunks[0] * size, min((chunks[-1] + 1) * size, length)
            here = None if q is None else q[:, start:stop]
            if is_busy and (whole or q is not None):
                k, v = self._pairs(seen[:, start : stop + self.omega_window - 1])
                part = self.terms({name: gate[:, start:stop] for name, gate in gates.items()})
                y, after = self._anchored(k).anchored(self.rule, here, k, v, part, state)
                state = after if whole else state
                outputs.append(y)
            elif q is not None:
                outputs.append(self._read(state, here))
        return (None if q is None else torch.cat(outputs, 1)), state

    def _anchored(self, k: Tensor):
        """The module that computes chunks here."""
        if k.device.type == "cpu" and mlp.fits(self.rule) is None:
            return mlp
        hidden = next(iter(self.shapes.values()))[0]
        return dispatch.form(
            "anchored", k, rule=self.rule, features=k.shape[-1], width=self.head_dim, hidden=hidden,
            window=self.omega_window, dtype=k.dtype,
        )  # fmt: skip


def window_weights(gates: dict[str, Tensor], omega_window: int) -> Tensor:
    """Normalised window gates [..., W], newest token first (lag 0), sum 1; gates "lag1", .. as they count."""
    newest = torch.ones_like(gates["write"])
    if omega_window == 1:
        return newest[..., None]
    weights = torch.stack([newest] + [gates[f"lag{j}"] for j in range(1, omega_window)], -1)
    return weights / weights.sum(-1, keepdim=True)


def _check(
    map: str, muon: str, window_counts: str, most_momentum: float, *, printed: bool, bounded: bool, expansion: int,
    omega_window: int, chunk_size: int, muon_every: int,
) -> None:  # fmt: skip
    """Raise UserError for an option that is none, and for two that exclude each other."""
    for name, value, known in (("map", map, MAPS), ("muon", muon, MUON), ("window_counts", window_counts, COUNTS)):
        if value not in known:
            raise unknown(name, value, known)
    sizes = {
        "expansion": expansion, "omega_window": omega_window, "chunk_size": chunk_size, "muon_every": muon_every,
    }  # fmt: skip
    for name, value in sizes.items():
        if value < 1:
            raise UserError(f"{name} is {value}. Give 1 or more.")
    if not 0 <= most_momentum <= 1:
        raise UserError(f"most_momentum is {most_momentum}. Give 0, for no momentum, to 1.")
    if window_counts == "written" and (omega_window == 1 or chunk_size > 1):
        raise UserError(
            f"window_counts is 'written', with omega_window {omega_window} and chunk_size {chunk_size}: it weighs "
            f"the older tokens of a window by write gates that an open chunk does not keep. Give omega_window 2 or "
            f"more and chunk_size 1, or window_counts 'all'."
        )
    if printed and (bounded or window_counts == "written"):
        why = "bounded is true" if bounded else "window_counts is 'written'"
        raise UserError(
            f"printed is true, and {why}: as printed, no step is bounded and every token is written. "
            "Leave one of the two out."
        )
    if muon_every > 1 and not most_momentum:
        raise UserError(
            f"muon_every is {muon_every} and most_momentum 0: what is orthogonalised every so many tokens is the "
            f"momentum. Give muon_every 1, or a most_momentum above 0."
        )
    if chunk_size % muon_every or (muon_every > 1 and muon == "none"):
        raise UserError(
            f"muon_every is {muon_every}, with chunk_size {chunk_size} and muon '{muon}': orthogonalising happens "
            f"inside a chunk. Give a chunk_size that is a multiple of muon_every, and muon 'sized' or 'plain'."
        )


MUON = {"none": None, "sized": Step(sized=True), "plain": Step()}
MUON_PRINTED = {name: step and replace(step, floor=1e-7) for name, step in MUON.items()}  # the floor of Muon's authors
