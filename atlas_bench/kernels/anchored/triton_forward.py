"""The forward kernels of triton.py, and what they share with the backward: a tile read, a tile written, silu.

`walk` is one program per row and head; the fp32 state stays in global memory, where a cache has it, and streams by in
tiles of the hidden width, twice a chunk: once for the errors, once for the new state, which is written as the next
chunk's anchor:

    tile by tile   a = k W2,  h = silu(a),  r += h W1,  size += ..        then   e = r / size
    tile by tile   a again,  d = (e W1^T) silu'(a),  Z2' = mix Z2 + (write k)^T d,  Z1'^T = mix Z1^T + (write e)^T h

`outputs` is one program per chunk, row and head, and takes the tiles once: h and d again, from e. Storing them would
cost 4 R L numbers of traffic beside the 2 J P L of the anchors that it must read anyway.

What one product makes is never transposed for the next: a transposed tile (.._t) is loaded as such, and where no load
has it the product is formed transposed. R: the chunk's tokens with the halo; B.: sizes padded to powers of two.
"""

from __future__ import annotations

import triton
import triton.language as tl

from atlas_bench.kernels.anchored.maps import FLOOR

SMALLEST = tl.constexpr(FLOOR)


@triton.jit
def silu(a):
    """silu(a), its derivative and the derivative of that."""
    gate = tl.sigmoid(a)
    h = a * gate
    slope = gate + h * (1 - gate)
    return h, slope, (1 - gate) * (gate + slope - gate * h)


@triton.jit
def rest(first, L: tl.constexpr, BL: tl.constexpr):
    """Hidden units from `first` on, or a whole tile where all tiles are whole: no mask is then left."""
    ragged: tl.constexpr = (L % BL + BL - 1) // BL
    return BL + (L - BL - first) * ragged


@triton.jit
def load(start, rows, columns, height, width, step: tl.constexpr):
    """rows x columns of a matrix [height, width] whose rows are `step` apart; where `rows` lies, transposed.

    Where a tile begins belongs in `start`: what is added to it is then known when compiling, and takes no registers.
    """
    return tl.load(start + (rows * step + columns), mask=(rows < height) & (columns < width), other=0.0)


@triton.jit
def store(x, start, rows, columns, height, width, step: tl.constexpr):
    """The same, to write."""
    tl.store(start + (rows * step + columns), x, mask=(rows < height) & (columns < width))


