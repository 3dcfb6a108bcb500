"""What expert_parallel refuses, where it is traced: the name of the argument, its value, the rule."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from jax_aiter.parallel import expert_parallel

from . import common

D, INTER = common.D, common.INTER


def call(floats, ids, **change):
    """Traced on three devices, with some arguments changed inside."""

    def layer(floats, ids):
        return expert_parallel(**{**floats, "topk_ids": ids, "axis_name": "e", **change})

    jax.eval_shape(jax.shard_map(layer, mesh=common.mesh_of(3), in_specs=P("e"), out_specs=P("e")), floats, ids)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"axis_name": "x"}, ValueError, r"^expert_parallel: axis_name is 'x', must name axes of the mesh"),
        ({"axis_name": ()}, TypeError, r"^expert_parallel: axis_name must be a name of a mesh axis or a tuple"),
        ({"axis_name": ("e", "e")}, TypeError, r"tuple of different ones, got \('e', 'e'\)"),
        ({"axis_name": 0}, TypeError, r"^expert_parallel: axis_name .* got 0"),
        ({"method": "alltoall"}, ValueError, r"^expert_parallel: method must be one of \['exchange'"),
        ({"method": "psum", "capacity": 4}, ValueError, r"method 'psum' has none; got capacity 4"),
        ({"dispatch_dtype": jnp.bfloat16}, ValueError, r"^expert_parallel: dispatch_dtype must be float8_e4m3fn"),
        ({"dispatch_dtype": "fp8"}, TypeError, r"^expert_parallel: dispatch_dtype must be a dtype"),
        ({"dispatch_dtype": jnp.float8_e4m3fn, "method": "psum"}, ValueError, r"has none; got dispatch_dtype dtype"),
        ({"capacity": -1}, ValueError, r"^expert_parallel: capacity must be >= 0, got -1"),
        ({"capacity": 2.0}, TypeError, r"^expert_parallel: capacity must be a static int"),
        ({"num_experts": 7}, ValueError, r"^expert_parallel: num_experts is 7, must be 3·2"),
        ({"activation": "relu"}, ValueError, r"^expert_parallel: activation must be one of"),
        ({"quant_type": "per_1x32"}, TypeError, r"^expert_parallel: w1 has dtype float32, quant_type 'per_1x32' needs uint8"),
        ({"w1": jnp.zeros((2, 20, D))}, ValueError, r"^expert_parallel: dimension 1 of w1 is 20"),
        ({"w2": jnp.zeros((3, D, INTER))}, ValueError, r"^expert_parallel: .*w2"),
        ({"topk_weight": jnp.zeros((4, 2))}, ValueError, r"^expert_parallel: .*topk_"),
        ({"topk_weight": jnp.zeros((5, 2), jnp.bfloat16)}, TypeError, r"^expert_parallel: topk_weight"),
        ({"hidden_states": None}, TypeError, r"^expert_parallel: hidden_states is required"),
        ({"num_local_tokens": -1}, ValueError, r"^expert_parallel: num_local_tokens must be >= 0"),
        ({"swiglu_limit": 0.0}, ValueError, r"^expert_parallel: swiglu_limit"),
    ],
)
def test_bad_input(change, error, message):
    floats, ids = common.inputs(15, 6, 2), common.routing("even", 15, 6, 2, 2)
    call(floats, ids, num_experts=6)
    with pytest.raises(error, match=message):
        call(floats, ids, **change)


def test_outside_of_shard_map():
    floats = common.inputs(5, 2, 2)
    with pytest.raises(ValueError, match=r"must name axes of the mesh that a jax\.shard_map around the call splits over"):
        expert_parallel(**floats, topk_ids=common.routing("even", 5, 2, 2, 2), axis_name="e")
