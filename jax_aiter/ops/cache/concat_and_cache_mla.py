"""Write the latents and rotary keys of new tokens into an MLA cache, in place where the cache is donated."""

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FLOATING, FP8_TYPES, INT32, Arg
from jax_aiter.core.cases import case, constant, normal, permutation
from jax_aiter.core.reads import joined
from jax_aiter.ops.cache import mla_layout, write


def _abstract(dims, *, kv_c, k_pe, kv_cache, slot_mapping, scale, head_axis):
    op = "concat_and_cache_mla"
    check.same_dtype(op, kv_c=kv_c.dtype, k_pe=k_pe.dtype)
    mla_layout.check_cache(op, dims, kv_c.dtype, kv_cache, "scale", scale)
    return (kv_cache,)


def _reference(*, kv_c, k_pe, kv_cache, slot_mapping, scale, head_axis):
    return (mla_layout.write(kv_c, k_pe, kv_cache, slot_mapping, scale),)


def _batch(batched, *, head_axis):
    return write.one_longer_cache(batched, mla_layout.capacity(write.element(batched, "kv_cache")), ("scale",))


def _reads(*, kv_cache, slot_mapping, **_):
    return joined([mla_layout.written_part(slot_mapping, kv_cache, "kv_c", "k_pe")])


def _data_checks(*, kv_cache, slot_mapping, **_):
    return write.data_checks(slot_mapping, mla_layout.capacity(kv_cache))


CONCAT_AND_CACHE_MLA = Op(
    name="concat_and_cache_mla",
    family="MLA",
    mirrors="aiter.concat_and_cache_mla (csrc/kernels/cache_kernels.cu)",
    operands={
        "kv_c": Arg("T L"),
        "k_pe": Arg("T R"),
        "kv_cache": Arg("nb bs C", (*FLOATING, *FP8_TYPES)),
        "slot_mapping": Arg("T", INT32),
        "scale": Arg("1", ("float32",), optional=True),
    },
    results={"kv_cache": "nb bs C"},
    relayout=mla_layout.axes,
    abstract=_abstract,
    reference=_reference,
    batch=_batch,
    aliases={"kv_cache": "kv_cache"},
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "bf16",
            kv_c=normal(4, 16, dtype=jnp.bfloat16),
            k_pe=normal(4, 8, dtype=jnp.bfloat16),
            kv_cache=normal(3, 4, 24, dtype=jnp.bfloat16),
            slot_mapping=constant([5, -1, 11, 0], jnp.int32),
            head_axis=False,
        ),
        case(
            "fp8_odd",
            kv_c=normal(3, 5, dtype=jnp.bfloat16),
            k_pe=normal(3, 3, dtype=jnp.bfloat16),
            kv_cache=normal(5, 3, 8, dtype=jnp.float8_e4m3fnuz),
            slot_mapping=permutation(3, among=15),
            scale=constant([0.03], jnp.float32),
            head_axis=False,
        ),
        case(
            "page_of_one",
            kv_c=normal(2, 512, dtype=jnp.float32),
            k_pe=normal(2, 64, dtype=jnp.float32),
            kv_cache=normal(6, 1, 1, 576),
            slot_mapping=constant([4, -7], jnp.int32),
            head_axis=True,
        ),
    ],
)


@public
def concat_and_cache_mla(
    kv_c: jax.Array,
    k_pe: jax.Array,
    kv_cache: jax.Array,
    slot_mapping: jax.Array,
    *,
    scale: jax.Array | None = None,
    implementation: str | None = None,
) -> jax.Array:
    """The MLA cache with token t's latent and rotary key at slot ``slot_mapping[t]``; every other element keeps its value.

    Args:
      kv_c: ``[T, L]`` float32, bfloat16 or float16: the normalised latent (L is 512 for DeepSeek).
      k_pe: ``[T, R]``, the dtype of `kv_c`: the rotated shared key (R is 64).
      kv_cache: ``[nb, bs, L + R]``, or ``[nb, bs, 1, L + R]`` as `mla_decode_fwd` reads it; the dtype of `kv_c`, or fp8.
      slot_mapping: ``[T]`` int32, ``block * bs + place``. A token whose slot is negative or past the capacity is skipped. If two
        tokens have the same slot, each element there is one of theirs, which one is undefined.
      scale: ``[1]`` float32 for an fp8 cache (None is 1): what is stored is ``kv_c / scale``, rounded to nearest and saturated.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      The shape and dtype of `kv_cache`, updated in place if it is donated (``jax.jit(..., donate_argnums=...)`` or carried by
      ``lax.scan``), on every platform and for every dtype.

    Raises TypeError or ValueError for wrong shapes or dtypes; `debug_checks` reports bad and repeated slots.
    Mirrors ``aiter.concat_and_cache_mla``.
    """
    return CONCAT_AND_CACHE_MLA(
        kv_c=kv_c,
        k_pe=k_pe,
        kv_cache=kv_cache,
        slot_mapping=slot_mapping,
        scale=scale,
        head_axis=mla_layout.has_head_axis(kv_cache),
        implementation=implementation,
    )[0]
