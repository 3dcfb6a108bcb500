"""Rotary position embedding from a table of cosines and sines."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, integers, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.reads import joined
from jax_aiter.ops.rope import rotation


def _abstract(dims, *, x, cos, sin, positions, rotate_style, reuse_freqs_front_part, nope_first):
    rotation.check_tables("rope", dims, cos, sin, reuse_freqs_front_part, "D", "x")
    return (x,)


def _reference(*, x, cos, sin, positions, **params):
    return (rotation.rotate(x, rotation.rows_at(cos, sin, positions), **params),)


def _backward(saved, cotangents, *, implementation, rotate_style, reuse_freqs_front_part, nope_first):
    (dx,) = ROPE(
        x=cotangents["y"],
        cos=saved["cos"],
        sin=rotation.back(saved["sin"], rotate_style, reuse_freqs_front_part),
        positions=saved["positions"],
        rotate_style=rotate_style,
        reuse_freqs_front_part=reuse_freqs_front_part,
        nope_first=nope_first,
        implementation=implementation,
    )
    return {"x": dx}


def _reads(*, x, cos, positions, **_):
    return joined([rotation.head_part("x", x, "y", positions, cos)])


def _data_checks(*, cos, positions, **_):
    return rotation.position_checks(positions, cos)


ROPE = Op(
    name="rope",
    family="ROPE",
    mirrors="aiter.rope_cached_positions_fwd, aiter.rope_cached_positions_offsets_fwd (aiter/ops/rope.py)",
    operands={"x": Arg("... H D"), "cos": Arg("P R"), "sin": Arg("P R"), "positions": Arg("...", INT32)},
    results={"y": "... H D"},
    abstract=_abstract,
    reference=_reference,
    fixed=("D", "R"),
    parallel=("...", "H"),
    fold="...",
    gradient=Gradient(wrt=("x",), saves=("cos", "sin", "positions"), backward=_backward),
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "neox",
            x=normal(5, 3, 8),
            cos=normal(16, 4),
            sin=normal(16, 4),
            positions=integers(5, low=0, high=16),
            rotate_style="neox",
            reuse_freqs_front_part=True,
            nope_first=False,
        ),
        case(
            "gptj_partial",
            x=normal(2, 3, 1, 16, dtype=jnp.bfloat16),
            cos=normal(7, 6),
            sin=normal(7, 6),
            positions=integers(2, 3, low=0, high=7),
            rotate_style="gptj",
            reuse_freqs_front_part=False,
            nope_first=True,
        ),
    ],
)


@public
def rope(
    x: jax.Array,
    cos: jax.Array,
    sin: jax.Array,
    positions: jax.Array | None = None,
    *,
    offsets: jax.Array | None = None,
    rotate_style: str = "neox",
    reuse_freqs_front_part: bool = True,
    nope_first: bool = False,
    implementation: str | None = None,
) -> jax.Array:
    """Rotate pairs of elements of each head by the angle of its position: ``x * cos + rotate(x) * sin``, in float32.

    Args:
      x: ``[..., H, D]`` float32, bfloat16 or float16, for example ``[T, H, D]`` or ``[B, S, H, D]``.
      cos, sin: the table of cosines and sines, ``[P, R]`` (or AITER's ``[P, 1, 1, R]``) float, one row per position. The rotary
        dimension is 2R with `reuse_freqs_front_part`, else R; it is even and at most D. The other D - rotary elements of a head
        pass unchanged.
      positions: int32 ``[...]``, the leading shape of `x`: rows of the table. None: the index along the first axis of `x`, which is
        then AITER's ``[S, B, H, D]`` (or ``[S, H, D]``).
      offsets: int32, the shape of `positions`; added to them.
      rotate_style: ``"neox"`` pairs element i with i + rotary/2, ``"gptj"`` pairs 2i with 2i + 1.
      reuse_freqs_front_part: the table has one column per pair; False: one per element.
      nope_first: the unrotated elements are the first of a head, not the last.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      The shape and dtype of `x`. Differentiable in `x`. A position outside [0, P) uses the nearest row of the table; under
      ``debug_checks()`` it is an error.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.rope_cached_fwd``, ``rope_cached_positions_fwd`` and ``rope_cached_positions_offsets_fwd``. For AITER's
    ``rope_fwd``, which takes angles, pass ``jnp.cos(freqs)`` and ``jnp.sin(freqs)``.
    """
    op = "rope"
    turned = rotation.call_of(op, cos, sin, rotate_style, reuse_freqs_front_part=reuse_freqs_front_part, nope_first=nope_first)
    shape = getattr(x, "shape", ())
    if positions is None:
        if len(shape) < 3:
            raise ValueError(f"{op}: x must have at least 3 dimensions [S, ..., H, D] where positions is None, got shape {shape}")
        positions = jax.lax.broadcasted_iota(jnp.int32, shape[:-2], 0)
    if offsets is not None:
        for name, value in (("positions", positions), ("offsets", offsets)):
            if getattr(value, "dtype", None) != jnp.int32 or value.shape != shape[:-2]:
                got = f"{getattr(value, 'dtype', type(value).__name__)}{list(getattr(value, 'shape', ()))}"
                raise (TypeError if getattr(value, "dtype", None) != jnp.int32 else ValueError)(
                    f"{op}: {name} must be int32 of the leading shape of x, {list(shape[:-2])}, got {got}"
                )
        positions = positions + offsets
    return ROPE(x=x, positions=positions, **turned, implementation=implementation)[0]


@public
def rope_positions(x: jax.Array, cos: jax.Array, sin: jax.Array, positions: jax.Array, **options) -> jax.Array:
    """`rope` with given positions.

    Args:
      x, cos, sin, positions: as for `rope`: ``x [..., H, D]`` float32, bfloat16 or float16; `positions` int32, here not None.
      options: the keyword arguments of `rope`.

    Returns:
      What `rope` gives: the shape and dtype of `x`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.rope_cached_positions_fwd``.
    """
    if positions is None:
        raise TypeError("rope: positions is required by rope_positions, got None")
    return rope(x, cos, sin, positions, **options)
