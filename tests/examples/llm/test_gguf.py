"""GGUF files of Qwen's architectures, written here by PyPI's gguf, against transformers' models with the same weights; and what the
tokenizer inside of such a file puts in front of a text."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers as hf

pytest.importorskip("gguf", reason="gguf, of the extra `examples`, is not installed")

import gguf
from tokenizers import pre_tokenizers

from examples.llm import decoder
from examples.llm.checkpoint.gguf_file import NAMES
from examples.llm.open import Model, open_model
from tests.examples.llm.architectures import BASE, randomise

#: A token for each byte, two merges of them, and marks.
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = [("t", "h"), ("th", "e")]
MARKS = ["<|begin|>", "<|end|>"]
WORDS = [*BYTES, *("".join(m) for m in MERGES), *MARKS]
SIZES = {
    **BASE, "vocab_size": len(WORDS), "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "head_dim": 16,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5e4}, "tie_word_embeddings": False,
}  # fmt: skip
OURS = {theirs: ours for ours, theirs in NAMES.items()}
Q8 = gguf.GGMLQuantizationType.Q8_0


def words(writer: Any, pre: str, add_bos: bool | None) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(WORDS)
    marks = [gguf.TokenType.NORMAL] * (len(WORDS) - 2) + [gguf.TokenType.CONTROL] * 2
    writer.add_token_types(marks)
    writer.add_token_merges([" ".join(m) for m in MERGES])
    writer.add_bos_token_id(len(WORDS) - 2)
    writer.add_eos_token_id(len(WORDS) - 1)
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)


def write(path: Path, kind: str, c: Any, tensors: dict[str, np.ndarray], pre: str = "qwen2", add_bos: bool | None = None) -> None:
    """Matrices of layers in blocks of 8 bits, all else in floats, as the files on the Hub have them."""
    writer = gguf.GGUFWriter(path, kind)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_key_length(SIZES["head_dim"])
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_rope_freq_base(SIZES["rope_parameters"]["rope_theta"])
    words(writer, pre, add_bos)
    for name, w in tensors.items():
        stem, _, suffix = name.rpartition(".")
        if stem.startswith("model.layers."):
            _, _, layer, stem = stem.split(".", 3)
            stem = f"blk.{layer}.{OURS[stem]}"
        else:
            stem = OURS[stem]
        short = w.ndim == 2 and stem.startswith("blk.")
        writer.add_tensor(f"{stem}.{suffix}", gguf.quantize(w, Q8) if short else w, raw_dtype=Q8 if short else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Pair(NamedTuple):
    theirs: Any
    ours: Model


@pytest.fixture(scope="module", params=["qwen2", "qwen3"])
def pair(request, tmp_path_factory) -> Pair:
    """Theirs has the weights that the file's blocks say."""
    name = {"qwen2": "Qwen2", "qwen3": "Qwen3"}[request.param]
    config = getattr(hf, f"{name}Config")(**SIZES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(hf, f"{name}ForCausalLM")(config).eval()
        randomise(model)
    tensors = {n: p.detach().numpy() for n, p in model.named_parameters()}
    path = tmp_path_factory.mktemp("gguf") / f"{request.param}.gguf"
    write(path, request.param, config, tensors)
    with torch.no_grad():
        for n, p in model.named_parameters():
            if p.ndim == 2 and "layers" in n:
                p.copy_(torch.from_numpy(gguf.dequantize(gguf.quantize(tensors[n], Q8), Q8)))
    return Pair(model, open_model(path))


@pytest.fixture(autouse=True, scope="module")
def quick_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_logits_are_theirs(pair):
    """In float32. Biases of qwen2 and norms of qwen3's heads are random: one that is not read shows."""
    tokens = np.random.default_rng(0).integers(0, len(WORDS), (2, 13))
    with torch.no_grad():
        want = pair.theirs(torch.from_numpy(tokens), use_cache=False).logits.numpy()
    params = pair.ours.load(dtype="float32", scheme="none", length=16)
    got = np.asarray(decoder.forward(params, pair.ours.config, jnp.asarray(tokens, jnp.int32)))
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


def test_its_tokenizer_merges_and_comes_back(pair):
    tokenizer = pair.ours.tokenizer
    text = "the théâtre 42\n"
    tokens = tokenizer.encode(text)
    assert tokenizer.decode(tokens) == text
    assert tokens[:2] == [WORDS.index("the"), WORDS.index("Ġ")]
    assert tokenizer.stops == {len(WORDS) - 1}


@pytest.mark.parametrize(
    ("pre", "says", "begins"),
    [("qwen2", None, False), ("qwen2", True, True), ("llama-bpe", None, True), ("llama-bpe", False, False)],
)
def test_a_completion_begins_as_the_file_says(pre, says, begins, tmp_path):
    """With the mark of a beginning where ``add_bos_token`` says so, or, without that, in Llama 3's tokenizers. Only `prompt` does,
    for texts that stand for themselves: a chat's template writes its own."""
    config = hf.Qwen3Config(**SIZES)
    one = {"model.embed_tokens.weight": np.zeros((len(WORDS), 64), np.float32)}
    write(tmp_path / "a.gguf", "qwen3", config, one, pre, says)
    tokenizer = open_model(tmp_path / "a.gguf").tokenizer
    assert tokenizer.prompt("the") == [len(WORDS) - 2] * begins + [WORDS.index("the")]
    assert tokenizer.encode("the") == [WORDS.index("the")]
