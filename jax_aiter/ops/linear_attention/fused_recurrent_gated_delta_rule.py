"""`chunk_gated_delta_rule` under the name, and with the gates, of AITER's kernel that goes token by token."""

from typing import Any

import jax

from jax_aiter.bind.public import public
from jax_aiter.ops.linear_attention.chunk_gated_delta_rule import call

NAME = "fused_recurrent_gated_delta_rule"


@public
def fused_recurrent_gated_delta_rule(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    g: jax.Array | None = None,
    gk: jax.Array | None = None,
    beta: jax.Array | None = None,
    scale: float | None = None,
    initial_state: jax.Array | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    cu_seqlens: jax.Array | None = None,
    *,
    implementation: str | None = None,
) -> tuple[jax.Array, Any]:
    """`chunk_gated_delta_rule`, whose gates may be of each channel of the keys: the two are one op.

    Args:
      gk: ``[B, T, HV, K]`` float, in place of `g`: the logarithm of each channel's decay.
      q, k, v, g, beta, scale, initial_state, output_final_state, use_qk_l2norm_in_kernel, cu_seqlens, implementation: as in
        `chunk_gated_delta_rule`.

    Returns, raises: as `chunk_gated_delta_rule`.

    Mirrors ``fused_recurrent_gated_delta_rule`` of AITER's Triton half. Its `gv`, a gate of each channel of the values, and its
    `beta` of each of them are not taken: no model has them.
    """
    return call(
        NAME, q=q, k=k, v=v, g=g, gk=gk, beta=beta, scale=scale, initial_state=initial_state, cu_seqlens=cu_seqlens,
        output_final_state=output_final_state, l2norm=use_qk_l2norm_in_kernel, implementation=implementation,
    )  # fmt: skip
