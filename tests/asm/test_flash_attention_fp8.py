"""flash_attention_fp8 and flash_attention_varlen_fp8 on AITER's hand-written kernels against float64.

Tolerance: the kernels round probabilities, relative to their row's largest one, to fp8: three bits behind the point, so 2^-4 of
each, and at least half the smallest subnormal, 2^-10 of the largest. Then sums in float32 and one rounding to bfloat16.
"""

import functools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jax_aiter
from jax_aiter import NotSupportedError
from jax_aiter.kernels.asm.attention import flash

from . import attention, common

TABLE = "fmha_v3_fwd/fmha_fwd.csv"
FP8 = {"gfx942": "float8_e4m3fnuz", "gfx950": "float8_e4m3fn"}


def expected(q, k, v, scales, mask):
    """One sequence; scales are [Hk] each."""
    group = q.shape[1] // k.shape[1]
    q, k, v = attention.f64(q, k, v)
    q = q * np.repeat(scales[0], group)[:, None]
    k, v = (np.repeat(x * s[:, None], group, axis=1) for x, s in ((k, scales[1]), (v, scales[2])))
    p, _ = attention.probabilities(q, k, q.shape[2] ** -0.5, mask)
    out, terms = np.einsum("hqk,khd->qhd", p, v), np.einsum("hqk,khd->qhd", p, np.abs(v))
    largest = p.max(-1, initial=0).T[..., None]
    seen = np.einsum("qk,khd->qhd", mask.astype(float), np.abs(v))
    return out, 2.0**-4 * terms + 2.0**-10 * largest * seen + 2.0**-8 * np.abs(out)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("sq", "sk"), [(40, 70), (70, 40)])
def test_log_sum_exp(arch, sq, sk, causal):
    """Natural logarithms in float32 of the scores as they are, -inf where no key is seen; packed with three rows of padding too.

    Products of fp8 values are exact and their sums float32: the logarithm loses about 2^-17 of the largest score.
    """
    q, k, v, scales = operands(arch, np.random.default_rng(7), (2, sq), (2, sk), 4, 2, 128, 2, arch == "gfx942")
    options = {"causal": causal, "implementation": "asm", "return_lse": True}
    _, lse = jax.jit(functools.partial(jax_aiter.flash_attention_fp8, **options))(q, k, v, *scales)
    mask, want = attention.visible(sq, sk, causal), []
    for b in range(2):
        q_scale, k_scale = (np.broadcast_to(s, (2, 2))[b] for s in scales[:2])
        q64, k64 = attention.f64(q[b], k[b])
        wide = q64 * np.repeat(q_scale, 2)[:, None], np.repeat(k64 * k_scale[:, None], 2, axis=1)
        want.append(attention.probabilities(*wide, 128**-0.5, mask)[1])
    np.testing.assert_allclose(lse, np.stack(want), rtol=1e-5, atol=1e-4)
    flat = [np.concatenate([*x, x[0][:3]]) for x in (q, k, v)]
    bounds = [np.asarray([0, n, 2 * n], np.int32) for n in (sq, sk)]
    packed = jax.jit(lambda *x: jax_aiter.flash_attention_varlen_fp8(*x, sq, sk, **options))(*flat, *scales, *bounds)[1]
    np.testing.assert_allclose(packed[:, : 2 * sq], np.concatenate(want, axis=1), rtol=1e-5, atol=1e-4)
    assert np.isneginf(np.asarray(packed)[:, 2 * sq :]).all()


def operands(arch, rng, lead_q, lead_k, hq, hk, head, sequences, per_head):
    dtype = getattr(ml_dtypes, FP8[arch])
    q, k, v = (rng.standard_normal((*lead, h, head)).astype(dtype) for lead, h in ((lead_q, hq), (lead_k, hk), (lead_k, hk)))
    shape = (sequences, hk) if per_head else (1,)
    return q, k, v, [rng.uniform(0.3, 2, shape).astype(np.float32) for _ in range(3)]


def compare(out, want, bound):
    got = np.asarray(out).astype(np.float64)
    assert np.isfinite(got).all()
    assert (np.abs(got - want) <= bound).all(), np.max(np.abs(got - want) - bound)
    if want.size > 1000:  # and the errors do not all point one way
        assert np.corrcoef(got.ravel(), want.ravel())[0, 1] > 0.999


def check(arch, b, sq, sk, hq, hk, head=128, *, causal=False, per_head=None, seed=0, kernel=None):
    per_head = arch == "gfx942" if per_head is None else per_head
    q, k, v, scales = operands(arch, np.random.default_rng(seed), (b, sq), (b, sk), hq, hk, head, b, per_head)
    call = functools.partial(jax_aiter.flash_attention_fp8, causal=causal, implementation="asm", kernel=kernel)
    with common.running(call, *map(jnp.asarray, (q, k, v, *scales))) as out:
        mask, each = attention.visible(sq, sk, causal), [np.broadcast_to(s, (b, hk)) for s in scales]
        parts = [expected(q[i], k[i], v[i], [s[i] for s in each], mask) for i in range(b)]
        compare(out, *(np.stack(x) for x in zip(*parts, strict=True)))


