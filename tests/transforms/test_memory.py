"""Expert weights, KV caches and GEMM weights are read in parts: temporaries do not grow with them, whatever their dtype.

Each case of each op that has such an operand is compiled for two sizes of it and in every dtype that the op takes. What the
program's own memory analysis says may grow by some bytes per expert or block of the cache (counts, order), but not by a copy of
the operand: half of its growth is allowed, where a copy in its own type is all of it and one in float32 two or four times as much.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.axes import FLOATING, FP8_TYPES

from .common import ALL, LATER, bound
from .emptied import accepted, named_axes

# By operand: the axis that grows, and the two sizes of it and of axes that go with it.
EXPERTS = {"E": (128, 256)}
BLOCKS = {"nb": (512, 1024), "pages": (2048, 4096), "P": (512, 1024)}
FEATURES = {"N": (2048, 4096), "Nb": (16, 32), "M": (2, 2), "K": (1024, 1024), "Kb": (8, 8)}
GROWING = {
    **dict.fromkeys(("w1", "w2"), EXPERTS),
    **dict.fromkeys(("key_cache", "value_cache", "kv_buffer", "kv_cache"), BLOCKS),
    **dict.fromkeys(("b", "wq", "WQ"), FEATURES),
}


def sizes_of(op):
    """How the axes of an op grow, None for an op without such an operand or with one that it returns."""
    return None if op.aliases else next((GROWING[n] for n in op.operands if n in GROWING), None)


def resized(op, case, sizes):
    """The case with other sizes by axis; only its shapes count."""
    operands = {}
    for name, names in named_axes(op, case).items():
        array = case.operands[name]
        shape = tuple(sizes.get(axis, size) for axis, size in zip(names, array.shape, strict=True))
        operands[name] = dataclasses.replace(array, shape=shape)
    return dataclasses.replace(case, operands=operands)


def big(op, case):
    """The operand that grows, else the pool that the op updates."""
    return next((name for name in case.operands if name in GROWING), next(iter(op.aliases), None))


def in_dtype(op, case, dtype):
    """The case with this dtype wherever it has that of its growing operand, None if that operand is never of it."""
    if dtype not in op.operands[big(op, case)].dtypes:
        return None
    old = jnp.dtype(case.operands[big(op, case)].dtype)
    same = [n for n, a in case.operands.items() if jnp.dtype(a.dtype) == old and dtype in op.operands[n].dtypes]
    operands = {n: dataclasses.replace(a, dtype=dtype) if n in same else a for n, a in case.operands.items()}
    return dataclasses.replace(case, name=f"{case.name}-{dtype}", operands=operands)


def variants():
    """Every case in every dtype that the op accepts; by default one case of an op for each dtype."""
    found, seen = [], set()
    for op, case in ALL:
        sizes = sizes_of(op)
        for dtype in (*FLOATING, *FP8_TYPES, "int8") if sizes else ():
            varied = in_dtype(op, case, dtype)
            if varied is None:
                continue
            pair = [resized(op, varied, {axis: both[i] for axis, both in sizes.items()}) for i in (0, 1)]
            if all(accepted(op, call) for call in pair):
                marks = LATER if (op.name, dtype) in seen else []
                seen.add((op.name, dtype))
                found.append(pytest.param(op, *pair, id=f"{op.name}-{varied.name}", marks=marks))
    return pytest.mark.parametrize(("op", "small", "large"), found)


def temporaries(function, structs):
    return jax.jit(function).lower(structs).compile().memory_analysis().temp_size_in_bytes


def nbytes(structs):
    return sum(int(np.prod(s.shape)) * jnp.dtype(s.dtype).itemsize for s in structs)


@variants()
def test_temporaries_do_not_grow_with_the_operand(op, small, large):
    structs = [{n: a.struct for n, a in c.operands.items()} for c in (small, large)]
    first, second = (temporaries(bound(op, small), s) for s in structs)
    growth = nbytes([s for n, s in structs[1].items() if n in GROWING]) - nbytes([s for n, s in structs[0].items() if n in GROWING])
    assert second - first < growth / 2, (first, second, growth)


@pytest.mark.parametrize("dtype", [*FLOATING, *FP8_TYPES, "int8"])
def test_fused_moe_holds_one_expert(dtype):
    """The docstring's claim: one expert's weights in float32 (twice, where they are scaled), and some rows of activations."""
    tokens, experts, k, model, inter = 16, 32, 2, 256, 256
    quantised = dtype not in FLOATING
    scale = jax.ShapeDtypeStruct((experts, 2 * inter), jnp.float32), jax.ShapeDtypeStruct((experts, model), jnp.float32)
    structs = {
        "hidden_states": jax.ShapeDtypeStruct((tokens, model), "bfloat16" if quantised else dtype),
        "w1": jax.ShapeDtypeStruct((experts, 2 * inter, model), dtype),
        "w2": jax.ShapeDtypeStruct((experts, model, inter), dtype),
        "topk_weight": jax.ShapeDtypeStruct((tokens, k), jnp.float32),
        "topk_ids": jax.ShapeDtypeStruct((tokens, k), jnp.int32),
        **({"w1_scale": scale[0], "w2_scale": scale[1]} if quantised else {}),
    }
    quant_type = "per_token" if quantised else "none"
    used = temporaries(lambda a: jax_aiter.fused_moe(**a, quant_type=quant_type), structs)
    expert = 4 * 3 * inter * model
    rows = 4 * (tokens * k + 128) * (model + 4 * inter)
    assert used < 2 * expert + rows
    assert used < nbytes([structs["w1"], structs["w2"]]) / 3
