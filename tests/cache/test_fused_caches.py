"""The fused cache writers against the ops that they stand for, in the ops' own order and roundings, and against transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers.models.deepseek_v3.modeling_deepseek_v3 import apply_rotary_pos_emb_interleave
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm, apply_rotary_pos_emb

import jax_aiter
from jax_aiter.core.arch import FNUZ, OCP
from tests.cache.in_place import cache_sized
from tests.oracle import ROUNDOFF, assert_same, draw, f64
from tests.rope.test_rope import table

from .test_rope_and_cache import BLOCKS, HK, HQ, LAYOUTS, SIZE, SLOTS, STYLES, TOKENS, D, caches, options, positions, tokens

L, R = 40, 24
FLOATS = [jnp.float32, jnp.bfloat16, jnp.float16]


def mla_tokens(dtype, latent=L, rotary=R):
    shapes = (TOKENS, HQ, latent), (TOKENS, HQ, rotary), (TOKENS, latent), (TOKENS, rotary)
    return [draw(i, *shape, dtype=dtype) for i, shape in enumerate(shapes)]


def mla_cache(dtype, rank, width=L + R):
    shape = (BLOCKS, SIZE, width) if rank == 3 else (BLOCKS, SIZE, 1, width)
    return jnp.asarray(np.random.default_rng(3).integers(-9, 9, shape), dtype)


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("rotate_style", ["neox", "gptj"])
@pytest.mark.parametrize(("dtype", "rank"), [(jnp.float32, 3), (jnp.bfloat16, 4), (FNUZ, 4), (OCP, 3)])
def test_mla_equals_the_unfused_composition(dtype, rank, rotate_style, reuse):
    quantised = jnp.dtype(dtype).itemsize == 1
    q_nope, q_pe, kv_c, k_pe = mla_tokens(jnp.bfloat16 if quantised else dtype)
    cos, sin = table(40, R // 2 if reuse else R, seed=2)
    style = {"rotate_style": rotate_style, "reuse_freqs_front_part": reuse}
    scales = {"k_scale": jnp.array([0.05]), "q_scale": jnp.array([0.04]), "q_out_dtype": dtype} if quantised else {}
    at, cache = positions(), mla_cache(dtype, rank)
    got = jax_aiter.fused_qk_rope_concat_and_cache_mla(q_nope, q_pe, kv_c, k_pe, cache, SLOTS, at, cos, sin, **style, **scales)
    q = jnp.concatenate([q_nope, jax_aiter.rope(q_pe, cos, sin, at, **style)], -1)
    if quantised:
        q, _ = jax_aiter.per_tensor_quant(q, quant_dtype=dtype, scale=scales["q_scale"])
    k = jax_aiter.rope(k_pe[:, None], cos, sin, at, **style)[:, 0]
    written = jax_aiter.concat_and_cache_mla(kv_c, k, cache, SLOTS, scale=scales.get("k_scale"))
    assert_same(got, (q, k, written))


def test_mla_is_deepseeks_rotation():
    """Interleaved pairs: theirs come out with the halves apart, which no product of queries and keys can tell."""
    q_nope, q_pe, kv_c, k_pe = mla_tokens(jnp.float32)
    (cos, sin), at = table(40, R // 2), positions()
    got = jax_aiter.fused_qk_rope_concat_and_cache_mla(
        q_nope, q_pe, kv_c, k_pe, mla_cache(jnp.float32, 4), SLOTS, at, cos, sin, rotate_style="gptj"
    )
    wide = [torch.from_numpy(np.tile(f64(t)[np.asarray(at)], 2))[None] for t in (cos, sin)]
    q, k = (torch.from_numpy(f64(x)) for x in (q_pe, k_pe[:, None]))
    q, k = apply_rotary_pos_emb_interleave(q.transpose(0, 1)[None], k.transpose(0, 1)[None], *wide)
    want = torch.einsum("bhtd,bosd->hts", q, k).numpy() + np.einsum("thd,sd->hts", f64(q_nope), f64(kv_c))
    cache = got.kv_cache.reshape(BLOCKS * SIZE, L + R)
    for s, slot in enumerate(SLOTS):
        if 0 <= slot < BLOCKS * SIZE:
            scores = np.einsum("thd,d->ht", f64(got.q_out), f64(cache[slot]))
            bound = 4 * ROUNDOFF["float32"] * np.einsum("thd,d->ht", np.abs(f64(got.q_out)), np.abs(f64(cache[slot]))) + 1e-5
            assert (np.abs(scores - want[:, :, s]) <= bound).all()


@pytest.mark.parametrize("weights", ["same", "float32"])
@pytest.mark.parametrize(("dtype", "layout", "style"), [(d, *z) for d in FLOATS for z in zip(LAYOUTS, STYLES, strict=True)])
def test_norm_equals_the_unfused_composition(dtype, layout, style, weights):
    q, k, v = tokens(dtype)
    of = dtype if weights == "same" else jnp.float32
    qw, kw = draw(11, D, dtype=of), draw(12, D, dtype=of)
    (cos, sin), given = options(style)
    pair, at = caches(layout, dtype), positions()
    got = jax_aiter.fused_qk_norm_rope_cache(q, k, v, qw, kw, *pair, SLOTS, at, cos, sin, epsilon=1e-5, kv_layout=layout, **given)
    normed = jax_aiter.rms_norm(q, qw, 1e-5), jax_aiter.rms_norm(k, kw, 1e-5)
    assert_same(got, jax_aiter.rope_and_cache(*normed, v, *pair, SLOTS, at, cos, sin, kv_layout=layout, **given))


def test_norm_is_qwen3s():
    """The queries and keys of Qwen3's attention before its product, in float64."""
    q, k, v = tokens(jnp.float32)
    qw, kw = draw(11, D), draw(12, D)
    (cos, sin), at = table(40, D // 2), positions()
    got = jax_aiter.fused_qk_norm_rope_cache(q, k, v, qw, kw, *caches("NHD", jnp.float32), SLOTS, at, cos, sin, epsilon=1e-6)
    normed = []
    for x, weight in ((q, qw), (k, kw)):
        norm = Qwen3RMSNorm(D, eps=1e-6)
        norm.weight.data = torch.from_numpy(np.array(weight))
        normed.append(norm(torch.from_numpy(np.array(x))).detach().transpose(0, 1)[None])
    wide = [torch.from_numpy(np.tile(np.array(t)[np.asarray(at)], 2))[None] for t in (cos, sin)]
    for g, w in zip(got[:2], apply_rotary_pos_emb(*normed, *wide), strict=True):
        want = f64(w[0].transpose(0, 1).numpy())
        # A mean of 32 squares, its root, two products, and the rotation's two and a sum: theirs and ours by 16 units each.
        np.testing.assert_allclose(f64(g), want, rtol=0, atol=32 * ROUNDOFF["float32"] * np.abs(want).max())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [FNUZ, OCP, jnp.int8])
