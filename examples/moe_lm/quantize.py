"""From trained weights to FP8: every matrix of a layer but the router, one scale per output row."""

import functools
from typing import Any

import jax

import jax_aiter
from examples.moe_lm.model import Params, Quantized

FP8_WEIGHTS = ("qkv", "out", "w1", "w2")  # the router decides, embedding and head are looked up or small: they stay in 16 bits


def quantize(params: Params, quant_dtype: Any = "fp8") -> Params:
    """The same tree with `Quantized` leaves, in the e4m3 variant of the target."""

    @jax.jit
    def convert(layers: list[Params]) -> list[Params]:
        one = functools.partial(jax_aiter.per_token_quant, quant_dtype=quant_dtype)
        return [{n: Quantized(*one(w)) if n in FP8_WEIGHTS else w for n, w in layer.items()} for layer in layers]

    return {**params, "layers": convert(params["layers"])}


def size_in_bytes(params: Params) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
