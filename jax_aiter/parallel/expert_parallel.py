"""A mixture of experts that are spread over devices: tokens travel to their experts, or every device computes its part for all."""

from typing import Any

import jax

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight
from jax_aiter.parallel import rules
from jax_aiter.parallel.layer import Layer


@public
def expert_parallel(
    hidden_states: jax.Array,
    w1: jax.Array | ShuffledWeight,
    w2: jax.Array | ShuffledWeight,
    topk_weight: jax.Array,
    topk_ids: jax.Array,
    axis_name: Any,
    *,
    method: str | None = None,
    capacity: int | None = None,
    num_experts: int | None = None,
    dispatch_dtype: Any = None,
    activation: str = "silu",
    quant_type: str = "none",
    doweight_stage1: bool = False,
    w1_scale: jax.Array | None = None,
    w2_scale: jax.Array | None = None,
    a1_scale: jax.Array | None = None,
    a2_scale: jax.Array | None = None,
    bias1: jax.Array | None = None,
    bias2: jax.Array | None = None,
    num_local_tokens: jax.Array | int | None = None,
    hidden_pad: int = 0,
    intermediate_pad: int = 0,
    swiglu_limit: float | None = None,
    gate_mode: str = "separated",
    output_dtype: Any = None,
    w1_zp: jax.Array | None = None,
    w2_zp: jax.Array | None = None,
    q_dtype_a: Any = None,
    implementation: str | None = None,
    kernel: str | None = None,
) -> Any:
    """`fused_moe` of tokens and experts that are both split over `axis_name`; call it inside of `jax.shard_map`.

    Args:
      hidden_states: ``[T, D]``, this device's tokens; T is the same on all devices, D as of `fused_moe`.
      w1, w2: ``[E, 2I, D]`` (or ``[E, I, D]``) and ``[E, D, I]``: the E experts held here. Of n devices along the axis, device d
        holds the experts d·E to (d + 1)·E - 1, as ``in_specs=P(axis_name)`` deals them; all of them are G = n·E.
      topk_weight: float32 ``[T, k]``.
      topk_ids: int32 ``[T, k]``, of all experts. An id outside [0, G) contributes nothing; one that stands twice counts twice.
      axis_name: the mesh axis that the experts are split over, or a tuple of axes, in the order of the `PartitionSpec`.
      method: None for auto, which is ``"psum"`` while the devices have at most 512 tokens together (n·T), and where the tokens are
        the same on all devices, else ``"exchange"``.
        ``"exchange"``: each token's row goes to every device that holds any of its experts, once to each, and comes back as a
        weighted sum: by ``lax.ragged_all_to_all`` on CUDA, ROCm and TPU, by a padded ``lax.all_to_all`` elsewhere (XLA's CPU
        backend lacks the first). ``"ragged_all_to_all"`` and ``"all_to_all"`` are the exchange by that collective.
        ``"psum"``: all devices get all tokens, compute their own experts' part, and the parts are summed in float32.
      capacity: static; None keeps every token, whatever the routing: up to n·T rows may arrive at a device, and arrays have that
        many. A number of rows bounds them instead: then the function returns ``(out, lost)``, `lost` being how many rows of all
        devices found no room, the same on every device; a token that lost any is NaN in `out`.
      num_experts: static; if given, it must be G: weights that were not split raise instead of being taken for other experts.
      dispatch_dtype: an fp8 dtype in which float hidden states travel to their experts, with a float32 scale per token: half
        the bytes of bfloat16. They arrive in their own dtype, and the gradient passes straight through the rounding. With fp8
        weights of quant_type ``"per_token"``, which round so anyway, only a rounding to the hidden states' dtype is added. Like
        `capacity`, it asks auto for an exchange.
      num_local_tokens: int32 ``[1]`` or scalar, or a static int, this device's: later rows are not read and their output is zero.
      the others: as of `fused_moe`; scales, zero points and biases of the experts held here, `a1_scale` by row of this device's
        tokens. A per-tensor `a1_scale` or `a2_scale` must be the same on all devices.

    Returns:
      ``[T, D]`` in `output_dtype`, for this device's tokens: `fused_moe` of all experts up to rounding, each device's part being
      rounded to `output_dtype` when it is exchanged, and summed in float32. Where hidden states, weights and ids vary on no axis of
      `axis_name` (as ``check_vma`` knows), nor does the result. `jax.grad` and `jax.vjp` work in all that `fused_moe` is
      differentiable in; forward mode (`jax.jvp`) does not.

    A dynamic per-tensor scale of the hidden states is that of all tokens of all devices; one of the intermediate is each device's.

    Memory: the exchange holds up to ``T·min(k, n)`` rows to send and ``n·T`` (or `capacity`) rows that arrive, of D elements, and
    `fused_moe` works on the latter with k slots each: n·T·k sorted rows in the worst case, for which its arrays have room. Padding
    adds two arrays of n·T rows. Arithmetic is done only for rows that are there.

    Bytes that a device sends, with D elements of b bytes in and of c bytes out: the exchange for uniform routing
    ``T·(n - 1)·(1 - (1 - 1/n)^k)·(D·(b + c) + 8·k)``, at most ``T·min(k, n - 1)·(D·(b + c) + 8·k)``; padded, and as psum
    (with 4 for c), ``T·(n - 1)·(D·(b + c) + 8·k)``. The gradient sends about as much again.

    A program that is exported for CPUs and GPUs at once takes ``method="all_to_all"`` or ``"psum"``, since XLA's CPU compiler
    refuses a ragged exchange that it would not run; one for GPUs allows ``DisabledSafetyCheck.custom_call("ragged_all_to_all")``.

    Raises TypeError or ValueError as `fused_moe` does, and where `axis_name` is no axis of a `jax.shard_map` around the call.
    """
    op = rules.OP
    axis, devices = rules.axis(axis_name)
    settings: dict[str, Any] = {
        "activation": activation,
        "quant_type": quant_type,
        "doweight_stage1": doweight_stage1,
        "hidden_pad": hidden_pad,
        "intermediate_pad": intermediate_pad,
        "swiglu_limit": swiglu_limit,
        "gate_mode": gate_mode,
        "q_dtype_a": q_dtype_a,
        "implementation": implementation,
        "kernel": kernel,
    }
    experts = {"w1": w1, "w2": w2, "w1_scale": w1_scale, "w2_scale": w2_scale, "bias1": bias1, "bias2": bias2}
    experts |= {"w1_zp": w1_zp, "w2_zp": w2_zp}
    tokens = {"hidden_states": hidden_states, "topk_weight": topk_weight, "topk_ids": topk_ids, "a1_scale": a1_scale}
    others = {"a2_scale": a2_scale, "num_local_tokens": num_local_tokens}
    result = rules.validate({**tokens, **experts, **others}, {**settings, "output_dtype": output_dtype})
    held = w1.shape[0]
    if num_experts is not None and check.integer(op, "num_experts", num_experts, 1) != held * devices:
        raise ValueError(
            f"{op}: num_experts is {num_experts}, must be {devices}·{held}: {axis} spans {devices} devices, and dimension 0 of w1, "
            f"the experts held here, is {held} (is w1 split over {axis}? Do the devices divide the experts?)"
        )
    if capacity is not None:
        capacity = check.integer(op, "capacity", capacity, 0)
    if dispatch_dtype is not None:
        dispatch_dtype = rules.code(dispatch_dtype, hidden_states.dtype)
    few = hidden_states.shape[0] * devices <= rules.FEW_TOKENS
    only = {"capacity": capacity, "dispatch_dtype": dispatch_dtype}
    method = rules.method(method, few or rules.replicated(tokens, axis), {n: v for n, v in only.items() if v is not None})
    layer = Layer(axis, devices, held, experts, a2_scale, settings, result.dtype, dispatch_dtype)
    return layer(tokens, num_local_tokens, method, capacity)
