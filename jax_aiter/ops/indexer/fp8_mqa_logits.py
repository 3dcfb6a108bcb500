"""Scores of sparse attention's indexer over packed keys: many query heads, one fp8 key per token (prefill)."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import machine, symbolic
from jax_aiter.core.axes import FP8_TYPES, INT32, Arg
from jax_aiter.core.cases import case, constant, normal, uniform
from jax_aiter.core.reads import NOTHING, Reads, at, grid, spread
from jax_aiter.ops.gemm import product

OP = "fp8_mqa_logits"
#: Scores of heads held at a time.
ELEMENTS = 1 << 22


def _abstract(dims, *, q, kv, kv_scales, weights, cu_starts, cu_ends):
    return (jax.ShapeDtypeStruct((dims["T"], dims["S"]), jnp.float32),)


def head_sum(q: jax.Array, keys: jax.Array, scale: jax.Array, weights: jax.Array) -> jax.Array:
    """``[S]`` from a token's queries ``[H, D]``, keys ``[S, D]`` with scales ``[S]``, and weights ``[H]``."""
    if not machine.is_gpu():
        # Exact too, and jaxlib 0.9 on a CPU has no batched product of bfloat16, which this is of several tokens.
        q, keys = (x.astype(jnp.float32) for x in (q, keys))
    scores = product.dot(q, keys) * scale
    # Not a maximum with 0, which may hide NaN.
    return jnp.sum(jnp.where(scores < 0, 0.0, scores) * weights[:, None], axis=0)


def _reference(*, q, kv, kv_scales, weights, cu_starts, cu_ends):
    (tokens, heads, _), columns = q.shape, kv.shape[0]

    def scores(one):
        q, weight, start, end = one
        column = jnp.arange(columns)
        return jnp.where((start <= column) & (column < end), head_sum(q, kv, kv_scales, weight), -jnp.inf)

    rows = (q, weights, cu_starts, cu_ends)
    if symbolic.any_symbolic_size(tokens, heads, columns):
        return (jax.lax.map(scores, rows),)
    return (jax.lax.map(scores, rows, batch_size=max(min(ELEMENTS // max(heads * columns, 1), tokens), 1)),)


def _reads(*, q, kv, kv_scales, weights, cu_starts, cu_ends):
    """One group per logit: a token's heads, one key and its scale."""
    tokens, columns = len(q), len(kv)
    column = np.arange(columns)
    sees = (cu_starts[:, None] <= column) & (column < cu_ends[:, None])
    token, key = grid(tokens, columns)
    found = {
        "q": spread(at(token, tokens), None, None),
        "weights": spread(at(token, tokens), None),
        "kv": spread(at(key, columns), None),
        "kv_scales": at(key, columns),
    }
    return Reads(len(token), {"logits": np.where(sees, np.arange(len(token)).reshape(sees.shape), NOTHING)}, found)


FP8_MQA_LOGITS = Op(
    name=OP,
    family="ATTENTION",
    mirrors="aiter.ops.triton.attention.fp8_mqa_logits (in releases up to 0.1.7 aiter.ops.triton.fp8_mqa_logits)",
    operands={
        "q": Arg("T H D", FP8_TYPES),
        "kv": Arg("S D", FP8_TYPES),
        "kv_scales": Arg("S", ("float32",)),
        "weights": Arg("T H", ("float32",)),
        "cu_starts": Arg("T", INT32),
        "cu_ends": Arg("T", INT32),
    },
    results={"logits": "T S"},
    abstract=_abstract,
    reference=_reference,
    parallel=("T",),
    fold="T",
    infinite=("logits",),
    reads=_reads,
    data_checks=lambda *, kv, cu_starts, cu_ends, **_: {
        "0 <= cu_starts <= cu_ends <= S": (cu_starts < 0) | (cu_starts > cu_ends) | (cu_ends > kv.shape[0])
    },
    cases=lambda: [
        case(
            "two_sequences",
            q=normal(5, 4, 16, dtype=jnp.float8_e4m3fnuz),
            kv=normal(9, 16, dtype=jnp.float8_e4m3fnuz),
            kv_scales=uniform(9, low=0.1),
            weights=normal(5, 4),
            cu_starts=constant([0, 0, 4, 4, 4], jnp.int32),
            cu_ends=constant([3, 4, 7, 8, 9], jnp.int32),
        ),
        case(
            "odd",
            q=normal(3, 3, 8, dtype=jnp.float8_e4m3fn),
            kv=normal(5, 8, dtype=jnp.float8_e4m3fn),
            kv_scales=uniform(5, low=0.1),
            weights=normal(3, 3),
            cu_starts=constant([0, 2, 5], jnp.int32),
            cu_ends=constant([5, 2, 5], jnp.int32),
        ),
    ],
)


@public
def fp8_mqa_logits(
    q: jax.Array,
    kv: jax.Array,
    kv_scales: jax.Array,
    weights: jax.Array,
    cu_starts: jax.Array,
    cu_ends: jax.Array,
    *,
    implementation: str | None = None,
) -> jax.Array:
    """``logits[t, s] = Σ_h weights[t, h] * relu(q[t, h] · kv[s] * kv_scales[s])`` for cu_starts[t] <= s < cu_ends[t], else -inf.

    Args:
      q: fp8 ``[T, H, D]`` queries of the indexer (of the target's family); their scale and the softmax scale belong into `weights`.
      kv: fp8 ``[S, D]``, the keys of all sequences, one sequence after the other, and kv_scales: float32 ``[S]``: what
        `cp_gather_indexer_k_quant_cache` gives.
      weights: float32 ``[T, H]``.
      cu_starts: int32 ``[T]``, first key that token t sees; below 0 counts as 0.
      cu_ends: int32 ``[T]``, one past its last key; beyond S counts as S. An empty range gives only -inf.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      float32 ``[T, S]``, which `top_k_per_row_prefill` takes with the same ranges. Not differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.ops.triton.attention.fp8_mqa_logits``.
    """
    (logits,) = FP8_MQA_LOGITS(
        q=q,
        kv=kv,
        kv_scales=kv_scales,
        weights=weights,
        cu_starts=cu_starts,
        cu_ends=cu_ends,
        implementation=implementation,
    )
    return logits
