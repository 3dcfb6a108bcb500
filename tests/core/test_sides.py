"""What `jax-aiter tune` compares: chains of calls, on the mock device, whose operands are handed on from call to call."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.cli import sides
from jax_aiter.cli.bench import chain
from jax_aiter.kernels import mock_driver
from jax_aiter.ops.catalogue import all_ops

TIMES = 3
OPS = all_ops()
UPDATING = sorted(name for name, op in OPS.items() if op.aliases)
CACHES = [name for name in UPDATING if all("cache" in operand for operand in OPS[name].aliases)]


def first(name):
    """The op's first case that has something to compute."""
    return next(case for case in OPS[name].cases() if all(0 not in a.shape for a in case.operands.values()))


def updates(op):
    return {operand: list(op.results).index(result) for operand, result in op.aliases.items()}


def compiled(op, params, drawn):
    def call(operands):
        return op(**operands, **params, implementation="xla")

    return chain.program(call, "", TIMES, "mock", updates(op)).lower(drawn).compile()


def after(op, params, operands):
    """The operands and the results of a number of calls, one by one."""
    results = ()
    for _ in range(TIMES):
        results = op(**operands, **params, implementation="xla")
        operands = {**operands, **{name: results[number] for name, number in updates(op).items()}}
    return operands, [x for i, x in enumerate(results) if i not in updates(op).values()]


@pytest.fixture(autouse=True)
def device():
    mock_driver.configure()


def is_one_of_the_quick(name):
    return name in UPDATING or name in ("gemm_a16w16", "fused_moe", "top_k_per_row_prefill")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if is_one_of_the_quick(n) else pytest.mark.exhaustive) for n in sorted(OPS)]
)
def test_a_chain_computes_what_its_calls_do_one_after_the_other(name):
    op, case = OPS[name], first(name)
    want_operands, want = after(op, case.params, case.draw())
    got_operands, got = compiled(op, case.params, case.draw())(case.draw())
    assert len(jax.tree.leaves(got)) == len(want)
    pairs = [*zip(jax.tree.leaves(got), want, strict=True), *((got_operands[n], x) for n, x in want_operands.items())]
    for a, b in pairs:
        assert a.dtype == b.dtype
        floating = jnp.issubdtype(a.dtype, jnp.floating)
        a, b = (np.asarray(x, np.float64 if floating else x.dtype) for x in (a, b))
        largest = np.abs(b[np.isfinite(b)]).max(initial=0) if floating else 0
        # Two programs, whose sums XLA may order otherwise: a few roundings of 16 bits, or a step of a quantised value.
        np.testing.assert_allclose(a, b, rtol=0.07, atol=0.07 * largest)


@pytest.mark.parametrize("name", CACHES)
def test_what_is_updated_in_place_is_copied_by_no_call_of_a_chain(name):
    """A copy of a cache in every call would be most of what is timed."""
    op, case = OPS[name], first(name)
    text = compiled(op, case.params, case.draw()).as_text()
    assert "while(" in text
    inside = text[: text.index("\nENTRY ")]
    copies = [math.prod(map(int, sizes.split(","))) for sizes in re.findall(r"= \w+\[([\d,]+)\]\S* copy\(", inside)]
    assert max(copies, default=0) < max(math.prod(case.operands[operand].shape) for operand in op.aliases)


def test_each_implementation_has_a_time_and_the_operands_stay_the_tests():
    op, case = OPS["rms_norm"], OPS["rms_norm"].cases()[0]
    structs = {n: a.struct for n, a in case.operands.items()}
    found = sides.Sides(op, case.params, structs, ["xla"], "mock").seconds(case.draw)
    assert list(found) == ["xla"]
    assert 0 < found["xla"] < 1


def test_a_chain_is_as_long_as_a_start_is_not_seen_in_it():
    small, large = jax.ShapeDtypeStruct((16, 16), jnp.bfloat16), jax.ShapeDtypeStruct((1 << 14, 1 << 14), jnp.bfloat16)
    assert sides._calls({"x": small}) == sides.MOST
    assert sides._calls({"x": large}) == 32
