"""The layer in flax.nnx and in equinox, and MaxText's grouped product: each is what it says, and has gradients."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from examples.train import equinox_moe, maxtext, nnx_moe

DIM, WIDTH, EXPERTS, TOPK = 16, 8, 4, 2
X = jax.random.normal(jax.random.key(1), (2, 5, DIM))
Y = jax.random.normal(jax.random.key(2), X.shape)


@pytest.fixture(autouse=True, scope="module")
def quick_compile():
    """These models run for a moment: XLA's optimisation passes would take most of the time."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def in_float64(x, router, w1, w2):
    """A loop over tokens and their experts."""
    rows, router, w1, w2 = (np.asarray(t, np.float64) for t in (x.reshape(-1, DIM), router, w1, w2))
    out = np.zeros_like(rows)
    for row, y in zip(rows, out, strict=True):
        logits = router @ row
        chosen = np.argsort(-logits)[:TOPK]
        weights = np.exp(logits[chosen] - logits.max())
        for e, weight in zip(chosen, weights / weights.sum(), strict=True):
            gate, up = np.split(w1[e] @ row, 2)
            y += weight * (w2[e] @ (gate / (1 + np.exp(-gate)) * up))
    return out.reshape(x.shape)


def test_the_module_of_flax_nnx_is_the_layer_and_learns():
    module = nnx_moe.MoE(DIM, WIDTH, EXPERTS, TOPK, rngs=nnx.Rngs(0), dtype=jnp.float32)
    y, balance = module(X)
    np.testing.assert_allclose(y, in_float64(X, module.router[...], module.w1[...], module.w2[...]), rtol=0, atol=1e-5)
    assert float(balance) >= 0.99
    optimiser = nnx.Optimizer(module, optax.adam(1e-2), wrt=nnx.Param)

    @nnx.jit
    def step(module, optimiser):
        def loss(module):
            y, balance = module(X)
            return jnp.mean((y - Y) ** 2) + 0.01 * balance

        value, gradient = nnx.value_and_grad(loss)(module)
        optimiser.update(module, gradient)
        return value

    losses = [float(step(module, optimiser)) for _ in range(8)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


def test_the_module_of_equinox_is_the_layer_and_learns():
    module = equinox_moe.MoE(DIM, WIDTH, EXPERTS, TOPK, key=jax.random.key(0), dtype=jnp.float32)
    want = in_float64(X, module.router, module.w1, module.w2)
    np.testing.assert_allclose(module(X)[0], want, rtol=0, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(jax.vmap(module))(X)[0], want, rtol=0, atol=1e-5)
    optimise = optax.adam(1e-2)

    @eqx.filter_jit
    def step(module, state):
        def loss(module):
            y, balance = module(X)
            return jnp.mean((y - Y) ** 2) + 0.01 * balance

        value, gradient = eqx.filter_value_and_grad(loss)(module)
        updates, state = optimise.update(gradient, state)
        return eqx.apply_updates(module, updates), state, value

    state, losses = optimise.init(eqx.filter(module, eqx.is_array)), []
    for _ in range(8):
        module, state, value = step(module, state)
        losses.append(float(value))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


def grouped(seed=0, rows=24, groups=4, k=12, n=10):
    keys = jax.random.split(jax.random.key(seed), 3)
    return jax.random.normal(keys[0], (rows, k)), jax.random.normal(keys[1], (groups, k, n)), jax.random.normal(keys[2], (rows, n))


def test_maxtexts_call_is_ragged_dot_with_its_gradients():
    """The keywords with which MaxText's sparse_matmul calls ``mblx.gmm`` where nothing is quantised; an empty group among them."""
    lhs, rhs, ct = grouped()
    sizes = jnp.array([7, 0, 9, 5], jnp.int32)  # the last rows are padding

    def theirs(lhs, rhs):
        return maxtext.gmm(
            lhs=lhs, rhs=rhs, group_sizes=sizes, preferred_element_type=jnp.float32, tiling=(128,) * 9, group_offset=None,
            lhs_quantize_dtype=None, rhs_quantize_dtype=None, use_qwix_quantization=False, use_tokamax_backend=False,
            weight_gather_axes=None, lhs_vma_axes=(), rhs_vma_axes=(), use_gmm_v2=False, partial_sum=None, interpret=True,
        )  # fmt: skip

    def check(ours, want):
        for got, right in zip(jax.tree.leaves(ours), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(got, right, rtol=0, atol=1e-5)

    def with_gradient(call):
        out, pull = jax.vjp(call, lhs, rhs)
        return out[:21], pull(ct.at[21:].set(0))

    check(with_gradient(theirs), with_gradient(lambda lhs, rhs: jax.lax.ragged_dot(lhs, rhs, sizes)))
    assert (np.asarray(theirs(lhs, rhs))[21:] == 0).all()


@pytest.mark.parametrize("offset", [0, 1, 2])
def test_groups_from_an_offset_on(offset):
    """Two of four groups are here: their rows are those of the whole product, the others zero, or what was there."""
    lhs, rhs, before = grouped()
    sizes = jnp.array([7, 0, 9, 8], jnp.int32)
    want, begin = np.asarray(jax.lax.ragged_dot(lhs, rhs, sizes)), int(sizes[:offset].sum())
    end = begin + int(sizes[offset : offset + 2].sum())
    part = rhs[offset : offset + 2]
    mine = (np.arange(24) >= begin) & (np.arange(24) < end)
    got = maxtext.gmm(lhs, part, sizes, group_offset=jnp.int32(offset))
    np.testing.assert_allclose(got, np.where(mine[:, None], want, 0), rtol=0, atol=1e-5)
    kept = maxtext.gmm(lhs, part.swapaxes(1, 2), sizes, group_offset=offset, existing_out=before, transpose_rhs=True)
    np.testing.assert_allclose(kept, np.where(mine[:, None], want, before), rtol=0, atol=1e-5)
    added = maxtext.gmm(lhs, part, sizes, group_offset=jnp.int32(offset), partial_sum=before)
    np.testing.assert_allclose(added, np.where(mine[:, None], want, 0) + before, rtol=0, atol=1e-5)


def test_what_another_kernel_would_do_is_refused():
    lhs, rhs, _ = grouped()
    for name, value in (("use_gmm_v2", True), ("lhs_quantize_dtype", jnp.int8), ("use_qwix_quantization", True)):
        with pytest.raises(NotImplementedError, match=f"gmm: {name} is"):
            maxtext.gmm(lhs, rhs, jnp.array([6, 6, 6, 6]), **{name: value})
