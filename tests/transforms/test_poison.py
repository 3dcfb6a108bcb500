"""What an op must not read meets no arithmetic: NaN, infinities, 1e30 there change no result and no gradient.

The jitted function runs on clean and on poisoned data: one compiled program, whose arithmetic on what is read is the same, so the
results are compared bit for bit.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from .common import ALL, bound, every_case, is_float
from .poison import KINDS, Dependence, assert_equal_at, bad, poisoned


@every_case
def test_results(op, case, request):
    run = jax.jit(bound(op, case, request.config.getoption("--implementation")))
    operands = case.draw()
    depends = Dependence(op, operands, case.params)
    want = run(operands)
    everything = [np.ones(x.shape, bool) for x in want]
    for kind in KINDS:
        got = run(poisoned(operands, depends.read(depends.live), kind, tables=True))
        assert_equal_at(got, want, everything, f"what nothing reads is {kind}")
    for groups in [np.zeros_like(depends.live), *depends.some(3)]:
        for kind in ("nan", "mixed"):
            got = run(poisoned(operands, depends.read(groups), kind))
            assert_equal_at(got, want, depends.depends(groups), f"what group {np.flatnonzero(groups)} does not read is {kind}")


def differentiated(op, case):
    operands = case.draw()
    if op.gradient is None or op.gradient.backward is None:  # that is the derivative of a gradient, which JAX makes
        return []
    return [n for n, x in operands.items() if n in op.gradient.wrt and is_float(x)]


DIFFERENTIABLE = [(op, case) for op, case in ALL if differentiated(op, case)]


def gradient(op, case, implementation):
    """jitted (operands, cotangents of float results) -> gradients by operand."""
    names = differentiated(op, case)

    @jax.jit
    def pull(operands, cotangents):
        def call(wrt):
            results = op(**{**operands, **wrt}, **case.params, implementation=implementation)
            return [x for x in results if is_float(x)]

        return jax.vjp(call, {n: operands[n] for n in names})[1](cotangents)[0]

    return pull


@pytest.mark.parametrize(("op", "case"), DIFFERENTIABLE, ids=[f"{op.name}-{case.name}" for op, case in DIFFERENTIABLE])
def test_gradients(op, case, request):
    pull = gradient(op, case, request.config.getoption("--implementation"))
    operands = case.draw()
    depends = Dependence(op, operands, case.params)
    rng = np.random.default_rng(5)
    structs = op.infer({n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in operands.items()}, case.params)
    labels = [depends.labels[i] for i, s in enumerate(structs) if is_float(s)]
    cotangents = [jnp.asarray(rng.standard_normal(s.shape), s.dtype) for s in structs if is_float(s)]
    want = pull(operands, cotangents)
    sets = [np.zeros_like(depends.live), depends.live]
    for n in want:
        for _ in range(2):
            sets.append(depends.readers(n, tuple(int(rng.integers(k)) for k in operands[n].shape)))
    for groups in sets:
        kept = np.append(groups, False)
        for kind in ("nan", "mixed", "huge"):
            given = [
                jnp.asarray(np.where(kept[at], np.asarray(ct), bad(ct.dtype, kind, ct.shape, rng)))
                for ct, at in zip(cotangents, labels, strict=True)
            ]
            got = pull(poisoned(operands, depends.read(groups), kind, tables=bool((groups == depends.live).all())), given)
            where = [depends.only(groups, n) for n in got]
            assert_equal_at(
                got.values(), want.values(), where, f"gradients of {list(got)} of groups {np.flatnonzero(groups)}: {kind}"
            )
            for n, g in got.items():
                unread = ~depends.read(depends.live)[n]
                assert not np.any(np.asarray(g)[unread]), f"gradient of {n} where nothing reads it: {kind}"
