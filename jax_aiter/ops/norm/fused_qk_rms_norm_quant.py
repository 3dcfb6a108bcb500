"""MLA's two RMS norms in one call, the query's quantised for the GEMM that follows."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.ops.norm.fused_qk_rms_norm import check_types
from jax_aiter.ops.norm.rms_norm import normalize, offset_weights
from jax_aiter.ops.norm.rms_norm_quant import RMS_NORM_QUANT
from jax_aiter.ops.quant import outputs, row_quant

FNUZ, OCP = jnp.dtype("float8_e4m3fnuz"), jnp.dtype("float8_e4m3fn")


def _relayout(params):
    if not params["transpose_scale"]:
        return {}
    return {
        "q": "M Q",
        "k": "M K",
        "q_residual": "M Q",
        "q_out": "M Q",
        "q_scale": "G M",
        "y": "M Y",
        "k_out": "M K",
        "total": "M R",
    }


def _query(q, q_weight, q_residual, params) -> dict[str, Any]:
    """The call of `rms_norm_quant` that the query's half is."""
    own = {n: v for n, v in params.items() if n not in ("q_epsilon", "k_epsilon")}
    return {"x": q, "weight": q_weight, "residual": q_residual, "scale": None, "epsilon": params["q_epsilon"], **own}


def _abstract(dims, *, q, q_weight, k, k_weight, q_residual, **params):
    op = "fused_qk_rms_norm_quant"
    check_types(op, q, q_weight, k, k_weight, q_residual)
    if params["group_size"] is not None:
        check.multiple(op, f"dimension {len(q.shape) - 1} of q (Q)", dims["Q"], params["group_size"], "group_size")
    xq, scale, y, total = RMS_NORM_QUANT.abstract(dims, **_query(q, q_weight, q_residual, params))
    return xq, scale, y, k, total


def _reference(*, q, q_weight, k, k_weight, q_residual, **params):
    xq, scale, y, total = RMS_NORM_QUANT.reference(**_query(q, q_weight, q_residual, params))
    k_out = normalize(k.astype(jnp.float32), k_weight, params["k_epsilon"])
    return xq, scale, y, k_out.astype(k.dtype), total


def _batch(batched, **params):
    return row_quant.fold_transposed(batched, "q", "k", "q_residual") if params["transpose_scale"] else NotImplemented


def _case(name: str, lead: tuple[int, ...], q: int, k: int, dtype: Any = jnp.float32, add: bool = False, **params: Any):
    usual = {"q_epsilon": 1e-6, "k_epsilon": 1e-5, "quant_dtype": FNUZ, "group_size": None, "transpose_scale": False}
    operands = {"q": normal(*lead, q, dtype=dtype), "q_weight": normal(q, dtype=dtype)}
    operands |= {"k": normal(*lead, k, dtype=dtype), "k_weight": normal(k, dtype=dtype)}
    operands |= {"q_residual": normal(*lead, q, dtype=dtype)} if add else {}
    return case(name, **operands, **{**usual, "output_unquantized": False, **params})


FUSED_QK_RMS_NORM_QUANT = Op(
    name="fused_qk_rms_norm_quant",
    family="NORM",
    mirrors="aiter.fused_qk_rmsnorm_per_token_quant, fused_qk_rmsnorm_group_quant (aiter/ops/fused_qk_rmsnorm_group_quant.py), "
    "fused_rms_fp8_group_quant with a second input (aiter/ops/triton/quant/fused_fp8_quant.py)",
    operands={
        "q": Arg("... Q"),
        "q_weight": Arg("Q"),
        "k": Arg("... K"),
        "k_weight": Arg("K"),
        "q_residual": Arg("... Q", optional=True),
    },
    results={"q_out": "... Q", "q_scale": "... G", "y": "... Y", "k_out": "... K", "total": "... R"},
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    parallel=("...", "M"),
    fold="...",
    batch=_batch,
    cases=lambda: [
        _case("token", (5,), 33, 16, dtype=jnp.bfloat16),
        _case("group", (2, 3), 64, 24, group_size=32, output_unquantized=True, add=True),
        _case("transposed", (3,), 128, 16, dtype=jnp.float16, group_size=64, transpose_scale=True, quant_dtype=OCP),
    ],
)


@public
def fused_qk_rms_norm_quant(
    q: jax.Array,
    q_weight: jax.Array,
    k: jax.Array,
    k_weight: jax.Array,
    q_epsilon: float = 1e-6,
    k_epsilon: float = 1e-6,
    *,
    q_residual: jax.Array | None = None,
    group_size: int | None = None,
    quant_dtype: Any = "fp8",
    transpose_scale: bool = False,
    weight_offset: float = 0.0,
    output_unquantized: bool = False,
    implementation: str | None = None,
) -> tuple[jax.Array, ...]:
    """`fused_qk_rms_norm` whose query is quantised, as by `rms_norm_quant`, and whose key is not.

    Args:
      q: ``[..., Q]`` float32, bfloat16 or float16. ``[M, Q]`` with `transpose_scale`.
      q_weight: ``[Q]``, the dtype of `q` or float32.
      k: ``[..., K]``, the leading axes and dtype of `q`.
      k_weight: ``[K]``, the dtype of `q` or float32.
      q_epsilon, k_epsilon: static, > 0, added to the mean of the squares.
      q_residual: the shape and dtype of `q`, added to it first.
      group_size: None for a scale per row (token), else 32, 64 or 128, which divides Q, for one per so many columns of a row.
      quant_dtype: ``"fp8"`` (the target's e4m3 variant), ``float8_e4m3fnuz``, ``float8_e4m3fn`` or ``int8``.
      transpose_scale: return the scales of groups as ``[Q/group_size, M]``.
      weight_offset: static, added to both weights in float32.
      output_unquantized: return the query's norm in its own dtype too.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      A named tuple of ``q``, quantised; ``q_scale`` float32 ``[..., 1]`` or ``[..., Q/group_size]``; with `output_unquantized`
      ``q_unquantized``; ``k``, the key's norm; with `q_residual` ``q_residual_out = q + q_residual``.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.fused_qk_rmsnorm_per_token_quant`` and ``fused_qk_rmsnorm_group_quant``.
    """
    op = "fused_qk_rms_norm_quant"
    quant = {"quant_dtype": quant_dtype, "group_size": group_size, "transpose_scale": transpose_scale}
    params = {
        "q_epsilon": check.real(op, "q_epsilon", q_epsilon, low=0.0, open_low=True),
        "k_epsilon": check.real(op, "k_epsilon", k_epsilon, low=0.0, open_low=True),
        "output_unquantized": (output_unquantized := check.boolean(op, "output_unquantized", output_unquantized)),
        **row_quant.params(op, **quant, static=False),
    }
    operands = {"q": q, "q_weight": q_weight, "k": k, "k_weight": k_weight, "q_residual": q_residual}
    weights = "q_weight", "k_weight"
    operands |= zip(weights, offset_weights(FUSED_QK_RMS_NORM_QUANT, weight_offset, params, operands, *weights), strict=True)
    xq, scale, y, k_out, total = FUSED_QK_RMS_NORM_QUANT(**operands, **params, implementation=implementation)
    return outputs.named(
        q=xq,
        q_scale=scale,
        q_unquantized=y if output_unquantized else None,
        k=k_out,
        q_residual_out=None if q_residual is None else total,
    )
