"""MLA's two norms, the gated norm and the norm into padded rows, against torch in float64 and against the ops that they join.

Error bounds of a norm are those of test_rms_norm; a gate in float32 errs by 16 units, as in test_gated.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jax_aiter import (
    fused_qk_rms_norm,
    fused_qk_rms_norm_quant,
    gated_rms_norm_group_quant,
    rms_norm,
    rms_norm_quant,
    rms_norm_with_add,
    rms_norm_with_add_pad,
)
from tests.oracle import LOOPS, ROUNDOFF, assert_same, assert_within, draw, f64, primitives
from tests.quantised import MAX, assert_quantised

U = ROUNDOFF["float32"]
DTYPES = ["float32", "bfloat16", "float16"]
QK = [((1,), 1, 3), ((5,), 33, 16), ((2, 3), 128, 64)]


def norm(x, weight, epsilon, offset=0.0):
    x = torch.from_numpy(x)
    return torch.nn.functional.rms_norm(x, (x.shape[-1],), torch.from_numpy(f64(weight)) + offset, epsilon).numpy()


def bound(want):
    return (want.shape[-1] / 2 + 10) * U * np.abs(want)


def qk(lead, q, k, dtype):
    return draw(0, *lead, q, dtype=dtype), draw(1, q, dtype=dtype), draw(2, *lead, k, dtype=dtype), draw(3, k, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize(("lead", "q", "k"), QK)
def test_two_norms(lead, q, k, offset, dtype):
    arrays = qk(lead, q, k, dtype)
    got = fused_qk_rms_norm(*arrays, 1e-6, 1e-4, weight_offset=offset)
    for y, x, weight, epsilon in zip(got, arrays[::2], arrays[1::2], (1e-6, 1e-4), strict=True):
        want = norm(f64(x), weight, epsilon, offset)
        assert_within(y, want, bound(want))
        assert_same(y, rms_norm(x, weight, epsilon, weight_offset=offset))


def test_gradient_of_two_norms_is_that_of_each():
    arrays = qk((2, 3), 16, 24, "float32")
    cotangents = draw(4, 2, 3, 16), draw(5, 2, 3, 24)
    got = jax.vjp(lambda *a: fused_qk_rms_norm(*a, weight_offset=1.0), *arrays)[1](cotangents)
    for i in (0, 1):
        x, weight = arrays[2 * i : 2 * i + 2]
        want = jax.vjp(lambda x, w: rms_norm(x, w, weight_offset=1.0), x, weight)[1](cotangents[i])
        assert_same(got[2 * i : 2 * i + 2], want)


@pytest.mark.parametrize(("dtype", "source"), [*zip(MAX, DTYPES, strict=True)])
@pytest.mark.parametrize(("lead", "q", "k"), QK)
@pytest.mark.parametrize("add", [False, True])
def test_query_quantised_per_token(add, lead, q, k, source, dtype):
    arrays = qk(lead, q, k, source)
    residual = draw(4, *lead, q, dtype=source) if add else None
    out = fused_qk_rms_norm_quant(*arrays, 1e-6, 1e-4, q_residual=residual, quant_dtype=dtype, output_unquantized=add)
    extra = ("q_residual_out",) if add else ()
    assert out._fields == ("q", "q_scale", *(("q_unquantized",) if add else ()), "k", *extra)
    total = f64(arrays[0]) + (f64(residual) if add else 0.0)
    want, key = norm(total, arrays[1], 1e-6), norm(f64(arrays[2]), arrays[3], 1e-4)
    assert_quantised(out.q, out.q_scale, want, bound(want), dtype)
    assert_within(out.k, key, bound(key))
    if add:
        assert_within(out.q_unquantized, want, bound(want))
        assert_within(out.q_residual_out, total, U * np.abs(total))


@pytest.mark.parametrize("dtype", MAX)
@pytest.mark.parametrize("transpose", [False, True])
def test_query_quantised_by_group_is_rms_norm_quant(transpose, dtype):
    arrays = qk((5,), 192, 48, "bfloat16")
    options = {"group_size": 64, "quant_dtype": dtype, "transpose_scale": transpose, "weight_offset": 1.0}
    out = fused_qk_rms_norm_quant(*arrays, **options)
    assert_same((out.q, out.q_scale), rms_norm_quant(arrays[0], arrays[1], **options))
    assert out.q_scale.shape == ((3, 5) if transpose else (5, 3))
    mapped = jax.vmap(lambda q, k: fused_qk_rms_norm_quant(q, arrays[1], k, arrays[3], **options))
    batch = jnp.stack([arrays[0], 2 * arrays[0][::-1]]), jnp.stack([arrays[2], 2 * arrays[2][::-1]])
    assert not primitives(mapped, *batch) & LOOPS
    got = mapped(*batch)
    for i in (0, 1):
        one = fused_qk_rms_norm_quant(batch[0][i], arrays[1], batch[1][i], arrays[3], **options)
        assert_same(jax.tree.map(lambda a, i=i: a[i], got), one)


def gated(x, z, weight, bias, epsilon, before, activation):
    x, z = torch.from_numpy(f64(x)), torch.from_numpy(f64(z))
    gate = {"silu": torch.nn.functional.silu, "sigmoid": torch.sigmoid}[activation](z).numpy()
    y = norm(x.numpy() * (1.0 if before else gate), weight, epsilon)
    shifted = y + (0.0 if bias is None else f64(bias))
    terms = np.abs(y) + (0.0 if bias is None else np.abs(f64(bias)))
    error = ((x.shape[-1] / 2 + 10) * U + 40 * U) * terms
    return (shifted * gate, error * np.abs(gate)) if before else (shifted, error)


@pytest.mark.parametrize(("dtype", "activation"), [("float8_e4m3fnuz", "silu"), ("float8_e4m3fn", "sigmoid"), ("int8", "silu")])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("shape", "group"), [((1, 1), None), ((2, 3, 33), None), ((5, 192), 64), ((7, 128), 128)])
def test_gated(shape, group, before, activation, dtype):
    x, z = draw(0, *shape, dtype="bfloat16"), draw(1, *shape, dtype="bfloat16", std=2.0)
    weight = draw(2, shape[-1], dtype="bfloat16")
    bias = draw(3, shape[-1], dtype="bfloat16") if group is None else None
    options = {"norm_before_gate": before, "activation": activation, "group_size": group, "quant_dtype": dtype}
    out = gated_rms_norm_group_quant(x, z, weight, bias, 1e-5, **options)
    assert out._fields == ("xq", "scale")
    want, error = gated(x, z, weight, bias, 1e-5, before, activation)
    blocks = (*shape[:-1], -1, group or shape[-1])
    scale = out.scale[..., None]
    assert_quantised(out.xq.reshape(want.reshape(blocks).shape), scale, want.reshape(blocks), error.reshape(blocks), dtype)
    if group:
        same, transposed = gated_rms_norm_group_quant(x, z, weight, bias, 1e-5, **options, transpose_scale=True)
        assert_same((same, transposed.T), out)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "multiple", "width"), [((5, 33), 16, 48), ((2, 3, 16), 8, 16), ((1, 1), 256, 256), ((2, 90), 64, 128)]
)
def test_padded_rows(shape, multiple, width, dtype):
    x, residual, weight = draw(0, *shape, dtype=dtype), draw(1, *shape, dtype=dtype), draw(2, shape[-1], dtype=dtype)
    y, total = rms_norm_with_add_pad(x, residual, weight, 1e-5, x_pad_to_multiple=multiple)
    assert y.shape == (*shape[:-1], width)
    assert (f64(y)[..., shape[-1] :] == 0).all()
    assert_same((y[..., : shape[-1]], total), rms_norm_with_add(x, residual, weight, 1e-5))
    want = norm(f64(x) + f64(residual), weight, 1e-5)
    assert_within(y[..., : shape[-1]], want, bound(want))


def test_gradient_of_padded_rows_ignores_the_padding():
    x, residual, weight = draw(0, 3, 5), draw(1, 3, 5), draw(2, 5)
    dy, dtotal = draw(3, 3, 8), draw(4, 3, 5)
    got = jax.vjp(lambda *a: rms_norm_with_add_pad(*a, x_pad_to_multiple=8), x, residual, weight)[1]((dy, dtotal))
    assert_same(got, jax.vjp(rms_norm_with_add, x, residual, weight)[1]((dy[:, :5], dtotal)))


def test_errors_name_argument_and_rule():
    q, k = jnp.ones((2, 96)), jnp.ones((2, 4))
    with pytest.raises(ValueError, match=r"fused_qk_rms_norm_quant: dimension 1 of q \(Q\) is 96, must be a multiple of 64"):
        fused_qk_rms_norm_quant(q, jnp.ones(96), k, jnp.ones(4), group_size=64)
    with pytest.raises(ValueError, match=r"leading dimensions of k are \(3,\), but those of q are \(2,\)"):
        fused_qk_rms_norm(q, jnp.ones(96), jnp.ones((3, 4)), jnp.ones(4))
    with pytest.raises(ValueError, match="x_pad_to_multiple must be >= 1, got 0"):
        rms_norm_with_add_pad(q, q, jnp.ones(96), x_pad_to_multiple=0)
    with pytest.raises(ValueError, match=r"activation must be one of \['silu', 'sigmoid'\], got 'gelu'"):
        gated_rms_norm_group_quant(q, q, jnp.ones(96), group_size=32, activation="gelu")
    with pytest.raises(TypeError, match="gated_rms_norm_group_quant: z has dtype bfloat16, must be that of x, float32"):
        gated_rms_norm_group_quant(q, q.astype(jnp.bfloat16), jnp.ones(96), group_size=32)
