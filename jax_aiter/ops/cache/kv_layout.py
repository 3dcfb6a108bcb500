"""The four layouts of a paged KV cache. `x` is 16 bytes' worth of elements: one vector load of a GPU thread.

========  ==========================  =========================
layout    key_cache                   value_cache
========  ==========================  =========================
"NHD"     [nb, bs, Hk, D]             [nb, bs, Hk, D]
"HND"     [nb, Hk, bs, D]             [nb, Hk, bs, D]
"vllm"    [nb, Hk, D/x, bs, x]        [nb, Hk, D, bs]
"asm"     [nb, Hk, D/x, bs, x]        [nb, Hk, bs/x, D, x]
========  ==========================  =========================

Slot s of the cache is place ``s % bs`` of block ``s // bs``.
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.empty import is_empty
from jax_aiter.core import symbolic
from jax_aiter.ops.shared import narrow

LAYOUTS = ("NHD", "HND", "vllm", "asm")
KEY_AXES = {"NHD": "nb bs Hk D", "HND": "nb Hk bs D", "vllm": "nb Hk D/x bs x", "asm": "nb Hk D/x bs x"}
VALUE_AXES = {"NHD": "nb bs Hk Dv", "HND": "nb Hk bs Dv", "vllm": "nb Hk Dv bs", "asm": "nb Hk bs/x Dv x"}

#: of bfloat16 or fp8 on a CPU: what is copied in the time that one token takes by itself (2.7 µs; 0.5 ns a byte there and back).
BYTES_FOR_A_TOKEN = 4096


def vector(dtype: np.dtype) -> int:
    return 16 // jnp.dtype(dtype).itemsize


def cache_axes(layout: str) -> dict[str, str]:
    return {"key_cache": KEY_AXES[layout], "value_cache": VALUE_AXES[layout]}


def check_caches(op: str, layout: str, dims: Mapping[str, int], dtype: np.dtype, head_dim: int) -> int:
    """What named axes cannot say about blocked layouts; returns the block size."""
    x = vector(dtype)
    if layout in ("vllm", "asm"):
        name = jnp.dtype(dtype).name
        if dims["x"] != x:
            raise ValueError(f"{op}: dimension 4 of key_cache is {dims['x']}, must be x = 16 bytes / itemsize = {x} for {name}")
        if dims["D/x"] * x != head_dim:
            raise ValueError(f"{op}: dimension 2 of key_cache is {dims['D/x']}, must be D / x = {head_dim} / {x}")
    if layout == "asm" and dims["bs/x"] * x != dims["bs"]:
        raise ValueError(f"{op}: dimension 2 of value_cache is {dims['bs/x']}, must be block size / x = {dims['bs']} / {x}")
    for axis in ("nb", "bs"):
        symbolic.below(0, dims[axis], f"{op}: key_cache has {axis} = {dims[axis]}, must be at least 1")
    return dims["bs"]


def keys_by_token(blocks: jax.Array, layout: str) -> jax.Array:
    """Blocks of a key cache [..., <block>] as [..., bs, Hk, D]."""
    if layout == "NHD":
        return blocks
    if layout == "HND":
        return blocks.swapaxes(-3, -2)
    hk, chunks, bs, x = blocks.shape[-4:]
    return jnp.moveaxis(blocks, -2, -4).reshape(*blocks.shape[:-4], bs, hk, chunks * x)


def values_by_token(blocks: jax.Array, layout: str) -> jax.Array:
    """Blocks of a value cache [..., <block>] as [..., bs, Hk, Dv]."""
    if layout == "NHD":
        return blocks
    if layout == "HND":
        return blocks.swapaxes(-3, -2)
    if layout == "vllm":
        return jnp.moveaxis(blocks, -1, -3)
    hk, chunks, d, x = blocks.shape[-4:]
    moved = jnp.moveaxis(blocks, (-3, -1), (-4, -3))  # [..., bs/x, x, Hk, Dv]
    return moved.reshape(*blocks.shape[:-4], chunks * x, hk, d)


def write(cache: jax.Array, rows: jax.Array, block: jax.Array, place: jax.Array, axes: str) -> jax.Array:
    """The cache with rows [T, Hk, D] at (block, place) [T]; a block index past the end is skipped. `axes`: the layout's."""
    if is_empty(rows):
        return cache
    scatter = functools.partial(_scatter, axes=axes)
    if not narrow.widened(cache.dtype):
        return scatter(cache, rows, block, place)
    on_a_cpu = functools.partial(_as_integers if _small_for(cache, rows) else _one_by_one, axes=axes)
    return jax.lax.platform_dependent(cache, rows, block, place, cpu=on_a_cpu, default=scatter)


