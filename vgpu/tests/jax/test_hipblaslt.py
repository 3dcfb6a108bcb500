"""Matrix products and what follows them through hipBLASLt, as XLA calls it unless told otherwise."""

import pytest

PROGRAM = """
import jax, jax.numpy as jnp, ml_dtypes, numpy as np, re
jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
bf16, f32 = ml_dtypes.bfloat16, np.float32
relu, tanh_gelu = lambda x: np.maximum(x, 0), lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
A, B, V = (40, 72), (72, 24), (24,)
plain = lambda a, b: a @ b
cases = [("DEFAULT", plain, plain, t, [A, B]) for t in (f32, bf16, np.float16, np.float64)]
cases += [("BIAS", lambda a, b, v: a @ b + v, lambda a, b, v: a @ b + v, t, [A, B, V]) for t in (f32, bf16)]
cases += [
    ("RELU", lambda a, b: jax.nn.relu(a @ b), lambda a, b: relu(a @ b), f32, [A, B]),
    ("BIAS_RELU", lambda a, b, v: jax.nn.relu(a @ b + v), lambda a, b, v: relu(a @ b + v), f32, [A, B, V]),
    ("GELU", lambda a, b: jax.nn.gelu(a @ b), lambda a, b: tanh_gelu(a @ b), f32, [A, B]),
    ("DEFAULT", lambda a, b, c: 0.5 * (a.T @ b) + c, lambda a, b, c: 0.5 * (a.T @ b) + c, f32, [(72, 40), B, (40, 24)]),
    ("DEFAULT", lambda a, b: a @ b.swapaxes(1, 2), lambda a, b: a @ b.swapaxes(1, 2), bf16, [(3, 8, 16), (3, 4, 16)]),
    ("DEFAULT", lambda a, b: jax.lax.dot(a, b, preferred_element_type=f32), plain, bf16, [A, B]),
    ("DEFAULT", lambda a, b: (a.astype(f32) * f32(0.5)) @ (b.astype(f32) * f32(3)), lambda a, b: 1.5 * (a @ b),
     ml_dtypes.float8_e4m3fnuz, [(32, 64), (64, 48)]),
]
for epilogue, f, exact, dtype, shapes in cases:
    arguments = [jnp.asarray(rng.normal(size=s), dtype) for s in shapes]
    compiled = jax.jit(f).lower(*arguments).compile()
    text = compiled.as_text()
    name = (np.dtype(dtype).name, epilogue, shapes)
    assert "__cublas$lt$matmul" in text and re.search('"epilogue":"%s"' % epilogue, text), (name, text)
    got = compiled(*arguments)
    want = exact(*(np.asarray(x).astype(np.float64) for x in arguments))
    # One rounding of the result, and one of each of 72 terms in float32 (float64).
    bound = (float(ml_dtypes.finfo(got.dtype).eps) + 72 * (1e-16 if dtype == np.float64 else 6e-8)) * 2 * np.abs(want).max()
    assert np.abs(np.asarray(got).astype(np.float64) - want).max() <= bound, name

# A product of groups: a kernel of the plugin's writes the groups' sizes and operands to memory.
a, b = (jnp.asarray(rng.normal(size=s), bf16) for s in ((64, 32), (4, 32, 48)))
sizes = np.array([10, 20, 0, 34], np.int32)
compiled = jax.jit(jax.lax.ragged_dot).lower(a, b, sizes).compile()
assert "__cublas$lt$groupedMatmul" in compiled.as_text(), compiled.as_text()
want = np.einsum("tk,tkn->tn", *(np.asarray(x).astype(np.float64) for x in (a, b[np.repeat(np.arange(4), sizes)])))
assert np.abs(np.asarray(compiled(a, b, sizes)).astype(np.float64) - want).max() <= 2.0**-8 * np.abs(want).max()
print("equal")
"""
# XLA's own kernels off: then every product is hipBLASLt's. Nothing is timed, which would take one of either.
FLAGS = "--xla_gpu_enable_cublaslt=true --xla_gpu_enable_triton_gemm=false --xla_gpu_autotune_level=0"


def test_products_and_epilogues(python):
    done = python(["-c", PROGRAM], xla_flags=FLAGS)
    assert done.stdout == "equal\n", done.stdout[-2000:] + done.stderr[-3000:]


@pytest.mark.exhaustive
def test_flags_as_xla_has_them(python):
    """XLA's own defaults: it times candidates, hipBLASLt's among them, which takes seconds for one product."""
    program = """
import jax.numpy as jnp, numpy as np
rng = np.random.default_rng(0)
for dtype in ("float32", "bfloat16"):
    a, b = (jnp.asarray(rng.normal(size=s), dtype) for s in ((64, 128), (128, 96)))
    want = np.asarray(a).astype(np.float64) @ np.asarray(b).astype(np.float64)
    # xf32, if one of XLA's own kernels is taken: 10 bits of mantissa; bfloat16: 7.
    assert np.abs(np.asarray(a @ b).astype(np.float64) - want).max() <= 2.0**-7 * np.abs(want).max(), dtype
print("equal")
"""
    done = python(["-c", program], xla_flags="--xla_gpu_enable_cublaslt=true --xla_gpu_autotune_level=4")
    assert done.stdout == "equal\n", done.stdout[-2000:] + done.stderr[-3000:]
