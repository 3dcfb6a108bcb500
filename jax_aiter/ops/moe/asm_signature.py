"""What asm_moe and asm_moe_tkw1 share: `fused_moe` per token under AITER's asm signature, with smooth-quantisation scales."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.core import check, symbolic
from jax_aiter.core.axes import FLOATING, FP8_TYPES, INT32, Arg
from jax_aiter.core.cases import Array, distinct, integers, normal, uniform
from jax_aiter.core.record import Struct, Structs
from jax_aiter.ops.gemm.shuffle_weight import check_tiles
from jax_aiter.ops.moe import layout

ACTIVATIONS = ("silu", "gelu", "gelu_tanh")
QUANTIZED = (*FP8_TYPES, "int8")
F32 = ("float32",)
#: names here for operands of fused_moe
NAMES = {"fc1_scale": "w1_scale", "fc2_scale": "w2_scale"}
#: operands of fused_moe that this signature does not have
ABSENT = ("num_local_tokens", "bias1", "bias2", "a1_scale", "a2_scale")

LAYER = {"hidden_states": Arg("T D", FLOATING), "w1": Arg("E N1 D", QUANTIZED), "w2": Arg("E D I", QUANTIZED)}
WEIGHT, IDS, MASK = Arg("T k", F32), Arg("T k", INT32), Arg("G", INT32, optional=True)
SCALES = {"fc1_scale": Arg("E N1", F32), "fc2_scale": Arg("E D", F32)}


def smooth_scales(*, optional: bool) -> dict[str, Arg]:
    return {"fc1_smooth_scale": Arg("E D", F32, optional), "fc2_smooth_scale": Arg("E I", F32, optional)}


def as_fused_moe(
    activation: str, weight_layout: tuple[int, int] | None, output_dtype: Any, *, doweight_stage1: bool
) -> dict[str, Any]:
    """The static parameters under which fused_moe is the op, smooth and static scales aside."""
    return {
        "activation": activation,
        "quant_type": "per_token",
        "doweight_stage1": doweight_stage1,
        "hidden_pad": 0,
        "intermediate_pad": 0,
        "swiglu_limit": None,
        "gate_mode": "separated",
        "q_dtype_a": None,
        "output_dtype": jnp.dtype(output_dtype),
        "weight_layout": weight_layout,
    }


def result(op: str, dims: Mapping[str, int], operands: Mapping[str, Any], weight_layout: tuple[int, int] | None) -> Structs:
    """Check what the axes do not say, but for the rows of w1."""
    w1, w2 = operands["w1"], operands["w2"]
    check.same_dtype(op, w1=w1.dtype, w2=w2.dtype)
    symbolic.below(0, dims["E"], f"{op}: dimension 0 of w1 is {dims['E']}, must be >= 1 (experts)")
    symbolic.below(0, dims["k"], f"{op}: dimension 1 of topk_ids is {dims['k']}, must be >= 1")
    check_tiles(op, weight_layout, w1=w1, w2=w2)
    return (Struct((dims["T"], dims["D"]), operands["hidden_states"].dtype),)


def scales(**given: jax.Array | None) -> dict[str, jax.Array | None]:
    """The scales without the axes of size one that AITER's have."""
    return {n: layout.without(x, 1 if "smooth" in n else 2) for n, x in given.items()}


def case_operands(
    tokens: int, experts: int, k: int, model: int, inter: int, dtype: Any, *, rows: int = 2, weight: str = "topk_weight"
) -> dict[str, Array]:
    """Operands without smooth scales; w1 has `rows` times I rows, and `weight` is the op's name of the top-k weights."""
    integer = jnp.dtype(dtype) == jnp.int8

    def draw(*shape):
        return integers(*shape, low=-99, high=100, dtype=dtype) if integer else normal(*shape, dtype=dtype, std=20)

    return {
        "hidden_states": normal(tokens, model, dtype=jnp.bfloat16),
        "w1": draw(experts, rows * inter, model),
        "w2": draw(experts, model, inter),
        weight: uniform(tokens, k, low=0.1),
        "topk_ids": distinct(tokens, k, experts),
        "fc1_scale": uniform(experts, rows * inter, low=0.01, high=0.02),
        "fc2_scale": uniform(experts, model, low=0.01, high=0.02),
    }
