"""A work list of persistent paged attention as the arrays AITER passes: names, shapes, what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.core import symbolic
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import Array, constant
from jax_aiter.ops.attention.pa_work import WorkList, asked, pieces_of, used_blocks, work_list, works_of


class PaMetadata(NamedTuple):
    """What `get_pa_metadata_v1` gives and ``pa_persistent_fwd(..., **metadata._asdict())`` takes; all int32.

    B sequences of q query rows each, Hk key/value heads, G workgroups, W = Hk * (B + G / Hk - 1) works and
    P = max(1, 2 * (G / Hk - 1)) partial results at most.

    work_indptr: ``[G + 1]``: the works of every workgroup.
    work_info: ``[W, 8]``, csrc/include/pa.h PaWorkInfo: sequence, first row of its partial result (-1: it is final), first and
        last query row, first and last place in `kv_indices`, 0, first query head | last one << 16. Rows past ``work_indptr[-1]``
        are zero.
    reduce_indptr: ``[B + 1]``: the partial results of every sequence in `reduce_partial_map`; none for one that is not split.
    reduce_final_map: ``[B, 2]``: first and last query row of every sequence.
    reduce_partial_map: ``[P]``: first row of each partial result.
    """

    work_indptr: jax.Array
    work_info: jax.Array
    reduce_indptr: jax.Array
    reduce_final_map: jax.Array
    reduce_partial_map: jax.Array


AXES = {
    "work_indptr": "Gp",
    "work_info": "W 8",
    "reduce_indptr": "Bp",
    "reduce_final_map": "B 2",
    "reduce_partial_map": "P",
}
OPERANDS = {name: Arg(axes, INT32, optional=True) for name, axes in AXES.items()}
TAKE = "take the arrays that get_pa_metadata_v1 makes of this batch"


def constants(**lists: list) -> dict[str, Array]:
    """A list for a case."""
    return {name: constant(lists[name], jnp.int32) for name in AXES}


def structs(sequences: Any, kv_heads: int, groups: int) -> PaMetadata:
    works, pieces = works_of(sequences, kv_heads, groups), pieces_of(kv_heads, groups)
    shapes = (groups + 1,), (works, 8), (sequences + 1,), (sequences, 2), (pieces,)
    arrays: Any = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes)
    return PaMetadata(*arrays)


def final_rows(sequences: int, queries: int) -> jax.Array:
    sequence = jnp.arange(sequences, dtype=jnp.int32)
    return jnp.stack([sequence, sequence + 1], -1) * queries


def partial_rows(parts: jax.Array, pieces: int, queries: int) -> jax.Array:
    piece = jnp.arange(pieces, dtype=jnp.int32)
    return jnp.where(piece < parts[-1], piece * queries, 0)


def of_list(listed: WorkList, queries: int, kv_heads: int, groups: int) -> PaMetadata:
    final = final_rows(listed.parts.shape[0] - 1, queries)
    partial = partial_rows(listed.parts, pieces_of(kv_heads, groups), queries)
    return PaMetadata(listed.indptr, listed.info, listed.parts, final, partial)


def given(operands: Mapping[str, Any]) -> bool:
    return operands.get("work_indptr") is not None


def check(op: str, dims: Mapping[str, Any], operands: Mapping[str, Any]) -> None:
    """All of the arrays or none, of one list, for this call's sequences and heads."""
    absent = [name for name in AXES if operands.get(name) is None]
    if len(absent) == len(AXES):
        return
    if absent:
        raise TypeError(f"{op}: {absent[0]} is required, since {next(n for n in AXES if n not in absent)} is given, got None")
    bounds, works, pieces, sequences, kv_heads = (dims[axis] for axis in ("Gp", "W", "P", "B", "Hk"))
    symbolic.below(0, bounds, f"{op}: dimension 0 of work_indptr is {bounds}, must be at least 1")
    symbolic.below(0, pieces, f"{op}: dimension 0 of reduce_partial_map is {pieces}, must be at least 1: {TAKE}")
    if symbolic.any_symbolic_size(bounds, works, pieces, sequences, kv_heads) or sequences == 0 or kv_heads == 0:
        return
    groups = bounds - 1
    if groups % kv_heads or groups == 0:
        rule = f"must be one more than a multiple of the {kv_heads} key/value heads"
        raise ValueError(f"{op}: dimension 0 of work_indptr is {bounds}, {rule}: {TAKE}")
    wanted = {
        "work_info": (works, works_of(sequences, kv_heads, groups)),
        "reduce_partial_map": (pieces, pieces_of(kv_heads, groups)),
    }
    for name, (found, number) in wanted.items():
        if found < number:
            what = f"{sequences} sequences, {kv_heads} key/value heads and {groups} workgroups"
            raise ValueError(f"{op}: dimension 0 of {name} is {found}, must be at least {number} for {what}: {TAKE}")


def checked(
    operands: Mapping[str, jax.Array], first: jax.Array, pages: jax.Array, queries: int, group: int, kv_heads: int, pieces: int
) -> tuple[WorkList, jax.Array]:
    """The caller's list, and whether it was made for another number of queries or of heads.

    Whatever it holds, no work reaches past its sequence's pages, the heads, or the `pieces` partial results.
    """
    info, works, sequences = operands["work_info"], operands["work_info"].shape[0], first.shape[0]
    indptr = jax.lax.cummax(jnp.clip(operands["work_indptr"], 0, works))
    parts = jax.lax.cummax(jnp.clip(operands["reduce_indptr"], 0, pieces))
    b = jnp.clip(info[:, 0], 0, sequences - 1)
    partial = jnp.where(info[:, 1] < 0, -1, jnp.minimum(info[:, 1] // queries, pieces - 1) * queries)
    low = jnp.clip(info[:, 4], first[b], first[b] + pages[b])
    high = jnp.clip(info[:, 5], low, first[b] + pages[b])
    head = jnp.clip((info[:, 7] & 0xFFFF) // group, 0, kv_heads - 1)
    heads = head * group | (head + 1) * group << 16
    columns = b, partial, b * queries, (b + 1) * queries, low, high, jnp.zeros_like(b), heads
    used = jnp.arange(works, dtype=jnp.int32) < indptr[-1]
    rows = operands["reduce_partial_map"][:pieces] != partial_rows(parts, pieces, queries)
    other = jnp.any(used & (info[:, 7] != heads)) | jnp.any(rows)
    other |= jnp.any(operands["reduce_final_map"] != final_rows(sequences, queries))
    return WorkList(indptr, jnp.stack(columns, -1), parts), other


def data_checks(
    query, key_cache, qo_indptr, kv_indptr, kv_indices, context_lens, queries: int, operands: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    """That the list is the one that `get_pa_metadata_v1` makes of the call's sequences."""
    kv_heads, size = key_cache.shape[1], key_cache.shape[3]
    if not given(operands) or context_lens.shape[0] == 0 or kv_heads == 0:
        return {}
    groups = operands["work_indptr"].shape[0] - 1
    first, count, _ = used_blocks(kv_indptr, context_lens, kv_indices.shape[0], size)
    (count,) = asked(qo_indptr, count)
    listed = work_list(first, count, queries, query.shape[1] // kv_heads, kv_heads, groups)
    made = of_list(listed, queries, kv_heads, groups)
    return {
        f"{name} must be what get_pa_metadata_v1 makes of this call's sequences, heads and blocks": _differs(operands[name], want)
        for name, want in made._asdict().items()
    }


def _differs(x: jax.Array, want: jax.Array) -> jax.Array:
    return x != want if x.shape == want.shape else jnp.ones(1, bool)
