"""What stands before a kernel of the mixture of experts, as recorded kernels: quantise, sort, clear the output.

The two stages of Composable Kernel's are recorded with it. Before one of AITER's hand-written kernels it is a call of fused_moe
whose results are the lists that those read, recorded by itself (`spec`) and put before the kernel by whoever plans it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jax_aiter.kernels.hip.moe import moe_sorting
from jax_aiter.kernels.hip.quant import quant
from jax_aiter.kernels.hip.rules import HALF
from jax_aiter.kernels.spec import ArraySpec, CallSpec

GROUP = 128
#: the results, by AITER's names of its kernels' pointers: O cleared, the sorted list, hidden states and their scales.
LISTED, QUANTISED = ("O", "STP", "SW", "SEP", "XC"), ("X", "XQ")


def rows(tokens: int, topk: int, experts: int, block: int) -> int:
    """Of the sorted list: every expert may waste ``block - 1``."""
    return tokens * topk + experts * block - min(topk, experts)


def routing(operands: Mapping[str, Any], experts: int) -> dict[str, Any]:
    """Ids, weights and mask as AITER sorts them: in range, of which there is one more that is masked out, and distinct in a row.

    Of an id that stands twice the first has both weights, which is the same where weights multiply what experts return.
    """
    import jax.numpy as jnp

    ids, weights, mask = operands["topk_ids"], operands["topk_weight"], operands.get("expert_mask")
    outside = (ids < 0) | (ids >= experts)
    if "num_local_tokens" in operands:
        outside |= jnp.arange(ids.shape[0])[:, None] >= operands["num_local_tokens"][0]
    same = ids[:, :, None] == ids[:, None, :]
    again = jnp.any(same & jnp.tril(jnp.ones((ids.shape[1],) * 2, bool), -1), axis=-1)
    return {
        "topk_ids": jnp.where(outside | again, experts, ids),
        "topk_weight": jnp.sum(jnp.where(same, weights[:, None, :], 0.0), axis=-1),
        "expert_mask": jnp.append(jnp.ones(experts, bool) if mask is None else mask != 0, False).astype(jnp.int32),
    }


def spec(
    arch: str, hidden: ArraySpec, out: ArraySpec, topk: int, experts: int, block: int, quant_type: str | None, dtype: str
) -> CallSpec:
    """Before a hand-written kernel that takes `block` rows at a time.

    experts: over which ids count. quant_type: by which the hidden states are quantised to `dtype` too, per_1x128 with the scales
    transposed; None if they are not.
    """
    (tokens, columns), blocks = hidden.shape, -(-rows(hidden.shape[0], topk, experts, block) // block)
    entries = (tokens, topk)
    operands = {"topk_weight": ArraySpec(entries, "float32"), "topk_ids": ArraySpec(entries, "int32")}
    operands["expert_mask"] = ArraySpec((experts + 1,), "int32")
    results = [out, ArraySpec((blocks * block,), "int32"), ArraySpec((blocks * block,), "float32")]
    results += [ArraySpec((blocks,), "int32"), ArraySpec((2,), "int32")]
    if quant_type is not None:
        operands["hidden_states"] = hidden
        scale = (tokens, 1) if quant_type == "per_token" else (columns // GROUP, tokens)
        results += [ArraySpec(hidden.shape, dtype), ArraySpec(scale, "float32")]
    params = {"before": True, "block_m": block, "quant_type": quant_type or "none"}
    return CallSpec("fused_moe", arch, operands, params, tuple(results))


def unquantised(hidden: ArraySpec, quant_type: str) -> str | None:
    """The rule by which AITER's kernels do not quantise these hidden states, None if they do."""
    columns = hidden.shape[1]
    if hidden.dtype not in HALF:
        return f"hidden_states has dtype {hidden.dtype}; AITER's HIP kernels quantise {' or '.join(HALF)}"
    whole = quant.vector(columns) if quant_type == "per_token" else GROUP
    return f"D = {columns}; AITER's HIP kernel reads {whole} columns at a time" if columns % whole else None


def asked(of: CallSpec) -> bool:
    """Whether a call that is recorded is what `spec` makes."""
    return bool(of.params.get("before"))


def record(ctx) -> None:
    out, places, weights, experts, used = ctx.results[: len(LISTED)]
    arrays = ctx["topk_ids"], ctx["topk_weight"], places, weights, experts, used
    moe_sorting.sort(ctx, arrays, out, ctx.params["block_m"], ctx["expert_mask"])
    if ctx.params["quant_type"] != "none":
        by_token = ctx.params["quant_type"] == "per_token"
        x = ctx["hidden_states"].rows if by_token else ctx["hidden_states"].view(-1, GROUP)
        quant.by_rows(ctx, x, *ctx.results[len(LISTED) :], transpose=not by_token)
