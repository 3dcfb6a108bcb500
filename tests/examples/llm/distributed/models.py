"""A tiny mixture of experts, tokens, and what one device makes of them."""

import jax
import jax.numpy as jnp
import numpy as np

from examples.llm import architectures, decoder
from examples.llm.generate import generate
from examples.llm.session import Session
from examples.train.init import init

RAW = {
    "model_type": "qwen3_moe", "vocab_size": 96, "hidden_size": 32, "moe_intermediate_size": 16, "intermediate_size": 48,
    "num_hidden_layers": 1, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 16, "num_experts": 8,
    "num_experts_per_tok": 3, "norm_topk_prob": True, "max_position_embeddings": 64, "rope_theta": 1e4,
}  # fmt: skip
CONFIG = architectures.read(RAW)
TOKENS = np.random.default_rng(0).integers(0, 96, (1, 20))
NEW = 6
SESSION = {"length": 32, "sizes": (20,)}  # one program takes the prompt and each new token
LIMIT = 1e-5  # of the largest logit, in float32: sums over devices are sums in another order


def params():
    return init(RAW, CONFIG, jax.random.key(0))


def logits(params, config=CONFIG) -> np.ndarray:
    return np.asarray(decoder.forward(params, config, jnp.asarray(TOKENS, jnp.int32)))


def answer(session: Session) -> list[int]:
    return list(generate(session, TOKENS[0].tolist(), NEW))


def on_one(params, config=CONFIG) -> list[int]:
    return answer(Session(params, config, **SESSION))
