"""Conversions against numpy and ml_dtypes, exhaustively where the source has 16 bits or fewer."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from edge_values import sample_f32, sample_f64

FP8 = {
    ("fp8", 0): ml_dtypes.float8_e4m3fnuz,
    ("fp8", 1): ml_dtypes.float8_e4m3fn,
    ("bf8", 0): ml_dtypes.float8_e5m2fnuz,
    ("bf8", 1): ml_dtypes.float8_e5m2,
}
SMALL = {"fp6": ml_dtypes.float6_e2m3fn, "bf6": ml_dtypes.float6_e3m2fn, "fp4": ml_dtypes.float4_e2m1fn}


def same(got: np.ndarray, want: np.ndarray) -> None:
    """Equal bits, any NaN equal to any quiet NaN."""
    nan = np.isnan(want)
    assert (np.isnan(got) == nan).all()
    view = {2: np.uint16, 4: np.uint32, 8: np.uint64}[want.dtype.itemsize]
    np.testing.assert_array_equal(got.view(view)[~nan], want.view(view)[~nan])


def test_f16_to_f32_every_code(apply):
    codes = np.arange(65536, dtype=np.uint16)
    got = apply("f16_to_f32", np.float32, codes)
    same(got, codes.view(np.float16).astype(np.float32))
    assert (got[np.isnan(got)].view(np.uint32) & 0x400000 != 0).all(), "signalling NaN must come out quiet"


def test_f32_to_f16_nearest_even(apply):
    bits = sample_f32(400_000)
    with np.errstate(all="ignore"):
        want = bits.view(np.float32).astype(np.float16)
    same(apply("f32_to_f16", np.uint16, bits.view(np.float32), np.int32(0)).view(np.float16), want)


@pytest.mark.parametrize(("mode", "toward"), [(1, np.inf), (2, -np.inf), (3, 0.0)])
def test_f32_to_f16_directed(apply, mode, toward):
    """The directed result is a neighbour of the nearest one, on the right side of the exact value."""
    x = sample_f32(100_000, seed=1).view(np.float32)
    x = x[np.isfinite(x)]
    got = apply("f32_to_f16", np.uint16, x, np.int32(mode)).view(np.float16).astype(np.float64)
    exact = x.astype(np.float64)
    if toward == 0.0:
        right_side, outward = np.abs(got) <= np.abs(exact), np.copysign(np.inf, exact)
    else:
        right_side, outward = np.sign(toward) * got >= np.sign(toward) * exact, np.full(exact.shape, -toward)
    assert right_side.all()
    # One step the other way passes the exact value, unless the result is exact or there is no such step.
    with np.errstate(all="ignore"):
        beyond = np.nextafter(got.astype(np.float16), outward.astype(np.float16)).astype(np.float64)
    passed = np.where(outward > 0, beyond > exact, beyond < exact)
    overflowed = np.isinf(got) & (np.abs(exact) > 65504)
    assert (passed | overflowed | (got == exact)).all()


def test_f32_to_f16_saturating(apply):
    x = np.array([65519.0, 65520.0, 1e30, np.inf, -1e30, -np.inf], np.float32)
    got = apply("f32_to_f16", np.uint16, x, np.int32(4)).view(np.float16)
    np.testing.assert_array_equal(got, np.array([65504, 65504, 65504, np.inf, -65504, -np.inf], np.float16))


def test_f32_to_bf16(apply):
    x = sample_f32(400_000, seed=2).view(np.float32)
    with np.errstate(all="ignore"):
        want = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    got = apply("f32_to_bf16", np.uint16, x).astype(np.uint32) << 16
    same(got.view(np.float32), want)


@pytest.mark.parametrize(("name", "kind"), FP8)
def test_fp8_to_f32_every_code(apply, name, kind):
    codes = np.arange(256, dtype=np.uint8)
    same(apply(f"{name}_to_f32", np.float32, codes, np.int32(kind)), codes.view(FP8[name, kind]).astype(np.float32))


@pytest.mark.parametrize(("name", "kind"), FP8)
def test_f32_to_fp8(apply, name, kind):
    dtype = FP8[name, kind]
    x = np.concatenate(
        [
            sample_f32(200_000, seed=3).view(np.float32),
            np.random.default_rng(4).normal(size=200_000).astype(np.float32) * 100,
        ]
    )
    with np.errstate(all="ignore"):
        want = x.astype(dtype)
    got = apply(f"f32_to_{name}", np.uint8, x, np.int32(kind)).view(dtype)
    same(got.astype(np.float32), want.astype(np.float32))
    limit = float(ml_dtypes.finfo(dtype).max)
    finite = x[np.isfinite(x)]
    saturated = apply(f"f32_to_{name}", np.uint8, finite, np.int32(kind | 2)).view(dtype).astype(np.float32)
    same(saturated, np.clip(finite, -limit, limit).astype(dtype).astype(np.float32))


@pytest.mark.parametrize(("name", "dropped"), [("fp8", 20), ("bf8", 21)])
def test_stochastic_rounding_brackets_and_is_unbiased(apply, name, dropped):
    """Over all seeds a value rounds to its two neighbours, up as often as its distance says."""
    dtype = FP8[name, 0]
    seeds = (np.arange(4096, dtype=np.uint64) << np.uint64(20)).astype(np.uint32)
    for x in np.array([1.03, 7.77, 100.3, -3.3, 0.011, 2.0, 1.9999], np.float32):
        got = apply(f"f32_to_{name}_sr", np.uint8, np.full(4096, x), seeds).view(dtype).astype(np.float64)
        # 4096 equally spaced seeds: the mean is off by at most one seed's share of a step, 2^-12
        step = np.ptp(got)
        assert abs(got.mean() - float(x)) <= step * 2.0**-11 + 1e-7 * abs(x)
        assert len(np.unique(got)) <= 2
    exact = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float32)
    exact = exact[np.isfinite(exact)]
    got = apply(f"f32_to_{name}_sr", np.uint8, exact, np.uint32(0xFFFFFFFF)).view(dtype).astype(np.float32)
    np.testing.assert_array_equal(got, exact)
    assert dropped == 23 - (3 if name == "fp8" else 2)


@pytest.mark.parametrize("name", SMALL)
def test_small_floats(apply, name):
    dtype = SMALL[name]
    codes = np.arange(1 << (4 if name == "fp4" else 6), dtype=np.uint8)
    values = codes.view(dtype).astype(np.float32)
    np.testing.assert_array_equal(apply(f"{name}_to_f32", np.float32, codes), values)
    x = np.concatenate([values, np.random.default_rng(5).normal(size=100_000).astype(np.float32) * 4])
    limit = float(ml_dtypes.finfo(dtype).max)
    want = np.clip(x, -limit, limit).astype(dtype).astype(np.float32)
    got = apply(f"f32_to_{name}", np.uint8, x.view(np.uint32)).view(dtype).astype(np.float32)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("name", "source", "target"),
    [
        ("f32_to_i32", np.float32, np.int32),
        ("f32_to_u32", np.float32, np.uint32),
        ("f64_to_i32", np.float64, np.int32),
        ("f64_to_u32", np.float64, np.uint32),
    ],
)
def test_float_to_integer_saturates(apply, name, source, target):
    wide = sample_f32(200_000, seed=6).view(np.float32) if source is np.float32 else sample_f64(200_000).view(np.float64)
    near = np.random.default_rng(7).uniform(-(2.0**33), 2.0**33, 200_000).astype(source)
    x = np.concatenate([wide, near])
    info = np.iinfo(target)
    with np.errstate(all="ignore"):
        exact = np.clip(np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=1e300, neginf=-1e300)), info.min, info.max)
    np.testing.assert_array_equal(apply(name, target, x), exact.astype(np.int64).astype(target))
