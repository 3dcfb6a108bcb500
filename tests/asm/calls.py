"""Random calls of AITER's kernels, asked of no device: right ones must be planned, wrong ones refused by a rule in words.

A family gives `make`, which turns keywords into a `Call`; `draw`, which draws the keywords of a right call; and `mistakes`, the
changes that make such a call wrong, each with what the words that refuse it must say.
"""

import functools
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.bind.op import OPS
from jax_aiter.core.arch import FP8 as FP8_OF
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.kernels.asm import provider, tables
from jax_aiter.kernels.asm.provider import AsmProvider
from jax_aiter.kernels.plan import Launch, LaunchPlan
from jax_aiter.kernels.provider import Call, Program, Target
from jax_aiter.ops.catalogue import all_ops

ARCHS = ("gfx942", "gfx950")
FP8 = {arch: FP8_OF[arch].name for arch in ARCHS}
OTHER_FP8 = {"gfx942": FP8["gfx950"], "gfx950": FP8["gfx942"]}
TRACED = 3  # of the right calls
PLAN_SECONDS = 0.005  # what a plan may take once tables and code objects are read

Plan = LaunchPlan | Program
Keywords = dict[str, Any]
Make = Callable[..., Call]
Draw = Callable[[np.random.Generator, str], Keywords]
Mistakes = Callable[[np.random.Generator, str, Keywords], Sequence[tuple[Keywords, str]]]


listed = functools.cache(tables.kernels)  # which asks each time where AITER's files are


def struct(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))


def make(op: str, arch: str, operands: Mapping[str, jax.ShapeDtypeStruct], params: Mapping[str, Any], kernel=None) -> Call:
    """The call that the public op makes of these; what is wrong for every implementation is raised here, as it is there."""
    record = OPS.get(op) or all_ops()[op]
    return Call(op, Target("rocm", arch), operands, params, record.infer(operands, params), kernel)


def pick(rng: np.random.Generator, values: Iterable[Any]) -> Any:
    values = list(values)
    return values[rng.integers(len(values))]


def refusal(call: Call) -> str | None:
    """The rule by which the kernels refuse a call, which planning it raises too."""
    rule = AsmProvider().refuse(call)
    if rule is not None:
        with pytest.raises(NotSupportedError) as raised:
            AsmProvider().plan(call)
        assert str(raised.value) == f"{call.op}: {rule}"
    return rule


def answer(making: Callable[[], Call]) -> tuple[str | None, Plan | None]:
    """What becomes of a call: the words that refuse it, the op's own or a rule of the kernels, or a plan. Never another error."""
    try:
        call = making()
    except (TypeError, ValueError) as error:
        if not re.match(r"\w+: ", str(error)):  # the op's name begins what it says
            raise
        return str(error), None
    rule = refusal(call)
    if rule is not None:
        return rule, None
    plan = AsmProvider().plan(call)
    check_plan(call, plan)
    return None, plan


def launches(plan: Plan) -> list[tuple[LaunchPlan, Launch]]:
    plans = plan.plans if isinstance(plan, Program) else (plan,)
    return [(p, s) for p in plans for s in p.steps if isinstance(s, Launch)]


def check_plan(call: Call, plan: Plan) -> None:
    """It launches something, from and to memory of some size."""
    found = launches(plan)
    assert found, call
    for of, step in found:
        assert step.args.pointers
        assert all(b.nbytes > 0 for b in of.buffers), of.buffers


def refuse_wrong_calls(make: Make, draw: Draw, mistakes: Mistakes, *, seed: int = 0, count: int = 500) -> None:
    """Every mistake takes its turn on a call that is right but for it."""
    rng, astray = np.random.default_rng(seed), []
    for i in range(count):
        arch = ARCHS[i % 2]
        good = draw(rng, arch)
        listed = mistakes(rng, arch, good)
        change, rule = listed[i // 2 % len(listed)]
        words, _ = answer(lambda keywords={**good, **change}, arch=arch: make(arch, **keywords))
        if words is None or not re.search(rule, words):
            astray.append(f"{arch}: {good} with {change}: {words or 'taken'}, not {rule}")
    assert not astray, f"{len(astray)} of {count}:\n" + "\n".join(astray[:20])


def plan_right_calls(make: Make, draw: Draw, *, arch: str, seed: int = 1, count: int = 100) -> None:
    """All are planned, and quickly once every file that they need is read."""
    rng = np.random.default_rng(seed)
    calls = [make(arch, **draw(rng, arch)) for _ in range(count)]
    for call in calls:
        assert refusal(call) is None, (call, refusal(call))
        check_plan(call, AsmProvider().plan(call))
    for call in calls[:TRACED]:
        plan = AsmProvider().plan(call)
        if isinstance(plan, Program):  # the arrays that it makes fit the plan's buffers
            found = jax.eval_shape(plan.run, dict(call.operands))
            assert [(x.shape, x.dtype) for x in found] == [(x.shape, x.dtype) for x in call.results]
    provider._remembered.cache_clear()
    begin = time.process_time()
    for call in calls:
        AsmProvider().plan(call)
    mean = (time.process_time() - begin) / count
    assert mean < PLAN_SECONDS, f"a plan takes {mean * 1000:.1f} ms"


def executed(text: str, operation: str) -> int:
    """How often a StableHLO program without loops around it runs an operation; equal layers share functions, called once each."""
    bodies = dict(re.findall(r"func\.func (?:public |private )?@(\w+)\((.*?)\n  }\n", text, re.DOTALL))

    @functools.cache
    def count(name: str) -> int:
        calls = re.findall(r"call @(\w+)\(", bodies[name])
        return bodies[name].count(operation) + sum(map(count, calls))

    return count("main")
