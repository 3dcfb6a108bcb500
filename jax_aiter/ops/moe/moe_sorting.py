"""The sorted, block-padded list of (token, slot) entries that AITER's MoE kernels walk."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check, symbolic
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, distinct, uniform
from jax_aiter.core.reads import NOTHING, Reads
from jax_aiter.ops.moe import reads, rules
from jax_aiter.ops.moe.forms import groups as moe_groups
from jax_aiter.ops.shared.running_sum import running_sum
from jax_aiter.ops.shared.search import search

SLOT_SHIFT = 24  # low 24 bits: token; high 8: slot


def padded_length(tokens: int, topk: int, experts: int, block_size: int) -> int:
    """AITER's static bound on the padded length: every expert may waste block_size - 1 rows, and topk <= experts."""
    return tokens * topk + experts * block_size - topk


def _abstract(dims, *, topk_ids, topk_weights, expert_mask, num_experts, block_size):
    tokens, topk = topk_ids.shape
    rule = f"moe_sorting: dimension 1 of topk_ids is {topk}, must be <= num_experts = {num_experts}"
    symbolic.below(topk, num_experts + 1, rule)
    rule = f"moe_sorting: topk_ids has shape {topk_ids.shape}, must be < 2**24 tokens and <= 127 slots (int32 packs both)"
    symbolic.below(tokens, 1 << SLOT_SHIFT, rule)
    symbolic.below(topk, 128, rule)
    if expert_mask is not None and expert_mask.shape[0] != num_experts:
        raise ValueError(f"moe_sorting: dimension 0 of expert_mask is {expert_mask.shape[0]}, must be num_experts = {num_experts}")
    length = padded_length(tokens, topk, num_experts, block_size)
    symbolic.below(length, 2**31, f"moe_sorting: num_experts * block_size gives {length} padded rows, must be < 2**31")
    blocks = -(-length // block_size)
    return (
        jax.ShapeDtypeStruct((length,), jnp.int32),
        jax.ShapeDtypeStruct((length,), jnp.float32),
        jax.ShapeDtypeStruct((blocks,), jnp.int32),
        jax.ShapeDtypeStruct((2,), jnp.int32),
    )


def _reference(*, topk_ids, topk_weights, expert_mask, num_experts, block_size):
    tokens, topk = topk_ids.shape
    length = padded_length(tokens, topk, num_experts, block_size)
    groups = moe_groups.group(moe_groups.local_ids(topk_ids, num_experts, expert_mask), num_experts)
    blocks = (groups.counts + block_size - 1) // block_size
    last_block = running_sum(blocks)
    begin = (last_block - blocks) * block_size  # of each expert, in the padded list
    total = last_block[-1] * block_size

    row = jnp.arange(length, dtype=jnp.int32)
    expert = jnp.minimum(search(last_block, row // block_size, side="right"), num_experts - 1)
    offset = row - begin[expert]
    filled = (row < total) & (offset < groups.counts[expert])
    nothing = jnp.asarray((topk * 2**SLOT_SHIFT) + tokens, jnp.int32)
    if tokens * topk == 0:
        sorted_ids, sorted_weights = jnp.full(length, nothing), jnp.zeros(length, jnp.float32)
    else:
        entry = groups.order[jnp.clip(groups.first[expert] + offset, 0, tokens * topk - 1)]
        sorted_ids = jnp.where(filled, (entry % topk) << SLOT_SHIFT | entry // topk, nothing)
        sorted_weights = jnp.where(filled, topk_weights.reshape(-1)[entry], 0.0)

    block = jnp.arange(-(-length // block_size), dtype=jnp.int32)
    block_expert = search(last_block, block, side="right")
    sorted_expert_ids = jnp.where(block < last_block[-1], block_expert, -1)
    return sorted_ids, sorted_weights, sorted_expert_ids, jnp.stack([total, jnp.int32(tokens)]).astype(jnp.int32)


def _reads(*, topk_ids, topk_weights, expert_mask, num_experts, block_size):
    used = reads.local_experts(topk_ids, num_experts, expert_mask) != NOTHING
    return Reads(
        1,
        dict.fromkeys(("sorted_ids", "sorted_weights", "sorted_expert_ids", "num_valid_ids"), np.zeros(1, int)),
        {"topk_weights": used[None]},
    )


def _data_checks(*, topk_ids, expert_mask, num_experts, **_):
    return rules.routing_checks(topk_ids, num_experts, expert_mask)


MOE_SORTING = Op(
    name="moe_sorting",
    family="MOE",
    mirrors="aiter.fused_moe.moe_sorting (aiter/fused_moe.py, csrc/include/moe_sorting_opus.h)",
    operands={
        "topk_ids": Arg("T k", INT32),
        "topk_weights": Arg("T k", ("float32",)),
        "expert_mask": Arg("G", INT32, optional=True),
    },
    results={"sorted_ids": "S", "sorted_weights": "S", "sorted_expert_ids": "M", "num_valid_ids": "2"},
    abstract=_abstract,
    reference=_reference,
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case("even", topk_ids=distinct(8, 2, 4), topk_weights=uniform(8, 2), num_experts=4, block_size=4),
        case("one", topk_ids=distinct(1, 3, 7), topk_weights=uniform(1, 3), num_experts=7, block_size=32),
        case(
            "masked",
            topk_ids=distinct(5, 2, 6),
            topk_weights=uniform(5, 2),
            expert_mask=constant([1, 0, 1, 1, 0, 1], jnp.int32),
            num_experts=6,
            block_size=4,
        ),
    ],
)


@public
def moe_sorting(
    topk_ids: jax.Array,
    topk_weights: jax.Array,
    num_experts: int,
    block_size: int,
    *,
    expert_mask: jax.Array | None = None,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Sort (token, slot) entries by expert and pad each expert's list to a multiple of `block_size`, in AITER's format.

    Args:
      topk_ids: int32 ``[T, k]``, T < 2**24, k <= 127. An id outside [0, num_experts) is left out; an id that stands twice in a row
        gives two entries.
      topk_weights: float32 ``[T, k]``.
      num_experts: static, the global number of experts, >= k.
      block_size: static, > 0: rows of a block, each of one expert.
      expert_mask: int32 ``[num_experts]`` or None; entries of experts whose mask is 0 are left out, and the expert ids that come
        out are local: the j-th expert with a mask is j.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns, with ``S = T·k + num_experts·block_size − k`` and ``M = ceil(S / block_size)``:
      sorted_ids: int32 ``[S]``, ``token | slot << 24``, by expert, then token, then slot; padding is ``T | k << 24``.
      sorted_weights: float32 ``[S]``, 0 at padding (AITER leaves it undefined).
      sorted_expert_ids: int32 ``[M]``, the local expert of each block, -1 behind the last (AITER leaves that undefined). An expert
        without entries has no block.
      num_valid_ids: int32 ``[2]``: the padded number of rows in use, and T.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.fused_moe.moe_sorting`` without its zero-filled output buffer.
    """
    sorted_ids, sorted_weights, sorted_expert_ids, num_valid_ids = MOE_SORTING(
        topk_ids=topk_ids,
        topk_weights=topk_weights,
        expert_mask=expert_mask,
        num_experts=check.integer("moe_sorting", "num_experts", num_experts, 1, 2**30),
        block_size=check.integer("moe_sorting", "block_size", block_size, 1, 2**20),
        implementation=implementation,
    )
    return sorted_ids, sorted_weights, sorted_expert_ids, num_valid_ids
