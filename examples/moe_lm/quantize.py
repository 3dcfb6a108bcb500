"""From trained weights to FP8: every matrix of a layer but the router, one scale per output row."""

import dataclasses
from typing import Any

import jax

import jax_aiter
from examples.moe_lm.model import Config, Params, Quantized

FP8_WEIGHTS = ("qkv", "out", "w1", "w2")  # the router decides, embedding and head are looked up or small: they stay in 16 bits


EXPERTS = ("w1", "w2")
SHUFFLED = (16, 16)


def for_hand_written_kernels(config: Config) -> Config | None:
    """How to serve on AITER's hand-written kernels, None where they cannot run this model (another device, other sizes).

    They want the experts' weights shuffled and, for decoding, heads of 128 and the cache in their own layout.
    """
    if jax_aiter.target_arch() not in ("gfx942", "gfx950") or config.dim < 512 or config.intermediate % 128:
        return None
    return dataclasses.replace(config, kv_layout="asm") if config.head_dim == 128 else config


def quantize(params: Params, quant_dtype: Any = "fp8", *, shuffle: bool = False) -> Params:
    """The same tree with `Quantized` leaves, in the e4m3 variant of the target.

    shuffle: lay the experts out for hand-written kernels.
    """

    @jax.jit
    def convert(layers: list[Params]) -> list[Params]:
        def one(name: str, w: jax.Array) -> jax.Array | Quantized:
            if name not in FP8_WEIGHTS:
                return w
            values, scale = jax_aiter.per_token_quant(w, quant_dtype=quant_dtype)
            return Quantized(jax_aiter.shuffle_weight(values, layout=SHUFFLED) if shuffle and name in EXPERTS else values, scale)

        return [{n: one(n, w) for n, w in layer.items()} for layer in layers]

    return {**params, "layers": convert(params["layers"])}


def size_in_bytes(params: Params) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
