"""Our own writer of paged key and value caches, which AITER's Triton half has none of for every layout, size and dtype: one launch.

Queries and keys are normalised and rotated on the way where the op says so.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

import dataclasses
from typing import Any

import torch
import triton
import triton.language as tl

from jax_aiter.kernels.triton.worker.own.glue_rows import code, coded, own_scale, reciprocal, turned, warps


@triton.jit
def _put(
    cache, value, scale, scales, slot, head, capacity, size, at_block, at_head, at_d, at_place, heads,
    SPLIT: tl.constexpr, PLACES: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr,
    KIND: tl.constexpr, TOP: tl.constexpr, SCALED: tl.constexpr, DYNAMIC: tl.constexpr,
):  # fmt: skip
    """One head of one token at its slot. d stands at ``d // SPLIT * at_d + d % SPLIT``, a place alike with PLACES."""
    if (slot >= 0) & (slot < capacity):
        block, place = (slot // size).to(tl.int64), slot % size
        if DYNAMIC:
            dequant = own_scale(value, TOP)
            tl.store(scales + (block * heads + head) * size + place, dequant)
            inverse = tl.div_rn(1.0, dequant)
        else:
            inverse = reciprocal(scale, SCALED)
        i = tl.arange(0, BLOCK)
        d = (i // SPLIT) * at_d + i % SPLIT
        base = block * at_block + head * at_head + (place // PLACES) * at_place + place % PLACES
        tl.store(cache + base + d, coded(value, inverse, KIND, TOP).to(cache.dtype.element_ty), mask=i < SIZE)


@triton.jit
def _heads_kernel(
    q, k, v, q_weight, k_weight, q_out, k_out, key_cache, value_cache, slot_mapping, positions, cos, sin,
    k_scale, v_scale, key_scales, value_scales, capacity, size, table, epsilon,
    key_block, key_head, key_d, key_place, value_block, value_head, value_d, value_place,
    HEADS: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr,
    START: tl.constexpr, ROTARY: tl.constexpr, NEOX: tl.constexpr, REUSE: tl.constexpr, NORM: tl.constexpr, TURN: tl.constexpr,
    SPLIT: tl.constexpr, PLACES: tl.constexpr, KIND: tl.constexpr, TOP: tl.constexpr, SCALED: tl.constexpr,
    DYNAMIC: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    row, program = tl.program_id(0).to(tl.int64), tl.program_id(1)
    slot = tl.load(slot_mapping + row)
    i = tl.arange(0, BLOCK)
    at = row * 0
    if TURN:
        at = tl.minimum(tl.maximum(tl.load(positions + row), 0), table - 1).to(tl.int64) * COLUMNS
    # No name is bound in two branches: there it would have to have one type.
    if program < HEADS:
        q_at = (row * HEADS + program) * SIZE
        query = turned(q + q_at, q_weight, cos + at, sin + at, epsilon, NORM, TURN, NEOX, REUSE, START, ROTARY, SIZE, BLOCK)
        tl.store(q_out + q_at + i, query, mask=i < SIZE)
    elif program < HEADS + KV_HEADS:
        k_head = program - HEADS
        k_at = (row * KV_HEADS + k_head) * SIZE
        key = turned(k + k_at, k_weight, cos + at, sin + at, epsilon, NORM, TURN, NEOX, REUSE, START, ROTARY, SIZE, BLOCK)
        if TURN:
            tl.store(k_out + k_at + i, key, mask=i < SIZE)
        _put(
            key_cache, key, k_scale, key_scales, slot, k_head, capacity, size, key_block, key_head, key_d, key_place, KV_HEADS,
            SPLIT, 1, SIZE, BLOCK, KIND, TOP, SCALED, DYNAMIC,
        )  # fmt: skip
    else:
        v_head = program - HEADS - KV_HEADS
        j = tl.arange(0, WIDE)
        number = tl.load(v + (row * KV_HEADS + v_head) * WIDTH + j, mask=j < WIDTH, other=0.0)
        _put(
            value_cache, number, v_scale, value_scales, slot, v_head, capacity, size,
            value_block, value_head, value_d, value_place, KV_HEADS,
            1, PLACES, WIDTH, WIDE, KIND, TOP, SCALED, DYNAMIC,
        )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Turn:
    """Queries that are rotated with the keys, where both go to, by what, and (with weights) how they are normalised before."""

    q: torch.Tensor
    q_out: torch.Tensor
    k_out: torch.Tensor
    positions: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor
    rotation: dict[str, Any]
    weights: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
    epsilon: float = 0.0


def rotation(params: dict[str, Any], size: int, columns: int) -> dict[str, Any]:
    """Constants of the rotation of heads of `size` elements by tables of `columns`, from a call's parameters."""
    reuse = params["reuse_freqs_front_part"]
    rotary = columns * (2 if reuse else 1)
    start = size - rotary if params.get("nope_first") else 0
    return {"START": start, "ROTARY": rotary, "NEOX": params["rotate_style"] == "neox", "REUSE": reuse}


def write(
    key: torch.Tensor,
    value: torch.Tensor,
    caches: tuple[torch.Tensor, torch.Tensor],
    slot_mapping: torch.Tensor,
    layout: str,
    *,
    scales: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None),
    own_scales: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None),
    turn: Turn | None = None,
) -> None:
    """Keys [T, Hk, D] and values [T, Hk, Dv] at their slots of two caches in a layout of ``jax_aiter.ops.cache.kv_layout``.

    own_scales: caches [nb, Hk, bs] of the scales by which each head of each token is quantised; without them it is by `scales`.
    """
    (tokens, kv_heads, size), width = key.shape, value.shape[-1]
    key_cache, value_cache = caches
    block_size = key_cache.shape[{"NHD": 1, "HND": 2}.get(layout, 3)]
    still = Turn(key, key, key, slot_mapping, key, key, {"START": 0, "ROTARY": 2, "NEOX": True, "REUSE": True})
    by, heads = turn or still, 0 if turn is None else turn.q.shape[1]
    block, wide = (triton.next_power_of_2(n) for n in (size, width))
    pointers = [key if x is None else x for x in (*scales, *own_scales)]  # nothing reads what stands in for one
    weights = [key if x is None else x for x in by.weights]
    _heads_kernel[(tokens, heads + 2 * kv_heads)](
        by.q, key, value, *weights, by.q_out, by.k_out, key_cache, value_cache, slot_mapping, by.positions, by.cos, by.sin,
        *pointers, key_cache.shape[0] * block_size, block_size, by.cos.shape[0], by.epsilon,
        *_strides(key_cache, layout, False), *_strides(value_cache, layout, True),
        HEADS=heads, KV_HEADS=kv_heads, SIZE=size, WIDTH=width, COLUMNS=by.cos.shape[1],
        **by.rotation, NORM=by.weights[0] is not None, TURN=turn is not None,
        SPLIT=key_cache.shape[-1] if layout in ("vllm", "asm") else 1, PLACES=value_cache.shape[-1] if layout == "asm" else 1,
        **code(key_cache.dtype), SCALED=scales[0] is not None, DYNAMIC=own_scales[0] is not None, BLOCK=block, WIDE=wide,
        num_warps=warps(max(block, wide)),
    )  # fmt: skip


def _strides(cache: torch.Tensor, layout: str, values: bool) -> tuple[int, ...]:
    """Of blocks, heads, d (or runs of it) and places (or runs of them)."""
    order = {"NHD": (0, 2, 3, 1), "HND": (0, 1, 3, 2), "asm": (0, 1, 3, 2) if values else (0, 1, 2, 3)}
    return tuple(cache.stride(axis) for axis in order.get(layout, (0, 1, 2, 3)))
