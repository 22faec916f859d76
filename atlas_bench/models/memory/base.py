"""What every memory shares: projections, gates that close exactly, streaming, and the event loop.

A memory is an inner optimiser that fits a map M to the stream of (key, value) pairs. A variant states

    init_state(batch)                 the tensors that survive between tokens, each [B, H, ...]
    step(state, k, v, gates)          one token's update, as its paper prints it
    read(state, q)                    y = M(q)

in plain torch, and that is a complete memory. The base puts one *write gate* w in front of it:

    state_t = state_{t-1} + w_t (step(state_{t-1}) - state_{t-1}),     w_t = hard_sigmoid(.) in [0, 1]

At w = 1 this is the variant's rule; at w = 0 nothing whatever changes, retention included. (The step of an
open token with omega_window c fits the last c tokens, and closed ones may be among them.) A sigmoid gate never
closes, and a leak of 1e-6 per token ends every fact within ten million; a hard gate does.
Between open tokens ("events") the memory is constant, so a closed stretch of any length costs one
matrix product per layer, and the per-token rule needs no approximation to be fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import groupby
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atlas_bench.errors import UserError
from atlas_bench.kernels.cpu import columns, project

State = dict[str, Tensor]

EVENT_BLOCK = 64  # tokens looked at together for open gates; changes no result
DENSE = 8  # events in one block from which write_chunk() is cheaper than the event loop
TOGETHER = 64  # dense blocks in a row given at once to a closed form that keeps the memory once a chunk only


class Gate(NamedTuple):
    """How a gate is computed from a token x: form(W x + b).

    bias  initial value of b, the same for all channels
    per   "head": one number per head, [..]; "key" or "value": one per channel of a key or a value, [.., K] or
          [.., V]; a whole number n: n per head, [.., n]
    form  what makes the gate from its logit; a hard sigmoid is exactly 0 for logits below -3, and 1 above 3
    """

    bias: float
    per: str | int = "head"
    form: Callable[[Tensor], Tensor] = F.hardsigmoid

    def shape(self, n_heads: int, head_dim: int) -> tuple[int, ...]:
        """(H,), or (H, channels)."""
        if self.per == "head":
            return (n_heads,)
        return n_heads, self.per if isinstance(self.per, int) else head_dim


ALWAYS = Gate(0.0, form=torch.ones_like)  # as "write": every token is written, and nothing is learnt of it


class Memory(nn.Module):
    """Base of all memories: [B, T, D] in, [B, T, D] and the new state out.

    d_model       width of the residual stream
    n_heads       independent memories side by side
    head_dim      width of a key and of a value
    omega_window  tokens whose errors one step descends (1: the newest alone)
    gates         of this instance, where they are not the class's own
    constants     likewise

    Raises UserError for a write gate that is not one number per head.
    """

    # name -> Gate, or only the initial bias of a hard sigmoid per head: 0 is half open, -3 shut, 3 fully open
    gates: Mapping[str, float | Gate] = {"write": -0.6}
    constants: Mapping[str, Gate] = {}  # learnt like gates and found among them, but without W: the same at every token
    sees_input = False  # whether gates["input"] is x [.., D], for rules that need more of a token than its gates
    unit_keys = True  # whether keys and queries are scaled to length 1
    chunk_size = 1  # tokens between two anchors of the inner gradient; see inner_optimizer.py
    counts_written = False  # whether an older token of a window weighs as much as its own write gate lets it
    affine = False  # whether tokens take M [.., K, V >= K] to A M + B, A and B of them alone, and change nothing else
    dense = DENSE
    together = 1  # dense blocks in a row that write_chunk() takes at once, at most: more where it stores little
    kernel = "events"  # what computes it, as a record says

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        head_dim: int,
        *,
        omega_window: int = 1,
        gates: Mapping[str, float | Gate] | None = None,
        constants: Mapping[str, Gate] | None = None,
    ):
        super().__init__()
        self.gates = {
            name: gate if isinstance(gate, Gate) else Gate(gate)
            for name, gate in (self.gates if gates is None else gates).items()
        }
        self.constants = dict(self.constants if constants is None else constants)
        if "write" in self.gates and self.gates["write"].per != "head":
            raise UserError(
                f"the write gate is per {self.gates['write'].per!r}. It decides whether a token is written at all: "
                f"leave it per head, and give the step a gate of its own, {{'lr': Gate(0.0, per=...)}}."
            )
        self.n_heads, self.head_dim, self.omega_window = n_heads, head_dim, omega_window
        inner = n_heads * head_dim
        self.query = nn.Linear(d_model, inner, bias=False)
        self.key = nn.Linear(d_model, inner, bias=False)
        with torch.no_grad():  # a key met again finds what was stored under it, before anything is learnt
            self.query.weight.copy_(self.key.weight)
        self.value = nn.Linear(d_model, inner, bias=False)
        shapes = {name: gate.shape(n_heads, head_dim) for name, gate in {**self.gates, **self.constants}.items()}
        learnt = [name for name, gate in self.gates.items() if gate != ALWAYS]
        self.gate = nn.ModuleDict({name: nn.Linear(d_model, math.prod(shapes[name])) for name in learnt})
        for name, linear in self.gate.items():
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.constant_(linear.bias, self.gates[name].bias)
        self.constant = nn.ParameterDict(
            {name: nn.Parameter(torch.full(shapes[name], gate.bias)) for name, gate in self.constants.items()}
        )
        self.features: nn.Module = nn.Identity()  # phi of keys and queries, [..., K] -> [..., P]
        self.out = nn.Linear(inner, d_model, bias=False)
        nn.init.zeros_(self.out.weight)
        self.around: Any = None  # Surroundings, where a block has any: convolutions, norm and gate of the output
        self.gate_noise = 0.0  # standard deviation added to the write gate's logit; for a trainer to set,
        self.draw: Callable[[Tensor], Tensor] = torch.randn_like  # and where it comes from
        self.written = torch.zeros(1, 1)  # [B, T], mean write gate of the last call's tokens: what is paid for writing
        self.open_rate = torch.zeros(())  # share of its tokens that any head wrote, where no gradient is wanted

    # What a variant states ------------------------------------------------------------------------

    def init_state(self, batch: int) -> State:
        """The empty memory: tensors [B, H, ...]."""
        raise NotImplementedError

    def step(self, state: State, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> State:
        """The published update for one token: state [.., .], k, v [.., W, .] oldest first, gates [..] or [.., n]."""
        raise NotImplementedError

    def write(self, state: State, k: Tensor, v: Tensor, gates: dict[str, Tensor]) -> State:
        """The gated update: as much of `step` as the write gate lets through."""
        new = self.step(state, k, v, gates)
        return {name: old + like(gates["write"], old) * (new[name] - old) for name, old in state.items()}

    def read(self, state: State, q: Tensor) -> Tensor:
        """M(q): q [..., T, K] -> [..., T, V] for states [..., .]."""
        raise NotImplementedError

    def write_chunk(
        self, state: State, q: Tensor | None, k: Tensor, v: Tensor, gates: dict[str, Tensor]
    ) -> tuple[Tensor | None, State]:
        """Optional closed form over T tokens, equal to `write` and `read` token by token.

        q [B, T, H, K] (None: no outputs wanted), k and v [B, W-1+T, H, .], gates [B, T, H] or [B, T, H, n].
        """
        raise NotImplementedError

    def has_closed_form(self) -> bool:
        """Whether write_chunk() may be called."""
        return type(self).write_chunk is not Memory.write_chunk

    def read_flops(self) -> int:
        """Matrix-product operations of one token's read, all heads: 2 for each number that M is made of."""
        return 2 * sum(x.numel() for x in self.init_state(1).values())

    # Streaming ------------------------------------------------------------------------------------

    @property
    def convolved(self) -> int:
        """Tokens before a token that its query, key and value are made of."""
        return 0 if self.around is None else self.around.sees

    @property
    def sees(self) -> int:
        """Tokens before a token that its update is made of."""
        return self.omega_window - 1 + self.convolved

    def start(self, batch: int) -> State:
        """State at the beginning of a stream."""
        state = self.init_state(batch)
        if self.sees:
            state["halo"] = self.query.weight.new_zeros(batch, self.sees, self.query.in_features)
        return state

    def __call__(self, x: Tensor, state: State | None = None, **options: Any) -> tuple[Tensor, State]:
        """forward(), except for an empty segment, T = 0: no outputs, and the state unchanged. No forward() sees one.

        Memories compute in their weights' precision where the rest of a model is autocast: small steps add up in them.
        """
        if not x.shape[1]:
            return x, self.start(x.shape[0]) if state is None else dict(state)
        with _full_precision(x):
            return super().__call__(x.to(self.query.weight.dtype), state, **options)

    def forward(
        self, x: Tensor, state: State | None = None, *, output: bool = True, screen: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Reads and writes T tokens: [B, T, D] -> ([B, T, D], state). Any split of T gives the same.

        output  False skips the reads, where only the state is wanted
        screen  [B, T] in [0, 1], a factor of all write gates
        """
        state = dict(self.start(x.shape[0]) if state is None else state)
        halo, length = state.pop("halo", None), x.shape[1]
        write = self._write_gate(x, screen)
        self.written = write.mean(-1)

        def part(start: int, stop: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
            k, v = self._pairs(_seen(halo, x, start, stop))
            return k, v, {"write": write[:, start:stop], **self._other_gates(x[:, start:stop])}

        past = None if halo is None else halo[:, self.omega_window - 1 :]  # of what queries are made of
        q = self._queries(_seen(past, x, 0, length)) if output else None
        y, state = self._sparse(state, q, write, part)
        if halo is not None:
            state["halo"] = _seen(halo, x, length, length).clone()  # a view would keep the whole block alive
        return (self._output(y, x) if output else x), state

    @property
    def closes(self) -> bool:
        """Whether its write gate can be 0, so that a token changes nothing."""
        return self.gates.get("write", ALWAYS) != ALWAYS

    @property
    def write_rate(self) -> Tensor:
        """Mean write gate of the last call."""
        return self.written.mean()

    def retrieve(self, x: Tensor, state: State) -> Tensor:
        """Reads a state and writes nothing: [B, T, D] -> [B, T, D]. Not with short convolutions."""
        with _full_precision(x):
            x = x.to(self.query.weight.dtype)
            return self._output(self._read(state, self._queries(x)), x)

    def _gates(self, x: Tensor, screen: Tensor | None = None) -> dict[str, Tensor]:
        """Gates and constants [B, T, H] or [B, T, H, n] of tokens x [B, T, D]."""
        return {"write": self._write_gate(x, screen), **self._other_gates(x)}

    def _write_gate(self, x: Tensor, screen: Tensor | None = None) -> Tensor:
        """Write gates [B, T, H] of tokens x [B, T, D]."""
        # ALWAYS, or what was put in its place, has no layer
        logit = self.gate["write"](x) if "write" in self.gate else x.new_zeros(*x.shape[:2], self.n_heads)
        if self.gate_noise and "write" in self.gate:
            logit = logit + self.gate_noise * self.draw(logit)
        write = self.gates["write"].form(logit)
        if screen is not None:
            write = write * screen[..., None]
        if not torch.is_grad_enabled():
            self.open_rate = (write > 0).any(-1).float().mean()
        return write

    def _other_gates(self, x: Tensor) -> dict[str, Tensor]:
        """Gates but the write gate, and constants, [B, T, H] or [B, T, H, n] of tokens x [B, T, D]."""
        layers = {name: layer for name, layer in self.gate.items() if name != "write"}
        logits = {}
        if layers:
            parts = project(x, *layers.values()).split([layer.out_features for layer in layers.values()], -1)
            logits = dict(zip(layers, parts, strict=True))
        gates = {}
        for name, gate in self.gates.items():
            if name == "write":
                continue
            logit = logits[name] if name in logits else x.new_zeros(*x.shape[:2], self.n_heads)
            gates[name] = gate.form(logit if gate.per == "head" else logit.unflatten(-1, (self.n_heads, -1)))
        for name, gate in self.constants.items():
            value = gate.form(self.constant[name])
            gates[name] = value.expand(*x.shape[:2], *value.shape)
        if self.sees_input:
            gates["input"] = x[:, :, None].expand(-1, -1, self.n_heads, -1)
        return gates

    def _address(self, x: Tensor) -> Tensor:
        # heads before tokens: sums over channels of columns() are then fast
        x = x.unflatten(-1, (self.n_heads, self.head_dim)).transpose(1, 2)
        return self.features(unit(x) if self.unit_keys else x).transpose(1, 2)

    def _project(self, name: str, x: Tensor) -> Tensor:
        """The "query", "key" or "value" of tokens x, [B, convolved + T, D] -> [B, T, C]."""
        layer = getattr(self, name)
        y = columns(x, layer) if name == "query" else layer(x)
        return y if self.around is None else self.around.projected(name, y)

    def _queries(self, x: Tensor) -> Tensor:
        return self._address(self._project("query", x))

    def _output(self, y: Tensor, x: Tensor) -> Tensor:
        """Reads y [B, T, H, V] of tokens x as the layer's output [B, T, D]."""
        return self.out(y.flatten(2) if self.around is None else self.around.output(y, x))

    def _pairs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        value = self._project("value", x).unflatten(-1, (self.n_heads, self.head_dim))
        return self._address(self._project("key", x)), value

    def _sparse(self, state, q, write, part):
        """Outputs and the state after tokens with queries q (None: no outputs) and write gates `write`.

        part  first token, end -> keys, values and gates of a stretch of them

        Stretches without an event are read at once; blocks with events token by token (or chunkwise).

        A hard sigmoid is flat where it is 0, so leaving closed tokens out changes no gradient either.
        """
        length = write.shape[1]
        is_open = write.detach() > 0
        events = F.pad(is_open, (0, 0, 0, -length % EVENT_BLOCK)).unflatten(1, (-1, EVENT_BLOCK)).sum(2)
        counts = events.amax((0, 2)).tolist()
        outputs, quiet = [], 0
        share = self.dense / EVENT_BLOCK if self.has_closed_form() else 1.0
        dense = [count > share * min(EVENT_BLOCK, length - i * EVENT_BLOCK) for i, count in enumerate(counts)]
        for start, stop, count in _busy(counts, dense, self.together):
            start, stop = start * EVENT_BLOCK, min(stop * EVENT_BLOCK, length)
            if q is not None and quiet < start:
                outputs.append(self._read(state, q[:, quiet:start]))
            k, v, gates = part(start, stop)
            here = None if q is None else q[:, start:stop]
            if count is None:
                y, state = self.write_chunk(state, here, k, v, gates)
            else:
                y, state = self._events(state, here, k, v, gates, count)
            outputs.append(y)
            quiet = stop
        if q is None:
            return None, state
        if quiet < length:
            outputs.append(self._read(state, q[:, quiet:]))
        return (outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)), state

    def _read(self, state: State, q: Tensor) -> Tensor:
        return self.read(state, q.transpose(1, 2)).transpose(1, 2)

    def _events(self, state, q, k, v, gates, count):
        """The open tokens of a block, `count` at most in a row and head, in order; closed ones cost nothing.

        Rows and heads are one dimension N here, those with most events first, so that event e is a slice.
        """
        gates = {name: gate.transpose(1, 2).flatten(0, 1) for name, gate in gates.items()}  # [N, T]
        batch, length = k.shape[0], gates["write"].shape[1]
        is_open = gates["write"].detach() > 0
        events, rows = is_open.sum(1).sort(descending=True, stable=True)
        is_open = is_open[rows]
        order = is_open * (2 * length) - torch.arange(length, device=rows.device)
        token = order.topk(count, dim=1).indices.T  # [E, N]: open tokens first, oldest first
        window = token[..., None] + torch.arange(self.omega_window, device=rows.device)
        k, v = (x.transpose(1, 2).flatten(0, 1)[rows[:, None], window] for x in (k, v))  # [E, N, W, .]
        gates = {name: gate[rows, token] for name, gate in gates.items()}
        state = {name: x.flatten(0, 1)[rows] for name, x in state.items()}
        active = (events > torch.arange(count, device=rows.device)[:, None]).sum(1).tolist()
        versions, final = self._write_events(state, k, v, gates, active)
        back = rows.argsort()
        final = {name: x[back].unflatten(0, (batch, -1)) for name, x in final.items()}
        if q is None:
            return None, final
        y = self.read(versions, q.transpose(1, 2).flatten(0, 1)[rows])  # [E+1, N, T, V]: all versions, all tokens
        version = is_open.cumsum(1)[None, ..., None].expand(1, *y.shape[1:])
        y = y.gather(0, version)[0][back]
        return y.unflatten(0, (batch, -1)).transpose(1, 2), final

    def _write_events(self, state, k, v, gates, active: list[int]) -> tuple[State, State]:
        """Event after event: the states before and after each [E+1, N, ..], those that read() needs, and the last.

        state [N, ..]; k, v [E, N, W, .] and gates [E, N] or [E, N, n] of the events; event e concerns the first
        active_e rows
        """
        versions = [state]
        for e, n in enumerate(active):
            old = {name: x[:n] for name, x in state.items()}
            new = self.write(old, k[e, :n], v[e, :n], {name: gate[e, :n] for name, gate in gates.items()})
            state = {name: torch.cat([new[name], x[n:]]) if n < len(x) else new[name] for name, x in state.items()}
            versions.append(state)
        return {name: torch.stack([version[name] for version in versions]) for name in state}, state