def test_per_token_scales(dtype, layout):
    """Rows and scales are those of `per_token_quant`, at their slots; nothing else changes."""
    _, k, v = tokens(jnp.bfloat16)
    k = k.at[0, 1].set(0)
    before = caches(layout, dtype)
    scales = [draw(i, BLOCKS, HK, SIZE) for i in (21, 22)]
    got = jax_aiter.reshape_and_cache_with_pertoken_quant(k, v, *before, *scales, SLOTS, kv_layout=layout)
    quantised = [jax_aiter.per_token_quant(x, quant_dtype=dtype) for x in (k, v)]
    # Rows that are quantised already are copied: into a cache by scale 1, and into one of scales.
    rows = [x.astype(jnp.float32) for x, _ in quantised]
    ones = {"k_scale": jnp.ones(1), "v_scale": jnp.ones(1)}
    assert_same(got[:2], jax_aiter.reshape_and_cache(*rows, *before, SLOTS, kv_layout=layout, **ones))
    for found, old, (_, scale) in zip(got[2:], scales, quantised, strict=True):
        want = np.array(old)
        for t, slot in enumerate(SLOTS):
            if 0 <= slot < BLOCKS * SIZE:
                want[slot // SIZE, :, slot % SIZE] = np.asarray(scale)[t, :, 0]
        np.testing.assert_allclose(found, want, rtol=2 * ROUNDOFF["float32"])
    floor = 1e-10 / (127 if dtype == jnp.int8 else float(jnp.finfo(dtype).max))
    np.testing.assert_allclose(got.k_dequant_scales[0, 1, 3], floor, rtol=2 * ROUNDOFF["float32"])


def test_pa_fwd_asm_reads_the_scales_that_were_written():
    """A cache of int8 attends as the float one that it approximates."""
    k, v = (draw(i, 20, 2, 128, dtype=jnp.bfloat16) for i in (0, 1))
    q, slots = draw(2, 1, 4, 128, dtype=jnp.bfloat16), jnp.arange(20, dtype=jnp.int32) + 16
    tables, lengths = jnp.array([[1, 2]], jnp.int32), jnp.array([20], jnp.int32)
    pair = [jnp.zeros((3, 2, 8, 16, 16), jnp.int8), jnp.zeros((3, 2, 1, 128, 16), jnp.int8)]
    found = jax_aiter.reshape_and_cache_with_pertoken_quant(k, v, *pair, *[jnp.zeros((3, 2, 16))] * 2, slots)
    got = jax_aiter.pa_fwd_asm(q, *found[:2], tables, lengths, k_scale=found[2], v_scale=found[3])
    plain = [jnp.zeros((3, 2, 16, 16, 8), jnp.bfloat16), jnp.zeros((3, 2, 2, 128, 8), jnp.bfloat16)]
    want = jax_aiter.pa_fwd_asm(q, *jax_aiter.reshape_and_cache(k, v, *plain, slots, kv_layout="asm"), tables, lengths)
    # Half a step of 1/127 of a row's largest number, in each key (which moves a score by its weighted mean) and value.
    np.testing.assert_allclose(f64(got), f64(want), rtol=0, atol=3 * 0.5 / 127 * np.abs(f64(v)).max())


def in_place(run, donated, *rest):
    compiled = jax.jit(run, donate_argnums=tuple(range(len(donated)))).lower(*donated, *rest).compile()
    assert cache_sized(compiled, min(x.size for x in donated)) == []


def struct(*shape, dtype=jnp.bfloat16):
    return jax.ShapeDtypeStruct(shape, dtype)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, FNUZ])
