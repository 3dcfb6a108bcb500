"""Expert- and tensor-parallel fused_moe equal the single-device result, on eight virtual devices; tests/parallel has two processes.

Splitting experts or I only changes the order of float32 sums of at most k·I terms: 1e-5 of the largest entry is some 80 units.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jax_aiter import fused_moe, topk_softmax

from . import expert_parallel as ep


def assert_step(got, want):
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
    for g, w in zip(got[1], want[1], strict=True):
        np.testing.assert_allclose(g, w, rtol=0, atol=1e-5 * float(jnp.abs(w).max()))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_expert_parallel(axis_type):
    mesh = jax.make_mesh((8,), ("e",), axis_types=(axis_type,))
    assert_step(ep.expert_parallel(mesh)(*ep.place(mesh)), ep.single(*ep.inputs()))


def test_tensor_parallel():
    """I is split: each device holds some gate rows with the same up rows, and the columns of w2 that go with them."""
    mesh = jax.make_mesh((8,), ("t",), axis_types=(AxisType.Auto,))
    x, gate, w1, w2 = ep.inputs()

    def part(x, gate, w1, w2):
        flat = w1.reshape(w1.shape[0], -1, ep.D)  # [E, 2, I/8, D] -> gate rows, then up rows
        return jax.lax.psum(fused_moe(x, flat, w2, *topk_softmax(x @ gate.T, ep.K)), "t")

    mapped = jax.shard_map(part, mesh=mesh, in_specs=(P(), P(), P(None, None, "t"), P(None, None, "t")), out_specs=P())

    def loss(x, gate, w1, w2):
        return jnp.sum(mapped(x, gate, w1.reshape(ep.EXPERTS, 2, ep.INTER, ep.D), w2) ** 2)

    assert_step(jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3)))(x, gate, w1, w2), ep.single(x, gate, w1, w2))