def check_packed(arch, lengths_q, lengths_k, hq, hk, head=128, *, causal=False, padding=5, seed=0, kernel=None):
    cu_q, cu_k = (np.concatenate([[0], np.cumsum(x)]).astype(np.int32) for x in (lengths_q, lengths_k))
    lead_q, lead_k, n = (cu_q[-1] + padding,), (cu_k[-1] + padding,), len(lengths_q)
    q, k, v, scales = operands(arch, np.random.default_rng(seed), lead_q, lead_k, hq, hk, head, n, arch == "gfx942")

    def call(q, k, v, a, b, c, cu_q, cu_k):
        longest = int(max(lengths_q)), int(max(lengths_k))
        options = {"causal": causal, "implementation": "asm", "kernel": kernel}
        return jax_aiter.flash_attention_varlen_fp8(q, k, v, a, b, c, cu_q, cu_k, *longest, **options)

    with common.running(call, *map(jnp.asarray, (q, k, v, *scales, cu_q, cu_k))) as out:
        want, bound = np.zeros(out.shape), np.zeros(out.shape)
        each = [np.broadcast_to(s, (n, hk)) for s in scales]
        for i, (nq, nk) in enumerate(zip(lengths_q, lengths_k, strict=True)):
            rows, keys, mask = slice(cu_q[i], cu_q[i + 1]), slice(cu_k[i], cu_k[i + 1]), attention.visible(nq, nk, causal)
            want[rows], bound[rows] = expected(q[rows], k[keys], v[keys], [s[i] for s in each], mask)
        compare(out, want, bound)


@pytest.mark.parametrize("length", [1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 255, 256, 257, 600])
def test_lengths(arch, length):
    causal = length % 2 == 0 and (length <= 256 or arch == "gfx950")
    check(arch, 2, length, length, 2, 1, causal=causal, seed=length)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("sq", "sk"), [(1, 300), (17, 40), (200, 17), (130, 129)])
def test_queries_and_keys_differ(arch, sq, sk, causal):
    check(arch, 2, sq, sk, 2, 2, causal=causal)


@pytest.mark.parametrize("group", [1, 2, 4, 8, 16])
def test_groups_of_query_heads(arch, group):
    check(arch, 1, 40, 70, 16, 16 // group)


@pytest.mark.parametrize("causal", [False, True])
def test_packed_sequences(arch, causal):
    check_packed(arch, [5, 0, 200, 17, 64], [7, 4, 180, 0, 300], 2, 1, causal=causal)


def each_kernel(arch, extra):
    for row in common.rows("flash_attention_fp8", arch, TABLE):
        if row["dtype"] == "fp8bf16":
            head, causal = row.number("hdim_q"), row["mask"] == flash.CAUSAL
            if row["mode"]:
                check_packed(arch, [70 + extra, 5], [90, 40], 2, 1, head, causal=causal, kernel=row.symbol)
            else:
                check(arch, 2, 90 + extra, 130, 2, 1, head, causal=causal, kernel=row.symbol)


def test_every_kernel(arch):
    each_kernel(arch, 0)


def test_every_kernel_of_mi308x(arch, monkeypatch):
    if arch != "gfx942":
        pytest.skip("gfx942 only")
    monkeypatch.setattr(flash, "compute_units", lambda target: 80)
    each_kernel(arch, 1)


def test_one_scale_for_all(arch):
    check(arch, 2, 33, 65, 4, 2, per_head=False)


def lower(arch, *, sq=40, hq=2, hk=2, head=128, scales=(1,), **options):
    dtype = getattr(jnp, FP8[arch])
    x = [jax.ShapeDtypeStruct((2, s, h, head), dtype) for s, h in ((sq, hq), (50, hk), (50, hk))]
    x += [jax.ShapeDtypeStruct(scales, jnp.float32)] * 3
    jax.jit(lambda *a: jax_aiter.flash_attention_fp8(*a, implementation="asm", **options)).lower(*x)


@pytest.mark.parametrize(
    ("call", "rule"),
    [
        ({"hq": 6, "hk": 2}, "3 query heads per key head"),
        ({"head": 64}, r"head sizes \(D, Dv\) = \(64, 64\)"),
        ({"sliding_window": (3, 0)}, r"sliding_window = \(3, 0\)"),
    ],
)
def test_refusals(arch, call, rule):
    with pytest.raises(NotSupportedError, match=rule):
        lower(arch, **call)


def test_what_the_kernels_get_wrong_is_refused(arch):
    """gfx942: scales applied twice in the second tile of a causal workgroup. gfx950: only the first scale is read."""
    if arch == "gfx942":
        with pytest.raises(NotSupportedError, match="257 queries"):
            lower(arch, sq=257, causal=True)
    else:
        with pytest.raises(NotSupportedError, match=r"q_descale is \[B, Hk\]"):
            lower(arch, scales=(2, 2))


@pytest.mark.parametrize("scales", [(3,), (2, 1), (2, 2, 1)])
def test_shapes_of_scales(arch, scales):
    with pytest.raises(ValueError, match=r"q_descale has shape .* must be \(1,\) or \(2, 2\)"):
        lower(arch, scales=scales)


def test_other_variant_is_refused(arch):
    other = FP8["gfx950" if arch == "gfx942" else "gfx942"]
    x, one = jnp.zeros((1, 8, 1, 128), getattr(jnp, other)), jnp.ones(1)
    with pytest.raises(TypeError, match=f"q is {other}"):
        jax_aiter.flash_attention_fp8(x, x, x, one, one, one, implementation="asm")
