"""Small named calls of fused_moe and its backward.

Where a case has a per-tensor scale or a token count, which speak of all rows of a call at once, T is odd: those do not split.
"""

from typing import Any

import jax.numpy as jnp

from jax_aiter.core.cases import Array, Case, case, constant, distinct, integers, normal, uniform
from jax_aiter.ops.moe.formats import int4, mxfp8
from jax_aiter.ops.moe.formats.quant import GROUP

#: of a call that says nothing of them
DEFAULTS = {
    "activation": "silu",
    "quant_type": "none",
    "doweight_stage1": False,
    "hidden_pad": 0,
    "intermediate_pad": 0,
    "swiglu_limit": None,
    "gate_mode": "separated",
    "q_dtype_a": None,
    "weight_layout": None,
}
FNUZ = jnp.float8_e4m3fnuz  # what a machine without a GPU emulates


def _call(
    tokens: int, experts: int, k: int, model: int, inter: int, *, rows: int = 2, dtype: Any = jnp.float32, **more: Any
) -> dict:
    return {
        "hidden_states": normal(tokens, model, dtype=dtype),
        "w1": normal(experts, rows * inter, model, dtype=dtype, std=model**-0.5),
        "w2": normal(experts, model, inter, dtype=dtype, std=inter**-0.5),
        "topk_weight": uniform(tokens, k, low=0.1),
        "topk_ids": distinct(tokens, k, experts),
        "output_dtype": jnp.dtype(dtype),
        **DEFAULTS,
        **more,
    }


