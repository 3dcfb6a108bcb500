"""The weights of a mixture of experts, in whichever of their forms a checkpoint has them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from examples.llm.checkpoint import mxfp4, quantise
from examples.llm.checkpoint.reader import Reader, stack
from examples.llm.config import Experts
from examples.llm.linear import BLOCK, Blocks, Linear, Packed

#: Models that keep ``x · w`` instead of ``x · wᵀ`` for all experts as one, and those whose rows of gate and up alternate.
TRANSPOSED, ALTERNATING = ("gpt_oss", "llama4_text"), ("gpt_oss",)


def experts(r: Reader, model_type: str, e: Experts) -> dict[str, Any]:
    """router ``[E, M]`` float32, w1 ``[E, 2 I, M]`` with the gate's rows first, w2 ``[E, M, I]``, and what the model has beside."""
    router = "gate" if r.has("gate.weight") else "router"
    bias = r.array(f"{router}.bias", jnp.float32) if r.has(f"{router}.bias") else None
    p: dict[str, Any] = {"router": Linear(r.array(f"{router}.weight", jnp.float32), bias)}
    if e.router == "grouped":
        p["correction"] = r.array(f"{router}.e_score_correction_bias", jnp.float32)
    w1, w2 = _one_by_one(r, e) if r.has("experts.0.down_proj.weight") or r.has("experts.0.w2.weight") else _together(r, model_type)
    p["w1"], p["w2"] = w1, w2
    if e.shared is not None:
        p["shared"] = r.at("shared_experts." if r.holds("shared_experts.") else "shared_expert.").gated()
    return p


def _one_by_one(r: Reader, e: Experts) -> tuple[Linear, Linear]:
    """Each expert has matrices of its own; each is quantised before the next is read."""
    gate, up, down = ("w1", "w3", "w2") if r.has("experts.0.w2.weight") else ("gate_proj", "up_proj", "down_proj")
    firsts, seconds = [], []
    for i in range(e.count):
        one = r.at(f"experts.{i}.")
        w1, w2 = (Linear(w) for w in (stack([one.matrix(gate), one.matrix(up)]), one.matrix(down)))
        w1, w2 = _held(one, Linear(_batch(w1.weight)), Linear(_batch(w2.weight)))
        firsts.append(w1.weight)
        seconds.append(w2.weight)
    return Linear(_concatenate(firsts)), Linear(_concatenate(seconds))


def _together(r: Reader, model_type: str) -> tuple[Linear, Linear]:
    """All experts are one tensor."""
    w1, w2 = (_tensor(r, f"experts.{n}", model_type in TRANSPOSED) for n in ("gate_up_proj", "down_proj"))
    b1, b2 = (r.raw(f"experts.{n}_bias") if r.has(f"experts.{n}_bias") else None for n in ("gate_up_proj", "down_proj"))
    if model_type in ALTERNATING:
        w1, b1 = jax.tree.map(lambda x: np.concatenate([x[:, ::2], x[:, 1::2]], axis=1), (w1, b1))
    biases = (b if b is None else jnp.asarray(b, r.dtype) for b in (b1, b2))
    first, second = (Linear(jax.tree.map(jnp.asarray, w), b) for w, b in zip((w1, w2), biases, strict=True))
    return _held(r, first, second)


def _tensor(r: Reader, name: str, transposed: bool) -> Any:
    """Rows by experts: floats, or MXFP4 as it is packed where the scheme keeps it."""
    if not r.has(f"{name}_blocks"):
        return np.swapaxes(r.raw(name), 1, 2) if transposed else r.raw(name)
    blocks, scales = r.raw(f"{name}_blocks"), r.raw(f"{name}_scales")
    return Packed(blocks.reshape(*blocks.shape[:-2], -1), scales) if r.scheme == "keep" else mxfp4.unpack(blocks, scales)


def _held(r: Reader, w1: Linear, w2: Linear) -> tuple[Linear, Linear]:
    if r.scheme in ("fp8", "fp8_block", "int8") and not (r.scheme == "fp8_block" and _whole(w1.weight) and _whole(w2.weight)):
        first, second = (Linear(quantise.dequantise(w.weight), w.bias) for w in (w1, w2))
        return quantise.experts(first, second, r.scheme)
    if isinstance(w1.weight, Packed):
        return w1, w2
    blocks = isinstance(w1.weight, Blocks) or isinstance(w2.weight, Blocks)
    if r.scheme == "keep" and blocks and not (_whole(w1.weight) and _whole(w2.weight)):
        raise ValueError(f"{r.prefix}experts have FP8 blocks that are not whole: load with another scheme than 'keep'")
    return Linear(r.held(w1.weight), w1.bias), Linear(r.held(w2.weight), w2.bias)


def _whole(weight: Any) -> bool:
    return isinstance(weight, Blocks) and not any(n % BLOCK for n in weight.values.shape[-2:])


def _batch(weight: Any) -> Any:
    return Blocks(*(x[None] for x in weight)) if isinstance(weight, Blocks) else weight[None]


def _concatenate(weights: list[Any]) -> Any:
    if isinstance(weights[0], tuple):  # PerToken, Blocks
        return type(weights[0])(*(jnp.concatenate(parts) for parts in zip(*weights, strict=True)))
    return jnp.concatenate(weights)
