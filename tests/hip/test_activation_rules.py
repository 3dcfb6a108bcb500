"""Which calls of the activation that quantises AITER's HIP kernel is given. Needs neither AITER nor a compiler."""

import pytest

from jax_aiter.kernels.described import spec_of
from jax_aiter.kernels.hip.adapters import adapter


def refusal(columns=512, dtype="bfloat16", scale=False, **params) -> str | None:
    operands = {"x": [dtype, 3, 2 * columns], **({"scale": ["float32", 1]} if scale else {})}
    usual = {"activation": "silu", "limit": 0.0, "quant_dtype": "fp8", "group_size": 64, "transpose_scale": False}
    return adapter("act_mul_and_quant").refuse(
        spec_of({"op": "act_mul_and_quant", "operands": operands, "params": usual | params}, "gfx942")
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"activation": "gelu"}, "activation = 'gelu'"),
        ({"group_size": None}, "group_size = None"),
        ({"group_size": None, "scale": True}, "scale is given"),
        ({"columns": 8256}, "8256 columns per half"),
        ({"columns": 4224}, "takes up to 4096, and 6145 to 8192"),
        ({"columns": 6144}, "6144 columns per half"),
        ({"quant_dtype": "int8"}, "quant_dtype = int8"),
        ({"dtype": "float32"}, "x has dtype float32"),
        ({"limit": 1.001}, "limit = 1.001, which is not a bfloat16"),
        ({"limit": 0.1, "dtype": "float16"}, "which is not a float16"),
        ({"limit": 1e5, "dtype": "float16"}, "which is not a float16"),
    ],
)
def test_what_the_kernel_gets_wrong_it_is_not_given(call, says):
    assert says in str(refusal(**call))


@pytest.mark.parametrize(
    "call",
    [
        {},
        {"limit": 7.0, "transpose_scale": True},
        {"limit": 0.00390625, "dtype": "float16"},
        {"columns": 4096},
        {"columns": 6208, "group_size": 32},
        {"columns": 8192, "dtype": "float16", "group_size": 128},
    ],
)
def test_what_it_gets_right_it_is_given(call):
    assert refusal(**call) is None
