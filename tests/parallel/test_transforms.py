"""expert_parallel under JAX's transformations and on every kind of mesh, against fused_moe of all experts on one device.

Both compute the same products in float32 and add a token's slots and devices in another order: see `tests.oracle.assert_same`.
"""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax._src import dispatch
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jax_aiter
from jax_aiter import fused_moe
from jax_aiter.parallel import expert_parallel
from tests.oracle import assert_same, draw, primitives

from . import against, common

ULPS = 32
METHODS = ["psum", "exchange"]


def case(tokens=16, experts=8, k=3):
    floats = common.inputs(tokens, experts, k)
    return floats, common.routing("even", tokens, experts, k, 2), draw(9, tokens, common.D)


def one_device(floats, ids):
    return fused_moe(**floats, topk_ids=ids)


def equal(layer, reference=one_device, given=None, run=lambda f: f):
    given = case() if given is None else given
    got = common.with_gradient(run(layer))(*given)
    assert_same(got, common.with_gradient(reference)(*given), ulps=ULPS)


@common.some(("method", "check_vma"), METHODS, [True, False], default=[("exchange", False)])
def test_with_and_without_account_of_what_varies(method, check_vma):
    equal(common.split(common.mesh_of(4), method=method, check_vma=check_vma), run=jax.checkpoint)


@common.some(("method", "inside"), METHODS, [True, False], default=[("exchange", True)])
def test_a_scan_over_layers(method, inside):
    """Two layers with weights of their own, the loop within `shard_map` or around it."""
    floats, ids, ct = case()
    stacked = {n: jnp.stack([x, x * 0.5]) for n, x in floats.items() if n != "hidden_states"}
    given = {"hidden_states": floats["hidden_states"], **stacked}

    def layers(layer, given, ids):
        x = given["hidden_states"]
        rest = {n: w for n, w in given.items() if n != "hidden_states"}
        return jax.lax.scan(lambda x, each: (layer({"hidden_states": x, **each}, ids), None), x, rest)[0]

    if inside:
        layer = lambda floats, ids: expert_parallel(**floats, topk_ids=ids, axis_name="e", method=method)  # noqa: E731
        specs = {n: P("e") if n == "hidden_states" else P(None, "e") for n in given}
        loop = jax.shard_map(functools.partial(layers, layer), mesh=common.mesh_of(4), in_specs=(specs, P("e")), out_specs=P("e"))
    else:
        loop = functools.partial(layers, common.split(common.mesh_of(4), method=method))
    equal(loop, functools.partial(layers, one_device), (given, ids, ct))


@common.some(("method",), METHODS, default=[("exchange",)])
def test_vmap(method):
    """A batch of tokens and of their routings, the experts shared."""
    floats, ids, ct = case(8, 8, 2)
    axes = {n: 0 if n in ("hidden_states", "topk_weight") else None for n in floats}
    given = {n: jnp.stack([x, x[::-1]]) if axes[n] == 0 else x for n, x in floats.items()}
    many = lambda layer: jax.vmap(layer, (axes, 0))  # noqa: E731
    layer = common.split(common.mesh_of(4), method=method)
    equal(many(layer), many(one_device), (given, jnp.stack([ids, ids[::-1]]), jnp.stack([ct, ct])))


KINDS = [AxisType.Auto, AxisType.Explicit]


def on(mesh, spec, given):
    return jax.tree.map(lambda x, s: jax.device_put(x, NamedSharding(mesh, s)), given, spec)


@common.some(("method", "kind"), METHODS, KINDS, default=[("exchange", AxisType.Explicit)])
def test_a_mesh_of_data_and_experts(method, kind):
    """Tokens are split over both axes, experts over one."""
    mesh = common.mesh_of(8, ("d", "e"), (2, 4), kind)
    tokens, given = P(("d", "e")), case()
    specs = {n: tokens if n in ("hidden_states", "topk_weight") else P("e") for n in given[0]}
    layer = lambda floats, ids: expert_parallel(**floats, topk_ids=ids, axis_name="e", method=method)  # noqa: E731
    mapped = jax.shard_map(layer, mesh=mesh, in_specs=(specs, tokens), out_specs=tokens)
    placed = on(mesh, (specs, tokens, tokens), given)
    got = common.with_gradient(mapped)(*placed)
    assert_same(got, common.with_gradient(one_device)(*given), ulps=ULPS)
    for name, gradient in got[1].items():
        assert gradient.sharding.is_equivalent_to(placed[0][name].sharding, gradient.ndim)


