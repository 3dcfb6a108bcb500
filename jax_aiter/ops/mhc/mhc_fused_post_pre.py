"""A layer's result written back to the streams of residuals, and what the next layer reads of them."""

import jax

from jax_aiter.bind.public import public
from jax_aiter.core import axes
from jax_aiter.ops.mhc.mhc_post import MHC_POST, mhc_post
from jax_aiter.ops.mhc.mhc_pre import mhc_pre

NAME = "mhc_fused_post_pre"
#: of `mhc_post` under this function's own names, which errors are to tell
OPERANDS = {"layer_input": MHC_POST.operands["x"], "residual_in": MHC_POST.operands["residual"]}


@public
def mhc_fused_post_pre(
    layer_input: jax.Array,
    residual_in: jax.Array,
    post_layer_mix: jax.Array,
    comb_res_mix: jax.Array,
    fn: jax.Array,
    hc_scale: jax.Array,
    hc_base: jax.Array,
    rms_eps: float = 1e-6,
    hc_pre_eps: float = 1e-6,
    hc_sinkhorn_eps: float = 1e-6,
    hc_post_mult_value: float = 1.0,
    sinkhorn_repeat: int = 20,
    norm_weight: jax.Array | None = None,
    norm_eps: float = 1e-6,
    *,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """`mhc_post` of one layer and `mhc_pre` of the next.

    Args:
      layer_input: ``[..., H]``, the result of the layer before: `x` of `mhc_post`.
      residual_in: ``[..., n, H]``, the streams that it read: `residual` of `mhc_post`.
      post_layer_mix, comb_res_mix: as in `mhc_post`.
      fn, hc_scale, hc_base, rms_eps, hc_pre_eps, hc_sinkhorn_eps, hc_post_mult_value, sinkhorn_repeat, norm_weight, norm_eps: of
        the next layer, as in `mhc_pre`.
      implementation: of both: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(post_mix, comb_mix, layer_input, next_residual)``: what `mhc_pre` gives for the new streams, which come last and are
      rounded to their dtype first. Differentiable in all arrays.

    Raises: as `mhc_post` and `mhc_pre`.
    Mirrors ``aiter.ops.mhc.mhc_fused_post_pre``; its `force_fused` and `is_fn_pack_bf16` choose among kernels and are not taken.
    """
    axes.match(NAME, OPERANDS, {"layer_input": layer_input, "residual_in": residual_in})
    streams = mhc_post(layer_input, residual_in, post_layer_mix, comb_res_mix, implementation=implementation)
    mixed = mhc_pre(
        streams, fn, hc_scale, hc_base, rms_eps, hc_pre_eps, hc_sinkhorn_eps, hc_post_mult_value, sinkhorn_repeat, norm_weight,
        norm_eps, implementation=implementation,
    )  # fmt: skip
    return *mixed, streams
