"""A tiny model of each architecture with random weights, as transformers makes, runs and saves it. Sizes are odd."""

import functools
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers as hf

VOCABULARY = 89
BASE = {
    "vocab_size": VOCABULARY, "hidden_size": 72, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "head_dim": 20, "max_position_embeddings": 96, "attn_implementation": "eager",
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "experts_implementation": "eager",
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 24, "beta_fast": 32.0,
    "beta_slow": 1.0,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 24,
}  # fmt: skip
LATENT = {
    "kv_lora_rank": 28, "q_lora_rank": 36, "qk_rope_head_dim": 12, "qk_nope_head_dim": 20, "v_head_dim": 24, "n_routed_experts": 12,
    "num_experts_per_tok": 3, "moe_intermediate_size": 24, "n_shared_experts": 2, "first_k_dense_replace": 1, "n_group": 4,
    "topk_group": 2, "routed_scaling_factor": 2.5, "num_key_value_heads": 6, "head_dim": 12, "num_hidden_layers": 2,
}  # fmt: skip

#: name -> (transformers' name of the architecture, its settings)
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3": ("Llama", {"rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "mistral": ("Mistral", {"sliding_window": 7}),
    "qwen2": ("Qwen2", {"head_dim": 12}),
    "qwen3": ("Qwen3", {}),
    "mixtral": ("Mixtral", {"num_local_experts": 5, "num_experts_per_tok": 2}),
    "qwen3_moe": ("Qwen3Moe", {
        "num_experts": 10, "num_experts_per_tok": 3, "moe_intermediate_size": 24, "norm_topk_prob": True, "mlp_only_layers": [0],
    }),
    "deepseek_v3": ("DeepseekV3", {**LATENT, "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.7}}),
    "kimi_k2": ("DeepseekV3", {**LATENT, "n_group": 1, "topk_group": 1, "q_lora_rank": None, "n_shared_experts": 1}),
    "gpt_oss": ("GptOss", {"num_local_experts": 7, "num_experts_per_tok": 4, "sliding_window": 7, "rope_parameters": YARN}),
    "glm4_moe": ("Glm4Moe", {
        "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24, "use_qk_norm": True, "attention_bias": True,
        "routed_scaling_factor": 1.5, "first_k_dense_replace": 1,
    }),
    "gemma2": ("Gemma2", {
        "sliding_window": 7, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 3.0, "final_logit_softcapping": 2.0,
    }),
    "gemma3": ("Gemma3Text", {
        "sliding_window": 7, "query_pre_attn_scalar": 24, "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
        },
    }),
    "llama4": ("Llama4Text", {
        "num_hidden_layers": 4, "num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 56, "floor_scale": 4,
        "attention_chunk_size": 6, "interleave_moe_layer_step": 2, "no_rope_layer_interval": 4, "rope_parameters": LLAMA3,
    }),
}  # fmt: skip
_CLASSES = {"Gemma3Text": "Gemma3ForCausalLM", "Llama4Text": "Llama4ForCausalLM"}


class Model(NamedTuple):
    """theirs: the module; folder: what it saved: ``config.json`` and safetensors under the names of the Hub."""

    theirs: Any
    folder: Path

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """float32 ``[B, S, V]``."""
        with torch.no_grad():
            return self.theirs(torch.from_numpy(tokens), use_cache=False).logits.numpy()


_FOLDER = tempfile.TemporaryDirectory(prefix="llm-architectures-")  # lives as long as the process that reads it


@functools.cache
def make(name: str, shard: str = "50GB") -> Model:
    kind, settings = ARCHITECTURES[name]
    config = getattr(hf, f"{kind}Config")(**{**BASE, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(hf, _CLASSES.get(kind, f"{kind}ForCausalLM"))(config).eval()
        randomise(model)
    folder = Path(_FOLDER.name) / f"{name}-{shard}"
    model.save_pretrained(folder, max_shard_size=shard)
    return Model(model, folder)


def randomise(model: Any) -> None:
    """Every weight and buffer of routers is random, norms and biases too: one that is not read shows."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape)
            if "norm" in name:
                p.copy_((0.0 if "Gemma" in type(model).__name__ else 1.0) + 0.2 * noise)
            elif p.ndim == 1 or "bias" in name:
                p.copy_(0.5 * noise)
            else:
                p.copy_(noise * (1.0 if "embed" in name else 1.5 * p.shape[-1] ** -0.5))
        for name, b in model.named_buffers():
            if "correction_bias" in name:
                b.copy_(0.3 * torch.randn(b.shape))
