"""Layers over two GPUs, through XLA's collectives: the sums, gathers and exchanges of `jax_aiter.parallel`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jax_aiter.parallel import all_gather_gemm, fused_allreduce_rms_norm, gemm_reduce_scatter

pytestmark = pytest.mark.skipif(jax.default_backend() != "gpu" or jax.device_count() < 2, reason="needs two GPUs")


def on(function, in_specs, out_specs):
    mesh = jax.make_mesh((2,), ("t",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs))


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_all_reduce_and_norm():
    x, residual, weight = draw(0, 2, 3, 64), draw(1, 3, 64), draw(2, 64)
    run = on(
        lambda x, r, w: fused_allreduce_rms_norm(x[0], r, w, 1e-5, axis_name="t", implementation="xla"), (P("t"), P(), P()), P()
    )
    y, out = run(x, residual, weight)
    total = x.sum(0, dtype=np.float64) + residual
    want = total / np.sqrt((total**2).mean(-1, keepdims=True) + 1e-5) * weight
    np.testing.assert_allclose(np.asarray(out), total, rtol=0, atol=4 * 2.0**-24 * np.abs(total).max())
    np.testing.assert_allclose(np.asarray(y), want, rtol=0, atol=16 * 2.0**-24 * np.abs(want).max())


@pytest.mark.parametrize("method", ["ring", "collective"])
def test_products_whose_rows_travel(method):
    a, b, c = draw(0, 4, 32), draw(1, 8, 32), draw(2, 16, 8)
    options = {"axis_name": "t", "method": method, "implementation": "xla"}

    def layer(a, b, c):
        h = all_gather_gemm(a, b, **options)
        return h, gemm_reduce_scatter(h, c, **options)

    with jax.default_matmul_precision("highest"):
        h, out = on(layer, (P("t"), P("t"), P(None, "t")), (P(None, "t"), P("t")))(*map(jnp.asarray, (a, b, c)))
    want = a.astype(np.float64) @ b.T
    np.testing.assert_allclose(np.asarray(h), want, rtol=0, atol=32 * 2.0**-24 * np.abs(want).max())
    last = want @ c.T
    np.testing.assert_allclose(np.asarray(out), last, rtol=0, atol=64 * 2.0**-24 * np.abs(last).max())
