"""Leading axes of a GEMM's activations split over devices: a batch, a sequence, both, and the weight's rows beside them."""

import jax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jax_aiter

from .common import LATER, ULPS, assert_same, thinned
from .leading import GEMMS, Call
from .meshes import mesh_of

SPLITS = ((None, None), ("d", None), (None, "d"), ("d", "e"))


def parameters():
    """By default an op's first case, Explicit; all others exhaustively."""
    seen = set()
    for op, case in GEMMS:
        for axis_type in (AxisType.Explicit, AxisType.Auto):
            usual = op.name not in seen and (axis_type is AxisType.Explicit or op.gradient)
            yield pytest.param(op, case, axis_type, id=f"{op.name}-{case.name}-{axis_type}", marks=[] if usual else LATER)
        seen.add(op.name)


every_mesh = pytest.mark.parametrize(("op", "case", "axis_type"), list(parameters()))


def specs(call, split):
    """A PartitionSpec per activation, its leading axes split so."""
    return {n: P(*call.with_lead(n, (None,) * x.ndim, split)) for n, x in call.activations.items()}


def place(x, mesh, spec):
    return jax.device_put(x, NamedSharding(mesh, spec))


@every_mesh
def test_split(op, case, axis_type):
    """Value and gradient are one device's; in an Explicit mesh their types say how they are split."""
    call, mesh = Call(op, case, (2, 4)), mesh_of(axis_type)
    want = call.run(call.leading)
    wrt = call.differentiable
    alone = call.gradient(call.leading, wrt) if wrt else None
    for split in SPLITS:
        over = "e" if want.shape[-1] % 2 == 0 and "N" in op.parallel and "e" not in split else None
        placed = {n: place(call.leading[n], mesh, spec) for n, spec in specs(call, split).items()}
        weights = jax.tree.map(lambda x, over=over: place(x, mesh, P(over)), call.weights)
        with jax.set_mesh(mesh):
            got = jax.jit(call.run)(placed, weights)
            assert_same([got], [want], ulps=ULPS, what=str(split))
            if axis_type == AxisType.Explicit:
                assert jax.typeof(got).sharding.spec == P(*split, over)
            if wrt:
                operands = (placed, {n: weights[n] for n in wrt})
                gradients = call.gradient(*operands)
                assert_same(gradients, alone, ulps=64, what=str(split))
                if axis_type == AxisType.Explicit:
                    assert jax.tree.map(jax.typeof, gradients) == jax.tree.map(jax.typeof, operands)


@thinned(GEMMS)
def test_mapped_in_a_mesh(op, case):
    """`jax.vmap` over an axis that is split, and over the one beside it."""
    call, mesh = Call(op, case, (2, 4)), mesh_of(AxisType.Explicit)
    want = call.run(call.leading)
    placed = {n: place(call.leading[n], mesh, spec) for n, spec in specs(call, ("d", None)).items()}
    for index in range(2):
        axes = {n: call.leading_axis(n, index) for n in placed}
        with jax.set_mesh(mesh):
            got = jax.jit(jax.vmap(call.run, (axes,), index))(placed)
        assert_same([got], [want], ulps=ULPS)
        assert jax.typeof(got).sharding.spec == P("d", None, None)


@thinned(GEMMS)
def test_shard_map(op, case):
    call = Call(op, case, (2, 4))
    mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    split = jax.shard_map(call.run, mesh=mesh, in_specs=(specs(call, (None, "x")), P()), out_specs=P(None, "x"))
    assert_same([jax.jit(split)(call.leading, call.weights)], [call.run(call.leading)], ulps=ULPS)


@pytest.mark.parametrize("kind", ["unreduced", "reduced"])
def test_pending_sum_is_refused(kind):
    """Parts of a sum that JAX has put off are no operand."""
    mesh = mesh_of(AxisType.Explicit)
    aval = jax.ShapeDtypeStruct((2, 4, 8), "float32", sharding=NamedSharding(mesh, P(None, None, None, **{kind: {"d"}})))
    with jax.set_mesh(mesh), pytest.raises(ValueError, match=r"gemm_a16w16: the sharding of a .*reshard"):
        jax.eval_shape(jax_aiter.gemm_a16w16, aval, jax.ShapeDtypeStruct((6, 8), "float32"))
