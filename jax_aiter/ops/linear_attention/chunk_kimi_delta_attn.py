"""Kimi delta attention: the gated delta rule with a gate of each channel, and the arithmetic of Kimi's gates in front of it."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.ops.linear_attention.chunk_gated_delta_rule import call

NAME = "chunk_kimi_delta_attn"
SAFE = -5.0  # AITER's bound on lower_bound: sixteen tokens' decays of it are still normal numbers of float32


@public
def chunk_kimi_delta_attn(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    g: jax.Array,
    beta: jax.Array,
    A_log: jax.Array | None = None,
    dt_bias: jax.Array | None = None,
    scale: float | None = None,
    initial_state: jax.Array | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    use_gate_in_kernel: bool = False,
    use_beta_sigmoid_in_kernel: bool = False,
    safe_gate: bool = False,
    lower_bound: float | None = None,
    state_v_first: bool = False,
    cu_seqlens: jax.Array | None = None,
    *,
    implementation: str | None = None,
) -> tuple[jax.Array, Any]:
    """`chunk_gated_delta_rule` with a gate of each channel: ``S = exp(g)[:, None] * S`` for each token.

    Args:
      q, k: ``[B, T, H, K]`` float32, bfloat16 or float16; v: ``[B, T, HV, V]``, the dtype of `q`; HV is a multiple of H.
      g: ``[B, T, HV, K]`` float, the logarithms of the decays, or what they are computed from (`use_gate_in_kernel`).
      beta: ``[B, T, HV]`` float, how much of a token is written, or its logit (`use_beta_sigmoid_in_kernel`).
      A_log: ``[HV]`` and dt_bias: ``[HV * K]`` or ``[HV, K]`` float, of `use_gate_in_kernel` only; no `dt_bias` adds nothing.
      use_gate_in_kernel: the decays' logarithms are ``-exp(A_log) * softplus(g + dt_bias)``, with a `lower_bound`
        ``lower_bound * sigmoid(exp(A_log) * (g + dt_bias))``; in float32.
      safe_gate: asks for a `lower_bound` in [-5, 0) where the gate is computed; it changes no result here.
      state_v_first: states are ``[N, HV, V, K]``.
      scale, initial_state (float32), output_final_state, use_qk_l2norm_in_kernel, cu_seqlens, implementation: as in
        `chunk_gated_delta_rule`.

    Returns, raises: as `chunk_gated_delta_rule`.

    Mirrors ``chunk_kimi_delta_attn`` of AITER's Triton half; its `chunk_size` and `disable_recompute` change no result and are not
    taken.
    """
    if beta.ndim != 3 or g.ndim != 4:
        raise ValueError(f"{NAME}: g must be [B, T, HV, K] and beta [B, T, HV], got shapes {g.shape} and {beta.shape}")
    fused, logits = (
        check.boolean(NAME, name, value)
        for name, value in (("use_gate_in_kernel", use_gate_in_kernel), ("use_beta_sigmoid_in_kernel", use_beta_sigmoid_in_kernel))
    )
    safe = check.boolean(NAME, "safe_gate", safe_gate)
    if lower_bound is not None:
        lower_bound = check.real(NAME, "lower_bound", lower_bound)
    if fused and safe and (lower_bound is None or not SAFE <= lower_bound < 0):
        raise ValueError(
            f"{NAME}: lower_bound must be in [{SAFE}, 0) where safe_gate and use_gate_in_kernel are set, got {lower_bound}"
        )
    gate = _gate(g, A_log, dt_bias, lower_bound) if fused else g
    swapped = check.boolean(NAME, "state_v_first", state_v_first)
    if initial_state is not None and initial_state.ndim != 4:
        raise ValueError(f"{NAME}: initial_state must have 4 dimensions, got shape {initial_state.shape}")
    if swapped and initial_state is not None:
        initial_state = initial_state.swapaxes(2, 3)
    o, state = call(
        NAME, q=q, k=k, v=v, g=None, gk=gate, beta=jax.nn.sigmoid(beta.astype(jnp.float32)) if logits else beta, scale=scale,
        initial_state=initial_state, cu_seqlens=cu_seqlens, output_final_state=output_final_state,
        l2norm=use_qk_l2norm_in_kernel, implementation=implementation,
    )  # fmt: skip
    return o, state.swapaxes(2, 3) if swapped and state is not None else state


def _gate(g: jax.Array, A_log: jax.Array | None, dt_bias: jax.Array | None, lower_bound: float | None) -> jax.Array:
    heads, width = g.shape[2:]
    if A_log is None:
        raise ValueError(f"{NAME}: A_log is None, must be given with use_gate_in_kernel")
    if A_log.shape != (heads,):
        raise ValueError(f"{NAME}: A_log has shape {A_log.shape}, must be [HV] = [{heads}]")
    if dt_bias is not None and dt_bias.shape not in ((heads * width,), (heads, width)):
        raise ValueError(f"{NAME}: dt_bias has shape {dt_bias.shape}, must be [HV * K] = [{heads * width}] or [{heads}, {width}]")
    wide = g.astype(jnp.float32)
    if dt_bias is not None:
        wide = wide + dt_bias.astype(jnp.float32).reshape(heads, width)
    rate = jnp.exp(A_log.astype(jnp.float32))[:, None]
    return -rate * jax.nn.softplus(wide) if lower_bound is None else lower_bound * jax.nn.sigmoid(rate * wide)
