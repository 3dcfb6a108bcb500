"""An operand that an op updates is updated where it stands: a program that is given it, or carries it through a loop, holds no copy
of it, no conversion and no other arrangement, whatever its dtype.

Every case of every op with an alias, with a pool of 256 blocks or states, in every dtype of the pool that the op takes with such
tokens.
"""

import jax
import jax.numpy as jnp
import pytest

from jax_aiter.core.axes import FP8_TYPES
from tests.cache.in_place import cache_sized

from .common import ALL, LATER, bound
from .emptied import accepted
from .test_memory import in_dtype, resized

BLOCKS = {"nb": 256, "lines": 256}
DTYPES = ("float32", "bfloat16", FP8_TYPES[0], "int8", "uint8")


def variants():
    """By default a case's own dtype, and each other one once for an op."""
    found, seen = [], set()
    for op, case in ALL:
        for dtype in DTYPES if op.aliases else ():
            pool = resized(op, case, BLOCKS)
            own = jnp.dtype(pool.operands[next(iter(op.aliases))].dtype).name == dtype
            pool = pool if own else in_dtype(op, pool, dtype)
            if pool is not None and accepted(op, pool):
                marks = [] if own or (op.name, dtype) not in seen else LATER
                seen.add((op.name, dtype))
                found.append(pytest.param(op, pool, id=f"{op.name}-{case.name}-{dtype}", marks=marks))
    return pytest.mark.parametrize(("op", "case"), found)


def split(op, case):
    structs = {n: x.struct for n, x in case.operands.items()}
    return {n: structs[n] for n in op.aliases}, {n: x for n, x in structs.items() if n not in op.aliases}


def step(op, case, pools, rest):
    results = dict(zip(op.results, bound(op, case)({**pools, **rest}), strict=True))
    updated = {n: results.pop(result) for n, result in op.aliases.items()}
    return updated, results


@variants()
def test_a_pool_is_updated_where_it_stands(op, case):
    def run(pools, rest):
        pools, _ = step(op, case, pools, rest)
        return jax.lax.scan(lambda pools, _: step(op, case, pools, rest), pools, length=3)

    pools, rest = split(op, case)
    compiled = jax.jit(run, donate_argnums=0).lower(pools, rest).compile()
    smallest = min(x.size for x in pools.values())
    assert smallest > 2 * max(x.size for x in rest.values())
    assert cache_sized(compiled, smallest) == []
    memory = compiled.memory_analysis()
    assert memory is not None
    held = sum(x.size * x.dtype.itemsize for x in pools.values())
    assert memory.alias_size_in_bytes >= held
    assert memory.temp_size_in_bytes < held / 2


def test_a_pool_that_is_kept_is_seen():
    """The same program without the donation has the copy that the tests above look for."""
    op, case = next((op, case) for op, case in ALL if op.aliases)
    case = resized(op, case, BLOCKS)
    pools, rest = split(op, case)
    compiled = jax.jit(lambda pools, rest: step(op, case, pools, rest)).lower(pools, rest).compile()
    assert "copy" in cache_sized(compiled, min(x.size for x in pools.values()))
