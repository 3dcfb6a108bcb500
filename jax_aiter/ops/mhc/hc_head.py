"""The streams of DeepSeek-V4's hyper-connections as one, in front of its head."""

import jax

from jax_aiter.bind.public import public
from jax_aiter.core import axes, check
from jax_aiter.ops.mhc.mhc_pre import MHC_PRE, parameters

NAME = "hc_head"
RECORD = MHC_PRE.operands
#: under this function's own names, which errors are to tell
OPERANDS = {
    "hidden_states": RECORD["residual"],
    "hc_fn": RECORD["fn"],
    "hc_scale": RECORD["hc_scale"],
    "hc_base": RECORD["hc_base"],
}


@public
def hc_head(
    hidden_states: jax.Array,
    hc_fn: jax.Array,
    hc_scale: jax.Array,
    hc_base: jax.Array,
    rms_norm_eps: float = 1e-6,
    hc_eps: float = 1e-6,
    *,
    implementation: str | None = None,
) -> jax.Array:
    """`mhc_pre` without a way back: ``sum of (sigmoid(mix * hc_scale + hc_base) + hc_eps) * hidden_states`` over n streams.

    Args:
      hidden_states: ``[..., n, H]`` float32, bfloat16 or float16.
      hc_fn: ``[n, n * H]``, hc_scale: ``[1]`` and hc_base: ``[n]`` float32; ``mix`` as in `mhc_pre`.
      rms_norm_eps, hc_eps: static, at least 0; the former is added to the mean of the squares.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[..., H]``, the dtype of `hidden_states`. Differentiable in all operands.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters.
    Mirrors ``aiter.ops.mhc.mhc_pre`` with ``sinkhorn_repeat=0``.
    """
    given = (hidden_states, hc_fn, hc_scale, hc_base)
    dims = axes.match(NAME, OPERANDS, dict(zip(OPERANDS, given, strict=True)))
    if (dims["N"], dims["K"]) != (dims["n"], dims["n"] * dims["H"]):
        raise ValueError(f"{NAME}: hc_fn has shape {hc_fn.shape}, must be [n, n * H] of hidden_states {hidden_states.shape}")
    epsilons = {"rms_eps": check.real(NAME, "rms_norm_eps", rms_norm_eps, low=0.0)}
    epsilons |= {"hc_pre_eps": check.real(NAME, "hc_eps", hc_eps, low=0.0), "hc_sinkhorn_eps": 0.0, "norm_eps": 0.0}
    found = MHC_PRE(
        residual=hidden_states,
        fn=hc_fn,
        hc_scale=hc_scale,
        hc_base=hc_base,
        norm_weight=None,
        **parameters(NAME, **epsilons, hc_post_mult_value=1.0, sinkhorn_repeat=0),
        implementation=implementation,
    )
    return found[2]