def _small_for(cache: jax.Array, rows: jax.Array) -> bool:
    """Whether to copy the cache costs less than to go token after token."""
    if symbolic.any_symbolic(cache, rows):
        return False
    return cache.size * cache.dtype.itemsize <= BYTES_FOR_A_TOKEN * rows.shape[0]


def _one_by_one(cache: jax.Array, rows: jax.Array, block: jax.Array, place: jax.Array, axes: str) -> jax.Array:
    """Token after token: XLA's CPU backend has no scatter of bfloat16 and fp8, and would widen the whole cache for one."""
    names, (t, hk, d), x = axes.split(), rows.shape, cache.shape[-1]
    sizes = {"Hk": hk, "D": d, "Dv": d, "D/x": d // max(x, 1), "x": x if "D/x" in names else 1}
    shape = [sizes.get(name, 1) for name in names]

    def step(i, cache):
        index = {"nb": block[i], "bs": place[i]}
        index |= {"bs/x": place[i] // x, "x": place[i] % x} if "bs/x" in names else {}
        at = [jnp.int32(index.get(name, 0)) for name in names]
        put = lambda cache: jax.lax.dynamic_update_slice(cache, rows[i].reshape(shape), at)  # noqa: E731
        return jax.lax.cond(block[i] < cache.shape[0], put, lambda cache: cache, cache)

    return jax.lax.fori_loop(0, t, step, cache)


def _as_integers(cache: jax.Array, rows: jax.Array, block: jax.Array, place: jax.Array, axes: str) -> jax.Array:
    """All tokens at once, on the same bytes: a copy of the cache (the reinterpretation is none in place) and no widening."""
    bits = jnp.uint8 if cache.dtype.itemsize == 1 else jnp.uint16
    cache_, rows_ = (jax.lax.bitcast_convert_type(x, bits) for x in (cache, rows.astype(cache.dtype)))
    return jax.lax.bitcast_convert_type(_scatter(cache_, rows_, block, place, axes), cache.dtype)


def _scatter(cache: jax.Array, rows: jax.Array, block: jax.Array, place: jax.Array, axes: str) -> jax.Array:
    """All tokens at once.

    Every cache axis up to the innermost contiguous run is indexed, so the scatter needs no transposed copy of the cache on any
    backend.
    """
    names = axes.split()
    t, hk, d = rows.shape
    x = cache.shape[-1]
    head = jnp.arange(hk)
    if names[-1] in ("D", "Dv"):  # rows of D are contiguous
        index = {"nb": block[:, None], "bs": place[:, None], "Hk": head}
        values = rows
        indexed = names[:-1]
    elif names[2] == "D/x":  # rows of x
        index = {"nb": block[:, None, None], "bs": place[:, None, None], "Hk": head[:, None], "D/x": jnp.arange(d // x)}
        values = rows.reshape(t, hk, d // x, x)
        indexed = names[:-1]
    else:  # the innermost axis runs over tokens: single elements
        column = (slice(None), None, None)
        index = {"nb": block[column], "bs": place[column], "Hk": head[:, None], "Dv": jnp.arange(d)}
        index |= {"bs/x": place[column] // x, "x": place[column] % x}
        values = rows
        indexed = names
    return cache.at[tuple(index[n] for n in indexed)].set(values, mode="drop")
