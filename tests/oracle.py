"""What tests of numbers share: float64 views of JAX arrays, the rounding units that tolerances are built from, and two comparisons.

`assert_within`: a result against an independent oracle, with the bound that the op's arithmetic gives.
`assert_same`: two programs of ours that compute the same from the same data.
"""

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


# How far two differently compiled programs of the same arithmetic may be apart, in units in the last place of the output dtype at
# the largest value of the array. Eager and jit, a batch and its element, another shape, an exported program, another processor: the
# compiler is free to contract a product and a sum into one rounding, orders a sum by the processor's vectors and the matrix
# product's blocks, and takes polynomials for exp, tanh and erf. So a float32 value of a dozen steps moves by some ulps; a sum of n
# terms by about sqrt(n) / 15 of them as standard deviation (n roundings, each of at most half an ulp of a partial sum, that add up
# like steps of a random walk), which for the tests' hundreds of terms stays below 8 for the farthest of thousands of elements. A
# 16-bit result is that value rounded once more, perhaps to the neighbour; where a step between is rounded to 16 bits as well, a
# few of those. Integers, copies and exact sums do not move and are compared exactly.
ULPS = 8


def assert_same(got, want, ulps: float = ULPS, what: str = "") -> None:
    """Two arrays, or two trees of them, are results of the same arithmetic that was compiled twice: see `ULPS`.

    Quantised results (fp8, int8, and bytes of a cache of fp8) are the rounding of such a float, which may fall on either side of a
    boundary: neighbouring codes are the same, but of few elements only, since few lie that near one. Infinities and NaN stand
    in the same places.
    """
    got, want = jax.tree.leaves(got), jax.tree.leaves(want)
    assert len(got) == len(want), what
    for g, w in zip(map(np.asarray, got), map(np.asarray, want), strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype), what
        if g.dtype.itemsize == 1 and (g.dtype in (np.int8, np.uint8) or jnp.issubdtype(g.dtype, jnp.floating)):
            apart = np.abs(_codes(g) - _codes(w))
            assert apart.max(initial=0) <= 1, f"{what}: codes are {apart.max()} apart"
            assert np.count_nonzero(apart) <= max(1, g.size // 32), f"{what}: {np.count_nonzero(apart)} of {g.size} codes differ"
        elif jnp.issubdtype(g.dtype, jnp.floating):
            a, b = f64(g), f64(w)
            finite = np.isfinite(b)
            np.testing.assert_array_equal(np.where(np.isfinite(a), 0, a), np.where(finite, 0, b), err_msg=what)
            limits = jnp.finfo(w.dtype)
            top = max(np.abs(b[finite]).max(initial=0.0), float(limits.tiny))
            np.testing.assert_allclose(a[finite], b[finite], rtol=0, atol=ulps * float(limits.eps) * top, err_msg=what)
        else:
            np.testing.assert_array_equal(g, w, err_msg=what)


def _codes(x: np.ndarray) -> np.ndarray:
    """The ordinal of each value of a one-byte dtype: neighbours differ by one, the zeros are one code, NaN is far away."""
    if x.dtype == np.int8:
        return x.astype(np.int32)
    bits = x.view(np.uint8).astype(np.int32)
    return np.where(np.isnan(f64(x)), 1024, np.where(bits < 128, bits, 128 - bits))


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
