"""Reading checkpoints: shards, FP8 with block scales, MXFP4, and what is refused."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

import jax_aiter
from examples.llm import architectures
from examples.llm.checkpoint import mxfp4, quantise, weights
from examples.llm.checkpoint.expert_weights import experts
from examples.llm.checkpoint.reader import Reader
from examples.llm.checkpoint.safetensors_files import SafetensorsFolder
from examples.llm.checkpoint.tensors import InMemory
from examples.llm.linear import Blocks
from tests.examples.llm.architectures import make


def load(folder, **options):
    raw = architectures.load_json(folder)
    return weights.load(SafetensorsFolder(folder), raw, architectures.read(raw), **options)


def test_shards_are_the_whole():
    one, many = make("mixtral").folder, make("mixtral", "20KB").folder
    assert len(list(many.glob("*.safetensors"))) > 3
    a, b = load(one, dtype="float32"), load(many, dtype="float32")
    assert jax.tree.all(jax.tree.map(lambda x, y: bool((x == y).all()), a, b))


def test_a_folder_that_lacks_what_it_lists_is_refused(tmp_path):
    save_file({"a": np.ones(2, np.float32)}, tmp_path / "1.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "1.safetensors"}}))
    with pytest.raises(ValueError, match="lists 'b', which none of its files holds"):
        SafetensorsFolder(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "../1.safetensors"}}))
    with pytest.raises(ValueError, match=r"names '../1.safetensors', which is not a file beside it"):
        SafetensorsFolder(tmp_path)


def test_what_is_not_known_is_refused_by_name():
    with pytest.raises(ValueError, match="model_type is 'bert', must be one of"):
        architectures.read({"model_type": "bert"})
    folder = make("mixtral").folder
    raw = architectures.load_json(folder)
    tensors = SafetensorsFolder(folder)
    with pytest.raises(ValueError, match="scheme is 'fp4', must be one of"):
        load(folder, scheme="fp4")
    lacking = InMemory({n: tensors.read(n) for n in tensors.names if not n.endswith("layers.1.self_attn.k_proj.weight")})
    with pytest.raises(ValueError, match=r"no tensor 'model.layers.1.self_attn.k_proj.weight'"):
        weights.load(lacking, raw, architectures.read(raw))


def test_fp8_with_block_scales_is_taken_as_it_is(tmp_path):
    """As DeepSeek ships them: e4m3fn values, a scale for each block of 128 x 128, the last of them not whole."""
    rng = np.random.default_rng(0)
    values = {n: rng.standard_normal((n, 256)).astype(ml_dtypes.float8_e4m3fn) for n in (256, 200)}
    scales = {n: rng.uniform(0.5, 2, (2, 2)).astype(np.float32) for n in values}
    tensors = {f"{n}.weight": v for n, v in values.items()} | {f"{n}.weight_scale_inv": s for n, s in scales.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    folder = SafetensorsFolder(tmp_path)
    both = np.concatenate([v.astype(np.float32) * np.kron(scales[n], np.ones((128, 128)))[:n] for n, v in values.items()])
    for arch in ("gfx942", "gfx950"):
        with jax_aiter.config(arch=arch):
            kept = Reader(folder, "", jnp.float32, "keep").linear("256", "200").weight
            assert isinstance(kept, Blocks)
            assert kept.values.dtype == jax_aiter.fp8_dtype()
        np.testing.assert_allclose(quantise.dequantise(kept), both, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(kept.values), np.concatenate(list(values.values())))
    np.testing.assert_allclose(Reader(folder, "", jnp.float32, "none").linear("256", "200").weight, both, rtol=1e-6)
    other = Reader(folder, "", jnp.float32, "keep").linear("200", "256").weight  # the second begins inside of a block
    np.testing.assert_allclose(other, np.concatenate([both[256:], both[:256]]), rtol=1e-6)


def test_fp8_experts_are_taken_as_they_are():
    """`keep` stacks what is there; blocks that are not whole are refused, and quantised again where a scheme says so."""
    rng = np.random.default_rng(1)

    def checkpoint(width):
        shapes = {"gate_proj": (width, 128), "up_proj": (width, 128), "down_proj": (128, width)}
        found = {"gate.weight": rng.standard_normal((2, 128)).astype(np.float32)}
        for e in range(2):
            for n, (rows, columns) in shapes.items():
                found[f"experts.{e}.{n}.weight"] = rng.standard_normal((rows, columns)).astype(ml_dtypes.float8_e4m3fn)
                found[f"experts.{e}.{n}.weight_scale_inv"] = rng.uniform(0.5, 2, (-(-rows // 128), -(-columns // 128))).astype("f4")
        return InMemory(found)

    described = architectures.Experts(2, 1, 128)
    tensors = checkpoint(128)
    with jax_aiter.config(arch="gfx950"):
        p = experts(Reader(tensors, "", jnp.bfloat16, "keep"), "deepseek_v3", described)
    assert p["w1"].weight.values.shape == (2, 256, 128)
    assert p["w1"].weight.scale.shape == (2, 2, 1)
    np.testing.assert_array_equal(np.asarray(p["w1"].weight.values[1, 128:]), tensors.read("experts.1.up_proj.weight"))
    np.testing.assert_array_equal(p["w2"].weight.scale[1], tensors.read("experts.1.down_proj.weight_scale_inv"))
    tensors = checkpoint(96)
    with pytest.raises(ValueError, match="blocks that are not whole"):
        experts(Reader(tensors, "", jnp.bfloat16, "keep"), "deepseek_v3", described)
    again = experts(Reader(tensors, "", jnp.bfloat16, "fp8"), "deepseek_v3", described)
    assert again["w1"].weight.scale.shape == (2, 192, 1)


def test_mxfp4_is_unpacked_as_transformers_does():
    rng = np.random.default_rng(2)
    blocks, scales = rng.integers(0, 256, (2, 6, 3, 16), np.uint8), rng.integers(120, 132, (2, 6, 3), np.uint8)
    want = convert_moe_packed_tensors(torch.from_numpy(blocks), torch.from_numpy(scales), dtype=torch.float32)
    np.testing.assert_array_equal(np.swapaxes(mxfp4.unpack(blocks, scales), 1, 2), want.numpy())


@pytest.mark.parametrize(("scheme", "bound"), [("fp8", 2.0**-4), ("fp8_block", 2.0**-4), ("int8", 0.5 / 127 * 1.001)])
def test_a_quantised_weight_is_near(scheme, bound):
    """fp8 errs by half a unit of 3 fraction bits of a value (or a tiny part of the largest), int8 by half a step of its row."""
    w = jax.random.normal(jax.random.key(0), (3, 70, 200))
    back = quantise.dequantise(quantise.quantise(w, scheme))
    assert not np.any(back[..., 200:])
    error = np.abs(np.asarray(back[..., :200] - w))
    small = 2.0**-9 / 448 * float(jnp.abs(w).max())
    assert (error <= (np.abs(w) * bound + small if scheme != "int8" else bound * jnp.abs(w).max(-1, keepdims=True))).all()
    assert error.max() > 0
