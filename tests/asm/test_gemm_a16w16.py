"""gemm_a16w16 on AITER's hand-written bfloat16 kernels against float64 products of the exact operand values.

Products of two bfloat16 are exact in float32; K additions, in any order, err by at most K · 2^-24 · Σ|a||b|. A bfloat16 output is
rounded once. Where kernels split K every part is rounded, and so is the sum after each part, each time by at most 2^-8 of its
magnitude. The sum of magnitudes of the products over steps of 64 bounds all of these, whatever the parts (at most 16) and their
order.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter import NotSupportedError, gemm_a16w16, shuffle_weight

from . import common

TABLE = "bf16gemm/bf16gemm_fp32bf16.csv"
FORMER = "bf16gemm/bf16gemm_outf32.csv"
BF16 = jnp.dtype("bfloat16")


def former(arch) -> bool:
    """Whether AITER is of a release with the kernels of FORMER: float32 output, no bias, plain weights."""
    return bool(common.usable("gemm_a16w16", arch, FORMER))


def draw(seed, *shape, std=1.0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape) * std, BF16)


def f64(x):
    return np.asarray(x).astype(np.float64)


def check(m, n, k, *, out=None, bias=False, shuffled=False, kernel=None, seed=0):
    a, b = draw(seed, m, k), draw(seed + 1, n, k)
    c = draw(seed + 2, n, std=50.0) if bias else None
    weight = shuffle_weight(b, implementation="xla") if shuffled else b

    def call(a, b, *c):
        return gemm_a16w16(a, b, bias=c[0] if c else None, out_dtype=out, implementation="asm", kernel=kernel)

    args = (a, weight) if c is None else (a, weight, c)
    splits = "splitk_clean" in common.selected(call, *args).symbol
    with common.running(call, *args) as y:
        extra = 0 if c is None else f64(c)
        want, size = f64(a) @ f64(b).T + extra, np.abs(f64(a)) @ np.abs(f64(b)).T + np.abs(extra)
        bound = (k + 16) * 2.0**-24 * size
        if y.dtype == BF16:
            steps = np.abs(np.einsum("mck,nck->cmn", f64(a).reshape(m, -1, 64), f64(b).reshape(n, -1, 64))).sum(0) + np.abs(extra)
            bound = bound + 2.0**-8 * (np.abs(want) if not splits else (min(16, k // 64) + 1) * steps)
        error = np.abs(f64(y) - want)
        assert (error <= bound).all(), f"{m}x{n}x{k} {kernel}: error {error.max()}, allowed {bound.flat[error.argmax()]}"


@pytest.mark.parametrize("m", [1, 15, 16, 17, 31, 32, 33, 257])
@pytest.mark.parametrize("out", ["bfloat16", "float32"])
def test_token_counts(arch, m, out):
    check(m, 128, 256, out=out, bias=m % 2 == 1 and not former(arch))
    if not former(arch):
        check(m, 64, 192, out=out, shuffled=True)


def sweep(arch):
    """Every kernel with the arguments of a call that selects it: releases up to 0.1.7.post2 have those of FORMER instead."""
    for row in (*common.usable("gemm_a16w16", arch, TABLE), *common.usable("gemm_a16w16", arch, FORMER)):
        yield row, {"n": row.number("tileN"), "shuffled": row.fields.get("bPreshuffle") == 1, "kernel": row.symbol}


def test_every_kernel(arch):
    """One full tile and a ragged one, with bias where the kernel has one, both outputs."""
    for row, args in sweep(arch):
        check(row.number("tileM") + 3, k=256, out="bfloat16" if row.table == TABLE else "float32", **args)
        check(5, k=320, out="float32", bias=row.fields.get("bias") == 1, **args)


@pytest.mark.exhaustive
def test_every_kernel_at_more_depths(arch):
    for row, args in sweep(arch):
        for k in (192, 448, 1024, 2048):
            for m in (1, row.number("tileM"), 2 * row.number("tileM") + 1):
                check(m, k=k, out="float32", bias=row.fields.get("bias") == 1, **args)


def test_split_k_starts_from_undefined_memory(arch):
    """The output and the semaphores of two calls in one program: the second finds what the first left."""
    a, b = draw(0, 40, 640), draw(1, 64, 640)
    kernel = "bf16gemm_outf32_tn_32x64_pf3" if former(arch) else "bf16gemm_fp32bf16_tn_32x64_splitk_clean"
    call = functools.partial(gemm_a16w16, out_dtype="float32", kernel=kernel)
    first, second = jax.jit(lambda a, b: (call(a, b), call(2 * a, b)))(a, b)
    np.testing.assert_allclose(f64(second), 2 * f64(first), rtol=0, atol=640 * 2.0**-23 * 640)
    want = f64(a) @ f64(b).T
    np.testing.assert_allclose(f64(first), want, rtol=0, atol=640 * 2.0**-23 * np.abs(want).max())


def test_gradient(arch):
    """Its products have a bfloat16 result, so that kernels that write float32 only do not serve it."""
    common.needs_kernels(arch, [TABLE])
    a, b = draw(0, 17, 256), draw(1, 192, 256)

    def loss(implementation):
        return lambda a, b: jnp.sum(gemm_a16w16(a, b, out_dtype="bfloat16", implementation=implementation).astype(jnp.float32) ** 2)

    asm, xla = (jax.grad(loss(i), argnums=(0, 1))(a, b) for i in ("asm", "xla"))
    for got, want in zip(asm, xla, strict=True):
        # Both round y, its cotangent and the gradient to bfloat16, each from sums in another order.
        assert np.abs(f64(got) - f64(want)).max() <= 4 * 2.0**-8 * np.abs(f64(want)).max()


def test_vmap_over_both_loops_over_the_kernel():
    a, b = draw(0, 2, 5, 192), draw(1, 2, 64, 192)
    y = jax.vmap(lambda a, b: gemm_a16w16(a, b, out_dtype="float32", implementation="asm"))(a, b)
    want = np.einsum("bmk,bnk->bmn", f64(a), f64(b))
    assert (np.abs(f64(y) - want) <= 200 * 2.0**-24 * np.einsum("bmk,bnk->bmn", np.abs(f64(a)), np.abs(f64(b)))).all()


REFUSED = [
    ({"dtype": "float16"}, "a has dtype float16"),
    ({"out": "float16"}, "out_dtype = float16"),
    ({"k": 200}, "K = 200; the kernels take multiples of 64"),
    ({"k": 128}, "K = 128; the kernels take multiples of 64 from 192 on"),
    ({"n": 96}, "N = 96; the kernels take multiples of 64"),
    ({"bias": "float32"}, "bias has dtype float32"),
    ({"m": 0}, "a is empty"),
    ({"m": 1 << 20, "k": 4096}, "a has 8589934592 bytes"),
    ({"kernel": "nothing"}, "kernel = 'nothing'"),
    ({"kernel": "bf16gemm_fp32bf16_tn_32x64_bshuffle_splitk"}, "kernel = 'bf16gemm_fp32bf16_tn_32x64_bshuffle_splitk'"),
    ({"m": 32 * 600, "n": 128, "kernel": "bf16gemm_fp32bf16_tn_32x64_splitk_clean"}, "1200 tiles; split K takes at most 1024"),
]


@pytest.mark.parametrize(("change", "rule"), REFUSED)
def test_refusals(arch, change, rule):
    if "_fp32bf16_" in change.get("kernel", ""):
        common.needs_kernels(arch, [TABLE])
    args = {"m": 4, "n": 64, "k": 256, "dtype": "bfloat16", "out": "float32", "bias": None, "kernel": None, **change}
    a, b = (jax.ShapeDtypeStruct((args[d], args["k"]), args["dtype"]) for d in "mn")
    bias = None if args["bias"] is None else jax.ShapeDtypeStruct((args["n"],), args["bias"])
    call = functools.partial(gemm_a16w16, out_dtype=args["out"], implementation="asm", kernel=args["kernel"])
    with pytest.raises(NotSupportedError, match=rule):
        jax.jit(lambda a, b, bias: call(a, b, bias=bias)).lower(a, b, bias)


def test_a_wrong_layout_is_an_error():
    with pytest.raises(ValueError, match=r"b is shuffled with layout \(32, 16\), must be \(16, 16\)"):
        gemm_a16w16(draw(0, 4, 256), shuffle_weight(draw(1, 64, 256), layout=(32, 16), implementation="xla"))


@pytest.mark.parametrize("count", [15, pytest.param(85, marks=pytest.mark.exhaustive)])
def test_random_calls(arch, count):
    rng = np.random.default_rng(count)
    for _ in range(count):
        m, n, k = int(rng.integers(1, 140)), 64 * int(rng.integers(1, 4)), 64 * int(rng.integers(3, 9))
        bias, shuffled, out = bool(rng.integers(2)), bool(rng.integers(2)), ("bfloat16", "float32")[rng.integers(2)]
        if former(arch):
            bias, shuffled, out = False, False, "float32"
        check(m, n, k, out=out, bias=bias, shuffled=shuffled, seed=int(rng.integers(1000)))


@pytest.mark.skipif(len(jax.devices()) < 2, reason="needs two devices")
@pytest.mark.parametrize("split", ["tokens", "features"])
def test_two_devices_with_shard_map(split):
    """Tokens over the devices, or features: a shard of a shuffled weight's rows, in whole tiles, is a shuffled weight."""
    m, n, k = 6, 256, 320
    a, b = draw(0, m, k), draw(1, n, k)
    spec = jax.sharding.PartitionSpec
    over_a, over_b = (spec("x"), spec()) if split == "tokens" else (spec(), spec("x"))
    over_y = spec("x") if split == "tokens" else spec(None, "x")
    one = functools.partial(gemm_a16w16, out_dtype="float32", implementation="asm")
    mesh = jax.make_mesh((2,), ("x",))
    args = zip((a, shuffle_weight(b, implementation="xla")), (over_a, over_b), strict=True)
    placed = [jax.device_put(x, jax.sharding.NamedSharding(mesh, where)) for x, where in args]
    y = jax.jit(jax.shard_map(one, mesh=mesh, in_specs=(over_a, over_b), out_specs=over_y))(*placed)
    assert (np.abs(f64(y) - f64(a) @ f64(b).T) <= (k + 16) * 2.0**-24 * np.abs(f64(a)) @ np.abs(f64(b)).T).all()


def test_export_and_reload():
    pytest.importorskip("flatbuffers")  # jax.export writes with it
    a, b = draw(0, 5, 256), draw(1, 64, 256)
    fn = jax.jit(lambda a, b: gemm_a16w16(a, b, out_dtype="float32", implementation="asm"))
    from jax import export

    from jax_aiter.kernels.call import export_checks

    blob = export.export(fn, disabled_checks=export_checks())(a, b).serialize()
    got, want = export.deserialize(bytearray(blob)).call(a, b), f64(a) @ f64(b).T
    assert (np.abs(f64(got) - want) <= 272 * 2.0**-24 * np.abs(f64(a)) @ np.abs(f64(b)).T).all()


def test_auto_leaves_untuned_shapes_to_others(arch):
    """To Triton; the explanation says so, also where there is no Triton to take them."""
    a, b = jax.ShapeDtypeStruct((64, 256), BF16), jax.ShapeDtypeStruct((64, 256), BF16)
    out = "float32" if former(arch) else None
    (found,) = jax_aiter.explain(lambda a, b: gemm_a16w16(a, b, out_dtype=out), a, b)
    assert "AITER has no tuned row for this shape and calls a BLAS library" in str(found)
