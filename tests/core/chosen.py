"""``python tests/core/chosen.py``: what `jax_aiter.explain` chooses on gfx942 and gfx950, where jax_aiter is installed.

Prints a JSON line per architecture and call: architecture, op, implementation, and what `explain` says. It needs no device, and
nothing but the package and its dependencies.
"""

import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

import jax_aiter

Shape = jax.ShapeDtypeStruct
ARCHS = ("gfx942", "gfx950")
TOKENS, EXPERTS, TOPK, DIM, INNER = 64, 8, 2, 1024, 512
HEADS, KV_HEADS, HEAD_DIM, BLOCK = 32, 4, 128, 16
SEQUENCES = 32  # up to two heads for each compute unit AITER takes its HIP kernel


def topk_softmax() -> tuple[Any, ...]:
    return lambda logits: jax_aiter.topk_softmax(logits, 8), Shape((TOKENS, 128), jnp.float32)


def fused_moe(fp8: Any) -> tuple[Any, ...]:
    def layer(x, w1, w2, weights, ids, s1, s2):
        w1, w2 = (jax_aiter.shuffle_weight(w, layout=(16, 16)) for w in (w1, w2))
        return jax_aiter.fused_moe(x, w1, w2, weights, ids, quant_type="per_token", w1_scale=s1, w2_scale=s2)

    w1, w2 = (EXPERTS, 2 * INNER, DIM), (EXPERTS, DIM, INNER)
    routing = Shape((TOKENS, TOPK), jnp.float32), Shape((TOKENS, TOPK), jnp.int32)
    scales = (Shape((*shape[:2], 1), jnp.float32) for shape in (w1, w2))
    return layer, Shape((TOKENS, DIM), jnp.bfloat16), Shape(w1, fp8), Shape(w2, fp8), *routing, *scales


def paged_attention() -> tuple[Any, ...]:
    def attend(query, keys, values, tables, lens):
        return jax_aiter.paged_attention(query, keys, values, tables, lens, scale=HEAD_DIM**-0.5, kv_layout="asm")

    caches = (512, KV_HEADS, HEAD_DIM // 8, BLOCK, 8), (512, KV_HEADS, BLOCK // 8, HEAD_DIM, 8)
    arrays = (Shape(shape, jnp.bfloat16) for shape in ((SEQUENCES, HEADS, HEAD_DIM), *caches))
    return attend, *arrays, Shape((SEQUENCES, 16), jnp.int32), Shape((SEQUENCES,), jnp.int32)


def flash_attention() -> tuple[Any, ...]:
    array = Shape((2, 512, 16, HEAD_DIM), jnp.bfloat16)
    return lambda q, k, v: jax_aiter.flash_attention(q, k, v, causal=True), array, array, array


def chosen() -> Iterator[tuple[str, str, str, str]]:
    """Architecture, op, implementation and explanation of each call."""
    for arch in ARCHS:
        fp8 = jnp.float8_e4m3fnuz if arch == "gfx942" else jnp.float8_e4m3fn
        with jax_aiter.config(arch=arch):
            for call, *arguments in (topk_softmax(), fused_moe(fp8), paged_attention(), flash_attention()):
                for found in jax_aiter.explain(call, *arguments, platform="rocm"):
                    if found.op != "shuffle_weight":  # done once, when a model is loaded
                        yield arch, found.op, found.implementation, str(found)


if __name__ == "__main__":
    for line in chosen():
        print(json.dumps(line))
