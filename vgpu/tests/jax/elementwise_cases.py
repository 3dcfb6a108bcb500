"""Elementwise functions over f32, bf16, f16, i32, and conversions with fp8."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from cases import case, floats, integers

# 65 x 3: not a multiple of the wave or of any vector width.
SHAPE = (65, 3)

# name: (function, lowest argument, highest argument, ulps in f32)
UNARY = {
    "exp": (jnp.exp, -20, 20, 4),
    "exp2": (jnp.exp2, -20, 20, 16),  # the CPU computes exp(x ln 2), whose argument is off by |x| ln 2 / 2 ulps
    "expm1": (jnp.expm1, -4, 4, 6),
    "log": (jnp.log, 1e-6, 1e6, 4),
    "log1p": (jnp.log1p, -0.9, 100, 6),
    "log2": (jnp.log2, 1e-3, 1e3, 6),
    "sin": (jnp.sin, -30, 30, 6),
    "cos": (jnp.cos, -30, 30, 6),
    "tan": (jnp.tan, -1.5, 1.5, 8),
    "arcsin": (jnp.arcsin, -1, 1, 8),
    "arccos": (jnp.arccos, -1, 1, 8),
    "arctan": (jnp.arctan, -30, 30, 6),
    "sinh": (jnp.sinh, -8, 8, 8),
    "cosh": (jnp.cosh, -8, 8, 8),
    "tanh": (jnp.tanh, -8, 8, 8),
    "arcsinh": (jnp.arcsinh, -30, 30, 8),
    "arccosh": (jnp.arccosh, 1.5, 30, 8),
    "arctanh": (jnp.arctanh, -0.9, 0.9, 8),
    "sqrt": (jnp.sqrt, 0, 1e6, 2),
    "rsqrt": (jax.lax.rsqrt, 1e-6, 1e6, 4),
    "cbrt": (jnp.cbrt, -1000, 1000, 6),
    "logistic": (jax.nn.sigmoid, -20, 20, 8),
    "erf": (jax.scipy.special.erf, -4, 4, 8),
    "erfc": (jax.scipy.special.erfc, -2, 4, 24),
    "lgamma": (jax.scipy.special.gammaln, 2.5, 40, 32),
    "gelu": (jax.nn.gelu, 0, 4, 16),
    "silu": (jax.nn.silu, -8, 8, 12),
    "softplus": (jax.nn.softplus, -8, 8, 12),
}
for name, (function, low, high, ulps) in UNARY.items():
    case(f"{name}-f32", function, floats(SHAPE, low, high), ulps=ulps)

# Half types are computed in f32 and rounded: within one ulp wherever the f32 results agree to a few. The compilers may
# round steps of a composed function in between, which costs another.
for name in ("exp", "log", "sin", "tanh", "sqrt", "rsqrt", "logistic", "erf", "silu"):
    function, low, high, _ = UNARY[name]
    high, ulps = min(high, 10), 2 if name in ("logistic", "silu") else 1
    case(f"{name}-bf16", function, floats(SHAPE, low, high, ml_dtypes.bfloat16), ulps=ulps)
    case(f"{name}-f16", function, floats(SHAPE, max(low, 1e-3) if low > 0 else low, high, np.float16), ulps=ulps)

for name, function in {
    "floor": jnp.floor, "ceil": jnp.ceil, "round": jnp.round, "trunc": jnp.trunc, "abs": jnp.abs, "negative": jnp.negative,
    "sign": jnp.sign, "square": jnp.square, "isfinite": jnp.isfinite,
}.items():  # fmt: skip
    case(f"{name}-f32", function, floats(SHAPE))
    case(f"{name}-bf16", function, floats(SHAPE, dtype=ml_dtypes.bfloat16))

DTYPES = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16, "i32": np.int32}


def pair(dtype):
    if dtype is np.int32:
        return integers(SHAPE, seed=1), integers(SHAPE, 1, 50, seed=2)
    return floats(SHAPE, dtype=dtype, seed=1), floats(SHAPE, 0.5, 4, dtype=dtype, seed=2)


for suffix, dtype in DTYPES.items():
    a, b = pair(dtype)
    for name, function in {
        "add": jnp.add, "subtract": jnp.subtract, "multiply": jnp.multiply, "maximum": jnp.maximum, "minimum": jnp.minimum,
        "less": jnp.less, "equal": jnp.equal,
    }.items():  # fmt: skip
        case(f"{name}-{suffix}", function, a, b)
    # Division is correctly rounded on the CPU; the device's f32 division keeps 2.5 ulps.
    if suffix != "i32":
        case(f"divide-{suffix}", jnp.divide, a, b, ulps=3 if suffix == "f32" else 1)

for name, function in {
    "floor_divide": jnp.floor_divide, "remainder": jnp.remainder, "left_shift": jnp.left_shift, "right_shift": jnp.right_shift,
    "bitwise_and": jnp.bitwise_and, "bitwise_or": jnp.bitwise_or, "bitwise_xor": jnp.bitwise_xor,
}.items():  # fmt: skip
    case(f"{name}-i32", function, integers(SHAPE, seed=3), integers(SHAPE, 1, 20, seed=4))
case("popcount-i32", jax.lax.population_count, integers(SHAPE))
case("clz-i32", jax.lax.clz, integers(SHAPE))
case("divide-i32", jax.lax.div, integers(SHAPE, seed=5), integers(SHAPE, 1, 20, seed=6))

POSITIVE, EXPONENT = floats(SHAPE, 0.1, 8, seed=7), floats(SHAPE, -4, 4, seed=8)
case("power-f32", jnp.power, POSITIVE, EXPONENT, ulps=20)
case("arctan2-f32", jnp.arctan2, floats(SHAPE, seed=9), floats(SHAPE, seed=10), ulps=10)
case("fmod-f32", jax.lax.rem, floats(SHAPE, -100, 100, seed=11), floats(SHAPE, 0.5, 3, seed=12))
case("nextafter-f32", jnp.nextafter, floats(SHAPE, seed=13), floats(SHAPE, seed=14))
case("integer_pow-f32", lambda x: x**5, floats(SHAPE), ulps=4)

FP8 = {
    "e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "e4m3fn": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2,
}  # fmt: skip
for suffix, dtype in FP8.items():
    case(f"f32_to_{suffix}", lambda x, d=dtype: x.astype(d), floats(SHAPE, -100, 100))
    case(f"{suffix}_to_f32", lambda x: x.astype(jnp.float32), floats(SHAPE, -100, 100, dtype))
    case(f"multiply-{suffix}", lambda x: (x.astype(jnp.float32) * 2 + 1).astype(jnp.bfloat16), floats(SHAPE, dtype=dtype))
case("f32_to_bf16", lambda x: x.astype(jnp.bfloat16), floats(SHAPE))
case("f32_to_f16", lambda x: x.astype(jnp.float16), floats(SHAPE))
case("f32_to_i32", lambda x: x.astype(jnp.int32), floats(SHAPE, -1000, 1000))
case("i32_to_f32", lambda x: x.astype(jnp.float32), integers(SHAPE))
case("i32_to_bf16", lambda x: x.astype(jnp.bfloat16), integers(SHAPE))
case("bitcast", lambda x: jax.lax.bitcast_convert_type(x, jnp.int32), floats(SHAPE))