def test_donated_caches_in_a_loop_are_not_copied(dtype):
    cos, sin = table(40, D // 2)
    slots, blocks = struct(2, dtype=jnp.int32), 256
    q, k, row = struct(2, HQ, D), struct(2, HK, D), struct(2, D)

    def mla(cache, q, row, slots):
        def step(cache, i):
            found = jax_aiter.fused_qk_rope_concat_and_cache_mla(q, q, row, row, cache, slots + i, slots, cos, sin)
            return found.kv_cache, found.q_out

        return jax.lax.scan(step, cache, jnp.arange(4))

    in_place(mla, [struct(blocks, SIZE, 1, 2 * D, dtype=dtype)], q, row, slots)

    def norm(keys, values, q, k, weight, slots):
        def step(pair, i):
            found = jax_aiter.fused_qk_norm_rope_cache(q, k, k, weight, weight, *pair, slots + i, slots, cos, sin)
            return (found.key_cache, found.value_cache), found.q_out

        return jax.lax.scan(step, (keys, values), jnp.arange(4))

    in_place(norm, [struct(blocks, SIZE, HK, D, dtype=dtype)] * 2, q, k, struct(D), slots)

    def pertoken(keys, values, k_scales, v_scales, k, slots):
        def step(all_, i):
            return tuple(jax_aiter.reshape_and_cache_with_pertoken_quant(k, k, *all_, slots + i, kv_layout="NHD")), None

        return jax.lax.scan(step, (keys, values, k_scales, v_scales), jnp.arange(4))[0]

    if dtype == FNUZ:
        scales = [struct(blocks, HK, SIZE, dtype=jnp.float32)] * 2
        in_place(pertoken, [*[struct(blocks, SIZE, HK, D, dtype=dtype)] * 2, *scales], k, slots)


def test_errors_name_argument_and_rule():
    q_nope, q_pe, kv_c, k_pe = mla_tokens(jnp.float32)
    (cos, sin), at = table(40, R // 2), positions()
    call = lambda **new: jax_aiter.fused_qk_rope_concat_and_cache_mla(  # noqa: E731
        q_nope, q_pe, kv_c, k_pe, **{"kv_cache": mla_cache(jnp.float32, 3), "slot_mapping": SLOTS, "positions": at}
        | {"cos": cos, "sin": sin} | new
    )  # fmt: skip
    with pytest.raises(TypeError, match="q_scale is for fp8 queries, but q_out_dtype is float32"):
        call(q_scale=jnp.ones(1))
    with pytest.raises(ValueError, match="q_out_dtype must be float32 or bfloat16"):
        call(q_out_dtype=jnp.int8)
    with pytest.raises(ValueError, match=r"rotary dimension .* is 26, must be in \[2, 24\] \(the last dimension of q_pe\)"):
        call(cos=jnp.ones((40, 13)), sin=jnp.ones((40, 13)))
    with pytest.raises(TypeError, match="k_scale is for fp8 caches"):
        call(k_scale=jnp.ones(1))
    q, k, v = tokens(jnp.bfloat16)
    pair, weight = caches("NHD", jnp.bfloat16), jnp.ones(D, jnp.float16)
    with pytest.raises(TypeError, match="q_weight has dtype float16, must be that of q, bfloat16, or float32"):
        jax_aiter.fused_qk_norm_rope_cache(q, k, v, weight, weight, *pair, SLOTS, at, *table(40, D // 2))
    with pytest.raises(TypeError, match="key_cache has dtype bfloat16, must be float8_e4m3fnuz or float8_e4m3fn or int8"):
        jax_aiter.reshape_and_cache_with_pertoken_quant(k, v, *pair, *[jnp.ones((BLOCKS, HK, SIZE))] * 2, SLOTS, kv_layout="NHD")
