"""Write the keys and values of new tokens into a paged KV cache, in place where the caches are donated."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import check, symbolic
from jax_aiter.core.axes import FLOATING, FP8_TYPES, INT32, Arg
from jax_aiter.core.batching import merged, split
from jax_aiter.core.cases import case, constant, normal, permutation
from jax_aiter.core.op import Op
from jax_aiter.core.public import public
from jax_aiter.core.reads import Reads, at, grid, spread
from jax_aiter.ops import _attention_params as params_of
from jax_aiter.ops._kv_layout import LAYOUTS, cache_axes, check_caches, write
from jax_aiter.ops._numerics import quantize
from jax_aiter.ops._paged_reads import by_layout

CACHE_DTYPES = (*FLOATING, *FP8_TYPES, "int8")


def _abstract(dims, *, key, value, key_cache, value_cache, slot_mapping, k_scale, v_scale, kv_layout):
    op = "reshape_and_cache"
    check.same_dtype(op, key=key.dtype, value=value.dtype)
    params_of.kv_dtypes(op, key.dtype, key_cache.dtype, value_cache.dtype, k_scale, v_scale)
    size = check_caches(op, kv_layout, dims, key_cache.dtype, dims["D"])
    rule = f"{op}: the cache has {dims['nb']} x {size} slots, must be less than 2^31 to be numbered in int32"
    symbolic.below(dims["nb"] * size, 2**31, rule)
    return key_cache, value_cache


def _reference(*, key, value, key_cache, value_cache, slot_mapping, k_scale, v_scale, kv_layout):
    axes = cache_axes(kv_layout)
    sizes = dict(zip(axes["key_cache"].split(), key_cache.shape, strict=True))
    blocks, size = sizes["nb"], sizes["bs"]
    # A negative index would count from the end; "past the end" is what a scatter drops.
    block = jnp.where(slot_mapping < 0, blocks, slot_mapping // size)
    place = slot_mapping % size
    out = []
    for name, rows, cache, scale in (("key_cache", key, key_cache, k_scale), ("value_cache", value, value_cache, v_scale)):
        if cache.dtype.itemsize == 1:
            rows = quantize(rows, jnp.float32(1.0) if scale is None else scale[0], cache.dtype)
        out.append(write(cache, rows, block, place, axes[name]))
    return tuple(out)


def _batch(batched, *, kv_layout):
    """Batched caches are one longer cache; each element's slots move to its part of it."""
    if "k_scale" in batched or "v_scale" in batched:
        return NotImplemented
    values = {n: batched.broadcast(n) for n in batched.values if n not in ("k_scale", "v_scale")}
    sizes = dict(zip(cache_axes(kv_layout)["key_cache"].split(), values["key_cache"].shape[1:], strict=True))
    slots = sizes["nb"] * sizes["bs"]
    if not symbolic.decided(lambda: batched.size * slots < 2**31):
        return NotImplemented
    mapping = values["slot_mapping"]
    offset = slots * jnp.arange(batched.size, dtype=jnp.int32)[:, None]
    values["slot_mapping"] = jnp.where((mapping < 0) | (mapping >= slots), -1, mapping + offset)
    folded = {n: merged(x) for n, x in values.items()}
    out = batched.bind(**folded, k_scale=batched.get("k_scale"), v_scale=batched.get("v_scale"))
    return [split(x, batched.size) for x in out]


def _reads(*, key, value, key_cache, value_cache, slot_mapping, kv_layout, **_):
    """One group per slot, head and cache: the tokens written there, or what stands there already."""
    sizes = dict(zip(cache_axes(kv_layout)["key_cache"].split(), key_cache.shape, strict=True))
    block, place, head = grid(sizes["nb"], sizes["bs"], sizes["Hk"])
    written = (block * sizes["bs"] + place)[:, None] == slot_mapping
    rows = spread(written, at(head, sizes["Hk"]), None)
    kept = np.eye(len(head), dtype=bool) & ~written.any(1)[:, None]
    label = np.arange(len(head)).reshape(sizes["nb"], sizes["bs"], sizes["Hk"])
    groups, operands = {}, {}
    for i, (name, rows_of, cache) in enumerate((("key_cache", "key", key_cache), ("value_cache", "value", value_cache))):
        order = cache_axes(kv_layout)[name], cache.shape[-1]
        groups[name] = by_layout(label + i * len(head), *order)
        none = [np.zeros_like(m) for m in (rows, kept)]
        for n, own, other in ((rows_of, rows, none[0]), (name, kept, none[1])):
            mask = np.concatenate([other, own] if i else [own, other])
            operands[n] = by_layout(mask.reshape(-1, *label.shape), *order) if n == name else mask
    return Reads(2 * len(head), groups, operands)


def _data_checks(*, key_cache, slot_mapping, kv_layout, **_):
    sizes = dict(zip(cache_axes(kv_layout)["key_cache"].split(), key_cache.shape, strict=True))
    slots = sizes["nb"] * sizes["bs"]
    ordered = jnp.sort(slot_mapping)
    return {
        f"slot_mapping must be below the capacity {slots}": slot_mapping >= slots,
        "no two tokens may have the same slot in slot_mapping": (ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0),
    }


