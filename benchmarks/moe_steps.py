"""What fused_moe on a hand-written kernel launches around it: AITER's HIP kernels beside XLA's, counted by the virtual MI300X.

    vgpu run --profile /tmp/launches -- python -m benchmarks.moe_steps [T,E,k ...]

fp8 per token, D = 1024, I = 256, uniform routing. The counts are the interpreter's, the same on every run; they are not times.
With XLA (`config(build=False)` and no plan in the cache) the output is cleared by a fill besides, which is no launch.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jax_aiter

DIM, INTER = 1024, 256
CALLS = ("1,8,2", "16,8,2", "16,64,8", "32,64,8", "256,8,2")
SORT, QUANT = "MoeSorting", "scaled_quant"


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


def launches(given: dict[str, Any], build: bool) -> list[dict[str, Any]]:
    """Of one run of the compiled call."""
    profile = Path(os.environ["VGPU_PROFILE"])

    def call(given: dict[str, Any]) -> jax.Array:
        return jax_aiter.fused_moe(**given, quant_type="per_token", implementation="asm")

    with jax_aiter.config(build=build):
        compiled = jax.jit(call).lower(given).compile()
    jax.block_until_ready(given)
    before = len(profile.read_text().splitlines()) if profile.exists() else 0
    jax.block_until_ready(compiled(given))
    return [json.loads(line) for line in profile.read_text().splitlines()[before:]]


def cell(found: list[dict[str, Any]]) -> str:
    return f"{len(found)} / {sum(x['instructions'] for x in found):,}"


def main() -> None:
    print("| T | E | k | XLA: before the kernel | the whole call | HIP: ids | sort | quantise | the whole call |")
    print("|---|---|---|---|---|---|---|---|---|")
    for text in sys.argv[1:] or CALLS:
        sizes = tuple(map(int, text.split(",")))
        given = arguments(*sizes)
        own = launches(given, False)
        recorded = launches(given, True)
        sort, quant = ([x for x in recorded if part in x["kernel"]] for part in (SORT, QUANT))
        others = [x for x in recorded[:-1] if x not in (*sort, *quant)]
        cells = (own[:-1], own, others, sort, quant, recorded)
        print("|", " | ".join([*map(str, sizes), *map(cell, cells)]), "|", flush=True)


if __name__ == "__main__":
    main()
