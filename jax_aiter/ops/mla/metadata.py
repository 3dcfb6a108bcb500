"""A work list as the arrays that AITER passes beside the queries: their names, shapes, and what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import symbolic
from jax_aiter.core.arch import amd_arch
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import Array, constant
from jax_aiter.ops.mla.tiles import NAMES, Tiles, Wanted, listed_tiles
from jax_aiter.ops.mla.work import WorkList, capacity, decoding_work, token_bounds

HEADER = 4


class MlaMetadata(NamedTuple):
    """What `get_mla_metadata_v1` gives and ``mla_decode_fwd(..., **metadata._asdict())`` takes; all int32.

    A tile is some heads and queries of one sequence: N tiles, G workgroups, W = N + G - 1 works at most.

    work_meta_data: ``[4]``: groups of heads, tiles of a sequence's queries, queries of a tile, whether they see only keys before
        them: what the list was made for. (AITER keeps two device addresses here. An array of JAX's has none that lasts; each
        launch writes them itself.)
    work_indptr: ``[G + 1]``: the works of every workgroup.
    work_info_set: ``[W, 8]``, csrc/include/mla.h MlaWorkInfo: tile, first row of its partial result, first and last query row,
        first and last key, keys after the last, 0. Rows past ``work_indptr[-1]`` are zero.
    reduce_indptr: ``[N + 1]``: the partial results of every tile in `reduce_partial_map`.
    reduce_final_map: ``[N, 2]``: first and last query row of every tile.
    reduce_partial_map: ``[W]``: first row of each partial result.
    """

    work_meta_data: jax.Array
    work_indptr: jax.Array
    work_info_set: jax.Array
    reduce_indptr: jax.Array
    reduce_final_map: jax.Array
    reduce_partial_map: jax.Array


AXES = {
    "work_meta_data": f"{HEADER}",
    "work_indptr": "Gp",
    "work_info_set": "W 8",
    "reduce_indptr": "Np",
    "reduce_final_map": "N 2",
    "reduce_partial_map": "W",
}
OPERANDS = {name: Arg(axes, INT32, optional=True) for name, axes in AXES.items()}


def constants(**lists: list) -> dict[str, Array]:
    """A list for a case."""
    return {name: constant(lists[name], jnp.int32) for name in AXES}


def wanted(q: Any, kv: Any, heads: int, queries: int, causal: bool) -> Wanted:
    """q, kv: dtypes."""
    q, kv = (NAMES.get(np.dtype(x).name, np.dtype(x).name) for x in (q, kv))
    return Wanted(amd_arch(), q, kv, heads, queries, causal, False)


def structs(tiles: Tiles, groups: int) -> MlaMetadata:
    works = capacity(tiles.number, groups)
    shapes = (HEADER,), (groups + 1,), (works, 8), (tiles.number + 1,), (tiles.number, 2), (works,)
    arrays: Any = (jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes)
    return MlaMetadata(*arrays)


def header(tiles: Tiles, causal: bool) -> jax.Array:
    return jnp.array([tiles.folds, tiles.count, tiles.tokens, int(causal)], jnp.int32)


def of_list(listed: WorkList, tiles: Tiles, causal: bool) -> MlaMetadata:
    """Every work of our lists has a partial result of its own, also where a tile has one work only."""
    number, works = tiles.number, listed.tile.shape[0]
    work, tile = jnp.arange(works, dtype=jnp.int32), jnp.arange(number, dtype=jnp.int32)
    parts = jnp.sum(listed.tile[None, :] < jnp.arange(number + 1, dtype=jnp.int32)[:, None], axis=1, dtype=jnp.int32)
    used = work < listed.indptr[-1]
    final = jnp.stack([tile, tile + 1], -1) * tiles.tokens
    partial = jnp.where(used, work * tiles.tokens, 0)
    return MlaMetadata(header(tiles, causal), listed.indptr, listed.info, parts, final, partial)


def check(op: str, dims: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """All of the arrays or none, of one list, for this call's number of sequences."""
    absent = [name for name in AXES if given.get(name) is None]
    if len(absent) == len(AXES):
        return
    if absent:
        raise TypeError(f"{op}: {absent[0]} is required, since {next(n for n in AXES if n not in absent)} is given, got None")
    for name, axis in (("work_indptr", "Gp"), ("reduce_indptr", "Np")):
        symbolic.below(0, dims[axis], f"{op}: dimension 0 of {name} is {dims[axis]}, must be at least 1")
    bounds, tiles, works, sequences = (dims[axis] for axis in ("Np", "N", "W", "B"))
    if symbolic.decided(lambda: bounds == tiles + 1) is False:
        rule = f"must be one more than that of reduce_final_map, {tiles}"
        raise ValueError(f"{op}: dimension 0 of reduce_indptr is {bounds}, {rule}")
    take = "take the arrays that get_mla_metadata_v1 makes of this batch"
    if symbolic.decided(lambda: tiles % sequences == 0 and tiles > 0 if sequences > 0 else tiles == 0) is False:
        rule = f"must be a multiple of the {sequences} sequences"
        raise ValueError(f"{op}: dimension 0 of reduce_final_map is {tiles}, {rule}: {take}")
    if symbolic.decided(lambda: works > 0 or sequences == 0) is False:
        raise ValueError(f"{op}: dimension 0 of work_info_set is {works}, must be at least 1: {take}")


def given(operands: Mapping[str, Any]) -> bool:
    return operands.get("work_indptr") is not None


def tiles_for(q: Any, kv: Any, heads: int, queries: int, causal: bool, sequences: Any) -> Tiles:
    return listed_tiles(wanted(q, kv, heads, queries, causal), sequences)


def data_checks(queries: int, *, q, kv_buffer, qo_indptr, kv_indptr, kv_last_page_lens, causal, **operands) -> dict[str, jax.Array]:
    """That the list is the one that `get_mla_metadata_v1` makes of the call's sequences."""
    if not given(operands):
        return {}
    tiles = tiles_for(q.dtype, kv_buffer.dtype, q.shape[1], queries, causal, kv_last_page_lens.shape[0])
    groups = operands["work_indptr"].shape[0] - 1
    bounds = token_bounds(kv_indptr, kv_last_page_lens, kv_buffer.shape[1])
    made = of_list(decoding_work(qo_indptr, bounds, tiles, queries, causal, groups), tiles, causal)
    return {
        f"{name} must be what get_mla_metadata_v1 makes of this call's sequences, heads and dtypes": _differs(operands[name], want)
        for name, want in made._asdict().items()
    }


def _differs(x: jax.Array, want: jax.Array) -> jax.Array:
    return x != want if x.shape == want.shape else jnp.ones(1, bool)
