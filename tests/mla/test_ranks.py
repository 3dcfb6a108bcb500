"""MLA of other ranks than 512 + 64, as tiny models have: written, read in decoding and prefill, against float64 numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from tests.attention.oracle import assert_close, attend, window_mask
from tests.mla.test_mla_decode_fwd import build


@pytest.mark.parametrize(("rank", "rope"), [(32, 8), (1, 0), (20, 13)])
@pytest.mark.parametrize("op", ["mla_decode_fwd", "mla_prefill_fwd"])
def test_against_float64(op, rank, rope):
    *args, tokens = build([5, 40, 0], [2, 4, 1], 3, 16, np.float32, width=rank + rope)
    most = {"max_seqlen_qo" if op == "mla_decode_fwd" else "max_seqlen_q": 4}
    out = jax.jit(functools.partial(getattr(jax_aiter, op), sm_scale=0.2, v_head_dim=rank, **most))(*args)
    q, cu = args[0], args[2]
    want = np.zeros((len(q), 3, rank))
    for b, k in enumerate(tokens):
        rows = slice(cu[b], cu[b + 1])
        want[rows] = attend(q[rows], k, k[..., :rank], window_mask(rows.stop - rows.start, len(k), True), scale=0.2)[0]
    assert_close(out, want)


def test_what_is_written_is_what_is_read():
    """concat_and_cache_mla and fused_qk_rope_concat_and_cache_mla of rank 32 and 8 rotary numbers, then decoding."""
    rng = np.random.default_rng(0)
    c, pe = (jnp.asarray(rng.standard_normal((6, n)), jnp.float32) for n in (32, 8))
    q_c, q_pe = (jnp.asarray(rng.standard_normal((6, 2, n)), jnp.float32) for n in (32, 8))
    cache, slots = jnp.zeros((2, 4, 1, 40)), jnp.arange(6, dtype=jnp.int32)
    still = jnp.ones((1, 4)), jnp.zeros((1, 4))  # a rotation by nothing
    fused = jax_aiter.fused_qk_rope_concat_and_cache_mla(q_c, q_pe, c, pe, cache, slots, jnp.zeros(6, jnp.int32), *still)
    plain = jax_aiter.concat_and_cache_mla(c, pe, cache, slots)
    np.testing.assert_array_equal(fused.kv_cache, plain)
    lists = (jnp.asarray(x, jnp.int32) for x in ([0, 6], [0, 2], [0, 1], [2]))
    out = jax_aiter.mla_decode_fwd(fused.q_out, plain, *lists, max_seqlen_qo=6, sm_scale=0.2, v_head_dim=32)
    k = np.concatenate([c, pe], -1)[:, None]
    assert_close(out, attend(np.concatenate([q_c, q_pe], -1), k, k[..., :32], window_mask(6, 6, True), scale=0.2)[0])


def test_kernels_refuse_by_rule():
    args = [jax.ShapeDtypeStruct(s, d) for s, d in (((2, 16, 40), jnp.bfloat16), ((8, 1, 1, 40), jnp.bfloat16))]
    args += [jax.ShapeDtypeStruct(s, jnp.int32) for s in ((3,), (3,), (8,), (2,))]
    options = {"max_seqlen_qo": 1, "sm_scale": 0.1, "logit_cap": 0.0, "causal": True, "return_lse": False, "v_head_dim": 32}
    found = jax_aiter.supports("mla_decode_fwd", "gfx942", *args, **options)
    assert found["triton"] is not None
    assert found["asm"] is not None


def test_wrong_ranks_are_named():
    *args, _ = build([3], [1], 1, 1, np.float32, width=40)
    run = functools.partial(jax_aiter.mla_decode_fwd, *args, max_seqlen_qo=1, sm_scale=0.07)
    with pytest.raises(ValueError, match="v_head_dim must be given where the last dimension of q is 40"):
        run()
    with pytest.raises(ValueError, match="v_head_dim is 41, must be at most the last dimension of kv_buffer, D = 40"):
        run(v_head_dim=41)
    with pytest.raises(ValueError, match="v_head_dim must be >= 1"):
        run(v_head_dim=0)
