"""Sums over devices with a norm behind them, and products whose rows travel, against float64 numpy on one and eight devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import jax_aiter
from jax_aiter.parallel import all_gather_gemm, fused_allreduce_rms_norm, fused_allreduce_rms_norm_quant, gemm_reduce_scatter
from tests.oracle import assert_same, draw, f64
from tests.parallel.common import mesh_of

EPSILON = 1e-5
UNIT = {"float32": 2.0**-24, "bfloat16": 2.0**-8}
AXIS = "t"


def on(devices, function, in_specs, out_specs, kind=jax.sharding.AxisType.Auto):
    mesh = mesh_of(devices, (AXIS,), kind=kind)
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs))


def parts(devices, dtype="float32"):
    """x of every device along the first axis, residual, weight; 6 tokens of 256."""
    return draw(0, devices, 6, 256, dtype=dtype), draw(1, 6, 256, dtype=dtype), draw(2, 256, dtype=dtype)


def normed(x, residual, weight, offset=0.0):
    total = f64(x).sum(0) + f64(residual)
    return total / np.sqrt((total**2).mean(-1, keepdims=True) + EPSILON) * (f64(weight) + offset), total


@pytest.mark.parametrize(
    ("devices", "dtype"), [(1, "float32"), (8, "bfloat16"), pytest.param(8, "float32", marks=pytest.mark.exhaustive)]
)
def test_all_reduce_and_norm(devices, dtype):
    x, residual, weight = parts(devices, dtype)

    def layer(x, residual, weight):
        return fused_allreduce_rms_norm(x[0], residual, weight, EPSILON, axis_name=AXIS, weight_offset=1.0)

    # The result is known to be the same on all devices: P() with check_vma on says so.
    got = on(devices, layer, (P(AXIS), P(), P()), P())(x, residual, weight)
    want = normed(x, residual, weight, 1.0)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == jnp.dtype(dtype)
        # Each addition of the sum rounds to the dtype, and then the result does.
        np.testing.assert_allclose(f64(g), w, rtol=0, atol=(devices + 2) * UNIT[dtype] * np.abs(w).max())


@pytest.mark.parametrize("group_size", [128, pytest.param(None, marks=pytest.mark.exhaustive)])
def test_all_reduce_norm_and_quantisation(group_size):
    x, residual, weight = parts(8)
    options = {"group_size": group_size, "quant_dtype": jnp.float8_e4m3fnuz, "output_unquantized": True}

    def layer(x, residual, weight):
        return fused_allreduce_rms_norm_quant(x[0], residual, weight, EPSILON, axis_name=AXIS, **options)

    got = on(8, layer, (P(AXIS), P(), P()), P())(x, residual, weight)
    want, total = normed(x, residual, weight)
    width = group_size or 256
    grouped = np.abs(want).reshape(6, -1, width)
    scale = np.maximum(grouped.max(-1), 1e-10) / 240
    np.testing.assert_allclose(f64(got.scale), scale, rtol=16 * UNIT["float32"])
    decoded = f64(got.xq).reshape(6, -1, width) * scale[..., None]
    # Half a step of e4m3: 2**-4 of a value, or of the least normal one, 2**-7 of the scale.
    step = np.maximum(np.abs(want).reshape(6, -1, width) * 2.0**-4, scale[..., None] * 2.0**-8) * 1.001
    assert (np.abs(decoded - want.reshape(6, -1, width)) <= step).all()
    np.testing.assert_allclose(f64(got.y), want, rtol=0, atol=16 * UNIT["float32"] * np.abs(want).max())
    np.testing.assert_allclose(f64(got.residual_out), total, rtol=0, atol=10 * UNIT["float32"] * np.abs(total).max())


def test_gradient_of_all_reduce_and_norm():
    """That of the same arithmetic on one device."""
    x, residual, weight = parts(8)
    ct = draw(3, 6, 256)

    def alone(x, residual, weight):
        y, out = jax_aiter.rms_norm_with_add(jnp.sum(x, 0), residual, weight, EPSILON)
        return jnp.sum((y + out) * ct)

    def split(x, residual, weight):
        def layer(x, residual, weight):
            return fused_allreduce_rms_norm(x[0], residual, weight, EPSILON, axis_name=AXIS)

        y, out = on(8, layer, (P(AXIS), P(), P()), P())(x, residual, weight)
        return jnp.sum((y + out) * ct)

    got, want = (jax.jit(jax.grad(f, argnums=(0, 1, 2)))(x, residual, weight) for f in (split, alone))
    assert_same(got, want, ulps=32)


@pytest.mark.parametrize("method", ["ring", "collective"])
@pytest.mark.parametrize("devices", [1, 3, 8])
def test_gathered_rows(devices, method):
    a, b, bias = draw(0, devices * 2, 16), draw(1, devices * 3, 16), draw(2, devices * 3)
    layer = functools.partial(all_gather_gemm, axis_name=AXIS, method=method)
    run = on(devices, lambda a, b, bias: layer(a, b, bias=bias), (P(AXIS), P(AXIS), P(AXIS)), P(None, AXIS))
    want = f64(a) @ f64(b).T + f64(bias)
    np.testing.assert_allclose(f64(run(a, b, bias)), want, rtol=0, atol=20 * UNIT["float32"] * np.abs(want).max())


@pytest.mark.parametrize("method", ["ring", "collective"])
@pytest.mark.parametrize("devices", [1, 3, 8])
def test_scattered_sums(devices, method):
    a, b = draw(0, devices * 2, devices * 4, dtype="bfloat16"), draw(1, 5, devices * 4, dtype="bfloat16")
    layer = functools.partial(gemm_reduce_scatter, axis_name=AXIS, method=method, out_dtype=jnp.float32)
    got = on(devices, layer, (P(None, AXIS), P(None, AXIS)), P(AXIS))(a, b)
    want = f64(a) @ f64(b).T
    # Products of bfloat16 are exact in float32; sums of them are not.
    np.testing.assert_allclose(f64(got), want, rtol=0, atol=40 * UNIT["float32"] * np.abs(want).max())


@pytest.mark.parametrize("method", ["ring", pytest.param("collective", marks=pytest.mark.exhaustive)])
def test_gradients_of_a_layer_of_both(method):
    """Rows gathered into a product of columns, and scattered behind one of rows: a feed-forward layer of split sequences."""
    devices = 8
    x, w1, w2 = draw(0, devices * 2, 8), draw(1, devices * 4, 8, std=0.3), draw(2, 8, devices * 4, std=0.3)
    ct = draw(3, devices * 2, 8)

    def layer(x, w1, w2):
        h = jnp.tanh(all_gather_gemm(x, w1, axis_name=AXIS, method=method))
        return gemm_reduce_scatter(h, w2, axis_name=AXIS, method=method)

    run = on(devices, layer, (P(AXIS), P(AXIS), P(None, AXIS)), P(AXIS))
    got = jax.jit(jax.grad(lambda *args: jnp.sum(run(*args) * ct), argnums=(0, 1, 2)))(x, w1, w2)
    want = jax.jit(jax.grad(lambda x, w1, w2: jnp.sum(jnp.tanh(x @ w1.T) @ w2.T * ct), argnums=(0, 1, 2)))(x, w1, w2)
    assert_same(got, want, ulps=64)


def test_a_ring_sends_each_part_to_the_neighbour():
    """n - 1 exchanges of one part, and no gather of all."""
    a, b = jnp.zeros((8, 16)), jnp.zeros((8, 16))
    run = on(4, functools.partial(all_gather_gemm, axis_name=AXIS), (P(AXIS), P(AXIS)), P(None, AXIS))
    text = run.lower(a, b).as_text()
    assert text.count("collective_permute") == 3
    assert "stablehlo.all_gather" not in text


def test_no_rows():
    run = on(2, functools.partial(all_gather_gemm, axis_name=AXIS), (P(AXIS), P(AXIS)), P(None, AXIS))
    assert run(jnp.zeros((0, 4)), jnp.zeros((6, 4))).shape == (0, 6)
    run = on(2, functools.partial(gemm_reduce_scatter, axis_name=AXIS), (P(None, AXIS), P(None, AXIS)), P(AXIS))
    assert run(jnp.zeros((0, 4)), jnp.zeros((3, 4))).shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: all_gather_gemm(a, a, axis_name="elsewhere"), "all_gather_gemm: axis_name is 'elsewhere', must name axes of"),
        (lambda a: gemm_reduce_scatter(a, a, axis_name=3), "gemm_reduce_scatter: axis_name must be a name of a mesh axis"),
        (
            lambda a: gemm_reduce_scatter(a[:3], a, axis_name=AXIS),
            "gemm_reduce_scatter: dimension 0 of a is 3, must be a multiple of 2",
        ),
        (lambda a: all_gather_gemm(a[0], a, axis_name=AXIS), r"all_gather_gemm: a must have 2 dimensions \[M K\]"),
        (lambda a: all_gather_gemm(a, a, axis_name=AXIS, method="tree"), "all_gather_gemm: method must be one of"),
        (lambda a: fused_allreduce_rms_norm(a, a, a[0], axis_name="x"), "fused_allreduce_rms_norm: axis_name is 'x'"),
    ],
)
def test_rules(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        jax.eval_shape(
            jax.shard_map(call, mesh=mesh_of(2, (AXIS,)), in_specs=P(), out_specs=P(), check_vma=False), jnp.zeros((4, 4))
        )
