"""What AITER's fused HIP norms are not asked: each rule names the argument and its value."""

import pytest

from jax_aiter.kernels.hip.adapters import adapter
from jax_aiter.kernels.spec import ArraySpec, CallSpec

FP8 = "float8_e4m3fnuz"


def pair(q=512, k=64, dtype="bfloat16", weight=None, rows=3, out=None, **params):
    names = {"q": (rows, q), "q_weight": (q,), "k": (rows, k), "k_weight": (k,)}
    operands = {name: ArraySpec(shape, dtype) for name, shape in names.items()}
    operands["k_weight"] = ArraySpec((k,), weight or dtype)
    results = (ArraySpec((rows, q), out or dtype), ArraySpec((rows, k), dtype))
    return CallSpec("fused_qk_rms_norm_quant" if out else "fused_qk_rms_norm", "gfx942", operands, params, results)


def gated(columns=128, dtype="bfloat16", weight=None, bias=False, out=FP8, **params):
    operands = {name: ArraySpec((3, columns), dtype) for name in "xz"} | {"weight": ArraySpec((columns,), weight or dtype)}
    operands |= {"bias": ArraySpec((columns,), dtype)} if bias else {}
    usual = {"norm_before_gate": True, "activation": "silu", "group_size": 128}
    return CallSpec("gated_rms_norm_group_quant", "gfx942", operands, usual | params, (ArraySpec((3, columns), out),))


def one(columns):
    operands = {"x": ArraySpec((3, columns), "bfloat16"), "weight": ArraySpec((columns,), "bfloat16")}
    return CallSpec("rms_norm_quant", "gfx942", operands, {"output_unquantized": False}, (ArraySpec((3, columns), FP8),))


def layer(add=False, dtype="bfloat16", weight=None, bias=None, rows=3, columns=33):
    operands = {name: ArraySpec((rows, columns), dtype) for name in ("x", "residual")[: 1 + add]}
    operands |= {"weight": ArraySpec((columns,), weight or dtype)} | ({"bias": ArraySpec((columns,), bias)} if bias else {})
    results = (operands["x"],) * (1 + add)
    return CallSpec("layer_norm_with_add" if add else "layer_norm", "gfx942", operands, {"epsilon": 1e-5}, results)


@pytest.mark.parametrize(
    ("spec", "rule"),
    [
        (layer(dtype="float32"), "x has dtype float32; AITER's HIP kernel takes bfloat16, float16"),
        (layer(weight="float32"), "weight has dtype float32; AITER's HIP kernel takes bfloat16"),
        (layer(add=True, bias="float32"), "bias has dtype float32"),
        (layer(rows=2**21, columns=1024), "elements; AITER's HIP kernel counts them with 32 bits"),
        (pair(dtype="float32"), "q has dtype float32"),
        (pair(weight="float32"), "k_weight has dtype float32"),
        (pair(q=33), "q has 33 columns; AITER's HIP kernel takes pairs, and at most 8192"),
        (pair(k=8194), "k has 8194 columns"),
        (pair(out="int8"), "quant_dtype = int8"),
        (pair(out="float8_e4m3fn"), "quant_dtype = float8_e4m3fn"),
        (pair(q=34, out=FP8), "q has 34 columns; AITER's HIP kernel stores 4 codes at a time"),
        (one(34), "x has 34 columns; AITER's HIP kernel stores 4 codes at a time"),
        (gated(columns=64), "x has 64 columns; AITER's HIP kernel takes 128"),
        (gated(dtype="float32"), "x has dtype float32"),
        (gated(weight="float32"), "weight has dtype float32"),
        (gated(bias=True), "bias is given"),
        (gated(group_size=64), "group_size = 64"),
        (gated(norm_before_gate=False), "norm_before_gate = False; AITER's HIP kernel has True alone"),
        (gated(activation="sigmoid"), "activation = 'sigmoid'; AITER's HIP kernel has 'silu' alone"),
        (gated(out="int8"), "quant_dtype = int8"),
    ],
)
def test_a_rule_names_the_argument_and_its_value(spec, rule):
    assert rule in adapter(spec.op).refuse(spec)


@pytest.mark.parametrize(
    "spec",
    [
        layer(),
        layer(True, "float16", bias="float16"),
        pair(),
        pair(2, 8192),
        pair(dtype="float16", out=FP8),
        gated(),
        gated(group_size=None),
    ],
)
def test_what_the_kernels_take_no_rule_refuses(spec):
    assert adapter(spec.op).refuse(spec) is None


@pytest.mark.parametrize(("rows", "elsewhere"), [(16383, None), (16384, "from 16384 rows aiter.rmsnorm, twice")])
def test_many_rows_go_elsewhere_in_aiter(rows, elsewhere):
    assert adapter("fused_qk_rms_norm").entry(pair(rows=rows)).elsewhere == elsewhere


@pytest.mark.parametrize(
    ("op", "added"),
    [
        ("rms_norm_with_add", "residual"),
        ("rms_norm_quant", "residual"),
        ("fused_qk_rms_norm_quant", "q_residual"),
        ("mhc_post", "residual"),
        ("mhc_fused_post_pre", "residual_in"),
    ],
)
@pytest.mark.parametrize(
    ("arch", "dtype", "cut"), [("gfx942", "bfloat16", True), ("gfx942", "float16", False), ("gfx950", "bfloat16", False)]
)
def test_auto_looks_for_a_kernel_that_rounds_the_sum(op, added, arch, dtype, cut):
    """What all layers after it read; a norm without a residual is read once."""
    operands = {name: ArraySpec((3, 64), dtype) for name in ("x", added)}
    entry = adapter(op).entry(CallSpec(op, arch, operands, {}, ()))
    assert (entry.elsewhere is not None) == cut
    assert not cut or "cuts the sum off to bfloat16" in entry.elsewhere
    assert not entry.asked  # better than a reference
    operands.pop(added)
    assert adapter(op).entry(CallSpec(op, arch, operands, {}, ())).elsewhere is None
