"""What the oracle tests share: float64 views of JAX arrays, and the rounding units that tolerances are built from."""

import jax
import jax.numpy as jnp
import numpy as np

# Unit roundoff u = 2^-p (p significand bits, the hidden one included): one rounding to nearest errs by at most u * |value|.
ROUNDOFF = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
# Where a value is subnormal the error is absolute instead: half the spacing there. float32 ones are flushed to zero.
SMALLEST = {"float32": 2.0**-126, "float16": 2.0**-25, "bfloat16": 2.0**-126}


def f64(x: jax.Array | np.ndarray) -> np.ndarray:
    """The exact values of any float or integer array (float64 holds them all)."""
    return np.asarray(x).astype(np.float64)


def draw(seed: int, *shape: int, dtype=jnp.float32, std: float = 1.0) -> jax.Array:
    return jnp.asarray((np.random.default_rng(seed).standard_normal(shape) * std).astype(np.float32)).astype(dtype)


def assert_within(got: jax.Array, want: np.ndarray, computed: np.ndarray | float) -> None:
    """`got` is `want` rounded once to its dtype, after an error of at most `computed` in wider arithmetic."""
    dtype = jnp.dtype(got.dtype).name
    allowed = computed + ROUNDOFF[dtype] * (np.abs(want) + computed) + SMALLEST[dtype]
    error = np.abs(f64(got) - want)
    worst = np.unravel_index(np.argmax(error - allowed), error.shape)
    allowed = np.broadcast_to(allowed, error.shape)
    said = f"at {worst}: got {f64(got)[worst]}, want {want[worst]}, error {error[worst]}, allowed {allowed[worst]}"
    assert (error <= allowed).all(), said


def primitives(fn, *args) -> set[str]:
    """Names of the primitives in `fn`'s jaxpr, nested ones included."""
    found: set[str] = set()

    def walk(jaxpr):
        for eqn in jaxpr.eqns:
            found.add(eqn.primitive.name)
            for value in eqn.params.values():
                for inner in value if isinstance(value, (tuple, list)) else (value,):
                    inner = getattr(inner, "jaxpr", inner)
                    if hasattr(inner, "eqns"):
                        walk(inner)

    walk(jax.make_jaxpr(fn)(*args).jaxpr)
    return found


LOOPS = {"scan", "while"}