@common.some(("method", "axes"), METHODS, [("d", "e"), ("e", "d")], default=[("exchange", ("e", "d"))])
def test_experts_over_two_axes(method, axes):
    mesh = common.mesh_of(8, ("d", "e"), (2, 4))
    equal(common.split(mesh, axes, method=method))


@common.some(("method", "kind"), METHODS, KINDS, default=[("exchange", AxisType.Auto), ("psum", AxisType.Explicit)])
def test_a_partly_manual_mesh(method, kind):
    """Only the experts' axis is manual, in bfloat16: XLA's CPU backend would abort the process on a 16-bit sum over devices."""
    mesh = common.mesh_of(8, ("d", "e"), (2, 4), kind)
    layer = lambda floats, ids: expert_parallel(**floats, topk_ids=ids, axis_name="e", method=method)  # noqa: E731
    floats, ids, _ = case()
    half = {n: x if n == "topk_weight" else x.astype(jnp.bfloat16) for n, x in floats.items()}
    with jax.set_mesh(mesh):
        mapped = jax.shard_map(layer, in_specs=P("e"), out_specs=P("e"), axis_names={"e"})
        placed = on(mesh, jax.tree.map(lambda _: P("e"), (half, ids)), (half, ids))
        against.check(common.with_gradient(mapped), *placed, sharding=NamedSharding(mesh, P("e")))


def test_tokens_that_all_devices_have():
    """They need no exchange, the result is theirs alike, and so are the gradients."""
    given = case()
    specs = {n: P() if n in ("hidden_states", "topk_weight") else P("e") for n in given[0]}
    layer = lambda floats, ids: expert_parallel(**floats, topk_ids=ids, axis_name="e")  # noqa: E731
    equal(jax.shard_map(layer, mesh=common.mesh_of(4), in_specs=(specs, P()), out_specs=P()), given=given)


def test_auto_goes_by_the_number_of_tokens():
    mesh = common.mesh_of(4)
    for tokens, exchanged in ((512, False), (516, True)):
        floats, ids, _ = case(tokens)
        found = primitives(common.split(mesh), floats, ids)
        assert ("all_to_all" in found, "ragged_all_to_all" in found) == (exchanged, exchanged)
        assert ("reduce_scatter" in found) != exchanged


@common.some(("method",), METHODS, default=[("exchange",)])
def test_switches(method):
    given = case()
    layer = common.split(common.mesh_of(4), method=method)
    want = common.with_gradient(one_device)(*given)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        assert_same(common.with_gradient(layer)(*given), want, ulps=ULPS)


def test_debug_checks_name_the_id():
    """On every device: one that raised alone would leave the others waiting for it."""
    floats, ids, _ = case()
    layer = common.split(common.mesh_of(4), method="exchange")
    with jax_aiter.debug_checks():
        jax.block_until_ready(jax.jit(layer)(floats, ids))
        try:
            with pytest.raises(Exception, match=r"expert_parallel: 1 value.*\[3, 1\].*topk_ids must be in \[0, 8\)"):
                jax.block_until_ready(jax.jit(layer)(floats, ids.at[3, 1].set(8)))
        finally:
            dispatch.runtime_tokens.clear()  # they would report it again at the end of the process


def test_a_gpu_program_is_ragged_and_a_cpu_program_is_not():
    """Lowered here for both; the padded form is no part of the GPU's."""
    floats, ids, _ = case()
    traced = jax.jit(common.split(common.mesh_of(4), method="exchange")).trace(floats, ids)
    for platform in ("cuda", "rocm", "cpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("ragged_all_to_all" in text) == (platform != "cpu")
        assert ("stablehlo.all_to_all" in text) == (platform == "cpu")


@common.some(("method",), METHODS, default=[("exchange",)])
def test_export(method):
    """For a GPU from a machine without one, with a ragged exchange, which JAX wants to be told of."""
    from jax.export import DisabledSafetyCheck, export

    floats, ids, _ = case()
    mesh = common.mesh_of(4)
    structs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, P("e"))), (floats, ids))
    allowed = [DisabledSafetyCheck.custom_call("ragged_all_to_all")]
    layer = jax.jit(common.split(mesh, method=method))
    assert export(layer, platforms=("rocm",), disabled_checks=allowed)(*structs).platforms == ("rocm",)
    exported = jax.export.deserialize(export(layer, platforms=("cpu",))(*structs).serialize())
    placed = on(mesh, jax.tree.map(lambda _: P("e"), (floats, ids)), (floats, ids))
    assert_same(exported.call(*placed), one_device(floats, ids), ulps=ULPS)
