"""A model of random weights that knows bytes: small enough that serving a hundred requests takes a second."""

import functools
import json
import tempfile
from pathlib import Path

import numpy as np
import tokenizers
from safetensors.numpy import save_file
from tokenizers import decoders, models, pre_tokenizers

from examples.llm.open import Model, open_model
from examples.llm.serving.engine import Engine
from examples.llm.serving.runner import Runner
from examples.llm.serving.settings import Settings

LENGTH = 64
MARKS = ("<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>a\n{% endif %}"
)
CONFIG = {
    "model_type": "llama", "vocab_size": 258, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 4 * LENGTH, "rope_theta": 1e4,
    "rms_norm_eps": 1e-5, "hidden_act": "silu", "tie_word_embeddings": False,
}  # fmt: skip


def _tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    dim, width, heads, vocabulary = 24, 40, 32, CONFIG["vocab_size"]
    shapes = {"model.embed_tokens": (vocabulary, dim), "lm_head": (vocabulary, dim)}
    for i in range(CONFIG["num_hidden_layers"]):
        at = f"model.layers.{i}."
        shapes |= {f"{at}self_attn.{n}_proj": (rows, dim) for n, rows in (("q", heads), ("k", heads // 2), ("v", heads // 2))}
        shapes |= {f"{at}self_attn.o_proj": (dim, heads), f"{at}mlp.down_proj": (dim, width)}
        shapes |= {f"{at}mlp.{n}_proj": (width, dim) for n in ("gate", "up")}
    found = {f"{n}.weight": (rng.standard_normal(s) * 2.5 * s[1] ** -0.5).astype(np.float32) for n, s in shapes.items()}
    norms = ["model.norm"] + [f"model.layers.{i}.{n}_layernorm" for i in range(2) for n in ("input", "post_attention")]
    return found | {f"{n}.weight": (1 + 0.2 * rng.standard_normal(dim)).astype(np.float32) for n in norms}


def _codec() -> tokenizers.Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    codec = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    codec.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # type: ignore[assignment]
    codec.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    codec.add_special_tokens(list(MARKS))
    return codec


_FOLDER = tempfile.TemporaryDirectory(prefix="llm-serving-")  # lives as long as the process that reads it


@functools.cache
def folder() -> Path:
    """As a model of Hugging Face's lies on a disk."""
    path = Path(_FOLDER.name)
    save_file(_tensors(), path / "model.safetensors")
    _codec().save(str(path / "tokenizer.json"))
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": MARKS[1], "chat_template": TEMPLATE}))
    return path


@functools.cache
def model() -> Model:
    return open_model(folder())


@functools.cache
def params():
    return model().load(dtype="float32", scheme="none", length=LENGTH)


def engine(pool: int | None = None, **settings) -> Engine:
    """On the programs of earlier engines with these settings, and a cache of its own. pool: of the blocks, those that are used."""
    defaults = {
        "max_length": LENGTH, "block_size": 8, "blocks": 32, "max_sequences": 2, "step_tokens": 16, "buckets": ((16, 2),),
    }  # fmt: skip
    runner = Runner(params(), model().config, Settings(**{**defaults, **settings}))
    return Engine(runner, model().tokenizer, blocks=pool)
