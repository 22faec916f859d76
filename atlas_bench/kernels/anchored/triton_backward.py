"""The backward kernels of triton.py, in the order in which they run; README.md has the formulas.

    upper_back    per chunk, row and head   the outputs' second layer
    lower_back    per chunk, row and head   their first layer
    walk_back     per row and head          the state's gradient from chunk to chunk, the last first; two passes a chunk
    inputs_back   per chunk, row and head   what no earlier chunk waits for

Everything that the tokens make of an anchor is computed again. Data that every tile needs is loaded again for each
tile, since keeping it would fill the registers.
"""

from __future__ import annotations

import triton
import triton.language as tl

from atlas_bench.kernels.anchored.triton_forward import SMALLEST, load, rest, silu, store


@triton.jit
def upper_back(
    q, k, read, scores, dscores, E, Z2, Z1, dy, da, dread, above, dh, dZ1,
    C: tl.constexpr, R: tl.constexpr, P: tl.constexpr, V: tl.constexpr, L: tl.constexpr, J: tl.constexpr,
    BC: tl.constexpr, BR: tl.constexpr, BP: tl.constexpr, BV: tl.constexpr, BL: tl.constexpr,
    COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The outputs' second layer: gradients of a_q [N, X, C, L], of h [N, X, R, L], of Z1, and of read by this layer.

    scores   [N, X, C, R]  inside * q k^T, the first layer's         above  [N, X, C, R]  h_q h^T, found on the way
    dscores  [N, X, C, R]  inside * dy e^T, the second layer's gradient of h_q h^T
    """
    here = tl.program_id(0).to(tl.int64)
    q, k, E, dy = q + here * (C * P), k + here * (R * P), E + here * (R * V), dy + here * (C * V)
    scores, dscores, above = scores + here * (C * R), dscores + here * (C * R), above + here * (C * R)
    da, dh = da + here * (C * L), dh + here * (R * L)
    Z2, Z1, dZ1 = Z2 + here * (J * P * L), Z1 + here * (J * L * V), dZ1 + here * (J * L * V)
    c, r, p, o, t = tl.arange(0, BC), tl.arange(0, BR), tl.arange(0, BP), tl.arange(0, BV), tl.arange(0, BL)
    kept, dkept = tl.load(read + (here * C + c) * J, mask=c < C, other=0.0), tl.zeros([BC], tl.float32)
    if J == 2:
        from_s = tl.load(read + (here * C + c) * J + 1, mask=c < C, other=0.0)
        dfrom_s = tl.zeros([BC], tl.float32)
    upper = tl.zeros([BC, BR], tl.float32)
    for first in range(0, L, BL):
        left = rest(first, L, BL)
        keys, keys_t = load(k, r[:, None], p[None, :], R, P, P), load(k, r[None, :], p[:, None], R, P, P)
        queries, e = load(q, c[:, None], p[None, :], C, P, P), load(E, r[:, None], o[None, :], R, V, V)
        y, y_t = load(dy, c[:, None], o[None, :], C, V, V), load(dy, c[None, :], o[:, None], C, V, V)
        W2 = load(Z2 + first, p[:, None], t[None, :], P, left, L).to(COMPUTE)
        W1_t = load(Z1 + first * V, t[None, :], o[:, None], left, V, V).to(COMPUTE)
        h, slope, _ = silu(tl.dot(keys, W2, input_precision=PRECISION))
        d = slope * tl.dot(e, W1_t, input_precision=PRECISION)
        a = kept[:, None] * tl.dot(queries, W2, input_precision=PRECISION)
        through = tl.dot(y, W1_t, input_precision=PRECISION)
        dhq = kept[:, None] * through
        if J == 2:
            S2 = load(Z2 + P * L + first, p[:, None], t[None, :], P, left, L).to(COMPUTE)
            a += from_s[:, None] * tl.dot(queries, S2, input_precision=PRECISION)
            S1_t = load(Z1 + L * V + first * V, t[None, :], o[:, None], left, V, V).to(COMPUTE)
            through_s = tl.dot(y, S1_t, input_precision=PRECISION)
            dhq += from_s[:, None] * through_s
        share = load(scores, c[:, None], r[None, :], C, R, R)
        hq, slope, _ = silu(tl.dot(share, d.to(COMPUTE), a, input_precision=PRECISION))
        share = load(dscores, c[:, None], r[None, :], C, R, R)
        dhq = tl.dot(share, h.to(COMPUTE), dhq, input_precision=PRECISION)
        store((dhq * slope).to(COMPUTE), da + first, c[:, None], t[None, :], C, left, L)
        dkept += tl.sum(hq * through, 1)
        dW1_t = tl.dot(y_t, (hq * kept[:, None]).to(COMPUTE), input_precision=PRECISION)
        store(dW1_t, dZ1 + first * V, t[None, :], o[:, None], left, V, V)
        if J == 2:
            dfrom_s += tl.sum(hq * through_s, 1)
            dS1_t = tl.dot(y_t, (hq * from_s[:, None]).to(COMPUTE), input_precision=PRECISION)
            store(dS1_t, dZ1 + L * V + first * V, t[None, :], o[:, None], left, V, V)
        hq = hq.to(COMPUTE)
        share_t = load(dscores, c[None, :], r[:, None], C, R, R)
        store(tl.dot(share_t, hq, input_precision=PRECISION), dh + first, r[:, None], t[None, :], R, left, L)
        W2_t = load(Z2 + first, p[None, :], t[:, None], P, left, L).to(COMPUTE)
        h_t, _, _ = silu(tl.dot(W2_t, keys_t, input_precision=PRECISION))
        upper = tl.dot(hq, h_t.to(COMPUTE), upper, input_precision=PRECISION)
    store(upper, above, c[:, None], r[None, :], C, R, R)
    tl.store(dread + (here * C + c) * J, dkept, mask=c < C)
    if J == 2:
        tl.store(dread + (here * C + c) * J + 1, dfrom_s, mask=c < C)


@triton.jit
def lower_back(
    q, k, read, scores, E, Z2, Z1, da, back, below, dd, dZ2,
    C: tl.constexpr, R: tl.constexpr, P: tl.constexpr, V: tl.constexpr, L: tl.constexpr, J: tl.constexpr,
    BC: tl.constexpr, BR: tl.constexpr, BP: tl.constexpr, BV: tl.constexpr, BL: tl.constexpr,
    COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The first layer, from da: gradients of d [N, X, R, L] and of Z2.

    back   [N, X, C, J, P]  da Z2^T, the gradient of read q         both found on the way
    below  [N, X, C, R]     da d^T, that of inside * q k^T
    """
    here = tl.program_id(0).to(tl.int64)
    q, k, E, back = q + here * (C * P), k + here * (R * P), E + here * (R * V), back + here * (C * J * P)
    scores, below, da, dd = scores + here * (C * R), below + here * (C * R), da + here * (C * L), dd + here * (R * L)
    Z2, Z1, dZ2 = Z2 + here * (J * P * L), Z1 + here * (J * L * V), dZ2 + here * (J * P * L)
    c, r, p, o, t = tl.arange(0, BC), tl.arange(0, BR), tl.arange(0, BP), tl.arange(0, BV), tl.arange(0, BL)
    kept, through = tl.load(read + (here * C + c) * J, mask=c < C, other=0.0), tl.zeros([BC, BP], tl.float32)
    if J == 2:
        from_s = tl.load(read + (here * C + c) * J + 1, mask=c < C, other=0.0)
        through_s = tl.zeros([BC, BP], tl.float32)
    lower = tl.zeros([BC, BR], tl.float32)
    for first in range(0, L, BL):
        left = rest(first, L, BL)
        keys_t, e_t = load(k, r[None, :], p[:, None], R, P, P), load(E, r[None, :], o[:, None], R, V, V)
        queries_t = load(q, c[None, :], p[:, None], C, P, P)
        W2_t = load(Z2 + first, p[None, :], t[:, None], P, left, L).to(COMPUTE)
        W1 = load(Z1 + first * V, t[:, None], o[None, :], left, V, V).to(COMPUTE)
        _, slope, _ = silu(tl.dot(W2_t, keys_t, input_precision=PRECISION))
        d_t = slope * tl.dot(W1, e_t, input_precision=PRECISION)
        da_ = load(da + first, c[:, None], t[None, :], C, left, L)
        lower = tl.dot(da_, d_t.to(COMPUTE), lower, input_precision=PRECISION)
        share_t = load(scores, c[None, :], r[:, None], C, R, R)
        store(tl.dot(share_t, da_, input_precision=PRECISION), dd + first, r[:, None], t[None, :], R, left, L)
        through = tl.dot(da_, W2_t, through, input_precision=PRECISION)
        dW2 = tl.dot(queries_t, (da_ * kept[:, None]).to(COMPUTE), input_precision=PRECISION)
        store(dW2, dZ2 + first, p[:, None], t[None, :], P, left, L)
        if J == 2:
            S2_t = load(Z2 + P * L + first, p[None, :], t[:, None], P, left, L).to(COMPUTE)
            through_s = tl.dot(da_, S2_t, through_s, input_precision=PRECISION)
            dS2 = tl.dot(queries_t, (da_ * from_s[:, None]).to(COMPUTE), input_precision=PRECISION)
            store(dS2, dZ2 + P * L + first, p[:, None], t[None, :], P, left, L)
    store(lower, below, c[:, None], r[None, :], C, R, R)
    store(through, back, c[:, None], p[None, :], C, P, J * P)
    if J == 2:
        store(through_s, back + P, c[:, None], p[None, :], C, P, J * P)


@triton.jit
def walk_back(
    k, mix, write, Z2, Z1, E, dh, dE, dd, dZ2, dZ1, dsquares, dv, chunks,
    R: tl.constexpr, P: tl.constexpr, V: tl.constexpr, L: tl.constexpr, J: tl.constexpr,
    BR: tl.constexpr, BP: tl.constexpr, BV: tl.constexpr, BL: tl.constexpr,
    L2: tl.constexpr, BOUNDED: tl.constexpr, COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """From the last chunk to the first: dZ2 and dZ1 by the outputs become the whole gradients; dv [N, X, R, V].

    For inputs_back, dd becomes the gradient of a, and dsquares [N, X, R] is that of |k|^2.
    """
    row, rows = tl.program_id(0), tl.num_programs(0)
    r, p, o, t = tl.arange(0, BR), tl.arange(0, BP), tl.arange(0, BV), tl.arange(0, BL)
    for passed in tl.range(0, chunks, num_stages=1):  # never prefetched: a chunk reads what the last one wrote
        here = ((chunks - 1 - passed) * rows + row).to(tl.int64)
        there = here + rows
        k_, E_, dv_, dh_, dd_ = (
            k + here * (R * P), E + here * (R * V), dv + here * (R * V), dh + here * (R * L), dd + here * (R * L)
        )  # fmt: skip
        Z2_, dZ2_, dZ2_new = Z2 + here * (J * P * L), dZ2 + here * (J * P * L), dZ2 + there * (J * P * L)
        Z1_, dZ1_, dZ1_new = Z1 + here * (J * L * V), dZ1 + here * (J * L * V), dZ1 + there * (J * L * V)
        keys = load(k_, r[:, None], p[None, :], R, P, P)
        squares = tl.sum(keys.to(tl.float32) * keys.to(tl.float32), 1)
        share = tl.load(write + (here * R + r) * J, mask=r < R, other=0.0)
        kept = tl.load(mix + here * (J * J))
        if J == 2:
            share_s = tl.load(write + (here * R + r) * J + 1, mask=r < R, other=0.0)
            from_s, kept_s = tl.load(mix + here * (J * J) + 1), tl.load(mix + here * (J * J) + 3)
        de = load(dE + here * (R * V), r[:, None], o[None, :], R, V, V)
        size, reached = tl.zeros([BR], tl.float32) + SMALLEST, tl.zeros([BR], tl.float32)
        for first in range(0, L, BL):
            left = rest(first, L, BL)
            W2 = load(Z2_ + first, p[:, None], t[None, :], P, left, L).to(COMPUTE)
            W1 = load(Z1_ + first * V, t[:, None], o[None, :], left, V, V)
            h, slope, _ = silu(tl.dot(keys, W2, input_precision=PRECISION))
            if BOUNDED:
                size += tl.sum(h * h, 1)
                reached += tl.sum(slope * slope * tl.sum(W1 * W1, 1)[None, :], 1)
            after = load(dZ2_new + first, p[:, None], t[None, :], P, left, L).to(COMPUTE)
            dd_tile = load(dd_ + first, r[:, None], t[None, :], R, left, L)
            dd_tile += share[:, None] * tl.dot(keys, after, input_precision=PRECISION)
            after = load(dZ1_new + first * V, t[:, None], o[None, :], left, V, V).to(COMPUTE)
            de = tl.dot((h * share[:, None]).to(COMPUTE), after, de, input_precision=PRECISION)
            if J == 2:
                after = load(dZ2_new + P * L + first, p[:, None], t[None, :], P, left, L).to(COMPUTE)
                dd_tile += share_s[:, None] * tl.dot(keys, after, input_precision=PRECISION)
                after = load(dZ1_new + L * V + first * V, t[:, None], o[None, :], left, V, V).to(COMPUTE)
                de = tl.dot((h * share_s[:, None]).to(COMPUTE), after, de, input_precision=PRECISION)
            store(dd_tile, dd_ + first, r[:, None], t[None, :], R, left, L)
            de = tl.dot((dd_tile * slope).to(COMPUTE), W1.to(COMPUTE), de, input_precision=PRECISION)
        if BOUNDED:
            e = load(E_, r[:, None], o[None, :], R, V, V)
            de = de / (size + reached * squares)[:, None]
            dsize = -tl.sum(de * e.to(tl.float32), 1)
            tl.store(dsquares + here * R + r, dsize * reached, mask=r < R)
        store((-de).to(COMPUTE), dv_, r[:, None], o[None, :], R, V, V)
        tl.debug_barrier()  # each thread now reads what others stored
        for first in range(0, L, BL):
            left = rest(first, L, BL)
            keys, e = load(k_, r[:, None], p[None, :], R, P, P), load(E_, r[:, None], o[None, :], R, V, V)
            W2 = load(Z2_ + first, p[:, None], t[None, :], P, left, L).to(COMPUTE)
            W1_t = load(Z1_ + first * V, t[None, :], o[:, None], left, V, V)
            h, slope, second = silu(tl.dot(keys, W2, input_precision=PRECISION))
            dd_tile = load(dd_ + first, r[:, None], t[None, :], R, left, L)
            dslope = dd_tile * tl.dot(e, W1_t.to(COMPUTE), input_precision=PRECISION)
            dh_tile = load(dh_ + first, r[:, None], t[None, :], R, left, L)
            after = load(dZ1_new + first * V, t[None, :], o[:, None], left, V, V)
            dh_tile += share[:, None] * tl.dot(e, after.to(COMPUTE), input_precision=PRECISION)
            dW1_t = kept * after + load(dZ1_ + first * V, t[None, :], o[:, None], left, V, V)
            if J == 2:
                after_s = load(dZ1_new + L * V + first * V, t[None, :], o[:, None], left, V, V)
                dh_tile += share_s[:, None] * tl.dot(e, after_s.to(COMPUTE), input_precision=PRECISION)
                dS1_t = (
                    from_s * after
                    + kept_s * after_s
                    + load(dZ1_ + L * V + first * V, t[None, :], o[:, None], left, V, V)
                )
                store(dS1_t, dZ1_ + L * V + first * V, t[None, :], o[:, None], left, V, V)
            if BOUNDED:
                lean = slope * (dsize * squares)[:, None]
                dslope += 2 * lean * tl.sum(W1_t * W1_t, 0)[None, :]
                dh_tile += 2 * h * dsize[:, None]
                dW1_t += 2 * W1_t * tl.sum(slope * lean, 0)[None, :]
            if L2:
                dr, dr_t = -load(dv_, r[:, None], o[None, :], R, V, V), -load(dv_, r[None, :], o[:, None], R, V, V)
                dh_tile = tl.dot(dr, W1_t.to(COMPUTE), dh_tile, input_precision=PRECISION)
                dW1_t = tl.dot(dr_t, h.to(COMPUTE), dW1_t, input_precision=PRECISION)
            e_t = load(E_, r[None, :], o[:, None], R, V, V)
            dW1_t = tl.dot(e_t, (dd_tile * slope).to(COMPUTE), dW1_t, input_precision=PRECISION)
            store(dW1_t, dZ1_ + first * V, t[None, :], o[:, None], left, V, V)
            da = dh_tile * slope + dslope * second
            store(da, dd_ + first, r[:, None], t[None, :], R, left, L)
            after = load(dZ2_new + first, p[:, None], t[None, :], P, left, L)
            dW2 = kept * after + load(dZ2_ + first, p[:, None], t[None, :], P, left, L)
            if J == 2:
                dS2 = from_s * after + load(dZ2_ + P * L + first, p[:, None], t[None, :], P, left, L)
                dS2 += kept_s * load(dZ2_new + P * L + first, p[:, None], t[None, :], P, left, L)
                store(dS2, dZ2_ + P * L + first, p[:, None], t[None, :], P, left, L)
            keys_t = load(k_, r[None, :], p[:, None], R, P, P)
            dW2 = tl.dot(keys_t, da.to(COMPUTE), dW2, input_precision=PRECISION)
            store(dW2, dZ2_ + first, p[:, None], t[None, :], P, left, L)
        tl.debug_barrier()


@triton.jit
def inputs_back(
    k, write, Z2, Z1, E, da, dsquares, dv, dZ2, dZ1, dk, dwrite,
    R: tl.constexpr, P: tl.constexpr, V: tl.constexpr, L: tl.constexpr, J: tl.constexpr,
    BR: tl.constexpr, BP: tl.constexpr, BV: tl.constexpr, BL: tl.constexpr,
    L2: tl.constexpr, BOUNDED: tl.constexpr, COMPUTE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """For what no earlier chunk waits: dk becomes the whole gradient; dwrite. dZ2, dZ1: after the chunk."""
    here = tl.program_id(0).to(tl.int64)
    k, dk, E, dv, da = (
        k + here * (R * P), dk + here * (R * P), E + here * (R * V), dv + here * (R * V), da + here * (R * L)
    )  # fmt: skip
    Z2, dZ2 = Z2 + here * (J * P * L), dZ2 + here * (J * P * L)
    Z1, dZ1 = Z1 + here * (J * L * V), dZ1 + here * (J * L * V)
    r, p, o, t = tl.arange(0, BR), tl.arange(0, BP), tl.arange(0, BV), tl.arange(0, BL)
    keys, e = load(k, r[:, None], p[None, :], R, P, P), load(E, r[:, None], o[None, :], R, V, V)
    dkeys = load(dk, r[:, None], p[None, :], R, P, P)
    if BOUNDED:
        dkeys += 2 * keys.to(tl.float32) * tl.load(dsquares + here * R + r, mask=r < R, other=0.0)[:, None]
    if L2:
        dkeys -= load(dv, r[:, None], p[None, :], R, V, V).to(tl.float32)
    lower, upper = tl.zeros([BR, BP], tl.float32), tl.zeros([BR, BV], tl.float32)
    if J == 2:
        lower_s, upper_s = tl.zeros([BR, BP], tl.float32), tl.zeros([BR, BV], tl.float32)
    for first in range(0, L, BL):
        left = rest(first, L, BL)
        keys, e = load(k, r[:, None], p[None, :], R, P, P), load(E, r[:, None], o[None, :], R, V, V)
        W2 = load(Z2 + first, p[:, None], t[None, :], P, left, L).to(COMPUTE)
        W2_t = load(Z2 + first, p[None, :], t[:, None], P, left, L).to(COMPUTE)
        W1_t = load(Z1 + first * V, t[None, :], o[:, None], left, V, V).to(COMPUTE)
        h, slope, _ = silu(tl.dot(keys, W2, input_precision=PRECISION))
        d = (slope * tl.dot(e, W1_t, input_precision=PRECISION)).to(COMPUTE)
        h = h.to(COMPUTE)
        dkeys = tl.dot(
            load(da + first, r[:, None], t[None, :], R, left, L).to(COMPUTE), W2_t, dkeys, input_precision=PRECISION
        )
        after = load(dZ2 + first, p[None, :], t[:, None], P, left, L).to(COMPUTE)
        lower = tl.dot(d, after, lower, input_precision=PRECISION)
        after = load(dZ1 + first * V, t[:, None], o[None, :], left, V, V).to(COMPUTE)
        upper = tl.dot(h, after, upper, input_precision=PRECISION)
        if J == 2:
            after = load(dZ2 + P * L + first, p[None, :], t[:, None], P, left, L).to(COMPUTE)
            lower_s = tl.dot(d, after, lower_s, input_precision=PRECISION)
            after = load(dZ1 + L * V + first * V, t[:, None], o[None, :], left, V, V).to(COMPUTE)
            upper_s = tl.dot(h, after, upper_s, input_precision=PRECISION)
    share = tl.load(write + (here * R + r) * J, mask=r < R, other=0.0)
    dkeys += share[:, None] * lower
    dshare = tl.sum(lower * keys.to(tl.float32), 1) + tl.sum(upper * e.to(tl.float32), 1)
    tl.store(dwrite + (here * R + r) * J, dshare, mask=r < R)
    if J == 2:
        share_s = tl.load(write + (here * R + r) * J + 1, mask=r < R, other=0.0)
        dkeys += share_s[:, None] * lower_s
        dshare = tl.sum(lower_s * keys.to(tl.float32), 1) + tl.sum(upper_s * e.to(tl.float32), 1)
        tl.store(dwrite + (here * R + r) * J + 1, dshare, mask=r < R)
    store(dkeys, dk, r[:, None], p[None, :], R, P, P)
