"""A layer's result written back to several streams of residuals: DeepSeek-V4's hyper-connections."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal, uniform
from jax_aiter.core.gradient import Gradient

NAME = "mhc_post"
F32 = ("float32",)


def _abstract(dims, *, x, residual, **_):
    check.same_dtype(NAME, x=x.dtype, residual=residual.dtype)
    return (residual,)


def written(*, x, residual, post_layer_mix, comb_res_mix):
    """The record's reference."""
    wide, streams = residual.astype(jnp.float32), residual.shape[-2]
    out = post_layer_mix[..., None] * x.astype(jnp.float32)[..., None, :]
    for h in range(streams):  # a handful: four in the model
        out = out + comb_res_mix[..., h, :, None] * wide[..., h, None, :]
    return (out.astype(residual.dtype),)


def flat(post_layer_mix: jax.Array, residual: jax.Array) -> jax.Array:
    """``[..., n]`` of what may be ``[..., n, 1]``."""
    column = post_layer_mix.ndim == residual.ndim and post_layer_mix.shape[-1] == 1
    return post_layer_mix[..., 0] if column else post_layer_mix


def _inputs(*lead: int, streams: int, width: int, dtype: Any = jnp.float32):
    found = {"x": normal(*lead, width, dtype=dtype), "residual": normal(*lead, streams, width, dtype=dtype)}
    return {**found, "post_layer_mix": uniform(*lead, streams, high=2.0), "comb_res_mix": uniform(*lead, streams, streams)}


MHC_POST = Op(
    name=NAME,
    family="MHC",
    mirrors="aiter.ops.mhc.mhc_post (aiter/ops/mhc.py, csrc/kernels/mhc_kernels.cu)",
    operands={
        "x": Arg("... H"),
        "residual": Arg("... n H"),
        "post_layer_mix": Arg("... n", F32),
        "comb_res_mix": Arg("... n n", F32),
    },
    results={"out": "... n H"},
    abstract=_abstract,
    reference=written,
    fixed=("n",),
    parallel=("...",),
    fold="...",
    gradient=Gradient(
        wrt=("x", "residual", "post_layer_mix", "comb_res_mix"),
        saves=("x", "residual", "post_layer_mix", "comb_res_mix"),
        backward=None,
    ),
    cases=lambda: [
        case("four", **_inputs(3, streams=4, width=5)),
        case("leading_bfloat16", **_inputs(2, 2, streams=2, width=3, dtype=jnp.bfloat16)),
    ],
)


@public
def mhc_post(
    x: jax.Array,
    residual: jax.Array,
    post_layer_mix: jax.Array,
    comb_res_mix: jax.Array,
    *,
    implementation: str | None = None,
) -> jax.Array:
    """``out[j] = post_layer_mix[j] * x + sum of comb_res_mix[h, j] * residual[h]`` over the streams h, in float32, one rounding.

    Args:
      x: ``[..., H]`` float32, bfloat16 or float16, a layer's result.
      residual: ``[..., n, H]``, the dtype of `x`: the n streams of each token.
      post_layer_mix: ``[..., n]`` or ``[..., n, 1]`` and comb_res_mix: ``[..., n, n]`` float32, as `mhc_pre` gives them.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[..., n, H]``, the dtype of `x`: the streams behind the layer. Differentiable in all operands.

    Raises TypeError or ValueError for wrong shapes or dtypes.
    Mirrors ``aiter.ops.mhc.mhc_post``, whose `out` is the result here; its `store_nt` changes none and is not taken.
    """
    (out,) = MHC_POST(
        x=x,
        residual=residual,
        post_layer_mix=flat(post_layer_mix, residual),
        comb_res_mix=comb_res_mix,
        implementation=implementation,
    )
    return out
