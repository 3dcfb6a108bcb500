"""From a Hugging Face ``config.json`` to the layers of a decoder: what the models differ in, as a table."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from examples.llm.config import Attention, Config, Experts, Latent, Layer, Mlp, Norms

Json = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Traits:
    """What a ``model_type`` says beside the numbers of its configuration.

    defaults: what its configurations on the Hub leave out. mixed: which layers are of the second type where ``layer_types`` is not
    given, every n-th of which is full attention. router: of its experts, None: it has none. interleave: pairs of neighbours are
    rotated, not halves.
    """

    qk_norm: str | None = None
    router: str | None = None
    interleave: bool = False
    gemma: bool = False
    latent: bool = False
    full_every: int | None = None
    defaults: Json = dataclasses.field(default_factory=dict)


_GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh",
    "head_dim": 256,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-6,
    "sliding_window": 4096,
}
_DEEPSEEK = Traits(router="grouped", latent=True, interleave=True)

TRAITS: dict[str, Traits] = {
    "llama": Traits(),
    "mistral": Traits(),
    "qwen2": Traits(),
    "qwen3": Traits(qk_norm="weight"),
    "mixtral": Traits(router="softmax"),
    "qwen3_moe": Traits(qk_norm="weight", router="softmax"),
    "deepseek_v3": _DEEPSEEK,
    "kimi_k2": _DEEPSEEK,
    "glm4_moe": Traits(router="grouped", defaults={"partial_rotary_factor": 0.5, "rms_norm_eps": 1e-5}),
    "gpt_oss": Traits(router="softmax", full_every=2, defaults={"swiglu_limit": 7.0, "sliding_window": 128, "rms_norm_eps": 1e-5}),
    "gemma2": Traits(
        gemma=True,
        full_every=2,
        defaults={**_GEMMA, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "max_position_embeddings": 8192},
    ),
    "gemma3_text": Traits(
        gemma=True,
        qk_norm="weight",
        full_every=6,
        defaults={
            **_GEMMA,
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "vocab_size": 262208,
            "max_position_embeddings": 131072,
        },
    ),
    "llama4_text": Traits(
        router="sigmoid",
        interleave=True,
        defaults={
            "use_qk_norm": True,
            "attn_temperature_tuning": True,
            "floor_scale": 8192,
            "attn_scale": 0.1,
            "attention_chunk_size": 8192,
            "no_rope_layer_interval": 4,
            "interleave_moe_layer_step": 1,
            "rms_norm_eps": 1e-5,
        },
    ),
}

ACTIVATIONS = {"silu": "silu", "gelu": "gelu", "gelu_pytorch_tanh": "gelu_tanh", "gelu_new": "gelu_tanh"}


def load_json(path: str | Path) -> dict[str, Any]:
    """A folder's ``config.json``, or such a file."""
    path = Path(path)
    return json.loads((path / "config.json" if path.is_dir() else path).read_text())


def complete(raw: Json) -> dict[str, Any]:
    """The text model's part of a configuration, with what its type leaves out; ValueError for a type that is not known."""
    raw = raw.get("text_config") or raw
    kind = raw.get("model_type")
    if kind not in TRAITS:
        raise ValueError(f"model_type is {kind!r}, must be one of {', '.join(sorted(TRAITS))}")
    return {**TRAITS[kind].defaults, **{name: value for name, value in raw.items() if value is not None}}


def read(raw: Json) -> Config:
    """The decoder that a configuration describes; KeyError names a number that it lacks."""
    c = complete(raw)
    traits = TRAITS[c["model_type"]]
    types = _layer_types(c, traits)
    return Config(
        model_type=c["model_type"],
        vocabulary=c["vocab_size"],
        dim=c["hidden_size"],
        layers=tuple(Layer(_attention(c, traits, i, kind), _mlp(c, traits, i)) for i, kind in enumerate(types)),
        norms=Norms(c.get("rms_norm_eps", 1e-6), 1.0 if traits.gemma else 0.0, traits.gemma),
        embed_scale=c["hidden_size"] ** 0.5 if traits.gemma else 1.0,
        logit_cap=c.get("final_logit_softcapping", 0.0),
        max_length=c["max_position_embeddings"],
    )


def _no_rope(c: Json, layer: int) -> bool:
    """Llama 4's layers without positions; its list says 1 for the others."""
    given = c.get("no_rope_layers")
    return not given[layer] if given else bool(interval := c.get("no_rope_layer_interval")) and (layer + 1) % interval == 0


