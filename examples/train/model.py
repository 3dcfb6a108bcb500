"""The model that is trained: Qwen3's mixture of experts over bytes, of any size."""

from typing import Any


def configuration(
    *, layers: int, dim: int, heads: int, kv_heads: int, experts: int, topk: int, intermediate: int, sequence: int
) -> dict[str, Any]:
    """As a Hugging Face ``config.json``: the trained model is loaded as any other of that type."""
    return {
        "model_type": "qwen3_moe",
        "vocab_size": 256,
        "hidden_size": dim,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": dim // heads,
        "num_experts": experts,
        "num_experts_per_tok": topk,
        "norm_topk_prob": True,
        "moe_intermediate_size": intermediate,
        "intermediate_size": 4 * dim,
        "max_position_embeddings": sequence,
        "rope_theta": 1e4,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    }
