"""Two RMS norms in one call: MLA's, of the query's and of the key's and value's low-rank projection."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.ops.norm.rms_norm import check_weight, normalize, offset_weights, pull_back


def _abstract(dims, *, q, q_weight, k, k_weight, **norm):
    check_types("fused_qk_rms_norm", q, q_weight, k, k_weight)
    return q, k


def check_types(op: str, q, q_weight, k, k_weight, q_residual=None) -> None:
    """One dtype; that of a weight or float32, as `check_weight` has it."""
    check.same_dtype(op, q=q.dtype, k=k.dtype, **({} if q_residual is None else {"q_residual": q_residual.dtype}))
    for name, weight in (("q_weight", q_weight), ("k_weight", k_weight)):
        check_weight(op, q, weight, name, "q")


def _reference(*, q, q_weight, k, k_weight, q_epsilon, k_epsilon):
    def norm(x, weight, epsilon):
        return normalize(x.astype(jnp.float32), weight, epsilon).astype(x.dtype)

    return norm(q, q_weight, q_epsilon), norm(k, k_weight, k_epsilon)


def _backward(saved, cotangents, *, implementation, q_epsilon, k_epsilon):
    found = {}
    for name, epsilon in (("q", q_epsilon), ("k", k_epsilon)):
        x, weight = saved[name].astype(jnp.float32), saved[f"{name}_weight"]
        found[name], found[f"{name}_weight"] = pull_back(x, weight, cotangents[f"{name}_out"], epsilon)
    return found


FUSED_QK_RMS_NORM = Op(
    name="fused_qk_rms_norm",
    family="NORM",
    mirrors="aiter.fused_qk_rmsnorm (aiter/ops/fused_qk_rmsnorm_group_quant.py, fused_qk_norm_rope_cache_quant.py)",
    operands={"q": Arg("... Q"), "q_weight": Arg("Q"), "k": Arg("... K"), "k_weight": Arg("K")},
    results={"q_out": "... Q", "k_out": "... K"},
    abstract=_abstract,
    reference=_reference,
    parallel=("...",),
    fold="...",
    gradient=Gradient(wrt=("q", "q_weight", "k", "k_weight"), saves=("q", "q_weight", "k", "k_weight"), backward=_backward),
    cases=lambda: [
        case(
            "odd",
            q=normal(5, 33, dtype=jnp.bfloat16),
            q_weight=normal(33, dtype=jnp.bfloat16),
            k=normal(5, 16, dtype=jnp.bfloat16),
            k_weight=normal(16, dtype=jnp.bfloat16),
            q_epsilon=1e-6,
            k_epsilon=1e-5,
        ),
        case(
            "leading",
            q=normal(2, 3, 16),
            q_weight=normal(16),
            k=normal(2, 3, 24),
            k_weight=normal(24),
            q_epsilon=1e-6,
            k_epsilon=1e-6,
        ),
    ],
)


@public
def fused_qk_rms_norm(
    q: jax.Array,
    q_weight: jax.Array,
    k: jax.Array,
    k_weight: jax.Array,
    q_epsilon: float = 1e-6,
    k_epsilon: float = 1e-6,
    *,
    weight_offset: float = 0.0,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """``rms_norm(q, q_weight, q_epsilon), rms_norm(k, k_weight, k_epsilon)``: MLA's two norms.

    Args:
      q: ``[..., Q]`` float32, bfloat16 or float16: the query's low-rank projection (Q 1536 in DeepSeek-V3).
      q_weight: ``[Q]``, the dtype of `q` or float32.
      k: ``[..., K]``, the leading axes and dtype of `q`: the keys' and values' compressed projection (K 512).
      k_weight: ``[K]``, the dtype of `q` or float32.
      q_epsilon, k_epsilon: static, > 0, added to the mean of the squares.
      weight_offset: static, added to both weights in float32.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      The norms, of the shapes and dtype of `q` and `k`. Differentiable in all four operands.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.fused_qk_rmsnorm``; with `q` quantised it is `fused_qk_rms_norm_quant`.
    """
    op = "fused_qk_rms_norm"
    params: dict[str, Any] = {
        "q_epsilon": check.real(op, "q_epsilon", q_epsilon, low=0.0, open_low=True),
        "k_epsilon": check.real(op, "k_epsilon", k_epsilon, low=0.0, open_low=True),
    }
    operands = {"q": q, "q_weight": q_weight, "k": k, "k_weight": k_weight}
    weights = "q_weight", "k_weight"
    operands |= zip(weights, offset_weights(FUSED_QK_RMS_NORM, weight_offset, params, operands, *weights), strict=True)
    found = FUSED_QK_RMS_NORM(**operands, **params, implementation=implementation)
    return found[0], found[1]
