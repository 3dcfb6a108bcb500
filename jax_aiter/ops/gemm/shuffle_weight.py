"""AITER's preshuffled weight layout; the wrapper of what comes out is `ShuffledWeight`."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FLOATING, FP8_TYPES, Arg
from jax_aiter.core.cases import case, integers, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.text import shown
from jax_aiter.ops.gemm.shuffled import ShuffledWeight as ShuffledWeight

LAYOUTS = ((16, 16), (32, 16))  # (rows per tile, columns per half tile)


def tile(dtype: np.dtype, layout: tuple[int, int]) -> tuple[int, int, int]:
    """Rows of a tile, columns of a tile, and elements per 16-byte vector."""
    rows, columns = layout
    return rows, 2 * columns, 16 // jnp.dtype(dtype).itemsize


def check_tiles(op: str, layout: tuple[int, int] | None, **weights: jax.ShapeDtypeStruct) -> None:
    """Weights ``[..., N, K]`` consist of whole tiles, as `shuffle_weight` leaves them; a slice of rows or columns may not."""
    if layout is None:
        return
    for name, w in weights.items():
        for axis, of in zip((w.ndim - 2, w.ndim - 1), tile(w.dtype, layout), strict=False):
            check.multiple(op, f"dimension {axis} of {name}", w.shape[axis], of, f"layout {layout}")


def unshuffled(w: jax.Array, layout: tuple[int, int]) -> jax.Array:
    """The plain ``[..., N, K]`` weight behind shuffled data of that shape."""
    *lead, n, k = w.shape
    rows, columns, vector = tile(w.dtype, layout)
    tiles = w.reshape(*lead, n // rows, k // columns, columns // vector, rows, vector)
    return jnp.moveaxis(tiles, -2, -4).reshape(w.shape)


def shuffled(w: jax.Array, layout: tuple[int, int]) -> jax.Array:
    """A plain ``[..., N, K]`` weight in tiles: the inverse of `unshuffled`. The order follows the dtype's size, so cast first."""
    *lead, n, k = w.shape
    rows, columns, vector = tile(w.dtype, layout)
    tiles = w.reshape(*lead, n // rows, rows, k // columns, columns // vector, vector)
    return jnp.moveaxis(tiles, -4, -2).reshape(w.shape)


def check_layout(op: str, name: str, layout: object) -> tuple[int, int]:
    if not isinstance(layout, (tuple, list)) or tuple(layout) not in LAYOUTS:
        raise ValueError(f"{op}: {name} must be one of {list(LAYOUTS)}, got {shown(layout)}")
    return (int(layout[0]), int(layout[1]))


def _abstract(dims, *, w, layout, inverse):
    check_tiles("shuffle_weight", layout, w=w)
    return (w,)


def _reference(*, w, layout, inverse):
    return ((unshuffled if inverse else shuffled)(w, layout),)


def _backward(saved, cotangents, *, implementation, layout, inverse):
    ct = cotangents["shuffled"]  # a permutation: its transpose is its inverse
    return {"w": SHUFFLE_WEIGHT(w=ct, layout=layout, inverse=not inverse, implementation=implementation)[0]}


SHUFFLE_WEIGHT = Op(
    name="shuffle_weight",
    family="MOE",
    mirrors="aiter.ops.shuffle.shuffle_weight (aiter/ops/shuffle.py)",
    operands={"w": Arg("... N K", (*FLOATING, *FP8_TYPES, "int8", "uint8"))},
    results={"shuffled": "... N K"},
    abstract=_abstract,
    reference=_reference,
    parallel=("...",),
    fold="...",
    gradient=Gradient(wrt=("w",), saves=(), backward=_backward, of_fp8=True),
    cases=lambda: [
        case("bf16", w=normal(2, 16, 64, dtype=jnp.bfloat16), layout=(16, 16), inverse=False),
        case("int8", w=integers(64, 32, low=-127, high=128, dtype=jnp.int8), layout=(32, 16), inverse=False),
        case("fp4", w=integers(16, 32, low=0, high=256, dtype=jnp.uint8), layout=(16, 16), inverse=False),
        case("inverse", w=normal(4, 32, 32), layout=(16, 16), inverse=True),
    ],
)


@public
def shuffle_weight(w: jax.Array, *, layout: tuple[int, int] = (16, 16), implementation: str | None = None) -> ShuffledWeight:
    """Reorder a weight into tiles that AITER's kernels load straight into matrix-core registers.

    Args:
      w: ``[..., N, K]`` float, fp8, int8, or uint8 (of packed fp4, so K counts pairs); N a multiple of ``layout[0]``, K of
        ``2·layout[1]``.
      layout: static. ``(16, 16)`` for the MoE and all bpreshuffle kernels; ``(32, 16)`` is read by none of those here.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      A `ShuffledWeight` of the same shape and dtype. With v = 16 bytes of elements, element ``(n, k)`` moves to position
      ``(n//r, k//c, k%c//v, n%r, k%v)`` of a row-major array, where ``(r, c) = (layout[0], 2·layout[1])``. Differentiable in `w`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.shuffle.shuffle_weight``.
    """
    if isinstance(w, ShuffledWeight):
        raise TypeError(f"shuffle_weight: w is a ShuffledWeight of layout {w.layout} already, must be a plain array")
    layout = check_layout("shuffle_weight", "layout", layout)
    return ShuffledWeight(SHUFFLE_WEIGHT(w=w, layout=layout, inverse=False, implementation=implementation)[0], layout)
