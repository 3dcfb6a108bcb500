"""Rotation of queries and keys together with the write of the cache: the record that `rope_and_cache` and its kin are made from."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.core import check
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import Case
from jax_aiter.core.reads import Part, joined
from jax_aiter.ops.cache import write
from jax_aiter.ops.cache.dtypes import CACHE_DTYPES
from jax_aiter.ops.cache.kv_layout import cache_axes
from jax_aiter.ops.norm.rms_norm import check_weight, normalize
from jax_aiter.ops.rope import rotation

SHARED = ("cos", "sin", "k_scale", "v_scale", "q_weight", "k_weight")


class RopeAndCache(NamedTuple):
    """Rotated queries ``[T, Hq, D]`` and keys ``[T, Hk, D]``, and both caches, updated."""

    q_out: jax.Array
    k_out: jax.Array
    key_cache: jax.Array
    value_cache: jax.Array


def _abstract(dims, *, op, kv_layout, reuse_freqs_front_part, **call):
    write.check_both(op, dims, call, kv_layout, "k", "v")
    check.same_dtype(op, q=call["q"].dtype, k=call["k"].dtype)
    for x in ("q", "k"):
        if f"{x}_weight" in call:
            check_weight(op, call[x], call[f"{x}_weight"], f"{x}_weight", x)
    rotation.check_tables(op, dims, call["cos"], call["sin"], reuse_freqs_front_part, "D", "q")
    return call["q"], call["k"], call["key_cache"], call["value_cache"]


def _reference(
    *, q, k, v, key_cache, value_cache, slot_mapping, positions, cos, sin, k_scale, v_scale, kv_layout,
    q_weight=None, k_weight=None, epsilon=0.0, **style,
):  # fmt: skip
    rows = rotation.rows_at(cos, sin, positions)
    out = []
    for x, weight in ((q, q_weight), (k, k_weight)):
        if weight is not None:
            x = normalize(x.astype(jnp.float32), weight, epsilon).astype(x.dtype)
        out.append(rotation.rotate(x, rows, **style))
    return *out, *write.write_both(out[1], v, key_cache, value_cache, slot_mapping, k_scale, v_scale, kv_layout)


def _batch(batched, *, kv_layout, **_):
    slots = write.capacity(write.element(batched, "key_cache"), kv_layout)
    return write.one_longer_cache(batched, slots, SHARED)


def _reads(*, q, k, key_cache, value_cache, slot_mapping, positions, cos, kv_layout, q_weight=None, k_weight=None, **_):
    """A head of a token reads its own row and the table's; a slot what was written there."""
    parts: list[Part] = []
    rows = rotation.row_read(positions, cos)
    for name, x, weight in (("q", q, q_weight), ("k", k, k_weight)):
        result, label, read = rotation.head_part(name, x, f"{name}_out", positions, cos)
        of_weight = {} if weight is None else {f"{name}_weight": np.ones((label.size, 1), bool)}
        parts.append((result, label, {**read, **of_weight}))
    written = write.written_parts(slot_mapping, key_cache, value_cache, kv_layout, "k", "v")
    of_keys = dict(written[0][2])
    tokens = of_keys["k"].any((2, 3))
    of_keys |= dict.fromkeys(("cos", "sin"), write.through(tokens, rows))
    of_keys |= {} if k_weight is None else {"k_weight": tokens.any(1, keepdims=True)}
    return joined([*parts, (*written[0][:2], of_keys), written[1]])


def _data_checks(*, key_cache, slot_mapping, positions, cos, kv_layout, **_):
    slots = write.capacity(key_cache, kv_layout)
    return {**write.data_checks(slot_mapping, slots), **rotation.position_checks(positions, cos)}


def record(name: str, mirrors: str, cases: Callable[[], list[Case]], *, norm: bool = False) -> Op:
    """norm: queries and keys are normalised over the head before they are rotated; the call has their weights and `epsilon`."""
    return Op(
        name=name,
        family="ROPE",
        mirrors=mirrors,
        operands={
            "q": Arg("T Hq D"),
            "k": Arg("T Hk D"),
            "v": Arg("T Hk Dv"),
            **({"q_weight": Arg("D"), "k_weight": Arg("D")} if norm else {}),
            "key_cache": Arg("nb bs Hk D", CACHE_DTYPES),
            "value_cache": Arg("nb bs Hk Dv", CACHE_DTYPES),
            "slot_mapping": Arg("T", INT32),
            "positions": Arg("T", INT32),
            "cos": Arg("P R"),
            "sin": Arg("P R"),
            "k_scale": Arg("1", ("float32",), optional=True),
            "v_scale": Arg("1", ("float32",), optional=True),
        },
        results={"q_out": "T Hq D", "k_out": "T Hk D", "key_cache": "nb bs Hk D", "value_cache": "nb bs Hk Dv"},
        relayout=lambda params: cache_axes(params["kv_layout"]),
        abstract=functools.partial(_abstract, op=name),
        reference=_reference,
        fixed=("D", "R"),
        parallel=("Hq", "Hk"),
        batch=_batch,
        aliases={"key_cache": "key_cache", "value_cache": "value_cache"},
        reads=_reads,
        data_checks=_data_checks,
        cases=cases,
    )
