"""Rotary position embedding of queries and keys in one launch ("2c": two channels)."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, integers, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.reads import joined
from jax_aiter.ops.rope import rotation


def _abstract(dims, *, q, k, cos, sin, positions, rotate_style, reuse_freqs_front_part, nope_first):
    check.same_dtype("rope_2c", q=q.dtype, k=k.dtype)
    rotation.check_tables("rope_2c", dims, cos, sin, reuse_freqs_front_part, "D", "q")
    return q, k


def _reference(*, q, k, cos, sin, positions, **style):
    rows = rotation.rows_at(cos, sin, positions)
    return rotation.rotate(q, rows, **style), rotation.rotate(k, rows, **style)


def _backward(saved, cotangents, *, implementation, rotate_style, reuse_freqs_front_part, nope_first):
    dq, dk = ROPE_2C(
        q=cotangents["q_out"],
        k=cotangents["k_out"],
        cos=saved["cos"],
        sin=rotation.back(saved["sin"], rotate_style, reuse_freqs_front_part),
        positions=saved["positions"],
        rotate_style=rotate_style,
        reuse_freqs_front_part=reuse_freqs_front_part,
        nope_first=nope_first,
        implementation=implementation,
    )
    return {"q": dq, "k": dk}


def _reads(*, q, k, cos, positions, **_):
    return joined([rotation.head_part(name, x, f"{name}_out", positions, cos) for name, x in (("q", q), ("k", k))])


def _data_checks(*, cos, positions, **_):
    return rotation.position_checks(positions, cos)


ROPE_2C = Op(
    name="rope_2c",
    family="ROPE",
    mirrors="aiter.rope_cached_positions_2c_fwd (aiter/ops/rope.py)",
    operands={"q": Arg("... Hq D"), "k": Arg("... Hk D"), "cos": Arg("P R"), "sin": Arg("P R"), "positions": Arg("...", INT32)},
    results={"q_out": "... Hq D", "k_out": "... Hk D"},
    abstract=_abstract,
    reference=_reference,
    fixed=("D", "R"),
    parallel=("...", "Hq", "Hk"),
    fold="...",
    gradient=Gradient(wrt=("q", "k"), saves=("cos", "sin", "positions"), backward=_backward),
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "neox",
            q=normal(5, 4, 8),
            k=normal(5, 2, 8),
            cos=normal(16, 4),
            sin=normal(16, 4),
            positions=integers(5, low=0, high=16),
            rotate_style="neox",
            reuse_freqs_front_part=True,
            nope_first=False,
        ),
        case(
            "gptj_partial",
            q=normal(2, 3, 3, 16, dtype=jnp.bfloat16),
            k=normal(2, 3, 1, 16, dtype=jnp.bfloat16),
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
def rope_2c(
    q: jax.Array,
    k: jax.Array,
    cos: jax.Array,
    sin: jax.Array,
    positions: jax.Array,
    *,
    rotate_style: str = "neox",
    reuse_freqs_front_part: bool = True,
    nope_first: bool = False,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """`rope` of queries and keys, which have the same positions, in one launch.

    Args:
      q: ``[..., Hq, D]`` float32, bfloat16 or float16; k: ``[..., Hk, D]``, the dtype and leading shape of `q`.
      cos, sin: the table of cosines and sines, ``[P, R]`` (or AITER's ``[P, 1, 1, R]``) float: one column per rotated pair, or
        (reuse_freqs_front_part=False) one per element. What of D is not rotated passes unchanged.
      positions: int32 ``[...]``, the leading shape of `q`: rows of the table. One outside [0, P) uses the nearest row.
      rotate_style, nope_first: as of `rope`.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(q, k)`` rotated, differentiable in both.

    Raises TypeError or ValueError naming the argument, its value and the rule; `debug_checks` reports bad positions.
    Mirrors ``aiter.rope_cached_positions_2c_fwd``.
    """
    turned = rotation.call_of(
        "rope_2c", cos, sin, rotate_style, reuse_freqs_front_part=reuse_freqs_front_part, nope_first=nope_first
    )
    q_out, k_out = ROPE_2C(q=q, k=k, positions=positions, **turned, implementation=implementation)
    return q_out, k_out
