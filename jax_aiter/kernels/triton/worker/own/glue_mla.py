"""Our own writer of MLA's cache, alone and with MLA's queries, for what AITER's kernels do not take: one launch."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import torch
import triton
import triton.language as tl

from jax_aiter.kernels.triton.worker.own.glue_heads import Turn
from jax_aiter.kernels.triton.worker.own.glue_rows import code, coded, reciprocal, turned, warps


@triton.jit
def _joined(
    out, latent, rotary, scale, LATENT: tl.constexpr, SIZE: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
    KIND: tl.constexpr, TOP: tl.constexpr, SCALED: tl.constexpr,
):  # fmt: skip
    """One row of LATENT and then SIZE elements, coded."""
    inverse = reciprocal(scale, SCALED)
    i, j = tl.arange(0, WIDE), tl.arange(0, BLOCK)
    tl.store(out + i, coded(latent, inverse, KIND, TOP).to(out.dtype.element_ty), mask=i < LATENT)
    tl.store(out + LATENT + j, coded(rotary, inverse, KIND, TOP).to(out.dtype.element_ty), mask=j < SIZE)


@triton.jit
def _mla_kernel(
    q_nope, q_pe, kv_c, k_pe, q_out, k_out, cache, slot_mapping, positions, cos, sin, k_scale, q_scale, capacity, table,
    HEADS: tl.constexpr, LATENT: tl.constexpr, SIZE: tl.constexpr, COLUMNS: tl.constexpr,
    START: tl.constexpr, ROTARY: tl.constexpr, NEOX: tl.constexpr, REUSE: tl.constexpr, TURN: tl.constexpr,
    KIND: tl.constexpr, TOP: tl.constexpr, SCALED: tl.constexpr,
    Q_KIND: tl.constexpr, Q_TOP: tl.constexpr, Q_SCALED: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row, program = tl.program_id(0).to(tl.int64), tl.program_id(1)
    i, j = tl.arange(0, WIDE), tl.arange(0, BLOCK)
    at = row * 0
    if TURN:
        at = tl.minimum(tl.maximum(tl.load(positions + row), 0), table - 1).to(tl.int64) * COLUMNS
    # No name is bound in two branches: there it would have to have one type.
    if program < HEADS:
        head = row * HEADS + program
        query = tl.load(q_nope + head * LATENT + i, mask=i < LATENT, other=0.0)
        q_rotary = turned(
            q_pe + head * SIZE, q_pe, cos + at, sin + at, 0.0, False, TURN, NEOX, REUSE, START, ROTARY, SIZE, BLOCK
        )  # fmt: skip
        _joined(q_out + head * (LATENT + SIZE), query, q_rotary, q_scale, LATENT, SIZE, WIDE, BLOCK, Q_KIND, Q_TOP, Q_SCALED)
    else:
        key = turned(k_pe + row * SIZE, k_pe, cos + at, sin + at, 0.0, False, TURN, NEOX, REUSE, START, ROTARY, SIZE, BLOCK)
        if TURN:
            tl.store(k_out + row * SIZE + j, key, mask=j < SIZE)
        slot = tl.load(slot_mapping + row).to(tl.int64)
        if (slot >= 0) & (slot < capacity):
            latent = tl.load(kv_c + row * LATENT + i, mask=i < LATENT, other=0.0)
            _joined(cache + slot * (LATENT + SIZE), latent, key, k_scale, LATENT, SIZE, WIDE, BLOCK, KIND, TOP, SCALED)


def write(
    kv_c: torch.Tensor,
    k_pe: torch.Tensor,
    cache: torch.Tensor,
    slot_mapping: torch.Tensor,
    scale: torch.Tensor | None,
    *,
    q_nope: torch.Tensor | None = None,
    q_scale: torch.Tensor | None = None,
    turn: Turn | None = None,
) -> None:
    """Latents [T, L] and rotary keys [T, R] at their slots of a cache [nb, bs, (1,) L + R].

    turn: q_pe [T, Hq, R] and keys are rotated before; with `q_nope` [T, Hq, L] the queries go to its q_out [T, Hq, L + R].
    """
    (tokens, latent), size = kv_c.shape, k_pe.shape[1]
    still = Turn(k_pe, kv_c, k_pe, slot_mapping, k_pe, k_pe, {"START": 0, "ROTARY": 2, "NEOX": True, "REUSE": True})
    by, heads = turn or still, 0 if turn is None else turn.q.shape[1]
    wide, block = triton.next_power_of_2(latent), triton.next_power_of_2(size)
    absent = kv_c  # nothing reads what stands in for a pointer that a call has not
    _mla_kernel[(tokens, heads + 1)](
        absent if q_nope is None else q_nope, by.q, kv_c, k_pe, by.q_out, by.k_out, cache, slot_mapping,
        by.positions, by.cos, by.sin, absent if scale is None else scale, absent if q_scale is None else q_scale,
        cache.shape[0] * cache.shape[1], by.cos.shape[0],
        HEADS=heads, LATENT=latent, SIZE=size, COLUMNS=by.cos.shape[1], **by.rotation, TURN=turn is not None,
        **code(cache.dtype), SCALED=scale is not None,
        **{f"Q_{name}": value for name, value in code(by.q_out.dtype).items()}, Q_SCALED=q_scale is not None,
        WIDE=wide, BLOCK=block, num_warps=warps(max(wide, block)),
    )  # fmt: skip
