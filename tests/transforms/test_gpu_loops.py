"""No reference that is lowered for a GPU holds a loop whose end depends on data, for which the host would wait in every round.

Asked of the StableHLO of every op and case, and of its gradient's, on a machine without a GPU: a loop's condition must compare its
counter with a constant.
"""

import jax
import jax.numpy as jnp
import pytest

import jax_aiter

from .common import ALL, OPS, bound, every_case, is_float, structs
from .test_gpu_reference import TRAINED, weights

# Loops that may end where data says, by op, and why.
WAITING: dict[str, str] = {}

TARGETS = {"rocm": "gfx942", "cuda": "sm_90"}


def loops(lowered) -> tuple[int, list[str]]:
    """How many loops a lowered program has, and the conditions of those that do not compare a counter with a constant."""
    found: list = []

    def walk(operation):
        if operation.name == "stablehlo.while":
            found.append(operation)
        for region in operation.regions:
            for block in region:
                for inner in block:
                    walk(inner.operation)

    walk(lowered.compiler_ir("stablehlo").operation)
    return len(found), [str(loop.regions[0]) for loop in found if not counts(loop)]


def counts(loop) -> bool:
    *body, _ = loop.regions[0].blocks[0]
    names = [op.operation.name for op in body]
    if set(names) - {"stablehlo.constant", "stablehlo.compare"} or names.count("stablehlo.compare") != 1:
        return False
    compare = body[names.index("stablehlo.compare")].operation
    sides = [operand.owner for operand in compare.operands]
    return sum(getattr(side, "name", "") == "stablehlo.constant" for side in sides) == 1


def check(op, function, arguments, target):
    with jax_aiter.config(arch=TARGETS[target]):
        lowered = jax.jit(function).trace(arguments).lower(lowering_platforms=(target,))
    _, waiting = loops(lowered)
    assert bool(waiting) == (op.name in WAITING), (op.name, waiting)


def skip_other_fp8(case, target):
    family = {"rocm": "float8_e4m3fn", "cuda": "float8_e4m3fnuz"}[target]
    kinds = [jnp.dtype(x.dtype).name for x in case.operands.values()]
    kinds += [v.name for v in case.params.values() if isinstance(v, jnp.dtype)]
    if family in kinds:
        pytest.skip(f"{TARGETS[target]} does not compute in {family}")


@pytest.mark.parametrize("target", TARGETS)
@every_case
def test_no_loop_waits_for_data(op, case, target):
    skip_other_fp8(case, target)
    check(op, bound(op, case, "xla"), structs(case.draw()), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("op", "case"), TRAINED, ids=[f"{op.name}-{case.name}" for op, case in TRAINED])
def test_no_loop_of_a_gradient_waits_for_data(op, case, target):
    skip_other_fp8(case, target)
    operands = case.draw()
    moving = {n: x for n, x in operands.items() if is_float(x) and op.gradient.has(n, x.dtype)}
    rest = {n: x for n, x in operands.items() if n not in moving}

    def loss(values):
        out = bound(op, case, "xla")({**rest, **values})
        return sum(jnp.sum(weights(x.shape) * x.astype(jnp.float32)) for x in out if is_float(x))

    check(op, jax.grad(loss), structs(moving), target)


def test_the_loops_of_a_cpu_are_found():
    """Else this file could not fail: flash attention streams on a CPU, and ends where masks say."""
    op = OPS["flash_attention"]
    case = next(case for other, case in ALL if other is op)
    q, k = jnp.zeros((1, 300, 2, 8)), jnp.zeros((1, 400, 2, 8))
    lowered = jax.jit(lambda x: bound(op, case)(x)).lower({"q": q, "k": k, "v": k})
    number, waiting = loops(lowered)
    assert number > len(waiting) > 0
