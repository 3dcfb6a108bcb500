"""Every case of every op that updates an operand and has a Triton kernel: it gives what the reference gives on the device, and
where the operand is donated the compiled program has no copy of it."""

import dataclasses

import jax
import numpy as np
import pytest

from jax_aiter.core.arch import FNUZ, fp8_dtype
from jax_aiter.kernels.triton.adapters import adapters
from tests.cache.in_place import cache_sized
from tests.gpu.common import refusal, runs_kernel
from tests.oracle import f64
from tests.transforms.common import ALL, bound

# One rounding of the dtype that comes out: a sum of two products in float32 may round to the neighbour, and so its code; after a
# norm, whose square root and quotient are the kernel's own, to the one beyond.
SPACING = {"float32": 2.0**-20, "bfloat16": 2.0**-7, "float16": 2.0**-10, "int8": 1.0}
IN_PLACE = [(op, case) for op, case in ALL if op.aliases and op.name in adapters()]


def here(case):
    """The case with the fp8 that the device computes in."""
    own = lambda dtype: fp8_dtype() if dtype == FNUZ else dtype  # noqa: E731
    operands = {n: dataclasses.replace(x, dtype=own(x.dtype)) for n, x in case.operands.items()}
    params = {n: own(p) if isinstance(p, np.dtype) else p for n, p in case.params.items()}
    return dataclasses.replace(case, operands=operands, params=params)


def allowed(want, norm: bool, products: float = 0.0):
    """products: the largest sum of absolute products, where a kernel rounds each of them to the type that comes out."""
    name = want.dtype.name
    wide = np.abs(f64(want))
    step = SPACING[name] if name == "int8" else SPACING.get(name, 2.0**-3) * wide + (2.0**-9 if want.dtype.itemsize == 1 else 1e-6)
    return step * (2 if norm else 1) + products * SPACING.get(name, 0.0) / 2


def products_of(operands):
    """AITER's convolutions multiply in the type of their operands and add in float32; silu's slope is below 1.1."""
    if "conv_state" not in operands and "conv_states" not in operands:
        return 0.0
    x, weight = np.abs(f64(operands["x"])).max(), np.abs(f64(operands["weight"]))
    states = np.abs(f64(operands.get("conv_state", operands.get("conv_states")))).max()
    return 1.1 * max(x, states) * weight.sum(1).max()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("op", "case"), IN_PLACE, ids=[f"{op.name}-{case.name}" for op, case in IN_PLACE])
def test_an_operand_that_is_updated(op, case, arch):
    case = here(case)
    reason = refusal(op, case)
    assert reason is None, reason
    kept = {n: x for n, x in case.draw().items() if n not in op.aliases}
    caches = {n: x for n, x in case.draw().items() if n in op.aliases}
    want = bound(op, case, "xla")({**kept, **caches})
    run = jax.jit(lambda caches, kept: bound(op, case, "triton")({**caches, **kept}), donate_argnums=0)
    compiled = run.lower(caches, kept).compile()
    assert runs_kernel(compiled)
    assert cache_sized(compiled, min(x.size for x in caches.values())) == []
    for g, w in zip(compiled(caches, kept), want, strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        assert (np.abs(f64(g) - f64(w)) <= allowed(w, "norm" in op.name, products_of(case.draw()))).all()
