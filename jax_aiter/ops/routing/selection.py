"""What the top-k routing ops share: selection with a defined order, and weights as a differentiable function of the logits."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import check, machine, symbolic

Weights = Callable[[jax.Array, jax.Array], jax.Array]  # (gating_output, ids) -> weights


def select(scores: jax.Array, k: int) -> jax.Array:
    """Ids of the k largest scores of each row, best first; of equal scores the lowest id first, NaN as -inf.

    k rounds of a maximum, as AITER's kernels do it: XLA gathers rows that are split over devices before a `lax.top_k`, and a full
    sort of each row costs ten times as much. Where nothing splits them a CPU's `lax.top_k` takes half as long, once zeros are one:
    it counts -0.0 as less than 0.0.
    """
    scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    if not (machine.is_gpu() or machine.is_split() or symbolic.is_symbolic(scores.shape[1])):
        scores = scores.astype(jnp.float32)
        bits = jax.lax.bitcast_convert_type(scores, jnp.uint32)  # not by comparing numbers: a CPU may count a denormal one as 0
        return jax.lax.top_k(jnp.where(bits == np.uint32(1 << 31), 0.0, scores), k)[1]
    ids = jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1)

    def best(left, _):
        top = jnp.max(jnp.where(left, scores, -jnp.inf), axis=1, keepdims=True)
        chosen = jnp.argmax(left & (scores == top), axis=1).astype(jnp.int32)  # the first one that is True
        return left & (ids != chosen[:, None]), chosen

    return jax.lax.scan(best, jnp.ones(scores.shape, bool), length=k)[1].T


def normalize(weights: jax.Array, renormalize: bool, factor: float = 1.0) -> jax.Array:
    """Scale each row to sum to `factor`; a row that is all zero (every score underflowed) stays zero instead of becoming NaN."""
    if not renormalize:
        return weights * factor
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return jnp.where(total == 0, 0.0, weights * (factor / jnp.where(total == 0, 1.0, total)))


def softmax_weights(gating: jax.Array, ids: jax.Array, *, renormalize: bool, factor: float = 1.0) -> jax.Array:
    gating = gating.astype(jnp.float32)
    chosen = jnp.take_along_axis(gating, ids, axis=-1)
    if renormalize:  # the full softmax's denominator cancels, so the sum runs over the chosen logits alone and cannot underflow
        weights = jax.nn.softmax(chosen, axis=-1) * factor
        return jnp.where(jnp.any(jnp.isnan(gating), axis=-1, keepdims=True), jnp.nan, weights)  # as that denominator would
    return jnp.exp(chosen - jax.nn.logsumexp(gating, axis=-1, keepdims=True)) * factor


def sigmoid_weights(gating: jax.Array, ids: jax.Array, *, renormalize: bool, factor: float = 1.0) -> jax.Array:
    chosen = jnp.take_along_axis(gating.astype(jnp.float32), ids, axis=-1)
    return normalize(jax.nn.sigmoid(chosen), renormalize, factor)


def best_groups(scores: jax.Array, groups: int, topk_group: int, best: int) -> jax.Array:
    """`scores` with every expert outside the `topk_group` best groups set to -inf, as AITER's kernel does.

    A group's score is the sum of its `best` (1: DeepSeek-V2, 2: DeepSeek-V3) highest expert scores.
    """
    if groups == 1:
        return scores
    rows, experts = scores.shape
    grouped = scores.reshape(rows, groups, experts // groups)
    group_scores = jnp.max(grouped, axis=-1)
    if best == 2:  # by two maxima, not top_k, see `select`
        first = jnp.argmax(grouped, axis=-1, keepdims=True)
        rest = jnp.where(jnp.arange(experts // groups) == first, -jnp.inf, grouped)
        group_scores = group_scores + jnp.max(rest, axis=-1)
    chosen = select(group_scores, topk_group)
    kept = jnp.any(chosen[:, :, None] == jnp.arange(groups), axis=1)
    return jnp.where(kept[:, :, None], grouped, -jnp.inf).reshape(rows, experts)


def check_topk(op: str, topk: int, experts: int, logits: str = "gating_output") -> None:
    rule = f"{op}: topk is {topk}, must be <= the number of experts, {experts} (dimension 1 of {logits})"
    symbolic.below(topk - 1, experts, rule)


def check_groups(op: str, topk: int, experts: int, groups: int, topk_group: int, best: int) -> None:
    check_topk(op, topk, experts)
    check.multiple(op, "the number of experts (dimension 1 of gating_output)", experts, groups, "num_expert_group divides it")
    size = experts // groups
    if topk_group > groups:
        raise ValueError(f"{op}: topk_group is {topk_group}, must be <= num_expert_group = {groups}")
    if groups > 1:
        rule = f"{op}: num_expert_group = {groups} leaves {size} expert(s) per group, must leave >= {best}"
        symbolic.below(best - 1, size, rule)
    rule = f"{op}: topk is {topk}, must be <= topk_group * experts per group = {topk_group} * {size}"
    symbolic.below(topk - 1, topk_group * size, rule)


def pull_back(weights: Weights, gating: jax.Array, ids: jax.Array, cotangent: jax.Array) -> jax.Array:
    """The cotangent of the logits: the choice of ids is locally constant, so only the weights carry a derivative."""
    return jax.vjp(lambda g: weights(g, ids), gating)[1](cotangent)[0]


def struct(gating: jax.ShapeDtypeStruct, topk: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    shape = (gating.shape[0], topk)
    return jax.ShapeDtypeStruct(shape, jnp.float32), jax.ShapeDtypeStruct(shape, jnp.int32)
