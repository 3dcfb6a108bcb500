"""fused_moe on AITER's kernels under vmap, grad, export, and over two devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jax_aiter
from jax_aiter import ShuffledWeight
from jax_aiter.kernels.call import export_checks

from . import common, moe

SHAPE = moe.Shape(tokens=24, experts=4)


def arguments(arch, shape=SHAPE, **keywords):
    return moe.arguments(np.random.default_rng(3), shape, moe.FP8[arch], "per_token", **keywords)


def fused(arrays, **keywords):
    keywords = {"output_dtype": jnp.bfloat16, "implementation": "asm", **keywords}
    return jax_aiter.fused_moe(**arrays, quant_type="per_token", **keywords)


def tile_of(arrays):
    return int(common.selected(fused, arrays).symbol.rstrip("E").rpartition("x")[2])


@pytest.mark.parametrize("masked", [False, True])
def test_vmap_over_requests(arch, masked):
    """A batch of requests with the weights in common; with a mask the folded call gets ids of -1."""
    args = arguments(arch)
    mask = np.array([1, 0, 1, 1, 0, 1], np.int32)
    if masked:
        args["topk_ids"] = np.random.default_rng(4).integers(0, 6, args["topk_ids"].shape).astype(np.int32)
    arrays = moe.on_device(args)
    own = ("hidden_states", "topk_weight", "topk_ids")
    batch = {n: arrays[n].reshape(3, 8, -1) for n in own}
    rest = {n: x for n, x in arrays.items() if n not in own}
    if masked:
        rest["expert_mask"] = jnp.asarray(mask)
    out = jax.jit(jax.vmap(lambda own: fused({**own, **rest})))(batch)
    expected = moe.oracle(args, tile=tile_of({**arrays, **rest}), mask=mask if masked else None)
    moe.assert_agrees(out.reshape(24, -1), expected)


def test_gradient(arch):
    """The forward on AITER's kernel, the backward on the reference: that of the float weights behind the quantised ones."""
    args = arguments(arch, hidden="float32")
    arrays = moe.on_device(args)
    cotangent = np.random.default_rng(5).standard_normal((24, 512)).astype(np.float32)

    def loss(hidden, weight, implementation):
        out = fused({**arrays, "hidden_states": hidden, "topk_weight": weight}, implementation=implementation)
        return jnp.sum(out.astype(jnp.float32) * cotangent)

    # With the value, or the forward would be dropped: the loss is linear in it and the backward computes it again.
    gradient = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)), static_argnums=2)
    at = arrays["hidden_states"], arrays["topk_weight"]
    text = gradient.lower(*at, "asm").compile().as_text()
    assert text
    assert common.selected(fused, arrays).symbol in text
    found = gradient(*at, "asm")[1]
    for ours, reference in zip(found, gradient(*at, "xla")[1], strict=True):
        # One and the same backward; only sums in another order could differ.
        np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-6)
    # And it is the slope of the loss: a small step along the gradient of topk_weight, in which the output is linear.
    slope = found[1]
    step = 0.5 * slope / jnp.linalg.norm(slope)
    up, down = (loss(at[0], at[1] + sign * step, "asm") for sign in (1, -1))
    np.testing.assert_allclose((up - down) / 2, jnp.sum(slope * step), rtol=0.02)  # bfloat16 output


def test_export_and_reload(arch):
    arrays = moe.on_device(arguments(arch))
    leaves, tree = jax.tree.flatten(arrays)
    call = jax.jit(lambda *leaves: fused(jax.tree.unflatten(tree, leaves)))
    exported = export.export(call, disabled_checks=export_checks())(*leaves)
    again = export.deserialize(exported.serialize())
    # Workgroups add to the output in the order they finish, in bfloat16: not bit for bit.
    moe.assert_agrees(again.call(*leaves), np.asarray(call(*leaves), np.float64))


needs_two = pytest.mark.skipif(jax.device_count() < 2, reason="needs two devices: vgpu run --devices 2")


@needs_two
def test_tokens_over_two_devices(arch):
    args = arguments(arch)
    arrays = moe.on_device(args)
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    own = ("hidden_states", "topk_weight", "topk_ids")
    specs = {n: P("x") if n in own else P() for n in arrays}
    out = jax.jit(jax.shard_map(fused, mesh=mesh, in_specs=(specs,), out_specs=P("x")))(arrays)
    moe.assert_agrees(out, moe.oracle(args, tile=tile_of({**arrays, **{n: arrays[n][:12] for n in own}})))


@needs_two
def test_experts_over_two_devices(arch):
    """Each device holds half of the experts and masks the others; the sum over devices is the whole."""
    args = arguments(arch)
    arrays = moe.on_device(args)
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
    stacks = ("w1", "w2", "w1_scale", "w2_scale")
    specs = {n: P("x") if n in stacks else P() for n in arrays}

    def part(arrays):
        mask = (jnp.arange(4) // 2 == jax.lax.axis_index("x")).astype(jnp.int32)
        return jax.lax.psum(fused({**arrays, "expert_mask": mask}), "x")

    out = jax.jit(jax.shard_map(part, mesh=mesh, in_specs=(specs,), out_specs=P()))(arrays)
    half = {n: ShuffledWeight(arrays[n].data[:2], (16, 16)) for n in ("w1", "w2")}
    half |= {n: arrays[n][:2] for n in ("w1_scale", "w2_scale")} | {"expert_mask": jnp.ones(4, jnp.int32)}
    moe.assert_agrees(out, moe.oracle(args, tile=tile_of({**arrays, **half})))
