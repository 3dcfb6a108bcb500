"""Decoding over a latent cache by our own kernel, in both of its forms, against float64: the one of a card with warpgroups, which
there is the default, is asked for here."""

import jax
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.arch import fp8_dtype
from jax_aiter.kernels.triton.tiles import choose
from tests.attention.oracle import attend
from tests.mla.test_mla_decode_fwd import build

SCALE, RANK = 0.07, 512
#: Page, heads, the cache's dtype, tokens of a tile, parts of a sequence: pages below, of and above a tile, even and odd powers of
#: two; one head, a block of them, one with a rest, many; parts that stay empty; joined by two warps and by eight.
CASES = [
    (1, 16, "bfloat16", 16, 1),
    (8, 1, "bfloat16", 16, 2),
    (16, 40, "bfloat16", 32, 3),
    (32, 16, "float16", 16, 3),
    (64, 128, "bfloat16", 16, 2),
    (64, 16, "fp8", 32, 5),
    (1, 40, "fp8", 16, 64),
]


def run(tile, args, last, scales):
    call = jax.jit(
        lambda *x: jax_aiter.mla_decode_fwd(
            *x, last, max_seqlen_qo=1, sm_scale=SCALE, causal=True, return_lse=True, implementation="triton", **scales
        )
    )
    with choose.forced("mla_decode_fwd", tile):
        return [np.asarray(x) for x in call(*args)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("early", [0, 1])
@pytest.mark.parametrize(("page", "heads", "kind", "tokens", "splits"), CASES)
def test_against_float64(arch, page, heads, kind, tokens, splits, early):
    """Every slot that no sequence has, in its last page too, holds NaN, and the list of pages goes on behind the last.

    Weights are rounded to q's dtype, each by half a unit, before values are multiplied with them, and so is the result: an output
    errs by as much of the largest value and of itself. Products of 16 bits are exact in float32, the type of scores and lse.
    """
    lengths = [0, 1, tokens - 1, tokens, tokens + 1, 0, 5 * tokens + 3, 4 * tokens]
    dtype = np.dtype(fp8_dtype(arch) if kind == "fp8" else kind)
    (q, *args), last, rows = (made := build(lengths, [1] * len(lengths), heads, page, dtype))[:-2], made[-2], made[-1]
    q = q[:-1].astype("bfloat16") if kind == "fp8" else q[:-1]
    factor = 0.5 if kind == "fp8" else 1.0
    scales = {"kv_scale": np.float32([factor])} if kind == "fp8" else {}
    tile = {"KERNEL": "own", "BLOCK_H": 16, "BLOCK_N": tokens, "SPLITS": splits, "EARLY": early}
    out, lse = run(tile, (q, *args), last, scales)
    half = 2.0 ** (-12 if kind == "float16" else -9)
    for b, keys in enumerate(rows):
        wide = keys.astype(np.float64) * factor
        visible = np.ones((1, len(keys)), bool)
        want, want_lse = attend(q[b : b + 1], wide, wide[..., :RANK], visible, scale=SCALE)
        if not len(keys):
            assert not out[b].any()
            assert (lse[b] == -np.inf).all()
            continue
        allowed = half * (np.abs(want[0]) + np.abs(wide).max()) + 2.0**-17
        wrong = np.abs(out[b].astype(np.float64) - want[0]) - allowed
        assert wrong.max() <= 0, (lengths[b], wrong.max())
        np.testing.assert_allclose(lse[b], want_lse[0], rtol=2.0**-16, atol=2.0**-16)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("early", [0, 1])
def test_a_nan_of_a_sequence_stays_in_it(arch, early):
    """In a token of whole tiles and in one of the rest."""
    lengths = [40, 40, 40]
    *args, last, _ = build(lengths, [1] * 3, 16, 16, np.dtype("bfloat16"))
    args[0] = args[0][:-1]
    cache, first, indices = args[1], args[3], args[4]
    cache[indices[first[0]], 3], cache[indices[first[2] + 2], 7] = np.nan, np.nan
    tile = {"KERNEL": "own", "BLOCK_H": 16, "BLOCK_N": 16, "SPLITS": 2, "EARLY": early}
    for found in run(tile, args, last, {}):
        shown = np.isnan(found.astype(np.float32)).reshape(3, -1)
        np.testing.assert_array_equal(shown.all(1), [True, False, True])
        np.testing.assert_array_equal(shown.any(1), [True, False, True])
