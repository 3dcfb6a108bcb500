"""The gated delta rule by chunks of tokens, for sequences too long to go token by token: two kernels of our own.

AITER's chunked kernels find their chunks on the host, from offsets that are on the device here; they take differences of the gates'
running sums, NaN where a token forgets all; and what lies between them is of 16 bits. These keep the op's contract: decays are sums
of the gates between two tokens, and states and all that is made of them are float32. The arithmetic is that of
`jax_aiter.ops.linear_attention.delta`: the first solves the chunks' triangular systems side by side, the second carries states.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl

#: tokens of a chunk whose gates are of heads, and of channels.
CHUNK, CHANNELS = 64, 16
#: columns of a state that one program carries.
COLUMNS = 32


@triton.jit
def _rows(x, row, stride, offset, width, inside, SIZE: tl.constexpr):
    """Of tokens `row`, the columns of one head, float32."""
    column = tl.arange(0, SIZE)
    mask = inside[:, None] & (column < width)[None, :]
    return tl.load(x + row[:, None] * stride + offset + column[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _unit(x, UNIT: tl.constexpr):
    return x / tl.sqrt_rn(tl.sum(x * x, axis=1) + 1e-6)[:, None] if UNIT else x


@triton.jit
def _gates(gate, row, stride, inside):
    """Logarithms of decays, of which -inf, all forgotten, is a number that leaves no NaN behind."""
    g = tl.load(gate + row * stride, mask=inside, other=0.0).to(tl.float32)
    return tl.where(g < -1e30, -1e30, g)


@triton.jit
def _solve_kernel(
    q, k, gate, beta, offsets, inverse, scores, scale, tokens, sequences, H, HV, K,
    PACKED: tl.constexpr, GATED: tl.constexpr, BY_CHANNEL: tl.constexpr, UNIT: tl.constexpr, C: tl.constexpr, BK: tl.constexpr,
    SEQUENCES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    place, head = (tl.program_id(0) // HV).to(tl.int64), tl.program_id(0) % HV
    if PACKED:  # the chunks of sequence n have places from ``offsets[n] // C + n`` on
        n = tl.arange(0, SEQUENCES)
        start = tl.load(offsets + n, mask=n < sequences, other=0)
        own = tl.maximum(tl.sum(((n < sequences) & (start // C + n <= place)).to(tl.int32), axis=0) - 1, 0)
        base = tl.load(offsets + own)
        length = tl.load(offsets + own + 1) - base
        first = (place - (base // C + own)).to(tl.int32) * C
        base = base.to(tl.int64)
    else:
        chunks = (tokens + C - 1) // C
        base, first, length = place // chunks * tokens, (place % chunks).to(tl.int32) * C, tokens
    if (first >= 0) & (first < length):
        i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
        t = first + tl.arange(0, C)
        inside, row, group = t < length, base + t, head // (HV // H)
        keys = _unit(_rows(k, row, H * K, group * K, K, inside, BK), UNIT)
        queries = _unit(_rows(q, row, H * K, group * K, K, inside, BK), UNIT)
        written = tl.load(beta + row * HV + head, mask=inside, other=0.0).to(tl.float32)
        if BY_CHANNEL:
            column = tl.arange(0, BK)
            mask = inside[:, None] & (column < K)[None, :]
            g = tl.load(gate + (row[:, None] * HV + head) * K + column[None, :], mask=mask, other=0.0).to(tl.float32)
            g = tl.where(g < -1e30, -1e30, g)
            kk, qk = tl.zeros((C, C), tl.float32), tl.zeros((C, C), tl.float32)
            for token in range(C):
                behind = tl.exp(tl.cumsum(tl.where(i > token, g, 0.0), axis=0))
                decayed = tl.where(i >= token, behind * tl.sum(tl.where(i == token, keys, 0.0), axis=0)[None, :], 0.0)
                kk = tl.where(j == token, tl.sum(keys * decayed, axis=1)[:, None], kk)
                qk = tl.where(j == token, tl.sum(queries * decayed, axis=1)[:, None], qk)
        else:
            kk = tl.dot(keys, tl.trans(keys), input_precision=PRECISION)
            qk = tl.dot(queries, tl.trans(keys), input_precision=PRECISION)
            if GATED:
                g = _gates(gate + head, row, HV, inside)
                decay = tl.exp(tl.cumsum(tl.where(i > j, g[:, None], 0.0), axis=0))
                kk, qk = kk * decay, qk * decay
        below = tl.where(i > j, -kk * written[:, None], 0.0)
        for token in range(1, C):
            line = tl.sum(tl.where(i == token, below, 0.0), axis=0)
            line += tl.sum(line[:, None] * tl.where(i < token, below, 0.0), axis=0)
            below = tl.where(i == token, line[None, :], below)
        target = ((place * HV + head) * C + i) * C + j
        tl.store(inverse + target, tl.where(i == j, 1.0, below))
        tl.store(scores + target, tl.where(i >= j, qk, 0.0) * scale)


@triton.jit
def _carry_kernel(
    q, k, v, gate, beta, initial, offsets, inverse, scores, out, final, scale, tokens, H, HV, K, V,
    PACKED: tl.constexpr, GATED: tl.constexpr, BY_CHANNEL: tl.constexpr, INITIAL: tl.constexpr, UNIT: tl.constexpr,
    C: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    sequence, head, part = (tl.program_id(0) // HV).to(tl.int64), tl.program_id(0) % HV, tl.program_id(1)
    if PACKED:
        base = tl.load(offsets + sequence)
        length = tl.load(offsets + sequence + 1) - base
        place = base // C + sequence
        base = base.to(tl.int64)
    else:
        base, length, place = sequence * tokens, tokens, sequence * ((tokens + C - 1) // C)
    i, j = tl.arange(0, C)[:, None], tl.arange(0, C)[None, :]
    channel, column = tl.arange(0, BK), part * BV + tl.arange(0, BV)
    of_state = (sequence * HV + head) * K * V + channel[:, None] * V + column[None, :]
    there = (channel < K)[:, None] & (column < V)[None, :]
    state = tl.load(initial + of_state, mask=there, other=0.0).to(tl.float32) if INITIAL else tl.zeros((BK, BV), tl.float32)
    for first in range(0, length, C):
        t = first + tl.arange(0, C)
        inside, row, group = t < length, base + t, head // (HV // H)
        keys = _unit(_rows(k, row, H * K, group * K, K, inside, BK), UNIT)
        queries = _unit(_rows(q, row, H * K, group * K, K, inside, BK), UNIT)
        mask = inside[:, None] & (column < V)[None, :]
        target = (row[:, None] * HV + head) * V + column[None, :]
        values = tl.load(v + target, mask=mask, other=0.0).to(tl.float32)
        written = tl.load(beta + row * HV + head, mask=inside, other=0.0).to(tl.float32)
        left = keys
        if BY_CHANNEL:
            g = tl.load(
                gate + (row[:, None] * HV + head) * K + channel[None, :], mask=inside[:, None] & (channel < K)[None, :], other=0.0
            ).to(tl.float32)
            g = tl.where(g < -1e30, -1e30, g)
            since = tl.exp(tl.cumsum(g, axis=0))
            keys, queries = keys * since, queries * since
            # Of the gates behind a token, a sum and no difference of sums.
            left = left * tl.exp(tl.dot(tl.where(i < j, 1.0, 0.0), g, input_precision=PRECISION))
            kept = tl.exp(tl.sum(g, axis=0))[:, None]
        elif GATED:
            g = _gates(gate + head, row, HV, inside)
            since = tl.exp(tl.cumsum(g, axis=0))[:, None]
            keys, queries = keys * since, queries * since
            left = left * tl.exp(tl.sum(tl.where(i > j, g[:, None], 0.0), axis=0))[:, None]
            kept = tl.exp(tl.sum(g, axis=0))
        system = ((place * HV + head) * C + i) * C + j
        read = tl.dot(keys, state, input_precision=PRECISION)
        u = tl.dot(tl.load(inverse + system), written[:, None] * (values - read), input_precision=PRECISION)
        o = tl.dot(queries, state, input_precision=PRECISION) * scale
        o += tl.dot(tl.load(scores + system), u, input_precision=PRECISION)
        tl.store(out + target, o.to(out.dtype.element_ty), mask=mask)
        if BY_CHANNEL or GATED:
            state = state * kept
        state += tl.dot(tl.trans(left), u, input_precision=PRECISION)
        place += 1
    tl.store(final + of_state, state, mask=there)


def chunked(
    q, k, v, gate, beta, initial, offsets, out, final, *, scale: float, unit: bool, precision: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """q, k: ``[B, T, H, K]``; v, out: ``[B, T, HV, V]``; gate: ``[B, T, HV]`` or ``[B, T, HV, K]`` or None; beta: ``[B, T, HV]``;
    initial: ``[N, HV, K, V]`` or None; offsets: ``[N + 1]``, within the tokens, or None; final: ``[N, HV, K, V]``.

    precision: of products of float32, by Triton's names.
    """
    (batch, tokens, heads, width), (values, columns) = q.shape, v.shape[2:]
    packed, by_channel = offsets is not None, gate is not None and gate.ndim == 4
    size, sequences = CHANNELS if by_channel else CHUNK, final.shape[0]
    places = tokens // size + sequences if packed else batch * triton.cdiv(tokens, size)
    inverse, scores = (torch.empty((places, values, size, size), dtype=torch.float32, device="meta") for _ in range(2))
    how = {"PACKED": packed, "GATED": gate is not None, "BY_CHANNEL": by_channel, "UNIT": unit, "C": size}
    how |= {"BK": max(16, triton.next_power_of_2(width)), "PRECISION": precision}
    gates, bounds = beta if gate is None else gate, beta if offsets is None else offsets
    sizes = tokens, sequences, heads, values, width
    around = {**how, "SEQUENCES": triton.next_power_of_2(sequences)}
    _solve_kernel[(places * values,)](q, k, gates, beta, bounds, inverse, scores, scale, *sizes, **around, num_warps=4)
    block = min(COLUMNS, max(16, triton.next_power_of_2(columns)))
    given = q, k, v, gates, beta, beta if initial is None else initial, bounds, inverse, scores, out, final, scale, tokens
    rest = heads, values, width, columns
    grid = sequences * values, triton.cdiv(columns, block)
    _carry_kernel[grid](*given, *rest, **how, INITIAL=initial is not None, BV=block, num_warps=4, num_stages=1)
    return out, final
