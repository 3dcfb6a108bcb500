"""The models that decode: their configurations as published, random weights."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.llm_decode import scanned
from examples.llm import architectures
from examples.llm.config import Config, Experts
from examples.llm.decoder import Params
from examples.train.init import init

SMOLLM2: dict[str, Any] = {  # HuggingFaceTB/SmolLM2-135M-Instruct
    "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192, "rope_theta": 1e5, "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
}  # fmt: skip
QWEN3: dict[str, Any] = {  # Qwen/Qwen3-30B-A3B
    "model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048, "moe_intermediate_size": 768, "intermediate_size": 6144,
    "num_hidden_layers": 48, "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "num_experts": 128,
    "num_experts_per_tok": 8, "norm_topk_prob": True, "max_position_embeddings": 40960, "rope_theta": 1e6, "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}  # fmt: skip
TINY = {
    "vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 64,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Size:
    """One model, its batch, and how far the ways' logits may be apart (relative, Frobenius norm).

    In bfloat16 a sum of the residual stream, two a layer, errs by up to 2^-9, and so does what is added: some percent after 30
    layers, seen 3 % (narrower models of random weights on a CPU). A router's near-ties fall differently in differently rounded
    programs, and a token that meets another expert in one of its layers is further off. In float32 sums in another order are all
    there is.

    scanned: the layers are alike and run in a loop over their stacked weights (`benchmarks.llm_decode.scanned`), all ways of them.
    """

    name: str
    raw: dict[str, Any] = dataclasses.field(hash=False)
    batch: int
    context: int
    dtype: Any
    logits: float
    scanned: bool = False

    @property
    def config(self) -> Config:
        return architectures.read(self.raw)

    @property
    def mixture(self) -> Experts | None:
        m = self.config.layers[-1].mlp
        return m if isinstance(m, Experts) else None

    def params(self) -> Params:
        """Drawn on the default device, layer by layer."""
        return scanned.stacked(self.drawn()) if self.scanned else self.drawn()

    def drawn(self) -> Params:
        """The same with its layers apart."""
        return init(self.raw, self.config, jax.random.key(0), self.dtype, length=self.context)


def sizes(layers: int, context: int, small: bool) -> dict[str, Size]:
    """layers: of the 48 of Qwen3-30B-A3B. SmolLM2's 30 are scanned, so that one is compiled; XLA may copy a layer's weights in
    every turn of the loop, of all ways alike, for which Qwen3's are too large. small: tiny models of both kinds, in float32.
    """
    smol, qwen, dtype, bounds = SMOLLM2, {**QWEN3, "num_hidden_layers": layers}, jnp.bfloat16, (8e-2, 1e-1)
    if small:
        smol = {**smol, **TINY, "intermediate_size": 48, "num_hidden_layers": 2}
        qwen = {**qwen, **TINY, "moe_intermediate_size": 16, "num_experts": 8, "num_experts_per_tok": 2}
        context, dtype, bounds = 32, jnp.float32, (1e-4, 1e-4)
    found = {}
    for name, raw, bound in (("smollm2", smol, bounds[0]), ("qwen3", qwen, bounds[1])):
        for batch in (1, 64) if not small else (3,):
            found[f"{name}-{batch}"] = Size(f"{name}-{batch}", raw, batch, context, dtype, bound, scanned=raw is smol)
    return found
