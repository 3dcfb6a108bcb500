"""rms_norm_quant against torch's float64 norm, and against the ops that it joins.

The norm errs by (D/2 + 6) units of float32 (see test_rms_norm), a sum with a residual by one more on each operand.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter
from jax_aiter import group_quant, per_tensor_quant, per_token_quant, rms_norm, rms_norm_quant, rms_norm_with_add
from tests.oracle import LOOPS, ROUNDOFF, assert_same, assert_within, draw, f64, primitives
from tests.quantised import MAX, assert_quantised

U = ROUNDOFF["float32"]
EPSILON = 1e-5


def normed(x, weight, residual=None, offset=0.0):
    """The float64 norm, its error in float32, and the sum."""
    total = f64(x) if residual is None else f64(x) + f64(residual)
    d = total.shape[-1]
    want = torch.nn.functional.rms_norm(torch.from_numpy(total), (d,), torch.from_numpy(f64(weight) + offset), EPSILON).numpy()
    return want, (d / 2 + 9) * U * np.abs(want), total


@pytest.mark.parametrize(("dtype", "source"), [*zip(MAX, ["float32", "bfloat16", "float16"], strict=True)])
@pytest.mark.parametrize("shape", [(1, 1), (1, 127), (3, 128), (129, 129), (2, 3, 5)])
@pytest.mark.parametrize("add", [False, True])
def test_per_token(shape, source, dtype, add):
    x, weight = draw(0, *shape, dtype=source, std=3.0), draw(1, shape[-1], dtype=source)
    residual = draw(2, *shape, dtype=source) if add else None
    out = rms_norm_quant(x, weight, EPSILON, residual=residual, quant_dtype=dtype, output_unquantized=True)
    assert out._fields == (("xq", "scale", "y", "residual_out") if add else ("xq", "scale", "y"))
    want, error, total = normed(x, weight, residual)
    assert (out.xq.dtype, out.scale.dtype, out.y.dtype) == (dtype, jnp.float32, source)
    assert_quantised(out.xq, out.scale, want, error, dtype)
    assert_within(out.y, want, error)
    if add:
        assert_within(out.residual_out, total, U * np.abs(total))


@pytest.mark.parametrize("dtype", MAX)
@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_group(group_size, dtype, offset):
    x, residual, weight = (
        draw(i, *shape, dtype="bfloat16") for i, shape in enumerate([(5, 3 * group_size)] * 2 + [(3 * group_size,)])
    )
    options = {"residual": residual, "quant_dtype": dtype, "group_size": group_size, "weight_offset": offset}
    xq, scale, total = rms_norm_quant(x, weight, EPSILON, **options)
    want, error, _ = normed(x, weight, residual, offset)
    groups = lambda a: a.reshape(5, 3, group_size)  # noqa: E731
    assert_quantised(groups(xq), scale[..., None], groups(want), groups(error), dtype)
    same, transposed, _ = rms_norm_quant(x, weight, EPSILON, **options, transpose_scale=True)
    assert transposed.shape == (3, 5)
    assert_same((same, transposed.T), (xq, scale))
    assert (total == (x + residual)).all()  # one exact sum, rounded once


@pytest.mark.parametrize("dtype", MAX)
@pytest.mark.parametrize("given", [0.002, 0.02, 3.0])
def test_static_scale_saturates(given, dtype):
    x, weight, scale = draw(0, 7, 96, dtype="bfloat16"), draw(1, 96, dtype="bfloat16", std=2.0), jnp.asarray([given])
    xq, back = rms_norm_quant(x, weight, EPSILON, scale=scale, quant_dtype=dtype)
    assert back.shape == (1,)
    assert back[0] == scale[0]
    want, error, _ = normed(x, weight)
    assert_quantised(xq, scale, want, error, dtype, given=True)
    if given == 0.002:
        assert np.abs(f64(xq)).max() == MAX[dtype]


@pytest.mark.parametrize("dtype", MAX)
def test_float32_is_the_composition(dtype):
    """Where the norm is not rounded between them, the ops one after the other compute the same."""
    x, residual, weight = draw(0, 6, 128), draw(1, 6, 128), draw(2, 128)
    y, total = rms_norm_with_add(x, residual, weight, EPSILON)
    options = {"residual": residual, "quant_dtype": dtype, "output_unquantized": True}
    assert_same(rms_norm_quant(x, weight, EPSILON, **options), (*per_token_quant(y, quant_dtype=dtype), y, total))
    xq, scale = group_quant(y, quant_dtype=dtype, group_size=64, transpose_scale=True)
    got = rms_norm_quant(x, weight, EPSILON, **options, group_size=64, transpose_scale=True)
    assert_same(got, (xq, scale, y, total))
    scale = jnp.asarray([0.05])
    assert_same(rms_norm_quant(x, weight, EPSILON, **options, scale=scale)[:2], per_tensor_quant(y, quant_dtype=dtype, scale=scale))


def test_the_norm_is_quantised_before_it_is_rounded():
    """Within half a step of a code and float32's error; rounded to bfloat16 first, some lie on the other side of a midpoint."""
    x, weight = draw(0, 64, 128, dtype="bfloat16"), draw(1, 128, dtype="bfloat16")
    want, error, _ = normed(x, weight)
    xq, scale = rms_norm_quant(x, weight, EPSILON, quant_dtype="float8_e4m3fn")
    rounded, rounded_scale = per_token_quant(rms_norm(x, weight, EPSILON), quant_dtype="float8_e4m3fn")
    assert_quantised(xq, scale, want, error, "float8_e4m3fn")
    with pytest.raises(AssertionError):
        assert_quantised(rounded, rounded_scale, want, error, "float8_e4m3fn")


