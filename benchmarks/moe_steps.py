"""What fused_moe on a hand-written kernel launches around it, counted by the virtual MI300X: each step alone, and the whole call.

    vgpu run --profile /tmp/launches -- python -m benchmarks.moe_steps [T,E,k ...]

fp8 per token, D = 1024, I = 256, uniform routing. The counts are the interpreter's, the same on every run; they are not times.
With XLA (`config(build=False)`, and no plan of such a call in the cache, or that would be taken) the output is cleared by a fill
besides, which is no launch.
"""

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_aiter
from jax_aiter.kernels.asm.moe import program, sort
from jax_aiter.kernels.asm.moe.launch import sorted_blocks

DIM, INTER = 1024, 256
BLOCK = 32  # rows of the kernels' tiles
CALLS = ("1,8,2", "16,8,2", "16,64,8", "32,64,8", "64,64,8", "256,8,2", "256,64,8")
SORT, QUANT = "MoeSorting", "scaled_quant"

Launches = list[dict[str, Any]]


def arguments(tokens: int, experts: int, topk: int) -> dict[str, Any]:
    rng, fp8 = np.random.default_rng(0), jax_aiter.fp8_dtype()

    def weight(*shape: int) -> Any:  # which values it holds does not matter here
        return jax_aiter.ShuffledWeight(jnp.asarray(rng.standard_normal(shape, np.float32).astype(fp8)), (16, 16))

    return {
        "hidden_states": jnp.asarray(rng.standard_normal((tokens, DIM), np.float32), jnp.bfloat16),
        "w1": weight(experts, 2 * INTER, DIM),
        "w2": weight(experts, DIM, INTER),
        "topk_weight": jnp.full((tokens, topk), 1 / topk, jnp.float32),
        "topk_ids": jnp.asarray(np.stack([rng.permutation(experts)[:topk] for _ in range(tokens)]), jnp.int32),
        "w1_scale": jnp.full((experts, 2 * INTER), 1e-2, jnp.float32),
        "w2_scale": jnp.full((experts, DIM), 1e-2, jnp.float32),
    }


def launches(call: Callable[..., Any], *given: Any, build: bool = True) -> Launches:
    """Of one run of the compiled call."""
    profile = Path(os.environ["VGPU_PROFILE"])
    with jax_aiter.config(build=build):
        compiled = jax.jit(call).lower(*given).compile()
    jax.block_until_ready(given)
    before = len(profile.read_text().splitlines()) if profile.exists() else 0
    jax.block_until_ready(compiled(*given))
    return [json.loads(line) for line in profile.read_text().splitlines()[before:]]


def cell(found: Launches) -> str:
    return f"{len(found)} / {sum(x['instructions'] for x in found):,}"


def quantisers(given: dict[str, Any]) -> Iterator[str]:
    hidden, kept = given["hidden_states"], {"w1": jnp.zeros((), jax_aiter.fp8_dtype())}
    yield cell(launches(lambda x: program.quantised({"hidden_states": x, **kept}, "per_token"), hidden))
    for implementation in ("triton", "hip"):
        call = functools.partial(jax_aiter.per_token_quant, quant_dtype=jax_aiter.fp8_dtype(), implementation=implementation)
        yield cell(launches(call, hidden))


def sorters(given: dict[str, Any], experts: int) -> Iterator[str]:
    ids, weights = given["topk_ids"], given["topk_weight"]
    tokens, topk = ids.shape
    blocks = sorted_blocks(tokens, topk, experts, BLOCK)
    for few in (ids.size, -1):  # counted, by key

        def listed(ids: jax.Array, weights: jax.Array, few: int = few) -> dict[str, jax.Array]:
            kept, sort.FEW = sort.FEW, few
            try:
                return sort.sort_routing(ids, weights, experts, BLOCK, blocks)
            finally:
                sort.FEW = kept

        yield cell(launches(listed, ids, weights))
    call = functools.partial(jax_aiter.moe_sorting, num_experts=experts, block_size=BLOCK, implementation="xla")
    yield cell(launches(call, ids, weights))


def whole(given: dict[str, Any], build: bool) -> Launches:
    def call(given: dict[str, Any]) -> jax.Array:
        return jax_aiter.fused_moe(**given, quant_type="per_token", implementation="asm")

    return launches(call, given, build=build)


def by_step(sizes: tuple[int, ...]) -> Iterator[str]:
    given = arguments(*sizes)
    yield from quantisers(given)
    yield from sorters(given, sizes[1])


def by_call(sizes: tuple[int, ...]) -> Iterator[str]:
    given = arguments(*sizes)
    own, recorded = whole(given, False), whole(given, True)
    if any(SORT in x["kernel"] for x in own):
        raise SystemExit("the cache has the plan of AITER's HIP kernels for this call: set JAX_AITER_CACHE to another folder")
    sorting, quant = ([x for x in recorded if part in x["kernel"]] for part in (SORT, QUANT))
    others = [x for x in recorded[:-1] if x not in (*sorting, *quant)]
    yield from map(cell, (own[-1:], own[:-1], own, others, sorting, quant, recorded))


TABLES = {
    "| T | E | k | quantise: XLA | Triton | HIP | sort: counted | by key | `moe_sorting` on XLA |": by_step,
    "| T | E | k | MoE kernel | XLA: before it | the whole call | HIP: ids | sort | quantise | the whole call |": by_call,
}


def main() -> None:
    for head, cells in TABLES.items():
        print(head, "|---" * (head.count("|") - 1) + "|", sep="\n")
        for text in sys.argv[1:] or CALLS:
            sizes = tuple(map(int, text.split(",")))
            print("|", " | ".join([*map(str, sizes), *cells(sizes)]), "|", flush=True)


if __name__ == "__main__":
    main()
