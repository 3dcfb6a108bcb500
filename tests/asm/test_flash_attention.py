"""flash_attention and flash_attention_varlen on AITER's hand-written forward kernels against float64.

Tolerance: probabilities are rounded to bfloat16 (relative error u = 2^-8 to nearest, 2u toward zero), products are exact in
float32, and the output is rounded once more. With A = sum_j p_j |v_j| >= |out| an element is within 2u A, or 4u A toward zero:
that is at most two bfloat16 ulps (2^-7 each) of A.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter import NotSupportedError
from jax_aiter.kernels.asm.attention import flash
from jax_aiter.kernels.provider import Call, Target
from jax_aiter.ops.attention.flash_attention import FLASH_ATTENTION
from jax_aiter.ops.attention.flash_attention_varlen import FLASH_ATTENTION_VARLEN

from . import attention, common

TABLE = "fmha_v3_fwd/fmha_fwd.csv"
LENGTHS = [1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000]
HEADS = [(128, 128), (192, 128)]
LSE = {"logits_soft_cap": 0.0, "alibi_per_sequence": False, "alibi_slopes": None}


def units(kernel: str) -> int:
    return 4 if "rtz" in kernel else 2


def check(b, sq, sk, hq, hk, heads=(128, 128), *, causal=False, seed=0, **options):
    rng = np.random.default_rng(seed)
    q, k = attention.draw(rng, b, sq, hq, heads[0]), attention.draw(rng, b, sk, hk, heads[0])
    v = attention.draw(rng, b, sk, hk, heads[1])
    call = functools.partial(jax_aiter.flash_attention, causal=causal, implementation="asm", **options)
    scale = options.get("scale") or heads[0] ** -0.5
    with common.running(call, *map(jnp.asarray, (q, k, v))) as out:
        mask = attention.visible(sq, sk, causal)
        expected = attention.stack([attention.forward(q[i], k[i], v[i], scale, mask)[0] for i in range(b)])
        attention.assert_within(out, expected, units(options.get("kernel", "")), attention.UNIT["bfloat16"], "out")


def packed(lengths) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)


def check_packed(lengths_q, lengths_k, hq, hk, heads=(128, 128), *, causal=False, padding=(0, 0), seed=0, **options):
    rng = np.random.default_rng(seed)
    cu_q, cu_k = packed(lengths_q), packed(lengths_k)
    tq, tk = cu_q[-1] + padding[0], cu_k[-1] + padding[1]
    q, k, v = attention.draw(rng, tq, hq, heads[0]), attention.draw(rng, tk, hk, heads[0]), attention.draw(rng, tk, hk, heads[1])
    q[cu_q[-1] :], k[cu_k[-1] :], v[cu_k[-1] :] = np.nan, np.nan, np.nan
    call = functools.partial(jax_aiter.flash_attention_varlen, causal=causal, implementation="asm", **options)
    longest = {"max_seqlen_q": int(max(lengths_q)), "max_seqlen_k": int(max(lengths_k))}
    arrays = [jnp.asarray(x) for x in (q, k, v, cu_q, cu_k)]
    with common.running(lambda *a: call(*a, **longest), *arrays) as out:
        parts = []
        for i, (nq, nk) in enumerate(zip(lengths_q, lengths_k, strict=True)):
            rows, keys = slice(cu_q[i], cu_q[i] + nq), slice(cu_k[i], cu_k[i] + nk)
            parts.append(attention.forward(q[rows], k[keys], v[keys], heads[0] ** -0.5, attention.visible(nq, nk, causal))[0])
        expected = attention.scatter(out.shape, cu_q, parts)
        attention.assert_within(out, expected, units(options.get("kernel", "")), attention.UNIT["bfloat16"], "out")


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_lengths(length, heads):
    check(1 if length > 500 else 2, length, length, 2, 1, heads, causal=length % 2 == 0, seed=length)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize(("sq", "sk"), [(1, 300), (17, 40), (300, 17), (130, 129), (260, 513)])
def test_queries_and_keys_differ(sq, sk, heads, causal):
    """Bottom-right diagonals; where there are more queries than keys the first ones see nothing and give zeros."""
    check(1, sq, sk, 2, 2, heads, causal=causal)


@pytest.mark.parametrize("group", [1, 4, 8])
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_groups_of_query_heads(batch, group):
    check(batch, 70, 90, 2 * group, 2, causal=batch == 2)
    check(batch, 40, 33, 8, 8 // group, (192, 128), causal=batch == 3)


def test_more_than_two_tiles_and_eight_heads():
    """Causal workgroups pair an early tile with a late one; with 8 heads AITER orders them otherwise than with fewer."""
    check(1, 700, 700, 8, 2, causal=True)
    check(1, 600, 600, 3, 1, causal=True)


@pytest.mark.parametrize("scale", [0.01, 0.7])
def test_scale(scale):
    check(1, 33, 65, 1, 1, scale=scale)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_packed_sequences(heads, causal):
    check_packed([5, 0, 300, 17, 64], [7, 4, 280, 0, 600], 2, 1, heads, causal=causal, padding=(7, 3))
    check_packed([1], [1], 4, 1, heads, causal=causal)
    check_packed([0, 0, 3], [2, 0, 1], 1, 1, heads, causal=causal)


def test_packed_sequences_of_random_lengths():
    rng = np.random.default_rng(5)
    for i in range(4):
        b = int(rng.integers(1, 7))
        lengths_q, lengths_k = rng.integers(0, 90, b), rng.integers(0, 90, b)
        lengths_q[0] += 1
        lengths_k[-1] += 1
        options = {"causal": bool(i // 2), "seed": i, "padding": (i, 2 * i)}
        check_packed(lengths_q, lengths_k, 4, int(2 ** rng.integers(3)), HEADS[i % 2], **options)


def test_every_kernel(arch):
    for row in common.rows("flash_attention", arch, TABLE):
        if row["dtype"] != "bf16":
            continue
        heads, causal = (row.number("hdim_q"), row.number("hdim_v")), row["mask"] == flash.CAUSAL
        if row["mode"]:
            check_packed([70, 5], [90, 40], 2, 1, heads, causal=causal, kernel=row.symbol)
        else:
            check(1, 90, 130, 2, 1, heads, causal=causal, kernel=row.symbol)


def test_every_kernel_of_mi308x(arch, monkeypatch):
    """MI308X has 80 compute units and code objects of its own for the same table."""
    if arch != "gfx942":
        pytest.skip("gfx942 only")
    monkeypatch.setattr(flash, "compute_units", lambda target: 80)
    for row in common.rows("flash_attention", arch, TABLE):
        if row["dtype"] != "bf16":
            continue
        heads, causal = (row.number("hdim_q"), row.number("hdim_v")), row["mask"] == flash.CAUSAL
        if row["mode"]:  # other lengths than above: what was selected for a call is remembered
            check_packed([71, 6], [91, 41], 2, 1, heads, causal=causal, kernel=row.symbol)
        else:
            check(1, 91, 131, 2, 1, heads, causal=causal, kernel=row.symbol)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("sq", "sk", "heads"), [(40, 70, (128, 128)), (70, 40, (192, 128))], ids=str)
def test_log_sum_exp(sq, sk, heads, causal):
    """What the backward pass reads: natural logarithms in float32, -inf where no key is seen."""
    rng = np.random.default_rng(1)
    q, k = attention.draw(rng, 2, sq, 4, heads[0]), attention.draw(rng, 2, sk, 2, heads[0])
    v = attention.draw(rng, 2, sk, 2, heads[1])
    options = {"scale": 0.1, "causal": causal, "sliding_window": (-1, -1), "implementation": "asm", **LSE}
    mask = attention.visible(sq, sk, causal)
    expected = np.stack([attention.forward(q[i], k[i], v[i], 0.1, mask)[1] for i in range(2)])
    _, lse = jax.jit(lambda q, k, v: FLASH_ATTENTION(q=q, k=k, v=v, bias=None, **options))(q, k, v)
    np.testing.assert_allclose(lse, expected, rtol=1e-5, atol=1e-5)
    # The same two sequences packed, and three rows of padding.
    flat = [np.concatenate([*x, x[0][:3]]) for x in (q, k, v)]
    cu_q, cu_k = packed([sq, sq]), packed([sk, sk])

    def call(q, k, v, cu_q, cu_k):
        lengths = {"max_seqlen_q": sq, "max_seqlen_k": sk}
        return FLASH_ATTENTION_VARLEN(q=q, k=k, v=v, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, **lengths, **options)

    _, lse = jax.jit(call)(*flat, cu_q, cu_k)
    np.testing.assert_allclose(lse[:, : 2 * sq], np.concatenate(list(expected), axis=1), rtol=1e-5, atol=1e-5)
    assert np.isneginf(np.asarray(lse)[:, 2 * sq :]).all()


def test_neighbours_do_not_leak():
    """Tiles reach over a sequence's end: NaN in the rows of other sequences must not come through."""
    rng = np.random.default_rng(2)
    lengths_q, lengths_k = [40, 70, 30], [50, 20, 90]
    cu_q, cu_k = packed(lengths_q), packed(lengths_k)
    arrays = {n: attention.draw(rng, t, 2, 128) for n, t in (("q", cu_q[-1]), ("k", cu_k[-1]), ("v", cu_k[-1]))}

    @functools.partial(jax.jit, static_argnames="causal")
    def call(q, k, v, causal):
        starts = jnp.asarray(cu_q), jnp.asarray(cu_k)
        return jax_aiter.flash_attention_varlen(q, k, v, *starts, 70, 90, causal=causal, implementation="asm")

    for causal in (False, True):
        clean = np.asarray(call(**arrays, causal=causal))
        for name, starts in (("q", cu_q), ("k", cu_k), ("v", cu_k)):
            spoilt = arrays[name].copy()
            spoilt[starts[1] : starts[2]] = np.nan
            out = np.asarray(call(**{**arrays, name: spoilt}, causal=causal))
            for rows in (slice(0, cu_q[1]), slice(cu_q[2], None)):
                np.testing.assert_array_equal(out[rows], clean[rows])  # exact: the same program


