"""Reductions, normalisations and matrix products."""

from functools import partial

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from cases import case, floats, integers

X = floats((33, 70))
# A sum of n terms of magnitude m is off by about sqrt(n) ulps of the partial sums; `scale` is n * m, ulps 2 covers
# any order of summation of these sizes.
for suffix, dtype, ulps in (("f32", np.float32, 2), ("bf16", ml_dtypes.bfloat16, 1), ("f16", np.float16, 1)):
    x = X.astype(dtype)
    case(f"sum-{suffix}", lambda x: jnp.sum(x, 1), x, ulps=ulps, scale=70)
    case(f"mean-{suffix}", lambda x: jnp.mean(x, 0), x, ulps=ulps, scale=4)
    case(f"max-{suffix}", lambda x: jnp.max(x, 1), x)
    case(f"min-{suffix}", lambda x: jnp.min(x, 0), x)
    case(f"argmax-{suffix}", lambda x: jnp.argmax(x, 1), x)
    case(f"softmax-{suffix}", lambda x: jax.nn.softmax(x), x, ulps=12 if suffix == "f32" else 2)
    case(f"logsumexp-{suffix}", lambda x: jax.nn.logsumexp(x, 1), x, ulps=8 if suffix == "f32" else 2)
case("sum_all-f32", jnp.sum, X, ulps=2, scale=33 * 70)
case("prod-f32", lambda x: jnp.prod(x[:, :12], 1), X, ulps=16)
case("var-f32", lambda x: jnp.var(x, 1), X, ulps=16)
case("log_softmax-f32", jax.nn.log_softmax, X, ulps=12, scale=1)


def layer_norm(x):
    return (x - x.mean(1, keepdims=True)) * jax.lax.rsqrt(x.var(1, keepdims=True) + 1e-5)


def rms_norm(x):
    wide = x.astype(jnp.float32)
    return (wide * jax.lax.rsqrt((wide**2).mean(1, keepdims=True) + 1e-5)).astype(x.dtype)


case("layer_norm-f32", layer_norm, X, ulps=16, scale=4)
case("rms_norm-bf16", rms_norm, X.astype(ml_dtypes.bfloat16), ulps=1)
I = integers((33, 70))
case("sum-i32", lambda x: jnp.sum(x, 1), I)
case("max-i32", lambda x: jnp.max(x, 0), I)
case("argmin-i32", lambda x: jnp.argmin(x, 1), I)
case("any", lambda x: jnp.any(x > 990, 1), I)
case("all", lambda x: jnp.all(x > -990, 1), I)
case("norm-f32", lambda x: jnp.linalg.norm(x, axis=1), X, ulps=8)

# Products of k terms: order of summation differs, so the bound is in ulps of the sum of magnitudes. The result is
# rounded once from f32 in the half types.
HIGHEST = jax.lax.Precision.HIGHEST
A, B = floats((48, 80), -1, 1, seed=1), floats((80, 40), -1, 1, seed=2)
SQUARE = floats((64, 64), -1, 1, seed=3), floats((64, 64), -1, 1, seed=4)
for suffix, dtype, ulps in (("f32", np.float32, 8), ("bf16", ml_dtypes.bfloat16, 1), ("f16", np.float16, 1)):
    precision = HIGHEST if suffix == "f32" else None
    dot = partial(jnp.dot, precision=precision)
    case(f"dot-{suffix}", dot, A.astype(dtype), B.astype(dtype), ulps=ulps, scale=10)
    case(f"dot_square-{suffix}", dot, *(x.astype(dtype) for x in SQUARE), ulps=ulps, scale=10)
    case(f"matvec-{suffix}", lambda a, b, dot=dot: dot(a, b[:, 0]), A.astype(dtype), B.astype(dtype), ulps=ulps, scale=10)
case("dot_transposed-f32", lambda a, b: jnp.dot(a.T, b, precision=HIGHEST), A.T.copy(), B, ulps=8, scale=10)
# At default precision gfx942's matrix unit takes f32 factors as xf32, with 10 explicit mantissa bits (the CPU keeps 23):
# each product is off by up to 2 * 2^-11, that is 2^13 ulps of f32 relative to the sum of magnitudes.
case("dot_default-f32", jnp.dot, *SQUARE, ulps=2.0**13 * 1.5, scale=10)
BATCHED = floats((3, 20, 32), -1, 1, seed=5), floats((3, 32, 24), -1, 1, seed=6)
einsum = partial(jnp.einsum, "bij,bjk->bik", precision=HIGHEST)
case("einsum-f32", einsum, *BATCHED, ulps=8, scale=8)
case("einsum-bf16", einsum, *(x.astype(ml_dtypes.bfloat16) for x in BATCHED), ulps=1, scale=8)
case("outer-f32", jnp.outer, A[0], B[0])
case("dot_bf16_to_f32", lambda a, b: jnp.dot(a, b, preferred_element_type=jnp.float32), A.astype(ml_dtypes.bfloat16),
     B.astype(ml_dtypes.bfloat16), ulps=8, scale=10)  # fmt: skip
case("dot-i8", lambda a, b: jax.lax.dot(a, b, preferred_element_type=jnp.int32), integers((32, 64), -100, 100, np.int8),
     integers((64, 32), -100, 100, np.int8))  # fmt: skip
FNUZ = ml_dtypes.float8_e4m3fnuz
case("dot-e4m3fnuz", lambda a, b: jax.lax.dot(a, b, preferred_element_type=jnp.float32), floats((64, 64), -2, 2, FNUZ),
     floats((64, 64), -2, 2, FNUZ), ulps=8, scale=40)  # fmt: skip


def attention(q, k, v):
    return jnp.dot(jax.nn.softmax(jnp.dot(q, k.T, precision=HIGHEST) * 0.25), v, precision=HIGHEST)


case("attention-f32", attention, floats((32, 16), seed=5), floats((32, 16), seed=6),
     floats((32, 16), seed=7), ulps=64, scale=4)  # fmt: skip
