"""One training step whose experts are split by `expert_mask` and summed by the caller, and its single-device twin."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from jax_aiter import fused_moe, topk_softmax

TOKENS, EXPERTS, K, D, INTER = 12, 8, 2, 16, 8


def inputs():
    rng = np.random.default_rng(0)
    normal = lambda *s: (rng.standard_normal(s) * s[-1] ** -0.5).astype(np.float32)  # noqa: E731
    return normal(TOKENS, D), normal(EXPERTS, D), normal(EXPERTS, 2 * INTER, D), normal(EXPERTS, D, INTER)


def single(x, gate, w1, w2):
    def loss(x, gate, w1, w2):
        return jnp.sum(fused_moe(x, w1, w2, *topk_softmax(x @ gate.T, K)) ** 2)

    return jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(x, gate, w1, w2)


def place(mesh):
    """The inputs where the step wants them: experts split, everything else on every device."""
    return [
        jax.make_array_from_callback(a.shape, jax.NamedSharding(mesh, s), lambda i, a=a: a[i])
        for a, s in zip(inputs(), (P(), P(), P("e"), P("e")), strict=True)
    ]


def expert_parallel(mesh):
    """Tokens and router everywhere, experts split: each device masks the others' experts, one psum adds the parts."""
    held = EXPERTS // mesh.size

    def part(x, gate, w1, w2):
        mine = jnp.arange(EXPERTS) // held == jax.lax.axis_index("e")
        weights, ids = topk_softmax(x @ gate.T, K)
        return jax.lax.psum(fused_moe(x, w1, w2, weights, ids, mine.astype(jnp.int32)), "e")

    mapped = jax.shard_map(part, mesh=mesh, in_specs=(P(), P(), P("e"), P("e")), out_specs=P())
    return jax.jit(jax.value_and_grad(lambda *a: jnp.sum(mapped(*a) ** 2), argnums=(0, 1, 2, 3)))
