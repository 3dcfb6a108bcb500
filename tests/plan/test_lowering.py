"""`lower_plan` inside the lowering rule of a primitive: scratch, aliases, several results, ahead-of-time platforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.interpreters import mlir

from jax_aiter.kernels.args import Pointer, Scalar
from jax_aiter.kernels.builder import PlanBuilder
from jax_aiter.kernels.call import CUSTOM_CALL_TARGETS, export_checks, lower_plan
from jax_aiter.kernels.mock_driver import code_object
from jax_aiter.kernels.plan import PlanError
from tests.plan.samples import ADD


def sum_and_update_plan(n: int, arch: str):
    """(a + b, cache updated to b in place), with a scratch buffer nobody sees."""
    p = PlanBuilder("sum_and_update", arch)
    a, b, cache = (p.operand(4 * n, 4, name) for name in ("a", "b", "cache"))
    total, updated = p.result(4 * n, 4, "total"), p.result(4 * n, 4, "updated")
    p.scratch(64)
    p.alias(cache, updated)
    p.launch(code_object(ADD), ADD, [1], [1], 0, [Pointer(total), Pointer(a), Pointer(b), Scalar("u32", n)])
    p.copy(updated, b)
    return p.build()


def make_primitive(arch: str, plan_size=lambda n: n) -> Primitive:
    prim = Primitive(f"test_sum_and_update_{arch}")
    prim.multiple_results = True
    prim.def_abstract_eval(lambda a, b, cache: [a, cache])

    def lowering(ctx, *operands):
        return lower_plan(ctx, sum_and_update_plan(plan_size(ctx.avals_in[0].size), arch), *operands)

    mlir.register_lowering(prim, lowering)
    return prim


def test_results_without_scratch(mock):
    prim = make_primitive("mock")
    a = jnp.arange(16, dtype=jnp.uint32)
    total, updated = jax.jit(lambda a, b, c: prim.bind(a, b, c))(a, a * 3, jnp.zeros_like(a))
    np.testing.assert_array_equal(total, np.arange(16) * 4)
    np.testing.assert_array_equal(updated, np.arange(16) * 3)


def test_inside_scan(mock):
    prim = make_primitive("mock")

    def step(carry, x):
        total, _ = prim.bind(carry, x, jnp.zeros_like(x))
        return total, total

    x = jnp.ones((5, 8), jnp.uint32)
    last, all_totals = jax.jit(lambda x: jax.lax.scan(step, jnp.zeros(8, jnp.uint32), x))(x)
    np.testing.assert_array_equal(last, np.full(8, 5))
    np.testing.assert_array_equal(all_totals[:, 0], np.arange(1, 6))


@pytest.mark.parametrize(("platform", "arch"), [("rocm", "gfx942"), ("cuda", "sm_90")])
def test_lowers_for_a_gpu_without_one(platform, arch):
    prim = make_primitive(arch)
    shape = jax.ShapeDtypeStruct((16,), jnp.uint32)
    lowered = jax.jit(lambda a, b, c: prim.bind(a, b, c)).trace(shape, shape, shape).lower(lowering_platforms=(platform,))
    text = lowered.as_text()
    assert f"@{CUSTOM_CALL_TARGETS[0]}" in text
    assert f'arch = "{arch}"' in text
    assert "output_operand_alias<output_tuple_indices = [1], operand_index = 2, operand_tuple_indices = []>" in text


def test_plan_for_other_sizes_is_refused():
    prim = make_primitive("mock", plan_size=lambda n: n + 1)
    shape = jax.ShapeDtypeStruct((16,), jnp.uint32)
    with pytest.raises(PlanError, match=r"operand 0 is uint32\[16\], 64 bytes; the plan has operand\[0\] a \(68 bytes"):
        jax.jit(lambda a, b, c: prim.bind(a, b, c)).lower(shape, shape, shape)


def test_targets_are_published():
    assert CUSTOM_CALL_TARGETS == ("jax_aiter.run_plan.v1",)
    assert [check.is_custom_call() for check in export_checks()] == list(CUSTOM_CALL_TARGETS)
