"""Elements of a batch are strangers: whatever one holds, NaN included, changes nothing in the others' results and gradients."""

import jax
import jax.numpy as jnp
import numpy as np

from .common import ALL, bound, is_float, thinned
from .poison import assert_equal_at, poisoned
from .test_poison import DIFFERENTIABLE, gradient

SIZE = 3


def check(run, operands: list[dict], what: str) -> None:
    """`run` takes a batch. Bit for bit: one compiled program, whose arithmetic on the other elements is the same."""
    want = run(stacked(operands))
    for kind in ("nan", "mixed", "huge"):
        for chosen in range(SIZE):
            nothing = {n: np.zeros(x.shape, bool) for n, x in operands[chosen].items()}
            batch = [poisoned(x, nothing, kind) if i == chosen else x for i, x in enumerate(operands)]
            others = [np.broadcast_to((np.arange(SIZE) != chosen).reshape(-1, *[1] * (x.ndim - 1)), x.shape) for x in want]
            assert_equal_at(run(stacked(batch)), want, others, f"{what}: element {chosen} of the batch is {kind}")


def stacked(operands: list[dict]) -> dict:
    return {n: jnp.stack([x[n] for x in operands]) for n in operands[0]}


@thinned(ALL)
def test_results(op, case, request):
    run = jax.jit(jax.vmap(bound(op, case, request.config.getoption("--implementation"))))
    check(run, [case.draw(seed) for seed in range(SIZE)], op.name)


@thinned([call for call in DIFFERENTIABLE if call in ALL])
def test_gradients(op, case, request):
    pull = gradient(op, case, request.config.getoption("--implementation"))
    structs = op.infer({n: jax.ShapeDtypeStruct(a.shape, a.dtype) for n, a in case.draw().items()}, case.params)
    shapes = {f"cotangent {i}": s for i, s in enumerate(structs) if is_float(s)}

    @jax.jit
    @jax.vmap
    def run(given):
        found = pull({n: x for n, x in given.items() if n not in shapes}, [given[n] for n in shapes])
        return tuple(found.values())

    rng = np.random.default_rng(7)
    cotangents = [{n: jnp.asarray(rng.standard_normal(s.shape), s.dtype) for n, s in shapes.items()} for _ in range(SIZE)]
    check(run, [{**case.draw(seed), **cotangents[seed]} for seed in range(SIZE)], op.name)
