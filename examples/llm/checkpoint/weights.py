"""From a checkpoint's tensors to the arrays that the decoder takes: one layer at a time, straight to their dtype and layout."""

from typing import Any

import jax
import jax.numpy as jnp

from examples.llm import rope
from examples.llm.architectures import Json
from examples.llm.checkpoint import quantise
from examples.llm.checkpoint.expert_weights import experts
from examples.llm.checkpoint.reader import Reader
from examples.llm.checkpoint.tensors import Tensors
from examples.llm.config import Attention, Config, Experts, Latent, Layer
from examples.llm.linear import Linear

PREFIXES = ("model.", "language_model.model.", "model.language_model.")


def load(
    tensors: Tensors, raw: Json, config: Config, *, dtype: Any = "bfloat16", scheme: str = "keep", length: int | None = None
) -> dict[str, Any]:
    """The parameters of the model that `raw`, its ``config.json``, describes.

    Args:
      dtype: of activations, and of the weights that are not quantised: embedding, head, norms, and all others with ``"none"``.
      scheme: one of `quantise.SCHEMES`, for the matrices of the layers. ``"keep"`` takes FP8 checkpoints and
        gpt-oss's MXFP4 experts as they are.
      length: positions of the rotary tables; None: all that the model has.

    Raises ValueError for a scheme that is not known and a tensor that is missing, by name.
    """
    if scheme not in quantise.SCHEMES:
        raise ValueError(f"scheme is {scheme!r}, must be one of {', '.join(quantise.SCHEMES)}")
    base = next((p for p in PREFIXES if f"{p}embed_tokens.weight" in tensors.names), None)
    if base is None:
        raise ValueError(f"the checkpoint has none of {', '.join(f'{p}embed_tokens.weight' for p in PREFIXES)}")
    top = Reader(tensors, base, jnp.dtype(dtype), scheme)
    head = next((n for n in (f"{base.removesuffix('model.')}lm_head", "lm_head") if f"{n}.weight" in tensors.names), None)
    embed = top.array("embed_tokens.weight")
    tied = head is None or raw.get("tie_word_embeddings")
    return {
        "embed": embed,
        "norm": top.array("norm.weight"),
        "head": Linear(embed if tied else top.at("", absolute=True).array(f"{head}.weight")),
        "layers": [_layer(top.at(f"layers.{i}."), config, layer) for i, layer in enumerate(config.layers)],
        "rope": rope.tables(raw, config, length),
    }


def _layer(r: Reader, config: Config, layer: Layer) -> dict[str, Any]:
    names = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
    if config.norms.post:
        names = {
            "attention_norm": "input_layernorm",
            "post_attention_norm": "post_attention_layernorm",
            "mlp_norm": "pre_feedforward_layernorm",
            "post_mlp_norm": "post_feedforward_layernorm",
        }
    attend, inner = layer.attention, r.at("self_attn.")
    return {
        **{ours: r.array(f"{theirs}.weight") for ours, theirs in names.items()},
        "attention": _latent(inner, attend) if isinstance(attend, Latent) else _attention(inner, attend),
        "mlp": _mlp(r, config, layer),
    }


def _attention(r: Reader, a: Attention) -> dict[str, Any]:
    p: dict[str, Any] = {"qkv": r.linear("q_proj", "k_proj", "v_proj"), "out": r.linear("o_proj")}
    if a.qk_norm == "weight":
        p |= {"q_norm": r.array("q_norm.weight"), "k_norm": r.array("k_norm.weight")}
    if r.has("sinks"):
        p["sinks"] = r.array("sinks", jnp.float32)
    return p


def _latent(r: Reader, a: Latent) -> dict[str, Any]:
    up = r.dense("kv_b_proj").reshape(a.heads, a.nope_dim + a.value_dim, a.rank)
    p: dict[str, Any] = {
        "kv_a": r.linear("kv_a_proj_with_mqa"),
        "kv_norm": r.array("kv_a_layernorm.weight"),
        "key_up": jnp.swapaxes(up[:, : a.nope_dim], 1, 2).astype(r.dtype),
        "value_up": up[:, a.nope_dim :].astype(r.dtype),
        "out": r.linear("o_proj"),
    }
    if r.has("q_a_proj.weight"):
        return p | {"q_a": r.linear("q_a_proj"), "q_norm": r.array("q_a_layernorm.weight"), "q_b": r.linear("q_b_proj")}
    return p | {"q": r.linear("q_proj")}


def _mlp(r: Reader, config: Config, layer: Layer) -> dict[str, Any]:
    r = r.at(next((n for n in ("mlp.", "block_sparse_moe.", "feed_forward.") if r.holds(n)), "mlp."))
    if isinstance(layer.mlp, Experts):
        return experts(r, config.model_type, layer.mlp)
    return r.gated()


def size_in_bytes(params: Any) -> int:
    """Of the arrays of a tree, one that stands in it twice (a tied embedding) counted once."""
    return sum({id(x): x.nbytes for x in jax.tree.leaves(params)}.values())