def test_placement_of_mi308x(monkeypatch):
    kernel = common.kernels("gfx942", TABLE)[0]
    call = Call("flash_attention", Target("rocm", "gfx942"), {}, {}, ())
    assert "/MI300/" in flash.placed(kernel, call).path
    monkeypatch.setattr(flash, "compute_units", lambda target: 80)
    assert "/MI308/" in flash.placed(kernel, call).path


@pytest.mark.parametrize(
    ("shapes", "options", "rule"),
    [
        (((1, 8, 2, 64), (1, 8, 2, 64), (1, 8, 2, 64)), {}, r"head sizes \(D, Dv\) = \(64, 64\)"),
        (((1, 8, 2, 128), (1, 8, 2, 128), (1, 8, 2, 64)), {}, r"head sizes \(D, Dv\) = \(128, 64\)"),
        (((1, 8, 2, 128),) * 3, {"sliding_window": (2, 0)}, r"sliding_window = \(2, 0\)"),
        (((1, 8, 2, 128),) * 3, {"sliding_window": (-1, 2)}, r"sliding_window = \(-1, 2\)"),
        (((1, 8, 2, 128),) * 3, {"logits_soft_cap": 3.0}, r"logits_soft_cap = 3\.0"),
        (((1, 8, 2, 128),) * 3, {"alibi_slopes": jnp.ones(2)}, "alibi_slopes is given"),
        (((1, 8, 2, 128),) * 3, {"bias": jnp.ones((8, 8))}, "bias is given"),
        (((1, 0, 2, 128), (1, 8, 2, 128), (1, 8, 2, 128)), {}, "q is empty"),
        (((1, 8, 2, 128),) * 3, {"kernel": "fwd_hd128_bf16_causal_rtne"}, "kernel = 'fwd_hd128_bf16_causal_rtne'"),
        (((1, 2**20, 16, 128),) * 3, {}, r"below 2\*\*31"),
        (((2**10, 2**13, 128, 128), (2**10, 1, 128, 128), (2**10, 1, 128, 128)), {}, r"log-sum-exp.* below 2\*\*32"),
    ],
)
def test_refusals(shapes, options, rule):
    arrays = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in shapes]
    with pytest.raises(NotSupportedError, match=rule):
        jax.jit(lambda *a: jax_aiter.flash_attention(*a, implementation="asm", **options)).lower(*arrays)


def test_dtypes_are_refused():
    for dtype in (jnp.float16, jnp.float32):
        with pytest.raises(NotSupportedError, match=f"q has dtype {jnp.dtype(dtype).name}"):
            jax_aiter.flash_attention(*[jnp.zeros((1, 8, 1, 128), dtype)] * 3, implementation="asm")


def test_windows_that_hide_nothing_are_taken():
    check(1, 8, 9, 1, 1, sliding_window=(8, 7))
    check(1, 8, 9, 1, 1, causal=True, sliding_window=(20, 3))


def test_auto_prefers_triton_up_to_128_queries():
    """As AITER prefers CK there; the explanation says so."""
    arrays = [jax.ShapeDtypeStruct((1, 128, 1, 128), jnp.bfloat16)] * 3
    (found,) = jax_aiter.explain(jax_aiter.flash_attention, *arrays)
    assert "up to 128 queries AITER takes its CK kernel" in str(found)  # also where there is no Triton to take it instead
    arrays = [jax.ShapeDtypeStruct((1, 129, 1, 128), jnp.bfloat16)] * 3
    (found,) = jax_aiter.explain(jax_aiter.flash_attention, *arrays)
    assert found.implementation == "asm"
