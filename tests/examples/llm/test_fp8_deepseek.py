"""A whole checkpoint as DeepSeek ships it, in FP8 with scales by blocks, against transformers' model of the dequantised weights."""

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

import jax_aiter
from examples.llm import architectures, decoder
from examples.llm.checkpoint import weights
from examples.llm.checkpoint.safetensors_files import SafetensorsFolder
from examples.llm.linear import Blocks
from examples.llm.session import Session
from tests.examples.llm.architectures import BASE, LATENT, YARN, randomise

BLOCK = 128
#: Experts and the widths that they read have whole blocks, as in DeepSeek's own; a head and the ranks have not.
SIZES = {
    **BASE, **LATENT, "hidden_size": 256, "intermediate_size": 200, "moe_intermediate_size": 128, "n_routed_experts": 8,
    "n_group": 4, "kv_lora_rank": 144, "q_lora_rank": 160, "vocab_size": 131,
    "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.7},
}  # fmt: skip
TOKENS = np.random.default_rng(0).integers(3, 131, (2, 17))


class Checkpoint(NamedTuple):
    folder: Path
    dense: dict[str, torch.Tensor]
    logits: np.ndarray


def in_blocks(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """e4m3fn values, the scale of each block of 128 x 128, and what the two say, in float32. The last blocks may not be whole."""
    rows, columns = w.shape
    tall = torch.zeros(-(-rows // BLOCK) * BLOCK, -(-columns // BLOCK) * BLOCK)
    tall[:rows, :columns] = w
    tiles = tall.reshape(tall.shape[0] // BLOCK, BLOCK, -1, BLOCK)
    scale = tiles.abs().amax((1, 3)) / 448
    values = (tiles / scale[:, None, :, None]).to(torch.float8_e4m3fn)
    back = values.to(torch.float32) * scale[:, None, :, None]
    values, back = (x.reshape(tall.shape)[:rows, :columns].contiguous() for x in (values.view(torch.uint8), back))
    return values.view(torch.float8_e4m3fn), scale, back


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    """Every matrix of attention, MLPs and experts is quantised; norms, the router, embedding and head are not."""
    plain, short, exact = (tmp_path_factory.mktemp(name) for name in ("plain", "fp8", "exact"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = hf.DeepseekV3ForCausalLM(hf.DeepseekV3Config(**SIZES)).eval()
        randomise(model)
    model.save_pretrained(plain)
    stored: dict[str, Any] = {}
    dense = {}
    for name, w in load_file(plain / "model.safetensors").items():
        if name.endswith(("proj.weight", "_mqa.weight")):
            values, scale, dense[name] = in_blocks(w)
            stored |= {name: values, f"{name}_scale_inv": scale}
        else:
            stored[name] = dense[name] = w
    save_file(stored, short / "model.safetensors", {"format": "pt"})
    save_file(dense, exact / "model.safetensors", {"format": "pt"})
    config = json.loads((plain / "config.json").read_text())
    (exact / "config.json").write_text(json.dumps(config))
    config["quantization_config"] = {
        "activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK],
    }  # fmt: skip
    (short / "config.json").write_text(json.dumps(config))
    theirs = hf.DeepseekV3ForCausalLM.from_pretrained(exact, attn_implementation="eager", experts_implementation="eager").eval()
    with torch.no_grad():
        return Checkpoint(short, dense, theirs(torch.from_numpy(TOKENS), use_cache=False).logits.numpy())


def load(found: Checkpoint, **options):
    raw = architectures.load_json(found.folder)
    config = architectures.read(raw)
    return weights.load(SafetensorsFolder(found.folder), raw, config, dtype="float32", **options), config


@pytest.fixture(autouse=True, scope="module")
def quick_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_dequantised_its_logits_are_theirs(checkpoint):
    """float32, within 1e-5 of the largest logit, as for checkpoints of floats."""
    params, config = load(checkpoint, scheme="none")
    ours = np.asarray(decoder.forward(params, config, jnp.asarray(TOKENS, jnp.int32)))
    assert np.abs(ours - checkpoint.logits).max() <= 1e-5 * np.abs(checkpoint.logits).max()


@pytest.mark.exhaustive
@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_kept_in_fp8_it_is_near(checkpoint, arch):
    """Weights are the checkpoint's; activations are rounded to e4m3, by 2^-4 / sqrt(3) of a value, in some 5 products a layer. In
    one pass, and over the paged cache. The median over tokens, as one may take another expert.
    """
    with jax_aiter.config(arch=arch):
        params, config = load(checkpoint, scheme="keep")
        held = params["layers"][1]["mlp"]
        for weight in (params["layers"][0]["attention"]["q_b"].weight, held["w1"].weight, held["w2"].weight):
            assert isinstance(weight, Blocks)
            assert weight.values.dtype == jax_aiter.fp8_dtype()
        run = functools.partial(Session, params, config, count=2, length=TOKENS.shape[1], block_size=4, sizes=(34,))
        ways = decoder.forward(params, config, jnp.asarray(TOKENS, jnp.int32)), run().feed(TOKENS.tolist(), every=True)
        found = [np.asarray(logits) for logits in ways]
    for logits in found:
        apart = np.sqrt(np.mean((logits - checkpoint.logits) ** 2, -1)) / np.sqrt(np.mean(checkpoint.logits**2))
        assert 0 < np.median(apart) <= 0.25
