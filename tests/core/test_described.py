"""Calls described from elsewhere: what they leave out is the record's default, for every parameter of every op that has one."""

import json

import jax
import jax.numpy as jnp
import pytest

import jax_aiter
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