@triton.jit
def walk(
    k, v, mix, write, Z2, Z1, E, chunks,
    R: tl.constexpr, P: tl.constexpr, V: tl.constexpr, L: tl.constexpr, J: tl.constexpr,
    BR: tl.constexpr, BP: tl.constexpr, BV: tl.constexpr, BL: tl.constexpr,
    L2: tl.constexpr, BOUNDED: tl.constexpr, COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Z2 [N+1, X, J, P, L] and Z1 [N+1, X, J, L, V] from their first, and E [N, X, R, V]."""
    row, rows = tl.program_id(0), tl.num_programs(0)
    r, p, o, t = tl.arange(0, BR), tl.arange(0, BP), tl.arange(0, BV), tl.arange(0, BL)
    for n in tl.range(0, chunks, num_stages=1):  # never prefetched: a chunk reads what the last one wrote
        here = (n * rows + row).to(tl.int64)
        there = here + rows
        k_, v_, E_ = k + here * (R * P), v + here * (R * V), E + here * (R * V)
        Z2_, Z2_new = Z2 + here * (J * P * L), Z2 + there * (J * P * L)
        Z1_, Z1_new = Z1 + here * (J * L * V), Z1 + there * (J * L * V)
        keys = load(k_, r[:, None], p[None, :], R, P, P)
        squares = tl.sum(keys.to(tl.float32) * keys.to(tl.float32), 1)
        error = -load(v_, r[:, None], o[None, :], R, V, V).to(tl.float32)
        size = tl.zeros([BR], tl.float32) + SMALLEST
        if L2:
            error += load(k_, r[:, None], o[None, :], R, V, P).to(tl.float32)
        if L2 or BOUNDED:
            for first in range(0, L, BL):
                left = rest(first, L, BL)
                W2 = load(Z2_ + first, p[:, None], t[None, :], P, left, L).to(COMPUTE)
                W1 = load(Z1_ + first * V, t[:, None], o[None, :], left, V, V)
                h, slope, _ = silu(tl.dot(keys, W2, input_precision=PRECISION))
                if L2:
                    error = tl.dot(h.to(COMPUTE), W1.to(COMPUTE), error, input_precision=PRECISION)
                if BOUNDED:
                    reach = tl.sum(W1 * W1, 1)
                    size += tl.sum(h * h + slope * slope * reach[None, :] * squares[:, None], 1)
        if BOUNDED:
            error = error / size[:, None]
        store(error.to(COMPUTE), E_, r[:, None], o[None, :], R, V, V)
        tl.debug_barrier()  # each thread now reads what others stored
        e, e_t = load(E_, r[:, None], o[None, :], R, V, V), load(E_, r[None, :], o[:, None], R, V, V)
        keys_t = load(k_, r[None, :], p[:, None], R, P, P)
        share = tl.load(write + (here * R + r) * J, mask=r < R, other=0.0)
        kept = tl.load(mix + here * (J * J))
        down, up = (keys_t * share[None, :]).to(COMPUTE), (e_t * share[None, :]).to(COMPUTE)
        if J == 2:
            share = tl.load(write + (here * R + r) * J + 1, mask=r < R, other=0.0)
            from_s, kept_s = tl.load(mix + here * (J * J) + 1), tl.load(mix + here * (J * J) + 3)
            down_s, up_s = (keys_t * share[None, :]).to(COMPUTE), (e_t * share[None, :]).to(COMPUTE)
        for first in range(0, L, BL):
            left = rest(first, L, BL)
            W2 = load(Z2_ + first, p[:, None], t[None, :], P, left, L)
            W1_t = load(Z1_ + first * V, t[None, :], o[:, None], left, V, V)
            h, slope, _ = silu(tl.dot(keys, W2.to(COMPUTE), input_precision=PRECISION))
            d = (slope * tl.dot(e, W1_t.to(COMPUTE), input_precision=PRECISION)).to(COMPUTE)
            h = h.to(COMPUTE)
            W2, W1_t = kept * W2, kept * W1_t
            if J == 2:
                S2 = load(Z2_ + P * L + first, p[:, None], t[None, :], P, left, L)
                W2 += from_s * S2
                S2 = tl.dot(down_s, d, kept_s * S2, input_precision=PRECISION)
                store(S2, Z2_new + P * L + first, p[:, None], t[None, :], P, left, L)
                S1_t = load(Z1_ + L * V + first * V, t[None, :], o[:, None], left, V, V)
                W1_t += from_s * S1_t
                S1_t = tl.dot(up_s, h, kept_s * S1_t, input_precision=PRECISION)
                store(S1_t, Z1_new + L * V + first * V, t[None, :], o[:, None], left, V, V)
            W2 = tl.dot(down, d, W2, input_precision=PRECISION)
            store(W2, Z2_new + first, p[:, None], t[None, :], P, left, L)
            W1_t = tl.dot(up, h, W1_t, input_precision=PRECISION)
            store(W1_t, Z1_new + first * V, t[None, :], o[:, None], left, V, V)
        tl.debug_barrier()


@triton.jit
def outputs(
    q, k, read, inside, E, Z2, Z1, y,
    C: tl.constexpr, R: tl.constexpr, P: tl.constexpr, V: tl.constexpr, L: tl.constexpr, J: tl.constexpr,
    BC: tl.constexpr, BR: tl.constexpr, BP: tl.constexpr, BV: tl.constexpr, BL: tl.constexpr,
    COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """y [N, X, C, V] from the anchors and their errors E."""
    here = tl.program_id(0).to(tl.int64)
    q, k, E, y = q + here * (C * P), k + here * (R * P), E + here * (R * V), y + here * (C * V)
    Z2, Z1 = Z2 + here * (J * P * L), Z1 + here * (J * L * V)
    c, r, p, o, t = tl.arange(0, BC), tl.arange(0, BR), tl.arange(0, BP), tl.arange(0, BV), tl.arange(0, BL)
    queries = load(q, c[:, None], p[None, :], C, P, P)
    keys, keys_t = load(k, r[:, None], p[None, :], R, P, P), load(k, r[None, :], p[:, None], R, P, P)
    e = load(E, r[:, None], o[None, :], R, V, V)
    kept = tl.load(read + (here * C + c) * J, mask=c < C, other=0.0)
    if J == 2:
        from_s = tl.load(read + (here * C + c) * J + 1, mask=c < C, other=0.0)
    share = load(inside + here * (C * R), c[:, None], r[None, :], C, R, R)
    lower = (share * tl.dot(queries, keys_t, input_precision=PRECISION)).to(COMPUTE)
    upper = tl.zeros([BC, BR], tl.float32)
    result = load(q, c[:, None], o[None, :], C, V, P).to(tl.float32)
    for first in range(0, L, BL):
        left = rest(first, L, BL)
        W2 = load(Z2 + first, p[:, None], t[None, :], P, left, L).to(COMPUTE)
        W1_t = load(Z1 + first * V, t[None, :], o[:, None], left, V, V).to(COMPUTE)
        _, slope, _ = silu(tl.dot(keys, W2, input_precision=PRECISION))
        d = slope * tl.dot(e, W1_t, input_precision=PRECISION)
        a = kept[:, None] * tl.dot(queries, W2, input_precision=PRECISION)
        if J == 2:
            S2 = load(Z2 + P * L + first, p[:, None], t[None, :], P, left, L).to(COMPUTE)
            a += from_s[:, None] * tl.dot(queries, S2, input_precision=PRECISION)
        hq, _, _ = silu(tl.dot(lower, d.to(COMPUTE), a, input_precision=PRECISION))
        W2_t = load(Z2 + first, p[None, :], t[:, None], P, left, L).to(COMPUTE)
        h_t, _, _ = silu(tl.dot(W2_t, keys_t, input_precision=PRECISION))
        upper = tl.dot(hq.to(COMPUTE), h_t.to(COMPUTE), upper, input_precision=PRECISION)
        W1 = load(Z1 + first * V, t[:, None], o[None, :], left, V, V).to(COMPUTE)
        result = tl.dot((hq * kept[:, None]).to(COMPUTE), W1, result, input_precision=PRECISION)
        if J == 2:
            S1 = load(Z1 + L * V + first * V, t[:, None], o[None, :], left, V, V).to(COMPUTE)
            result = tl.dot((hq * from_s[:, None]).to(COMPUTE), S1, result, input_precision=PRECISION)
    result = tl.dot((share * upper).to(COMPUTE), e, result, input_precision=PRECISION)
    store(result.to(COMPUTE), y, c[:, None], o[None, :], C, V, V)
