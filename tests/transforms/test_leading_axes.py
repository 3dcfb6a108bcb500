"""Activations of a GEMM may have any leading axes, under every transformation; kernels see the matrix that they make.

Records know matrices only, so this is a suite of the public functions, made from the records that have rows M.
"""

import math

import jax
import jax.numpy as jnp
import pytest
from jax import export

import jax_aiter

from .common import PLATFORMS, ULPS, assert_same, thinned
from .leading import GEMMS, Call
from .test_switches import SWITCHES, switched

LEADING = [(2, 3), (1, 2, 1, 2), (1,), (), (0, 3), (3, 0)]
WITH_GRADIENT = [(op, case) for op, case in GEMMS if op.gradient]
every_gemm = pytest.mark.parametrize(("op", "case"), GEMMS, ids=[f"{op.name}-{case.name}" for op, case in GEMMS])


def test_all_gemms_take_part():
    assert {op.name for op, _ in GEMMS} == {n for n in dir(jax_aiter) if n.startswith("gemm_")}


@every_gemm
@pytest.mark.parametrize("lead", LEADING, ids=str)
def test_leading_axes_are_rows(op, case, lead):
    call = Call(op, case, lead)
    flat = call.run(call.activations)
    assert flat.shape[0] == math.prod(lead)
    got = call.run(call.leading)
    assert_same([got], [flat.reshape(*lead, flat.shape[1])], ulps=0)  # the same compiled product of the same matrices
    assert jax.eval_shape(call.run, call.leading).shape == got.shape


@thinned(GEMMS)
def test_batches(op, case):
    """jit; vmap over leading axes, over weights, over both."""
    call = Call(op, case, (2, 3))
    leading = call.leading
    want = call.run(leading)
    assert_same([jax.jit(call.run)(leading)], [want], ulps=ULPS)
    for index in range(2):
        axes = {n: call.leading_axis(n, index) for n in leading}
        assert_same([jax.vmap(call.run, (axes,), index)(leading)], [want], ulps=ULPS)
    both = jax.tree.map(lambda x: jnp.stack([x, jnp.flip(x, 0)]), call.weights)
    many = jax.vmap(call.run, (None, 0))(leading, both)
    for i in range(2):
        one = call.run(leading, jax.tree.map(lambda x, i=i: x[i], both))
        assert_same([many[i]], [one], ulps=ULPS)
    stacked = {n: jnp.stack([x, x]) for n, x in leading.items()}
    assert_same([jax.vmap(call.run)(stacked, both)], [many], ulps=ULPS)


@thinned(WITH_GRADIENT)
@pytest.mark.parametrize("lead", [(2, 3), (), (2, 0)], ids=str)
def test_gradient(op, case, lead):
    """The matrix's, in the shape of each operand."""
    call = Call(op, case, lead)
    got, weights = call.gradient(call.leading, call.differentiable)
    flat, flat_weights = call.gradient(call.activations, call.differentiable)
    assert jax.tree.map(jnp.shape, got) == jax.tree.map(jnp.shape, call.leading)
    assert_same({n: x.reshape(call.activations[n].shape) for n, x in got.items()}, flat, ulps=ULPS)
    assert_same(weights, flat_weights, ulps=ULPS)


@thinned(GEMMS)
def test_symbolic_leading_axes(op, case):
    """Both of any size, and one beside a number."""
    call = Call(op, case, (2, 3))
    batch, tokens = export.symbolic_shape("b, t")
    for lead, sizes in (((batch, tokens), [(2, 3), (3, 1)]), ((2, tokens), [(2, 3), (2, 5)])):
        program = export.export(jax.jit(call.run), platforms=PLATFORMS)(call.structs(lead), call.weights)
        program = export.deserialize(program.serialize())
        for size in sizes:
            of = Call(op, case, size)
            want = jax.jit(of.run)(of.leading)
            # Sums of float32 come in another order where a size is symbolic.
            assert_same([program.call(of.leading, call.weights)], [want], ulps=128 if want.dtype == jnp.float32 else ULPS)


@thinned(WITH_GRADIENT)
def test_symbolic_gradient(op, case):
    call = Call(op, case, (2, 3))
    lead = export.symbolic_shape("b, t")
    program = export.export(jax.jit(call.gradient), platforms=PLATFORMS)(call.structs(lead), call.differentiable)
    for size in ((2, 3), (3, 1)):
        of = Call(op, case, size)
        got, want = program.call(of.leading, call.differentiable), of.gradient(of.leading, call.differentiable)
        assert_same(got, want, ulps=128)


@thinned(GEMMS)
def test_switches_of_jax(op, case):
    call = Call(op, case, (2, 3))
    want = call.run(call.leading)
    for name in SWITCHES:
        with switched(name):
            got = call.run(call.leading)
            assert_same([got], [want], ulps=ULPS, what=name)


@every_gemm
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_kernels_are_chosen_as_for_the_matrix(op, case, arch):
    call = Call(op, case, (2, 3))
    if any(x.dtype.name.startswith("float8") and x.dtype != jax_aiter.fp8_dtype(arch) for x in jax.tree.leaves(call.leading)):
        pytest.skip(f"the case is in the other fp8 family than that of {arch}")
    with jax_aiter.config(arch=arch):
        leading, flat = (jax_aiter.explain(call.run, operands, platform="rocm") for operands in (call.leading, call.activations))
    assert [str(e) for e in leading] == [str(e) for e in flat]
    assert len(flat) == 1


def refused(call, message, **activations):
    with pytest.raises(ValueError, match=rf"^{call.op.name}: {message}"):
        call.run({**call.leading, **activations})


@every_gemm
def test_what_does_not_fit_is_named(op, case):
    call = Call(op, case, (2, 3))
    first, *scales = call.leading
    x = call.leading[first]
    refused(call, f"{first} must have at least 1 dimension", **{first: jnp.zeros((), x.dtype)})
    given, none = x.shape[2], rf"K = 0 \(dimension 2 of {first}\)"  # a packed weight says of x what others have x say of them
    either = rf"dimension 1 of (\w+ is {given}, must be {none}|{first} is 0, must be K = {given}, two for each byte)"
    refused(call, either, **{first: x[..., :0]})
    for name in scales:
        scale, batch = call.leading[name], call.leading_axis(name, 0)
        matrix = {name: call.activations[name]}
        refused(call, rf"the leading dimensions of {name} are \(6,\), but those of {first} are \(2, 3\)", **matrix)
        doubled = {name: jnp.concatenate([scale, scale], axis=batch)}
        refused(call, rf"the leading dimensions of {name} are \(4, 3\), but those of {first} are \(2, 3\)", **doubled)
        wide = {name: jnp.concatenate([scale, scale], axis=0 if batch else 2)}
        refused(call, rf".*\b{name}\b", **wide)


def test_only_activations_have_leading_axes():
    with pytest.raises(ValueError, match=r"gemm_a16w16: b must have 2 dimensions \[N K\], got shape \(2, 5, 4\)"):
        jax_aiter.gemm_a16w16(jnp.zeros((2, 3, 4)), jnp.zeros((2, 5, 4)))
    with pytest.raises(ValueError, match=r"gemm_a16w16: b must have 2 dimensions"):
        jax_aiter.gemm_a16w16(jnp.zeros((3, 4)), jnp.zeros(4))
    with pytest.raises(ValueError, match=r"gemm_a16w16: bias must have 1 dimensions"):
        jax_aiter.gemm_a16w16(jnp.zeros((2, 3, 4)), jnp.zeros((5, 4)), bias=jnp.zeros((2, 5)))
