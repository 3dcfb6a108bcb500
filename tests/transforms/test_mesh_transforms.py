"""Transformations over meshes with Explicit axes: vmap over a split batch, scan, remat, shard_map, and what has no mesh in context.

Each claim is tried on every op and case that can show it; by default on a sample of the ops' first cases.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jax_aiter
from jax_aiter.bind.sharding import is_parallel

from . import meshes
from .common import ALL, LATER, ULPS, assert_same, dims_of

WITH_GRADIENT = [(op, case) for op, case in ALL if meshes.differentiable(op, case.operands)]
MESHES = pytest.mark.parametrize(
    "axis_type", [pytest.param(AxisType.Explicit, id="explicit"), pytest.param(AxisType.Auto, id="auto", marks=LATER)]
)


def sampled(cases, of, part):
    """Parameters (op, case): by default every `of`-th op, by its first case, so that tests with other `part`s take other ops."""
    names = list(dict.fromkeys(op.name for op, _ in cases))
    usual = {(name, next(case.name for op, case in cases if op.name == name)) for name in names[part::of]}
    return pytest.mark.parametrize(
        ("op", "case"),
        [
            pytest.param(op, case, id=f"{op.name}-{case.name}", marks=[] if (op.name, case.name) in usual else LATER)
            for op, case in cases
        ],
    )


def splits(cases, count):
    return [(op, case) for op, case in cases if len(meshes.even(case)) >= count]


@pytest.fixture
def implementation(request):
    return request.config.getoption("--implementation")


@pytest.fixture
def mesh():
    return meshes.mesh_of(AxisType.Explicit)


@MESHES
@sampled(splits(ALL, 2), 8, 0)
def test_two_axes_at_once(op, case, axis_type, implementation):
    """Two pairs of dimensions per case, of one operand or of two, over both axes of the mesh."""
    mesh, even = meshes.mesh_of(axis_type), meshes.even(case)
    pairs = [(a, b) for a in even for b in even if a != b]
    for i in np.random.default_rng(0).permutation(len(pairs))[:2]:
        first, second = pairs[i]
        with jax.set_mesh(mesh):
            meshes.check(op, case, {first: "d", second: "e"}, mesh, implementation, axis_type is AxisType.Explicit)


@sampled(splits(ALL, 1), 8, 1)
def test_one_dimension_over_both_axes(op, case, mesh, implementation):
    fours = [(n, d) for n, d in meshes.even(case) if case.operands[n].shape[d] % 4 == 0]
    if not fours:
        pytest.skip("no dimension that four devices can share")
    with jax.set_mesh(mesh):
        meshes.check(op, case, {fours[0]: ("d", "e")}, mesh, implementation)


@sampled(splits(WITH_GRADIENT, 1), 3, 0)
def test_no_mesh_in_context(op, case, mesh, implementation):
    """The types of committed operands are enough."""
    meshes.check(op, case, {meshes.even(case)[-1]: "d"}, mesh, implementation)


@sampled(splits(WITH_GRADIENT, 1), 3, 1)
def test_eager(op, case, mesh, implementation):
    with jax.set_mesh(mesh):
        meshes.check(op, case, {meshes.even(case)[0]: "d"}, mesh, implementation, run=lambda f: f)


@sampled(splits(WITH_GRADIENT, 1), 3, 2)
def test_remat(op, case, mesh, implementation):
    """Rematerialisation repeats the call in the backward pass."""

    def run(function):
        return jax.jit(functools.partial(function, wrap=jax.checkpoint))

    with jax.set_mesh(mesh):
        meshes.check(op, case, {meshes.even(case)[0]: "d"}, mesh, implementation, run=run)


def elements(case, count=2):
    """Draws of a case, and the operands stacked."""
    draws = [case.draw(seed) for seed in range(count)]
    return draws, {n: jnp.stack([d[n] for d in draws]) for n in case.operands}


def against_each(op, case, draws, got, operands, implementation):
    """Results and gradients of a batch, at axis 0, against those of each element; gradients typed as the operands."""
    results, gradients = got
    alone = jax.jit(meshes.value_and_gradient(op, case, implementation))
    for i, draw in enumerate(draws):
        want_results, want_gradients = alone(draw)
        assert_same([np.asarray(x)[i] for x in results], [np.asarray(x) for x in want_results], ulps=ULPS)
        for name, g in gradients.items():
            assert_same([np.asarray(g)[i]], [np.asarray(want_gradients[name])], ulps=64, what=name)
    for name, g in gradients.items():
        assert jax.typeof(g).sharding == jax.typeof(operands[name]).sharding, name


def over_batch(op, case, mesh, also):
    """A batch of two over "d"; `also`: and the first even dimension of the case over "e"."""
    draws, stacked = elements(case)
    even = meshes.even(case)
    specs = meshes.split(case, {even[0]: "e"} if also and even else {})
    return draws, meshes.place(stacked, mesh, {n: P("d", *spec) for n, spec in specs.items()})


@pytest.mark.parametrize("also", [False, True], ids=["batch", "batch_and_axis"])
@sampled(ALL, 10, 2)
def test_vmap_of_value_and_gradient_over_a_split_batch(op, case, also, mesh, implementation):
    with jax.set_mesh(mesh):
        draws, operands = over_batch(op, case, mesh, also)
        got = jax.jit(jax.vmap(meshes.value_and_gradient(op, case, implementation)))(operands)
        against_each(op, case, draws, got, operands, implementation)
        assert all(jax.typeof(x).sharding.spec[0] == "d" for x in got[0])


def gradient_of_batch(op, case, loop, implementation):
    """operands -> (results, gradients) of the op over the leading axis of every operand, the gradient taken outside of `loop`."""

    def run(operands):
        wrt = {n: operands[n] for n in meshes.differentiable(op, operands)}
        rest = {n: x for n, x in operands.items() if n not in wrt}

        def call(wrt):
            return loop(lambda one: op(**one, **case.params, implementation=implementation))({**wrt, **rest})

        results, pull = jax.vjp(call, wrt)
        return results, pull(tuple(meshes.cotangent(x, i, batch=True) for i, x in enumerate(results)))[0]

    return run


@pytest.mark.parametrize("also", [False, True], ids=["batch", "batch_and_axis"])
@sampled(WITH_GRADIENT, 3, 1)
def test_gradient_of_vmap_over_a_split_batch(op, case, also, mesh, implementation):
    with jax.set_mesh(mesh):
        draws, operands = over_batch(op, case, mesh, also)
        got = jax.jit(gradient_of_batch(op, case, jax.vmap, implementation))(operands)
        against_each(op, case, draws, got, operands, implementation)


@sampled(splits(WITH_GRADIENT, 1), 3, 0)
def test_gradient_of_scan(op, case, mesh, implementation):
    def scan(function):
        return lambda xs: jax.lax.scan(lambda carry, x: (carry, function(x)), 0, xs)[1]

    draws, stacked = elements(case)
    with jax.set_mesh(mesh):
        specs = meshes.split(case, {meshes.even(case)[0]: "d"})
        operands = meshes.place(stacked, mesh, {n: P(None, *spec) for n, spec in specs.items()})
        got = jax.jit(gradient_of_batch(op, case, scan, implementation))(operands)
        against_each(op, case, draws, got, operands, implementation)


@sampled(WITH_GRADIENT, 6, 1)
def test_gradient_of_vmap_with_a_named_mesh_axis(op, case, implementation):
    """`spmd_axis_name` in an Auto mesh: the batch may be split over it."""
    mesh = meshes.mesh_of(AxisType.Auto)
    with jax.set_mesh(mesh):
        draws, operands = over_batch(op, case, mesh, also=False)
        named = functools.partial(jax.vmap, spmd_axis_name="d")
        got = jax.jit(gradient_of_batch(op, case, named, implementation))(operands)
        against_each(op, case, draws, got, operands, implementation)


@sampled(splits(ALL, 1), 8, 3)
def test_compiled_ahead_for_other_shardings(op, case, mesh, implementation):
    """Lowered from types alone; results and gradients are copied to every device, as `out_shardings` says, whatever they were."""
    everywhere = NamedSharding(mesh, P())

    def run(function):
        def call(operands):
            types = {n: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding) for n, x in operands.items()}
            found = jax.jit(function, out_shardings=everywhere).lower(types).compile()(operands)
            assert all(x.sharding.is_equivalent_to(everywhere, x.ndim) for x in jax.tree.leaves(found))
            return found

        return call

    with jax.set_mesh(mesh):
        meshes.check(op, case, {meshes.even(case)[0]: "d"}, mesh, implementation, explicit=False, run=run)


def parallel(op, case):
    """The parallel axes of a case that two devices can share and every result has: a sum over devices would count others twice."""
    found = {dims_of(op, case, n)[d] for n, d in meshes.even(case)}
    sizes = {a: s for n, x in case.operands.items() for a, s in zip(dims_of(op, case, n), x.shape, strict=True)}
    shared = {a for a in found if is_parallel(op.parallel, a) and sizes[a] % 2 == 0}
    return sorted(a for a in shared if all("d" in spec for spec in meshes.result_specs(op, case, a)))


ROWS = [(op, case) for op, case in WITH_GRADIENT if parallel(op, case)]


@MESHES
@pytest.mark.parametrize("partial", [False, True], ids=["manual", "partially_manual"])
@sampled(ROWS, 3, 2)
def test_gradient_inside_shard_map(op, case, partial, axis_type, implementation):
    """Split over "d" by hand: every operand that lacks the axis gets the gradient of all rows, summed."""
    mesh = meshes.mesh_of(axis_type)
    axis = parallel(op, case)[0]
    specs = {n: P(*("d" if a == axis else None for a in dims_of(op, case, n))) for n in case.operands}
    wrt = meshes.differentiable(op, case.operands)
    summed = [case.operands[n] for n in wrt if "d" not in specs[n]]
    if partial and jax.default_backend() == "cpu" and any(jnp.dtype(x.dtype).itemsize == 2 for x in summed):
        pytest.skip("XLA's CPU backend aborts on a 16-bit sum over devices in a partly manual program, whosever it is")
    operands, weight = case.draw(), meshes.result_weights(op, case)
    out = meshes.result_specs(op, case, axis)

    def local(operands, weight):
        def loss(wrt):
            results = op(**{**operands, **wrt}, **case.params, implementation=implementation)
            return sum(jnp.sum(x.astype(jnp.float32) * w) for x, w in zip(results, weight, strict=True) if w is not None)

        return jax.grad(loss)({n: operands[n] for n in wrt})

    names = {"axis_names": {"d"}} if partial else {}
    mapped = jax.shard_map(local, mesh=mesh, in_specs=(specs, out), out_specs={n: specs[n] for n in wrt}, **names)
    want = jax.jit(local)(operands, weight)
    with jax.set_mesh(mesh):
        placed = meshes.place(operands, mesh, specs)
        heavy = tuple(None if w is None else jax.device_put(w, NamedSharding(mesh, s)) for w, s in zip(weight, out, strict=True))
        assert_same(list(jax.jit(mapped)(placed, heavy).values()), list(want.values()), ulps=64)


@sampled([(op, case) for op, case in splits(ALL, 1) if op.data_checks], 6, 0)
def test_debug_checks(op, case, mesh, implementation):
    """They compute with ids, tables and lengths wherever those live."""
    with jax.set_mesh(mesh), jax_aiter.debug_checks():
        meshes.check(op, case, {meshes.even(case)[0]: "d"}, mesh, implementation)


def test_operand_from_before_the_mesh(mesh):
    """An array that was made without a mesh may meet one that lives on it; its gradient is a copy on every device."""
    x = jax.device_put(jnp.linspace(-1.0, 1.0, 32).reshape(4, 8), NamedSharding(mesh, P("d")))
    w = jnp.linspace(0.5, 1.5, 8)
    loss = lambda x, w: jnp.sum(jax_aiter.rms_norm(x, w) ** 3)  # noqa: E731
    got = jax.jit(jax.grad(loss, argnums=(0, 1)))(x, w)
    assert jax.typeof(got[0]).sharding == jax.typeof(x).sharding
    assert_same(got, jax.grad(loss, argnums=(0, 1))(np.asarray(x), w), ulps=16)


@pytest.mark.parametrize("kind", ["unreduced", "reduced"])
def test_pending_sum_is_refused(kind, mesh):
    """Parts of a sum that JAX has put off are no operand."""
    aval = jax.ShapeDtypeStruct((4, 8), jnp.float32, sharding=NamedSharding(mesh, P(None, None, **{kind: {"d"}})))
    with pytest.raises(ValueError, match=r"rms_norm: the sharding of x .*reshard"):
        jax.eval_shape(jax_aiter.rms_norm, aval, jax.ShapeDtypeStruct((8,), jnp.float32))