RESHAPE_AND_CACHE = Op(
    name="reshape_and_cache",
    family="ATTENTION",
    mirrors="aiter.reshape_and_cache, aiter.reshape_and_cache_flash (csrc/kernels/cache_kernels.cu)",
    operands={
        "key": Arg("T Hk D"),
        "value": Arg("T Hk Dv"),
        "key_cache": Arg("nb bs Hk D", CACHE_DTYPES),
        "value_cache": Arg("nb bs Hk Dv", CACHE_DTYPES),
        "slot_mapping": Arg("T", INT32),
        "k_scale": Arg("1", ("float32",), optional=True),
        "v_scale": Arg("1", ("float32",), optional=True),
    },
    results={"key_cache": "nb bs Hk D", "value_cache": "nb bs Hk Dv"},
    relayout=lambda params: cache_axes(params["kv_layout"]),
    abstract=_abstract,
    reference=_reference,
    parallel=("Hk",),
    batch=_batch,
    aliases={"key_cache": "key_cache", "value_cache": "value_cache"},
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "nhd",
            key=normal(3, 2, 8),
            value=normal(3, 2, 8),
            key_cache=normal(4, 2, 2, 8),
            value_cache=normal(4, 2, 2, 8),
            slot_mapping=constant([5, -1, 0], jnp.int32),
            kv_layout="NHD",
        ),
        case(
            "hnd_int8",
            key=normal(4, 3, 8, dtype=jnp.bfloat16),
            value=normal(4, 3, 8, dtype=jnp.bfloat16),
            key_cache=constant([[[[0] * 8] * 2] * 3] * 4, jnp.int8),
            value_cache=constant([[[[0] * 8] * 2] * 3] * 4, jnp.int8),
            slot_mapping=permutation(4, among=8),
            k_scale=constant([0.02], jnp.float32),
            v_scale=constant([0.03], jnp.float32),
            kv_layout="HND",
        ),
        case(
            "vllm",
            key=normal(2, 2, 8),
            value=normal(2, 2, 8),
            key_cache=normal(3, 2, 2, 4, 4),
            value_cache=normal(3, 2, 8, 4),
            slot_mapping=constant([11, -3], jnp.int32),
            kv_layout="vllm",
        ),
        case(
            "asm_fp8",
            key=normal(2, 1, 32, dtype=jnp.bfloat16),
            value=normal(2, 1, 32, dtype=jnp.bfloat16),
            key_cache=normal(3, 1, 2, 16, 16, dtype=jnp.float8_e4m3fnuz),
            value_cache=normal(3, 1, 1, 32, 16, dtype=jnp.float8_e4m3fnuz),
            slot_mapping=constant([17, 3], jnp.int32),
            k_scale=constant([0.02], jnp.float32),
            v_scale=constant([0.03], jnp.float32),
            kv_layout="asm",
        ),
    ],
)


@public
def reshape_and_cache(
    key: jax.Array,
    value: jax.Array,
    key_cache: jax.Array,
    value_cache: jax.Array,
    slot_mapping: jax.Array,
    *,
    kv_layout: str = "NHD",
    k_scale: jax.Array | None = None,
    v_scale: jax.Array | None = None,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The caches with token t's key and value at slot ``slot_mapping[t]``; every other element keeps its value.

    Args:
      key: ``[T, Hk, D]``, value: ``[T, Hk, Dv]`` float32, bfloat16 or float16.
      key_cache, value_cache: blocks of `bs` slots in one of the layouts of `kv_layout`; the dtype of `key`, or fp8 or int8.
      slot_mapping: ``[T]`` int32, ``block * bs + place``. A token whose slot is negative or past the capacity is skipped. If two
        tokens have the same slot, each element there is one of theirs, which one is undefined.
      kv_layout: ``"NHD"`` [nb, bs, Hk, D], ``"HND"`` [nb, Hk, bs, D], ``"vllm"`` K [nb, Hk, D/x, bs, x] and V [nb, Hk, D, bs],
        ``"asm"`` K as vllm and V [nb, Hk, bs/x, D, x]; x = 16 / itemsize of the cache.
      k_scale, v_scale: ``[1]`` float32 for fp8 and int8 caches (None is 1): what is stored is ``key / k_scale``, rounded to
        nearest and saturated.
      implementation: None (auto), ``"asm"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(key_cache, value_cache)``, updated in place if the arguments are donated (``jax.jit(..., donate_argnums=...)`` or carried
      by ``lax.scan``), on every platform and for every dtype.

    Raises TypeError or ValueError for wrong shapes, dtypes or layout; `debug_checks` reports bad and repeated slots.
    Mirrors ``aiter.reshape_and_cache``.
    """
    check.choice("reshape_and_cache", "kv_layout", kv_layout, LAYOUTS)
    updated = RESHAPE_AND_CACHE(
        key=key,
        value=value,
        key_cache=key_cache,
        value_cache=value_cache,
        slot_mapping=slot_mapping,
        k_scale=k_scale,
        v_scale=v_scale,
        kv_layout=kv_layout,
        implementation=implementation,
    )
    return updated[0], updated[1]