def _scales(quant_type: str, experts: int, model: int, inter: int) -> dict:
    shapes = {
        "per_tensor": ((experts,), (experts,)),
        "per_token": ((experts, 2 * inter), (experts, model)),
        "per_1x128": ((experts, 2 * inter // GROUP, model // GROUP), (experts, model // GROUP, inter // GROUP)),
    }
    w1, w2 = shapes[quant_type]
    return {"quant_type": quant_type, "w1_scale": uniform(*w1, low=0.01, high=0.02), "w2_scale": uniform(*w2, low=0.01, high=0.02)}


def _int4(call: dict, groups: int) -> dict:
    """The call with weights of 4 bits and zero points: `groups` along D, half as many along I."""
    experts, wide, model = call["w1"].shape
    inter, dtype = call["w2"].shape[2], call["output_dtype"]

    def codes(*shape: int) -> Array:
        return integers(*shape, low=0, high=256, dtype=jnp.uint8)

    return {
        **call,
        "quant_type": int4.W4A16,
        "w1": codes(experts, wide, model // 2),
        "w2": codes(experts, model, inter // 2),
        "w1_scale": uniform(experts, wide, groups, low=0.01, high=0.1, dtype=dtype),
        "w2_scale": uniform(experts, model, groups // 2, low=0.01, high=0.1, dtype=dtype),
        "w1_zp": codes(experts, wide // 2, groups),
        "w2_zp": codes(experts, model // 2, groups // 2),
    }


def _mxfp4(call: dict) -> dict:
    """The call with packed e2m1 weights, in which every byte means something, and a power of two per 32 columns."""
    experts, wide, model = call["w1"].shape
    inter = call["w2"].shape[2]

    def codes(*shape: int) -> Array:
        return integers(*shape, low=0, high=256, dtype=jnp.uint8)

    def exponents(*shape: int) -> Array:
        return integers(*shape, low=120, high=125, dtype=jnp.uint8)

    return {
        **call,
        "quant_type": int4.MX,
        "w1": codes(experts, wide, model // 2),
        "w2": codes(experts, model, inter // 2),
        "w1_scale": exponents(experts, wide, model // 32),
        "w2_scale": exponents(experts, model, inter // 32),
    }


def _mxfp8(call: dict, dtype: Any) -> dict:
    """The call with e4m3 weights, and a power of two per 32 columns."""
    experts, wide, model = call["w1"].shape
    inter = call["w2"].shape[2]

    def exponents(*shape: int) -> Array:
        return integers(*shape, low=114, high=119, dtype=jnp.uint8)

    return {
        **call,
        "quant_type": mxfp8.NAME,
        "w1": normal(experts, wide, model, dtype=dtype, std=20),
        "w2": normal(experts, model, inter, dtype=dtype, std=20),
        "w1_scale": exponents(experts, wide, model // 32),
        "w2_scale": exponents(experts, model, inter // 32),
    }


def forward() -> list[Case]:
    bf16 = jnp.bfloat16
    quantized = _call(3, 2, 1, 16, 8, dtype=bf16, w1=normal(2, 16, 16, dtype=FNUZ, std=20), w2=normal(2, 16, 8, dtype=FNUZ, std=20))
    ints = {
        "w1": integers(3, 16, 16, low=-99, high=100, dtype=jnp.int8),
        "w2": integers(3, 16, 8, low=-99, high=100, dtype=jnp.int8),
    }
    blocks = {"w1": normal(2, 256, 128, dtype=FNUZ, std=20), "w2": normal(2, 128, 128, dtype=FNUZ, std=20)}
    return [
        case("silu", **_call(6, 4, 2, 8, 6)),
        case(
            "gpt_oss",
            **_call(4, 3, 2, 8, 4, activation="swiglu", gate_mode="interleave", hidden_pad=1, intermediate_pad=1),
            bias1=normal(3, 8),
            bias2=normal(3, 8),
        ),
        case("gelu_no_gate_bf16", **_call(5, 4, 2, 16, 8, rows=1, dtype=bf16, activation="gelu")),
        case(
            "masked_padded",
            **_call(5, 3, 2, 8, 6, doweight_stage1=True, hidden_pad=2, intermediate_pad=1, swiglu_limit=1.5),
            expert_mask=constant([1, 0, 1, 0, 1], jnp.int32),
            num_local_tokens=constant([4], jnp.int32),
        ),
        case("shuffled", **_call(2, 2, 1, 32, 32, dtype=bf16, weight_layout=(16, 16))),
        case("per_tensor", **{**quantized, **_scales("per_tensor", 2, 16, 8)}),
        case("per_token_int8", **{**_call(4, 3, 2, 16, 8, dtype=bf16), **ints, **_scales("per_token", 3, 16, 8)}),
        case("int4", **_int4(_call(4, 2, 2, 16, 8, hidden_pad=3, intermediate_pad=1), 2)),
        case(
            "mxfp4_1x32",
            **_mxfp4(_call(4, 2, 2, 32, 32, activation="swiglu", gate_mode="interleave", hidden_pad=3, intermediate_pad=1)),
            bias1=normal(2, 64),
            bias2=normal(2, 32),
        ),
        case("mxfp8_1x32", **_mxfp8(_call(4, 2, 2, 64, 32, q_dtype_a=jnp.dtype(FNUZ), hidden_pad=3, intermediate_pad=1), FNUZ)),
        case("per_1x128", **{**_call(4, 2, 1, 128, 128, dtype=bf16), **blocks, **_scales("per_1x128", 2, 128, 128)}),
    ]


def keeping() -> list[Case]:
    """Calls whose first product is kept: float weights, with all that may stand around it."""
    return [
        case("silu", **_call(6, 4, 2, 8, 6)),
        case(
            "half_masked",
            **_call(5, 2, 2, 16, 8, dtype=jnp.bfloat16, activation="swiglu", gate_mode="interleave"),
            expert_mask=constant([1, 0, 1], jnp.int32),
            bias1=normal(2, 16),
            bias2=normal(2, 16),
            num_local_tokens=constant([4], jnp.int32),
        ),
    ]


def backward() -> list[Case]:
    kept = keeping()[1]
    shape = (*kept.operands["topk_ids"].shape, kept.operands["w1"].shape[1])
    d_out, gate_up = (normal(*s, dtype=jnp.bfloat16) for s in (kept.operands["hidden_states"].shape, shape))
    return [*_backward(), Case("kept", {"d_out": d_out, **kept.operands, "gate_up": gate_up}, kept.params)]


def _backward() -> list[Case]:
    chosen = {
        c.name: c
        for c in forward()
        if c.name in ("silu", "masked_padded", "shuffled", "per_token_int8", "int4", "mxfp4_1x32", "mxfp8_1x32")
    }
    return [
        Case(
            name,
            {"d_out": normal(*c.operands["hidden_states"].shape, dtype=c.operands["hidden_states"].dtype), **c.operands},
            c.params,
        )
        for name, c in chosen.items()
    ]
