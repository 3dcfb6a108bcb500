"""What the GEMM references share: products with wide accumulation, the epilogue, and the batching rule."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.batching import Batched
from jax_aiter.bind.public import held
from jax_aiter.core import machine, symbolic
from jax_aiter.core.axes import FP8_TYPES
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight, check_tiles, unshuffled
from jax_aiter.ops.shared import narrow

OUT_TYPES = ("bfloat16", "float16", "float32")
#: The preshuffled order that AITER's GEMM kernels load.
LAYOUT = (16, 16)
#: Elements of a weight that are widened at a time on a CPU, 2 MB of float32: what its caches hold.
ELEMENTS = 1 << 19
#: Tiles of 128 by 128 that keep any GPU's multiprocessors busy.
TILES = 1024


def weight_dot(a: jax.Array, b: jax.Array, layout: tuple[int, int] | None = None) -> jax.Array:
    """`dot` with a weight, plain or shuffled with `layout`, that no backend writes out as a whole in another type or order."""
    whole = lambda a, b: dot(a, b if layout is None else unshuffled(b, layout))  # noqa: E731
    *lead, n, k = b.shape
    if not all(isinstance(size, int) for size in b.shape):
        return whole(a, b)  # exported with a symbolic size
    rows = min(max(ELEMENTS // max(math.prod(lead) * k, 1) // 16, 1), 16) * 16
    # XLA's CPU backend multiplies bfloat16 matrices as they are, but not by a single row; anything else it converts first.
    kept = b.dtype.itemsize > 2 or b.dtype == jnp.int8 or (b.dtype == jnp.bfloat16 and a.shape[-2] != 1)
    if n <= rows or math.prod(b.shape) <= ELEMENTS or (kept and layout is None):
        return whole(a, b)

    def by_rows(a, b):
        def step(i, out):
            start = jnp.minimum(i * rows, n - rows)
            part = narrow.read(b, start, lambda b, i: jax.lax.dynamic_slice_in_dim(b, i, rows, axis=b.ndim - 2))
            return jax.lax.dynamic_update_slice_in_dim(out, whole(a, part), start, axis=out.ndim - 1)

        start = jnp.zeros((*a.shape[:-1], n), jnp.int32 if b.dtype == jnp.int8 else jnp.float32)
        return jax.lax.fori_loop(0, -(-n // rows), step, start)

    return jax.lax.platform_dependent(a, b, cpu=by_rows, default=whole)


def weight_product(a: jax.Array, b: jax.Array, bias: jax.Array | None, out_dtype: np.dtype) -> jax.Array:
    """`finish` of `weight_dot`, by one operation where a GPU's library can: it writes what it accumulated in float32 as 16 bits.

    Not of few rows and columns, where a library may split K and add rounded parts; nobody splits the K of this many tiles.
    """
    sizes = a.shape[-2], b.shape[-2]
    direct = machine.is_gpu() and bias is None and a.dtype == b.dtype == out_dtype and out_dtype.itemsize == 2
    if direct and not symbolic.any_symbolic_size(*sizes) and math.prod(sizes) >= TILES * 128 * 128:
        return dot(a, b, out_dtype)
    return finish(weight_dot(a, b), bias, out_dtype)


def dot(a: jax.Array, b: jax.Array, written: np.dtype | None = None) -> jax.Array:
    """``a[..., M, K] · b[..., N, K]ᵀ``, accumulated in float32 (float operands) or int32 (int8, exact) and left so, or `written`.

    fp8 operands go through bfloat16, which holds every e4m3 value exactly; products of two are exact in float32.
    """
    if a.dtype == jnp.int8:
        wide, precision = jnp.int32, None
    else:
        a, b = (x.astype(jnp.bfloat16) if x.dtype.name in FP8_TYPES else x for x in (a, b))
        # Without HIGHEST some backends round float32 operands to 10 or 19 bits before multiplying.
        wide, precision = jnp.float32, jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    lead = tuple(range(a.ndim - 2))
    contract = ((a.ndim - 1,), (b.ndim - 1,))
    return jax.lax.dot_general(a, b, (contract, (lead, lead)), precision=precision, preferred_element_type=written or wide)


def finish(acc: jax.Array, bias: jax.Array | None, out_dtype: np.dtype) -> jax.Array:
    """Add the bias to the wide accumulator and round once."""
    acc = acc.astype(jnp.float32)
    if bias is not None:
        acc = acc + bias.astype(jnp.float32)[..., None, :]
    return acc.astype(out_dtype)


def batching(left: Sequence[str], right: Sequence[str], many: Callable[..., Sequence[jax.Array]] | None) -> Callable:
    """The batching rule of ``[M, K] · [N, K]ᵀ -> [M, N]``.

    left, right: operands whose first axis goes with M, with N. A batch on one side alone widens that side, so it stays one GEMM;
    a batch on both is `many`, the batched GEMM (None: a loop). There is no hand-written batched kernel, so ``"asm"`` loops too.
    """

    def rule(batched: Batched, **params):
        if not any(n in batched for n in right):
            return NotImplemented  # the record's fold merges the batch into M
        if any(n in batched for n in left):
            return NotImplemented if many is None or batched.implementation == "asm" else many(batched, **params)
        wide = {n: batched.broadcast(n) for n in right if batched.get(n) is not None}
        wide = {n: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]) for n, x in wide.items()}
        (out,) = batched.bind(**{**batched.values, **wide})
        return (jnp.moveaxis(out.reshape(out.shape[0], batched.size, -1), 1, 0),)

    return rule


def shuffled_data(op: str, name: str, w: object) -> jax.Array:
    """The array in a `ShuffledWeight`, whose layout must be the one of the kernels."""
    w = held(w)
    if not isinstance(w, ShuffledWeight):
        raise TypeError(f"{op}: {name} must be a ShuffledWeight (shuffle_weight makes one), got {type(w).__name__}")
    if w.layout != LAYOUT:
        raise ValueError(f"{op}: {name} is shuffled with layout {w.layout}, must be {LAYOUT}")
    return w.data


def check_shuffled(op: str, name: str, w: jax.ShapeDtypeStruct) -> None:
    """`w` is whole tiles, as `shuffle_weight` leaves it; a slice of rows or columns may not be."""
    check_tiles(op, LAYOUT, **{name: w})
