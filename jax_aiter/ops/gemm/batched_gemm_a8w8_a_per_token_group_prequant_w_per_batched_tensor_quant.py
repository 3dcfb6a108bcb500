"""A batch of products of activations with quantised weights: the activations are quantised inside, by groups of columns.

MLA's absorption is this: per head, queries times the half of the latent's up-projection that belongs to keys, and what attention
gives times the half that belongs to values. Tokens stand before heads there, which `transpose_bm_in` and `transpose_bm` say.
"""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.batching import Batched
from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, constant, integers, normal
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm import product
from jax_aiter.ops.quant import numerics
from jax_aiter.ops.shared import narrow

OP = "batched_gemm_a8w8_a_per_token_group_prequant_w_per_batched_tensor_quant"
GROUP_SIZES = (32, 64, 128)


def _relayout(params):
    inner = {"X": "M B K"} if params["transpose_bm_in"] else {}
    return {**inner, "y": "M B N"} if params["transpose_bm"] else inner


def _abstract(dims, *, X, WQ, w_scale, bias, out_dtype, group_size, transpose_bm, transpose_bm_in):
    batch, rows = dims["B"], dims["M"]
    return (Struct((*((rows, batch) if transpose_bm else (batch, rows)), dims["N"]), out_dtype),)


def _reference(*, X, WQ, w_scale, bias, out_dtype, group_size, transpose_bm, transpose_bm_in):
    """One group of K after another, so nothing quantised or dequantised is wider than a group."""
    x = X.swapaxes(0, 1) if transpose_bm_in else X
    (b, m, k), n = x.shape, WQ.shape[1]
    groups = -(-k // group_size)
    missing = groups * group_size - k
    x, w = (jnp.pad(each, ((0, 0), (0, 0), (0, missing))) if missing else each for each in (x, WQ))
    columns = lambda x, start: jax.lax.dynamic_slice_in_dim(x, start, group_size, axis=2)  # noqa: E731

    def step(acc, group):
        part, weight = (narrow.read(each, group * group_size, columns) for each in (x, w))
        scale = numerics.amax_scale(part, WQ.dtype, -1)
        quantised = numerics.quantize(part, scale, WQ.dtype, truncate_int8=True)
        return acc + product.dot(quantised, weight).astype(jnp.float32) * scale, None

    acc = jnp.zeros((b, m, n), jnp.float32)
    if groups:
        acc, _ = jax.lax.scan(step, acc, jnp.arange(groups))
    y = product.finish(acc * w_scale[0], bias, out_dtype)
    return (y.swapaxes(0, 1) if transpose_bm else y,)


def _batch(batched: Batched, *, transpose_bm, transpose_bm_in, **params):
    """A batch of activations alone is more rows; one of weights is a larger batch, unless each has a scale of its own."""
    if "w_scale" in batched:
        return NotImplemented
    names = {"WQ", "bias"} & batched.names
    axis = {"X": int(transpose_bm_in), "WQ": 0, "bias": 0, "y": int(transpose_bm)}  # of B, which the batch is merged into
    if not names:  # of M
        axis = {"X": 1 - axis["X"], "y": 1 - axis["y"]}
    values = dict(batched.values)
    for name in axis.keys() & values.keys():
        x = jnp.moveaxis(batched.broadcast(name), 0, axis[name])
        values[name] = x.reshape(*x.shape[: axis[name]], x.shape[axis[name]] * x.shape[axis[name] + 1], *x.shape[axis[name] + 2 :])
    (y,) = batched.bind(**values)
    at = axis["y"]
    y = y.reshape(*y.shape[:at], batched.size, y.shape[at] // batched.size, *y.shape[at + 1 :])
    return (jnp.moveaxis(y, at, 0),)


BATCHED_GEMM_PREQUANT = Op(
    name=OP,
    family="LINEAR",
    mirrors=f"aiter.ops.triton.gemm.batched.{OP}",
    operands={
        "X": Arg("B M K"),
        "WQ": Arg("B N K", numerics.QUANTIZED),
        "w_scale": Arg("1", ("float32",)),
        "bias": Arg("B N", optional=True),
    },
    results={"y": "B M N"},
    relayout=_relayout,
    abstract=_abstract,
    reference=_reference,
    parallel=("B", "M", "N"),
    batch=_batch,
    fixed=("K",),  # how many groups there are
    cases=lambda: [
        case(
            "absorbed",
            X=normal(4, 2, 64, dtype=jnp.bfloat16),
            WQ=normal(2, 6, 64, dtype=jnp.float8_e4m3fnuz),
            w_scale=constant([0.5], jnp.float32),
            out_dtype=jnp.dtype("bfloat16"),
            group_size=32,
            transpose_bm=True,
            transpose_bm_in=True,
        ),
        case(
            "ragged_k",
            X=normal(3, 5, 33),
            WQ=integers(3, 4, 33, low=-127, high=128, dtype=jnp.int8),
            w_scale=constant([0.02], jnp.float32),
            bias=normal(3, 4, dtype=jnp.bfloat16),
            out_dtype=jnp.dtype("float16"),
            group_size=32,
            transpose_bm=False,
            transpose_bm_in=False,
        ),
    ],
)


@public
def batched_gemm_a8w8_a_per_token_group_prequant_w_per_batched_tensor_quant(
    X: jax.Array,
    WQ: jax.Array,
    w_scale: jax.Array,
    *,
    group_size: int = 128,
    bias: jax.Array | None = None,
    out_dtype: Any = jnp.bfloat16,
    transpose_bm: bool = False,
    transpose_bm_in: bool = False,
    implementation: str | None = None,
) -> jax.Array:
    """``y[b] = (quantised X[b] · WQ[b]ᵀ) * w_scale + bias[b]``, X quantised inside by a scale per token and group of K.

    That is `group_quant` of X into the dtype of WQ, and a product that applies the scale of each group to its part of the sum.

    Args:
      X: ``[B, M, K]`` float32, bfloat16 or float16; ``[M, B, K]`` with `transpose_bm_in`.
      WQ: ``[B, N, K]`` fp8 (of the target's family) or int8.
      w_scale: float32, one dequantisation factor for all of `WQ`: ``[1]`` or of any rank with one element.
      group_size: static; 32, 64 or 128 columns share a scale, ``max |x| / largest value of the dtype of WQ``, where the maximum
        counts as at least 1e-10. The last group may be narrower.
      bias: ``[B, N]``, float.
      out_dtype: bfloat16, float16 or float32.
      transpose_bm: static; return ``[M, B, N]``, tokens before heads.
      transpose_bm_in: static; X is ``[M, B, K]``.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[B, M, N]`` or, with `transpose_bm`, ``[M, B, N]``, in `out_dtype`, rounded once. AITER's kernel adds a bias in the bias's
      dtype.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors AITER's Triton wrapper of the same name (``triton_fp8_bmm`` of vLLM).
    """
    if w_scale.ndim != 1 and all(size == 1 for size in w_scale.shape):
        w_scale = w_scale.reshape((1,))
    check.choice(OP, "group_size", check.integer(OP, "group_size", group_size, 1), GROUP_SIZES)
    (y,) = BATCHED_GEMM_PREQUANT(
        X=X,
        WQ=WQ,
        w_scale=w_scale,
        bias=bias,
        out_dtype=check.static_dtype(OP, "out_dtype", out_dtype, product.OUT_TYPES),
        group_size=int(group_size),
        transpose_bm=check.boolean(OP, "transpose_bm", transpose_bm),
        transpose_bm_in=check.boolean(OP, "transpose_bm_in", transpose_bm_in),
        implementation=implementation,
    )
    return y
