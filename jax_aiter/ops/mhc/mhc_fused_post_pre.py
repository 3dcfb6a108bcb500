"""A layer's result written back to the streams of residuals, and what the next layer reads of them."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.cases import case, normal, uniform
from jax_aiter.core.gradient import Gradient
from jax_aiter.ops.mhc.mhc_post import MHC_POST, flat, written
from jax_aiter.ops.mhc.mhc_pre import EPSILONS, MHC_PRE, mixed, parameters, shapes

NAME = "mhc_fused_post_pre"
POST = {"layer_input": "x", "residual_in": "residual", "post_layer_mix": "post_layer_mix", "comb_res_mix": "comb_res_mix"}
#: of the two records, those of `mhc_post` under this one's names.
OPERANDS = {
    **{ours: MHC_POST.operands[theirs] for ours, theirs in POST.items()},
    **{name: x for name, x in MHC_PRE.operands.items() if name != "residual"},
}


def _abstract(dims, *, layer_input, residual_in, norm_weight, sinkhorn_repeat, **_):
    check.same_dtype(NAME, layer_input=layer_input.dtype, residual_in=residual_in.dtype)
    return (*shapes(NAME, dims, residual_in, norm_weight, sinkhorn_repeat), residual_in)


def _reference(*, layer_input, residual_in, post_layer_mix, comb_res_mix, **rest):
    given = {"x": layer_input, "residual": residual_in, "post_layer_mix": post_layer_mix, "comb_res_mix": comb_res_mix}
    (streams,) = written(**given)
    return (*mixed(residual=streams, **rest), streams)


def _inputs(*lead: int, streams: int, width: int, dtype=jnp.float32):
    rows = 2 * streams + streams * streams
    found = {"layer_input": normal(*lead, width, dtype=dtype), "residual_in": normal(*lead, streams, width, dtype=dtype)}
    found |= {"post_layer_mix": uniform(*lead, streams, high=2.0), "comb_res_mix": uniform(*lead, streams, streams)}
    return {**found, "fn": normal(rows, streams * width, std=0.3), "hc_scale": normal(3), "hc_base": normal(rows)}


MHC_FUSED_POST_PRE = Op(
    name=NAME,
    family="MHC",
    mirrors="aiter.ops.mhc.mhc_fused_post_pre (aiter/ops/mhc.py, csrc/kernels/mhc_kernels.cu)",
    operands=OPERANDS,
    results={"post_mix": "... n 1", "comb_mix": "... n n", "layer_input_out": "... H", "next_residual": "... n H"},
    abstract=_abstract,
    reference=_reference,
    fixed=("n", "H", "N", "K", "C"),
    parallel=("...",),
    fold="...",
    gradient=Gradient(wrt=tuple(OPERANDS), saves=tuple(OPERANDS), backward=None),
    cases=lambda: [
        case("four", **_inputs(3, streams=4, width=6), hc_post_mult_value=2.0, sinkhorn_repeat=20, **EPSILONS),
        case(
            "normed_bfloat16",
            **_inputs(2, 2, streams=2, width=5, dtype=jnp.bfloat16),
            norm_weight=normal(5, dtype=jnp.bfloat16),
            hc_post_mult_value=1.0,
            sinkhorn_repeat=1,
            **EPSILONS,
        ),
    ],
)


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
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(post_mix, comb_mix, layer_input, next_residual)``: what `mhc_pre` gives for the new streams, which come last, rounded to
      their dtype. The product with `fn` is of the rounded streams; AITER's fused kernel takes them before the rounding.
      Differentiable in all arrays.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters.
    Mirrors ``aiter.ops.mhc.mhc_fused_post_pre``; its `force_fused` and `is_fn_pack_bf16` choose among kernels and are not taken.
    """
    post, comb, mixed_input, streams = MHC_FUSED_POST_PRE(
        layer_input=layer_input,
        residual_in=residual_in,
        post_layer_mix=flat(post_layer_mix, residual_in),
        comb_res_mix=comb_res_mix,
        fn=fn,
        hc_scale=hc_scale,
        hc_base=hc_base,
        norm_weight=norm_weight,
        **parameters(
            NAME, rms_eps=rms_eps, hc_pre_eps=hc_pre_eps, hc_sinkhorn_eps=hc_sinkhorn_eps, norm_eps=norm_eps,
            hc_post_mult_value=hc_post_mult_value, sinkhorn_repeat=sinkhorn_repeat,
        ),
        implementation=implementation,
    )  # fmt: skip
    return post, comb, mixed_input, streams