def test_siblings_are_the_op():
    x, residual, weight = draw(0, 4, 256, dtype="bfloat16"), draw(1, 4, 256, dtype="bfloat16"), draw(2, 256, dtype="bfloat16")
    added, grouped = {"residual": residual}, {"group_size": 128}
    for got, options in (
        (jax_aiter.rms_norm_add_quant(x, residual, weight, EPSILON), added),
        (jax_aiter.rms_norm_group_quant(x, weight, EPSILON), grouped),
        (jax_aiter.rms_norm_add_group_quant(x, residual, weight, EPSILON), {**added, **grouped}),
    ):
        want = rms_norm_quant(x, weight, EPSILON, **options)
        assert got._fields == want._fields
        assert_same(got, want)


def test_vmap_is_more_rows():
    x, residual, weight = draw(0, 3, 4, 64), draw(1, 3, 4, 64), draw(2, 64)
    for options in ({}, {"group_size": 32}, {"group_size": 32, "transpose_scale": True}, {"scale": jnp.ones(1)}):

        def one(x, residual, options=options):
            return rms_norm_quant(x, weight, residual=residual, output_unquantized=True, quant_dtype="int8", **options)

        mapped = jax.vmap(one, in_axes=(0, 0))
        assert not primitives(mapped, x, residual) & LOOPS
        got = mapped(x, residual)
        for i in range(3):
            assert_same(jax.tree.map(lambda a, i=i: a[i], got), one(x[i], residual[i]))


def test_an_export_returns_the_named_tuple():
    x, weight = draw(0, 4, 64), draw(1, 64)
    for options in ({}, {"residual": x}, {"output_unquantized": True}, {"residual": x, "output_unquantized": True}):
        run = jax.jit(lambda x, options=options: rms_norm_quant(x, weight, quant_dtype="int8", **options))
        exported = jax.export.export(run)(jax.ShapeDtypeStruct(x.shape, x.dtype))
        back = jax.export.deserialize(exported.serialize()).call(x)
        assert type(back) is type(run(x))
        assert_same(back, run(x))


def test_zero_rows_have_the_scale_of_the_floor():
    x = jnp.zeros((2, 64)).at[1].set(1.0)
    xq, scale = rms_norm_quant(x, jnp.ones(64), quant_dtype="float8_e4m3fn")
    assert float(scale[0, 0]) == pytest.approx(1e-10 / 448, rel=1e-6)
    assert (f64(xq)[0] == 0).all()


def test_errors_name_argument_and_rule():
    x, weight = draw(0, 4, 96), draw(1, 96)
    with pytest.raises(ValueError, match=r"dimension 1 of x \(D\) is 96, must be a multiple of 64 \(group_size\)"):
        rms_norm_quant(x, weight, group_size=64)
    with pytest.raises(ValueError, match=r"group_size must be one of \[32, 64, 128\], got 48"):
        rms_norm_quant(x, weight, group_size=48)
    with pytest.raises(ValueError, match="group_size is 32 and scale is given"):
        rms_norm_quant(x, weight, group_size=32, scale=jnp.ones(1))
    with pytest.raises(ValueError, match="transpose_scale is True, which needs a group_size"):
        rms_norm_quant(x, weight, transpose_scale=True)
    with pytest.raises(ValueError, match="x must have 2 dimensions"):
        rms_norm_quant(x[None], weight, group_size=32, transpose_scale=True)
    with pytest.raises(TypeError, match="residual has dtype bfloat16, must be that of x, float32"):
        rms_norm_quant(x, weight, residual=x.astype(jnp.bfloat16))
    with pytest.raises(ValueError, match="dimension 0 of scale is 4, must be 1"):
        rms_norm_quant(x, weight, scale=jnp.ones(4))
    with pytest.raises(ValueError, match="weight_offset must be a finite number, got nan"):
        rms_norm_quant(x, weight, weight_offset=float("nan"))
