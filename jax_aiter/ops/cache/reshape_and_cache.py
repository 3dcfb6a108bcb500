"""Write the keys and values of new tokens into a paged KV cache, in place where the caches are donated."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, normal, permutation
from jax_aiter.core.reads import joined
from jax_aiter.ops.cache import write
from jax_aiter.ops.cache.dtypes import CACHE_DTYPES
from jax_aiter.ops.cache.kv_layout import LAYOUTS, cache_axes


def _abstract(dims, *, kv_layout, **operands):
    write.check_both("reshape_and_cache", dims, operands, kv_layout)
    return operands["key_cache"], operands["value_cache"]


def _batch(batched, *, kv_layout):
    slots = write.capacity(write.element(batched, "key_cache"), kv_layout)
    return write.one_longer_cache(batched, slots, ("k_scale", "v_scale"))


def _reads(*, key_cache, value_cache, slot_mapping, kv_layout, **_):
    return joined(write.written_parts(slot_mapping, key_cache, value_cache, kv_layout))


def _data_checks(*, key_cache, slot_mapping, kv_layout, **_):
    return write.data_checks(slot_mapping, write.capacity(key_cache, kv_layout))


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
    reference=lambda **call: write.write_both(**call),
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
      k_scale, v_scale: ``[1]`` float32 for fp8 and int8 caches (None is 1): what is stored is ``key / k_scale`` and
        ``value / v_scale``, rounded to nearest and saturated.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

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
