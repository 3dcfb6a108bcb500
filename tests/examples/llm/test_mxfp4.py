"""gpt-oss's experts stay packed in MXFP4, and give the logits of transformers with the weights that it decodes itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers as hf
from safetensors.torch import save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from examples.llm import architectures
from examples.llm.checkpoint import weights
from examples.llm.checkpoint.safetensors_files import SafetensorsFolder
from examples.llm.distributed import layout
from examples.llm.linear import Packed
from tests.examples.llm.architectures import ARCHITECTURES, BASE, Model, randomise
from tests.examples.llm.test_parity import LIMIT, TOKENS, paged, quick_compile, whole  # noqa: F401

EXPERTS = ("gate_up_proj", "down_proj")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Model:
    """Transformers' model holds the decoded weights; its folder the packed ones, under the names that OpenAI gave them."""
    folder = tmp_path_factory.mktemp("gpt-oss")
    sizes = {"hidden_size": 96, "intermediate_size": 32}  # whole blocks of 32, odd otherwise
    config = hf.GptOssConfig(**{**BASE, **ARCHITECTURES["gpt_oss"][1], **sizes})
    rng = np.random.default_rng(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = hf.GptOssForCausalLM(config).eval()
        randomise(theirs)
    tensors = dict(theirs.state_dict())
    for i, layer in enumerate(theirs.model.layers):
        for name in EXPERTS:
            weight = getattr(layer.mlp.experts, name)  # [E, K, N]
            count, columns, rows = weight.shape
            blocks = torch.from_numpy(rng.integers(0, 256, (count, rows, columns // 32, 16), np.uint8))
            scales = torch.from_numpy(rng.integers(121, 125, (count, rows, columns // 32), np.uint8))
            with torch.no_grad():
                weight.copy_(convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))
            prefix = f"model.layers.{i}.mlp.experts.{name}"
            del tensors[prefix]
            tensors |= {f"{prefix}_blocks": blocks, f"{prefix}_scales": scales}
    config.save_pretrained(folder)
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors")
    return Model(theirs, folder)


def load(model, scheme):
    raw = architectures.load_json(model.folder)
    config = architectures.read(raw)
    return weights.load(SafetensorsFolder(model.folder), raw, config, dtype="float32", scheme=scheme), config


def test_packed_experts_are_kept_and_give_their_logits(model):
    params, config = load(model, "keep")
    for layer in params["layers"]:
        held = [w for w in jax.tree.leaves(layer, is_leaf=lambda x: isinstance(x, Packed)) if isinstance(w, Packed)]
        assert [w.values.shape[1:] for w in held] == [(64, 48), (96, 16)]
        assert all(x.dtype == jnp.uint8 for w in held for x in w)
    want = model.logits(TOKENS)
    for way in (whole, paged):
        error = np.abs(way(params, config) - want).max() / np.abs(want).max()
        print(f"gpt_oss packed {way.__name__}: {error:.1e} of the largest logit")
        assert error <= LIMIT
    with pytest.raises(ValueError, match=r"scales by 32 columns \(MXFP4\) cannot be split"):
        layout.separate(params, config)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("scheme", "limit"), [("none", LIMIT), ("int8", 0.3)])
def test_other_schemes_decode_them(model, scheme, limit):
    params, config = load(model, scheme)
    want = model.logits(TOKENS)
    error = np.median(np.abs(whole(params, config) - want)) / np.abs(want).max()
    assert error <= limit
