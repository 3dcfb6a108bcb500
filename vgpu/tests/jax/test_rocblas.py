"""Complex matrix products: XLA has no kernels of its own for them and calls rocBLAS."""

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
def draw(shape, dtype):
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)
def reference(f, arguments):
    with jax.default_device(jax.devices("cpu")[0]):
        return f(*(jnp.asarray(a, np.complex128) for a in arguments))
functions = {
    "dot": (jnp.dot, [(40, 72), (72, 24)]),
    "batched": (jnp.matmul, [(3, 8, 16), (3, 16, 4)]),
    "conjugate": (lambda a, b: a @ b.conj().T, [(8, 16), (4, 16)]),
}
for dtype in (np.complex64, np.complex128):
    for name, (f, shapes) in functions.items():
        arguments = [draw(s, dtype) for s in shapes]
        compiled = jax.jit(f).lower(*arguments).compile()
        assert "__cublas" in compiled.as_text(), name
        got, want = np.asarray(compiled(*arguments)), reference(f, arguments)
        # A sum of k products of two roundings each, and one more per addition.
        k = shapes[0][-1]
        bound = (k + 2) * np.finfo(dtype).eps * np.abs(arguments[0]).max() * np.abs(arguments[1]).max() * k
        assert got.dtype == dtype and np.abs(got - np.asarray(want)).max() <= bound, name
print("equal")
"""


def test_complex_products(python):
    done = python(["-c", PROGRAM])
    assert done.stdout == "equal\n", done.stderr[-3000:]