def _layer_types(c: Json, traits: Traits) -> list[str]:
    count = c["num_hidden_layers"]
    if "layer_types" in c:
        return list(c["layer_types"])
    if c["model_type"] == "llama4_text":
        return ["full_attention" if _no_rope(c, i) else "chunked_attention" for i in range(count)]
    if traits.full_every is not None:
        every = c.get("sliding_window_pattern", traits.full_every)
        return ["sliding_attention" if (i + 1) % every else "full_attention" for i in range(count)]
    qwen = c["model_type"].startswith("qwen")
    sliding = "sliding_window" in c and c.get("use_sliding_window", not qwen)
    first = c.get("max_window_layers", 0) if qwen else 0
    return ["sliding_attention" if sliding and i >= first else "full_attention" for i in range(count)]


def _attention(c: Json, traits: Traits, layer: int, kind: str) -> Attention | Latent:
    if traits.latent:
        return _latent(c, traits)
    heads = c["num_attention_heads"]
    head_dim = c.get("head_dim", c["hidden_size"] // heads)
    llama4, no_rope = c["model_type"] == "llama4_text", _no_rope(c, layer)
    rope = kind if has_layer_ropes(c) else "full_attention"
    qk_norm = traits.qk_norm
    if c.get("use_qk_norm"):  # GLM-4.5 has weights, Llama 4 none and only where it rotates
        qk_norm = "weight" if not llama4 else None if no_rope else "after"
    return Attention(
        heads=heads,
        kv_heads=c.get("num_key_value_heads", heads),
        head_dim=head_dim,
        scale=c.get("query_pre_attn_scalar", head_dim) ** -0.5,
        rope=None if no_rope else rope,
        rotate_style="gptj" if c.get("rope_interleave", traits.interleave) else "neox",
        window=c["sliding_window"] if kind == "sliding_attention" else None,
        chunk=c["attention_chunk_size"] if kind == "chunked_attention" else None,
        soft_cap=c.get("attn_logit_softcapping", 0.0),
        qk_norm=qk_norm,
        temperature=(c["floor_scale"], c["attn_scale"]) if no_rope and c.get("attn_temperature_tuning") else None,
    )


def has_layer_ropes(c: Json) -> bool:
    """Whether layers of different types have rotary settings of their own, as in Gemma 3."""
    given = c.get("rope_parameters") or {}
    return "rope_local_base_freq" in c or any(isinstance(value, Mapping) for value in given.values())


def _latent(c: Json, traits: Traits) -> Latent:
    scale = (c["qk_nope_head_dim"] + c["qk_rope_head_dim"]) ** -0.5
    rope = c.get("rope_parameters") or c.get("rope_scaling") or {}
    all_dim, factor = rope.get("mscale_all_dim"), rope.get("factor", 1.0)
    if rope.get("rope_type", rope.get("type", "default")) != "default" and all_dim and factor > 1:
        scale *= (0.1 * all_dim * math.log(factor) + 1.0) ** 2
    return Latent(
        heads=c["num_attention_heads"],
        rank=c["kv_lora_rank"],
        nope_dim=c["qk_nope_head_dim"],
        rope_dim=c["qk_rope_head_dim"],
        value_dim=c["v_head_dim"],
        scale=scale,
        rotate_style="gptj" if c.get("rope_interleave", traits.interleave) else "neox",
    )


def _is_mixture(c: Json, layer: int) -> bool:
    if "moe_layers" in c:
        return layer in c["moe_layers"]
    if layer < c.get("first_k_dense_replace", 0) or layer in c.get("mlp_only_layers", ()):
        return False
    step = c.get("interleave_moe_layer_step") or c.get("decoder_sparse_step") or c.get("moe_layer_freq") or 1
    return (layer + 1) % step == 0 if "first_k_dense_replace" not in c else layer % step == 0


def _mlp(c: Json, traits: Traits, layer: int) -> Mlp | Experts:
    name = c.get("hidden_activation", c.get("hidden_act", "silu"))
    if name not in ACTIVATIONS:
        raise ValueError(f"hidden_act is {name!r}, must be one of {', '.join(sorted(ACTIVATIONS))}")
    activation = ACTIVATIONS[name]
    if traits.router is None or not _is_mixture(c, layer):
        return Mlp(c.get("intermediate_size_mlp", c["intermediate_size"]), activation)
    width = c.get("moe_intermediate_size", c["intermediate_size"])
    llama4, oss = (c["model_type"] == name for name in ("llama4_text", "gpt_oss"))
    shared = 1 if llama4 else c.get("n_shared_experts", 0)
    return Experts(
        count=next(c[n] for n in ("n_routed_experts", "num_local_experts", "num_experts") if n in c),
        topk=c["num_experts_per_tok"],
        width=width,
        activation="swiglu" if oss else activation,
        router=traits.router,
        renormalize=c.get("norm_topk_prob", c["model_type"] != "qwen3_moe"),
        factor=c.get("routed_scaling_factor", 1.0),
        groups=c.get("n_group", 1),
        topk_group=c.get("topk_group", 1),
        weigh_input=llama4,
        limit=c["swiglu_limit"] if oss else None,
        shared=Mlp(width * shared, activation) if shared else None,
    )
