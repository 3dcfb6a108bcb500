"""Calls described from elsewhere: what they leave out is the record's default, for every parameter of every op that has one."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import pytest

import jax_aiter
from jax_aiter.bind import select
from jax_aiter.core.config import config
from jax_aiter.kernels import described
from jax_aiter.ops.catalogue import all_ops, completed, inferred, kinds

OPS = list(all_ops().values())
LEFT_OUT = {op.name: completed(op, {}) for op in OPS}


@pytest.mark.parametrize("op", OPS, ids=[op.name for op in OPS])
def test_a_call_is_the_same_without_what_is_default(op):
    for case in op.cases():
        given = {n: v for n, v in case.params.items() if n not in LEFT_OUT[op.name] or v != LEFT_OUT[op.name][n]}
        structs = {n: a.struct for n, a in case.operands.items()}
        found, results = inferred(op, structs, given)
        assert {n: found[n] for n in case.params} == dict(case.params)
        assert results == op.infer(structs, case.params)


def test_most_ops_with_parameters_have_defaults():
    with_any = [op.name for op in OPS if kinds(op)]
    assert len([n for n in with_any if LEFT_OUT[n]]) > 0.6 * len(with_any)


def moe(dtype="bfloat16"):
    shapes = {"hidden_states": (4, 256), "w1": (2, 256, 256), "w2": (2, 256, 128), "topk_weight": (4, 2), "topk_ids": (4, 2)}
    kind = {"topk_weight": "float32", "topk_ids": "int32"}
    return {n: (kind.get(n, dtype), *shape) for n, shape in shapes.items()}


def test_a_shapes_file_and_supports_may_leave_them_out():
    operands = moe()
    call = json.loads(json.dumps({"op": "fused_moe", "operands": operands, "params": {"output_dtype": "bfloat16"}}))
    spec = described.spec_of(call, "gfx942")
    assert (spec.params["gate_mode"], spec.params["activation"], spec.params["weight_layout"]) == ("separated", "silu", None)
    avals = [jax.ShapeDtypeStruct(shape, kind) for kind, *shape in operands.values()]
    found = jax_aiter.supports("fused_moe", "gfx942", *avals, output_dtype=jnp.dtype("bfloat16"))
    whole = jax_aiter.supports("fused_moe", "gfx942", *avals, **(spec.params | {"output_dtype": jnp.dtype("bfloat16")}))
    assert found == whole


def test_what_has_no_default_is_named():
    avals = [jax.ShapeDtypeStruct(shape, kind) for kind, *shape in moe().values()]
    with pytest.raises(TypeError, match=r"^fused_moe: parameter output_dtype is missing"):
        jax_aiter.supports("fused_moe", "gfx942", *avals)


@pytest.mark.parametrize("name", sorted(all_ops()))
def test_a_description_that_leaves_parameters_out_names_the_same_call(name):
    """A plan and a measurement are found under all of a call's parameters: what some descriptions do not say has a default."""
    op = all_ops()[name]
    for case in op.cases():
        assert completed(op, case.params).keys() == kinds(op).keys(), case.name


BF16 = jnp.bfloat16


def struct(*shape, dtype=BF16):
    return jax.ShapeDtypeStruct(shape, dtype)


def integers(*shape):
    return struct(*shape, dtype=jnp.int32)


POOL = struct(9, 16, 2, 64), struct(9, 16, 2, 64)
PUBLIC = {
    "flash_attention": lambda: (partial(jax_aiter.flash_attention, causal=True), *[struct(2, 16, 2, 64)] * 3),
    "flash_attention_bwd": lambda: (
        jax.grad(lambda q, k, v: jax_aiter.flash_attention(q, k, v, causal=True).astype(jnp.float32).sum()),
        *[struct(2, 16, 2, 64)] * 3,
    ),
    "flash_attention_varlen": lambda: (
        partial(jax_aiter.flash_attention_varlen, max_seqlen_q=16, max_seqlen_k=16, causal=True),
        *[struct(32, 2, 64)] * 3,
        *[integers(3)] * 2,
    ),
    "paged_attention": lambda: (
        partial(jax_aiter.paged_attention, scale=0.1),
        struct(3, 2, 64),
        *POOL,
        integers(3, 3),
        integers(3),
    ),
    "unified_attention": lambda: (
        partial(jax_aiter.unified_attention, scale=0.1),
        *(struct(5, 2, 64), *POOL, integers(4), integers(3), integers(3, 3)),
    ),
    "mla_decode_fwd": lambda: (
        partial(jax_aiter.mla_decode_fwd, max_seqlen_qo=1, sm_scale=0.1),
        *(struct(3, 16, 576), struct(9, 1, 1, 576), integers(4), integers(4), integers(9), integers(3)),
    ),
    "gemm_a16w16": lambda: (jax_aiter.gemm_a16w16, struct(3, 64), struct(32, 64)),
    "fused_moe": lambda: (
        jax_aiter.fused_moe,
        *(struct(3, 64), struct(4, 64, 64), struct(4, 64, 32), struct(3, 2, dtype=jnp.float32), integers(3, 2)),
    ),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_call_that_is_described_has_the_names_of_the_public_call(monkeypatch, name):
    """What `jax-aiter tune` and `kernels build` file under a shapes file's call is what the model's own call looks for."""
    seen, make = [], select.make_call

    def spy(op, platform, arch, operands, params, *rest, **more):
        seen.append((op.name, set(params)))
        return make(op, platform, arch, operands, params, *rest, **more)

    monkeypatch.setattr(select, "make_call", spy)
    call, *operands = PUBLIC[name]()
    with config(arch="gfx942"):
        jax_aiter.explain(call, *operands, platform="rocm")
    assert dict(seen)[name] == set(kinds(all_ops()[name]))
