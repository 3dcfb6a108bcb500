"""convert_fp8 on all 256 bit patterns, decoded here from the definition of each format (no library)."""

import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter import convert_fp8


def decode(code: int, fnuz: bool) -> float:
    """s eeee mmm. fnuz: bias 8, 0x80 is NaN, nothing else special. OCP fn: bias 7, x1111111 is NaN."""
    if (code == 0x80) if fnuz else (code & 0x7F) == 0x7F:
        return float("nan")
    sign, exponent, mantissa, bias = -1.0 if code & 0x80 else 1.0, code >> 3 & 15, code & 7, 8 if fnuz else 7
    return sign * (mantissa / 8 * 2.0 ** (1 - bias) if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - bias))


def every(dtype):
    return jnp.asarray(np.arange(256, dtype=np.uint8).view(jnp.dtype(dtype)))


def codes(x):
    return np.asarray(x).view(np.uint8).tolist()


def test_to_fnuz_is_exact():
    y, scale = convert_fp8(every(jnp.float8_e4m3fn), jnp.asarray([0.75]), jnp.float8_e4m3fnuz)
    assert y.dtype == jnp.float8_e4m3fnuz
    assert scale.tolist() == [1.5]
    for code, new in enumerate(codes(y)):
        want = decode(code, fnuz=False) * 0.75
        got = decode(new, fnuz=True) * 1.5
        assert got == want or (np.isnan(got) and np.isnan(want)), hex(code)


def test_to_ocp_is_exact_but_for_240():
    y, scale = convert_fp8(every(jnp.float8_e4m3fnuz), jnp.asarray([0.75]), jnp.float8_e4m3fn)
    assert scale.tolist() == [0.375]
    for code, new in enumerate(codes(y)):
        want = decode(code, fnuz=True) * 0.75
        got = decode(new, fnuz=False) * 0.375
        if code & 0x7F == 0x7F:
            assert (want, got) in ((180.0, 168.0), (-180.0, -168.0))  # 2 * 240 saturates to 448
        else:
            assert got == want or (np.isnan(got) and np.isnan(want)), hex(code)


@pytest.mark.parametrize("dtype", [jnp.float8_e4m3fn, jnp.float8_e4m3fnuz])
def test_own_family_changes_nothing(dtype):
    scale = jnp.asarray([[0.5], [2.0]])
    y, same = convert_fp8(every(dtype), scale, dtype)
    assert codes(y) == list(range(256))
    assert (same == scale).all()


def test_round_trip_restores_values():
    """OCP to fnuz and back: only the sign of zero and the NaN payloads are lost."""
    x = every(jnp.float8_e4m3fn)
    back, scale = convert_fp8(*convert_fp8(x, jnp.ones(1), jnp.float8_e4m3fnuz), jnp.float8_e4m3fn)
    assert scale.tolist() == [1.0]
    np.testing.assert_array_equal(np.asarray(back).astype(np.float32), np.asarray(x).astype(np.float32))


def test_default_is_the_target():
    for arch, dtype in (("gfx942", jnp.float8_e4m3fnuz), ("gfx950", jnp.float8_e4m3fn)):
        with jax_aiter.config(arch=arch):
            for source in (jnp.float8_e4m3fn, jnp.float8_e4m3fnuz):
                assert convert_fp8(every(source), jnp.ones(()))[0].dtype == dtype


def test_errors_name_argument_and_rule():
    with pytest.raises(TypeError, match="x has dtype float32, must be float8_e4m3fnuz or float8_e4m3fn"):
        convert_fp8(jnp.zeros(3), jnp.ones(1))
    with pytest.raises(TypeError, match="scale has dtype bfloat16, must be float32"):
        convert_fp8(every(jnp.float8_e4m3fn), jnp.ones(1, jnp.bfloat16))
    with pytest.raises(TypeError, match="scale must be a jax or numpy array, got float"):
        convert_fp8(every(jnp.float8_e4m3fn), 1.0)
    with pytest.raises(ValueError, match="dtype must be"):
        convert_fp8(every(jnp.float8_e4m3fn), jnp.ones(1), jnp.int8)
