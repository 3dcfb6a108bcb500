"""Every op and case, and how two results are compared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.core.axes import axis_names
from jax_aiter.core.cases import Case
from jax_aiter.core.op import Op, all_ops

OPS = all_ops()
ALL = [(op, case) for op in OPS.values() for case in op.cases()]
every_case = pytest.mark.parametrize(("op", "case"), ALL, ids=[f"{op.name}-{case.name}" for op, case in ALL])
# Of what depends on an op rather than on a case, the first of each op by default and all with the mark `exhaustive`.
LATER = [pytest.mark.exhaustive]


def thinned(cases):
    """Parameters (op, case) of a test for which an op's first case stands by default."""
    found, seen = [], set()
    for op, case in cases:
        found.append(pytest.param(op, case, id=f"{op.name}-{case.name}", marks=LATER if op.name in seen else []))
        seen.add(op.name)
    return pytest.mark.parametrize(("op", "case"), found)


every_op = pytest.mark.parametrize("op", list(OPS.values()), ids=list(OPS))

# Folding a batch changes the tiling of reductions, so floating results may move by rounding: a few units in the last place of
# the output dtype, measured against the largest value of the array. Integers must not move.
ULPS = 8


def bound(op: Op, case: Case, implementation: str | None = None):
    """The op as a function of its operands dict only."""

    def run(operands):
        return op(**operands, **case.params, implementation=implementation)

    return run


def structs(operands):
    return {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in operands.items()}


def assert_same(got, want, ulps: float = 0.0, what: str = ""):
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape, what
        assert g.dtype == w.dtype, what
        if ulps == 0 or not jnp.issubdtype(w.dtype, jnp.floating):
            np.testing.assert_array_equal(_comparable(g), _comparable(w), err_msg=what)
            continue
        a, b = _comparable(g), _comparable(w)
        finite = np.isfinite(b)
        np.testing.assert_array_equal(np.isfinite(a), finite, err_msg=what)
        top = np.abs(b[finite]).max(initial=0.0)
        tolerance = ulps * float(jnp.finfo(w.dtype).eps) * max(top, float(jnp.finfo(w.dtype).tiny))
        np.testing.assert_allclose(a[finite], b[finite], rtol=0, atol=tolerance, err_msg=what)


def _comparable(x):
    x = np.asarray(x)
    return x.astype(np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x


def dims_of(op: Op, case: Case, name: str) -> tuple[str, ...]:
    """The axis name of each dimension of an operand of a case."""
    return axis_names(op.operand_args(case.params)[name].axes, len(case.operands[name].shape))


def is_float(x) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating)) and jnp.finfo(x.dtype).bits > 8