def _seen(before: Tensor | None, x: Tensor, start: int, stop: int) -> Tensor:
    """Tokens start .. stop-1 of x [B, T, D], and in front of them as many as `before`, which ends where x begins."""
    first = start - (0 if before is None else before.shape[1])
    return x[:, first:stop] if first >= 0 else torch.cat([before[:, first:].to(x.dtype), x[:, :stop]], 1)


def _full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Autocast ends where x is, if it is on there."""
    kind = x.device.type
    casts = kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if casts else nullcontext()


def _busy(counts: list[int], dense: list[bool], together: int) -> Iterator[tuple[int, int, int | None]]:
    """(first, stop, events) of the blocks that have any, one by one; dense ones in a row together, with None."""
    for is_dense, run in groupby(range(len(counts)), lambda i: dense[i]):
        blocks = [i for i in run if counts[i]]
        if is_dense:
            yield from ((i, min(i + together, blocks[-1] + 1), None) for i in blocks[::together])
        else:
            yield from ((i, i + 1, counts[i]) for i in blocks)


def unit(x: Tensor) -> Tensor:
    """x [.., K] scaled to length 1, where it is not shorter than 1e-6."""
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True).clamp_min(1e-12))


def like(gate: Tensor, x: Tensor) -> Tensor:
    """A gate [..] with trailing dimensions of size 1, so that it multiplies x [.., ...]."""
    return gate.reshape(gate.shape + (1,) * (x.dim() - gate.dim()))


def retention(gates: dict[str, Tensor]) -> Tensor:
    """1 - w f: what a step keeps of a matrix memory; 1 where the write gate is closed."""
    return 1 - like(gates["write"], gates["forget"]) * gates["forget"]
