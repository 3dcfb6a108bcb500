"""What is measured: the layers, the models, and the meshes of so many devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from benchmarks.llm_decode import models
from benchmarks.scaling import decode, moe, train
from benchmarks.scaling.case import Part

PARTS = ("train", "decode", "moe", "ragged")
LAST = ("ragged",)  # compiles when all others have ended: XLA tries out products of ten GB and more
LAYERS = ((128, 8, 2048, 768), (256, 8, 7168, 256))  # experts, top-k, model, intermediate
TOKENS = (4096, 65536)
BATCHES = (1, 64, 256)
#: The billion parameters of `benchmarks.model_step`.
BILLION = {"layers": 5, "dim": 2048, "heads": 16, "kv_heads": 4, "experts": 64, "topk": 8, "intermediate": 512, "sequence": 2048}
SMALL = {"layers": 1, "dim": 32, "heads": 4, "kv_heads": 2, "experts": 8, "topk": 2, "intermediate": 16, "sequence": 16}


def serving(devices: int) -> list[dict[str, int]]:
    """Experts spread over all devices; and over half of them, each expert's columns split in two."""
    if devices == 1:
        return [{}]
    halves = {"expert": devices // 2, "model": 2} if devices > 2 else {"model": 2}
    return [{"expert": devices}, *([halves] if devices % 2 == 0 else [])]


def training(devices: int) -> list[dict[str, int]]:
    """The batch split over all devices, with experts spread over all, half or none of them; and heads and columns split in two."""
    if devices == 1:
        return [{}]
    found = [{"expert": devices}, {"data": devices}]
    if devices % 2 == 0:
        found += [{"expert": devices // 2, "model": 2} if devices > 2 else {"model": 2}]
        found += [{"data": 2, "expert": devices // 2}] if devices > 2 else []
    return found


def layers(devices: Sequence[int], small: bool, plain: bool = False, memory: int | None = None) -> moe.Experts:
    """plain: in JAX alone. memory: of a device, in bytes."""
    shapes = ((16, 4, 64, 32),) if small else LAYERS
    tokens, dtype, bound = ((64,), jnp.float32, 1e-4) if small else (TOKENS, jnp.bfloat16, 3e-2)
    found = tuple(moe.Size(*shape, count, dtype, bound) for shape in shapes for count in tokens)
    return moe.Experts(found, tuple(devices), plain, memory=memory)


def decoder(devices: Sequence[int], small: bool, depth: int, context: int) -> decode.Decode:
    """depth: layers of the 48 of Qwen3-30B-A3B."""
    size = next(size for name, size in models.sizes(depth, context, small).items() if name.startswith("qwen3"))
    if small:  # as many heads as there may be devices
        size = dataclasses.replace(size, raw={**size.raw, "num_attention_heads": 8})
    return decode.Decode(size, (3,) if small else BATCHES, tuple(mesh for n in devices for mesh in serving(n)))


def learner(devices: Sequence[int], small: bool) -> train.Training:
    meshes = tuple(mesh for n in devices for mesh in training(n))
    return (
        train.Training(SMALL, meshes, 8, 1, jnp.float32, 1e-4)
        if small
        else train.Training(BILLION, meshes, 8, 4, jnp.bfloat16, 1e-2)
    )


def parts(devices: Sequence[int], small: bool, depth: int, context: int, memory: int | None = None) -> dict[str, Part]:
    """By name, for meshes of so many devices; the first is 1, which all are compared with."""
    return {
        "train": learner(devices, small),
        "decode": decoder(devices, small, depth, context),
        "moe": layers(devices, small, False, memory),
        "ragged": layers(devices, small, True, memory),
    }


def available(wanted: Sequence[int]) -> list[int]:
    """1, and those of the wanted numbers that there are devices for."""
    return [1, *(n for n in sorted(set(wanted)) if 1 < n <= jax.device_count())]
