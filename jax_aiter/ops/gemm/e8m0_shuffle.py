"""AITER's order of block scales of fp4 weights and activations, as its hand-written kernels load them."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, integers
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm.shuffled import ShuffledScale as ShuffledScale

ROWS, COLUMNS = 256, 8  # what the rows and columns are padded to multiples of
TILE = (32, 8)


def padded(rows: int, groups: int) -> tuple[int, int]:
    """The last two axes of shuffled scales."""
    return -(-rows // ROWS) * ROWS, -(-groups // COLUMNS) * COLUMNS


def shuffled(scale: jax.Array) -> jax.Array:
    """``[..., M, G]`` scales padded with zeros and in tiles of 32x8, each of which starts with the first of every four columns."""
    *lead, m, g = scale.shape
    rows, columns = padded(m, g)
    scale = jnp.pad(scale, [(0, 0)] * len(lead) + [(0, rows - m), (0, columns - g)])
    tiles = scale.reshape(*lead, rows // 32, 2, 16, columns // 8, 2, 4)
    n = len(lead)
    order = (*range(n), n, n + 3, n + 5, n + 2, n + 4, n + 1)
    return tiles.transpose(order).reshape(*lead, rows, columns)


def _abstract(dims, *, scale):
    *lead, m, g = scale.shape
    return (Struct((*lead, *padded(m, g)), jnp.uint8),)


def _reference(*, scale):
    return (shuffled(scale),)


E8M0_SHUFFLE = Op(
    name="e8m0_shuffle",
    family="LINEAR",
    mirrors="aiter.utility.fp4_utils.e8m0_shuffle, aiter.ops.shuffle.shuffle_scale",
    operands={"scale": Arg("... M G", ("uint8",))},
    results={"shuffled": "... P Q"},
    abstract=_abstract,
    reference=_reference,
    parallel=("...",),
    fold="...",
    cases=lambda: [
        case("odd", scale=integers(33, 9, low=100, high=150, dtype=jnp.uint8)),
        case("experts", scale=integers(2, 256, 8, low=100, high=150, dtype=jnp.uint8)),
    ],
)


@public
def e8m0_shuffle(scale: jax.Array, *, implementation: str | None = None) -> ShuffledScale:
    """Reorder scales of blocks of 32 into the tiles that AITER's hand-written fp4 kernels load.

    Args:
      scale: uint8 ``[..., M, G]``, of a factor ``2^(scale - 127)`` each, one row per row of a weight ``[..., M, 32 G]``.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      A `ShuffledScale` of ``[..., M up to a multiple of 256, G up to a multiple of 8]``, padded with zeros (AITER leaves there what
      was in memory). Entry ``(m, g)`` moves to position ``(m//32, g//8, g%4, m%16, g%8//4, m%32//16)`` of a row-major array.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.utility.fp4_utils.e8m0_shuffle``.
    """
    if isinstance(scale, ShuffledScale):
        raise TypeError("e8m0_shuffle: scale is a ShuffledScale already, must be a plain array")
    return ShuffledScale(E8M0_SHUFFLE(scale=scale, implementation=implementation)[0])
