"""Every op and case; two results are compared by `tests.oracle.assert_same`."""

import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.bind.explain import platform_name
from jax_aiter.bind.op import Op
from jax_aiter.core.axes import axis_names
from jax_aiter.core.cases import Case
from jax_aiter.ops.catalogue import all_ops
from tests.oracle import ULPS as ULPS
from tests.oracle import assert_same as assert_same

OPS = all_ops()
ALL = [(op, case) for op in OPS.values() for case in op.cases()]
every_case = pytest.mark.parametrize(("op", "case"), ALL, ids=[f"{op.name}-{case.name}" for op, case in ALL])
# Of what depends on an op rather than on a case, the first of each op by default and all with the mark `exhaustive`.
LATER = [pytest.mark.exhaustive]


def thinned(cases):
    """Parameters (op, case) of a test for which an op's first case stands, by default that of every third op.

    Which ones is drawn by the names of op and test: each op, one that is added later too, has a third of these tests by default.
    """

    def marked(test):
        found, seen = [], set()
        for op, case in cases:
            later = op.name in seen or zlib.crc32(f"{op.name} {test.__name__}".encode()) % 3
            found.append(pytest.param(op, case, id=f"{op.name}-{case.name}", marks=LATER if later else []))
            seen.add(op.name)
        return pytest.mark.parametrize(("op", "case"), found)(test)

    return marked


# What calls are exported for: the two that users ship, and whatever these tests run on.
PLATFORMS = tuple(dict.fromkeys(("cpu", "rocm", platform_name())))

every_op = pytest.mark.parametrize("op", list(OPS.values()), ids=list(OPS))


def bound(op: Op, case: Case, implementation: str | None = None):
    """The op as a function of its operands dict only."""

    def run(operands):
        return op(**operands, **case.params, implementation=implementation)

    return run


_expected: dict = {}


def expected(op: Op, case: Case, implementation: str | None = None, seed: int = 0) -> tuple[np.ndarray, ...]:
    """What the op gives for `case.draw(seed)` under JAX's usual settings, called by itself.

    Computed once a session: nearly all of its cost is compilation.
    """
    key = (op.name, case.name, implementation, seed)
    if key not in _expected:
        _expected[key] = tuple(np.asarray(x) for x in bound(op, case, implementation)(case.draw(seed)))
    return _expected[key]


def structs(operands):
    return {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in operands.items()}


def dims_of(op: Op, case: Case, name: str) -> tuple[str, ...]:
    """The axis name of each dimension of an operand of a case."""
    return axis_names(op.operand_args(case.params)[name].axes, len(case.operands[name].shape))


def is_float(x) -> bool:
    return bool(jnp.issubdtype(x.dtype, jnp.floating)) and jnp.finfo(x.dtype).bits > 8
