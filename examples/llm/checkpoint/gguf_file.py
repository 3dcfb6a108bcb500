"""Models in a GGUF file: its metadata as a ``config.json``, its tensors under Hugging Face's names, taken out of their blocks."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import gguf
import numpy as np

#: Architectures whose tensors and metadata are understood, by ``model_type``. llama.cpp keeps the rows of queries and keys of
#: "llama" so that neighbours form a pair to rotate.
ARCHITECTURES = {"llama": {"rope_interleave": True}, "qwen2": {}, "qwen3": {}}

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class GgufFile:
    """`Tensors` that dequantises one at a time, with `config` and `metadata` beside them.

    Raises ValueError for an architecture or a tensor that is not known.
    """

    def __init__(self, path: str | Path):
        self._reader = gguf.GGUFReader(str(path))
        kind = self.metadata("general.architecture")
        if kind not in ARCHITECTURES:
            raise ValueError(f"{path} has a model of architecture {kind!r}, must be one of {', '.join(ARCHITECTURES)}")
        self._tensors = {_name(str(path), t.name): t for t in self._reader.tensors}
        self.config: dict[str, Any] = {"model_type": kind, **ARCHITECTURES[kind], **self._sizes(f"{kind}.")}

    def metadata(self, name: str, default: Any = None) -> Any:
        """The value of a key; `default` where the file has none."""
        field = self._reader.get_field(name)
        return default if field is None else field.contents()

    def _sizes(self, kind: str) -> dict[str, Any]:
        heads, dim = self.metadata(f"{kind}attention.head_count"), self.metadata(f"{kind}embedding_length")
        return {
            "vocab_size": int(self._tensors["model.embed_tokens.weight"].shape[-1]),
            "hidden_size": dim,
            "intermediate_size": self.metadata(f"{kind}feed_forward_length"),
            "num_hidden_layers": self.metadata(f"{kind}block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self.metadata(f"{kind}attention.head_count_kv", heads),
            "head_dim": self.metadata(f"{kind}attention.key_length", dim // heads),
            "rms_norm_eps": self.metadata(f"{kind}attention.layer_norm_rms_epsilon"),
            "rope_theta": self.metadata(f"{kind}rope.freq_base", 10000.0),
            "max_position_embeddings": self.metadata(f"{kind}context_length"),
            "hidden_act": "silu",
        }

    @property
    def names(self) -> Collection[str]:
        return self._tensors.keys()

    def read(self, name: str) -> np.ndarray:
        """float32."""
        tensor = self._tensors[name]
        return gguf.dequantize(tensor.data, tensor.tensor_type)


def _name(path: str, name: str) -> str:
    """``blk.3.attn_q.weight`` as ``model.layers.3.self_attn.q_proj.weight``."""
    stem, _, suffix = name.rpartition(".")
    prefix = ""
    if stem.startswith("blk."):
        _, layer, stem = stem.split(".", 2)
        prefix = f"model.layers.{layer}."
    if stem not in NAMES or suffix not in ("weight", "bias"):
        raise ValueError(f"{path} has a tensor {name!r}, which this example has no place for")
    return f"{prefix}{NAMES[stem]}.{suffix}"
