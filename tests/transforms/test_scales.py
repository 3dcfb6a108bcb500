"""Scales of quantised GEMMs come per row or for all, in any of their shapes, those of two operands in different ones: each call is
the record's with one factor per row, under every transformation. Made from the records that have such a scale."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight

from .common import PLATFORMS, ULPS, assert_same, dims_of, thinned
from .meshes import mesh_of
from .test_bad_input import FUNCTIONS, spread_scales
from .test_switches import SWITCHES, switched

SCALED = [(op, case) for op, case, _ in FUNCTIONS if spread_scales(op)]
FUNCTION = {op.name: function for op, _, function in FUNCTIONS}
#: of a scale of rows [..., 1]: how many factors it holds, and their shape
FORMS = {
    "per row": lambda rows: ((*rows, 1), (*rows, 1)),
    "per row, no last axis": lambda rows: ((*rows, 1), rows),
    "per matrix": lambda rows: ((*rows[:-1], 1, 1), (*rows[:-1], 1, 1)),
    "[]": lambda rows: ((1,) * (len(rows) + 1), ()),
    "[1]": lambda rows: ((1,) * (len(rows) + 1), (1,)),
    "[1, 1]": lambda rows: ((1,) * (len(rows) + 1), (1, 1)),
}


class Call:
    """One public call, its scales in as many forms as it has scales, and the call with a factor per row."""

    def __init__(self, op, case, *forms):
        self.op, self.function = op, FUNCTION[op.name]
        signature = inspect.signature(self.function).parameters
        self.params = {n: v for n, v in case.params.items() if n in signature}
        self.operands = case.draw()
        self.forms, self.rows = {}, {}
        for name, form in zip(spread_scales(op), forms or ("[1]", "per row"), strict=False):
            full = self.operands[name]
            kept, shape = FORMS[form](full.shape[:-1])
            some = full[tuple(slice(size) for size in kept)]  # the first factor of each axis that has one
            self.forms[name], self.rows[name] = some.reshape(shape), jnp.broadcast_to(some, full.shape)
        shuffled = [n for n, p in signature.items() if p.annotation is ShuffledWeight]
        self.others = {n: x for n, x in self.operands.items() if n not in self.forms}
        self.others |= {n: ShuffledWeight(self.others[n], (16, 16)) for n in shuffled}
        self.first = next(n for n in self.others if "M" in dims_of(op, case, n))

    def run(self, scales, others=None):
        return self.function(**scales, **(others or self.others), **self.params)


def test_the_ops_that_take_part():
    assert {"gemm_a8w8", "gemm_a8w8_bpreshuffle", "batched_gemm_a8w8", "gemm_a8wfp4"} <= {op.name for op, _ in SCALED}


IN_FORMS = [(op, case, forms) for op, case in SCALED for forms in itertools.product(FORMS, repeat=len(spread_scales(op)))]


@pytest.mark.parametrize(("op", "case", "forms"), IN_FORMS, ids=[f"{o.name}-{c.name}-{'-'.join(f)}" for o, c, f in IN_FORMS])
def test_every_form_is_one_factor_per_row(op, case, forms):
    call = Call(op, case, *forms)
    assert_same([call.run(call.forms)], [call.run(call.rows)], ulps=0)  # the same compiled product of the same operands


@thinned(SCALED)
def test_transformations(op, case):
    """jit; vmap over tensors with a factor each, over activations that share one; a program for any number of rows."""
    call = Call(op, case)
    want = call.run(call.rows)
    assert_same([jax.jit(call.run)(call.forms)], [want], ulps=ULPS)
    factors, scale = jnp.array([0.5, 1.0, 2.0], jnp.float32), spread_scales(op)[0]
    mapped = jax.vmap(lambda f: call.run({**call.forms, scale: f}))(factors)
    assert_same([mapped], [jnp.stack([call.run({**call.forms, scale: f}) for f in factors])], ulps=ULPS)
    x = call.others[call.first]
    both = jnp.stack([x, jnp.flip(x, 0)])
    mapped = jax.vmap(lambda x: call.run(call.forms, {**call.others, call.first: x}))(both)
    one_by_one = [call.run(call.forms, {**call.others, call.first: part}) for part in both]
    assert_same([mapped], [jnp.stack(one_by_one)], ulps=ULPS)
    (rows,) = export.symbolic_shape("m")
    symbolic = jax.ShapeDtypeStruct((*x.shape[:-2], rows, x.shape[-1]), x.dtype)
    traced = jax.jit(lambda x, scales, others: call.run(scales, {**others, call.first: x}))
    program = export.export(traced, platforms=PLATFORMS)(symbolic, call.forms, call.others)
    # Sums of float32 come in another order where a size is symbolic.
    assert_same([program.call(x, call.forms, call.others)], [want], ulps=128 if want.dtype == jnp.float32 else ULPS)


@thinned(SCALED)
def test_switches_and_meshes(op, case):
    call = Call(op, case, "[]", "[1]")
    want = call.run(call.rows)
    for name in SWITCHES:
        with switched(name):
            assert_same([call.run(call.forms)], [want], ulps=ULPS, what=name)
    mesh, x = mesh_of(AxisType.Explicit), call.others[call.first]
    x = jnp.concatenate([x, x], axis=-2)  # rows that two devices can share
    want = call.run(call.forms, {**call.others, call.first: x})
    rows = P(*(None,) * (x.ndim - 2), "d", None)
    with jax.set_mesh(mesh):
        placed = {**call.others, call.first: jax.device_put(x, NamedSharding(mesh, rows))}
        got = jax.jit(call.run)(call.forms, placed)
    assert_same([got], [want], ulps=ULPS)
    assert jax.typeof(got).sharding.spec == rows


@thinned(SCALED)
def test_no_factor_of_another_number_of_rows(op, case):
    call = Call(op, case, "per row")
    for name, scale in call.forms.items():
        more = np.ones((*scale.shape[:-2], scale.shape[-2] + 2, 1), np.float32)
        for wrong in (more, more[..., 0], np.ones((*scale.shape[:-1], 2), np.float32), more[None]):
            with pytest.raises(ValueError, match=rf"^{op.name}: .*\b{name}\b"):
                call.run({**call.forms, name: wrong})
