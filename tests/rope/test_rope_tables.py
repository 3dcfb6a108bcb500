"""rope_tables against Hugging Face's own frequencies and rotary embedding modules.

Theirs are float32: a power, some products, then angle = position * frequency rounded to float32, whose cosine and sine are taken.
A frequency of theirs is off by at most `FREQUENCY` units, an angle by that and its own rounding; ours is rounded once at the end.
"""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import DeepseekV3Config, Gemma3TextConfig, GPTNeoXConfig, HunYuanDenseV1Config, LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3RotaryEmbedding
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding
from transformers.models.hunyuan_v1_dense.modeling_hunyuan_v1_dense import HunYuanDenseV1RotaryEmbedding
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from jax_aiter import rope_tables
from jax_aiter.core.arch import FNUZ
from tests.oracle import ROUNDOFF, f64

U = ROUNDOFF["float32"]
# The exponent 2i/d and the logarithm behind the power: |log(base) * 2i/d| <= 17 makes each of the two roundings 17 units; ramps,
# blends and factors add a few. Where a blend cancels, what is left is still at least 1/factor of its terms.
FREQUENCY = 64 * U

KINDS = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 2.5},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    },
    "yarn": {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 64},
    "yarn_mscale": {
        "rope_type": "yarn",
        "factor": 40.0,
        "mscale": 1.0,
        "mscale_all_dim": 0.7,
        "beta_fast": 24.0,
        "beta_slow": 2.0,
        "original_max_position_embeddings": 64,
    },
    "yarn_whole_ramp": {"rope_type": "yarn", "factor": 32.0, "truncate": False, "original_max_position_embeddings": 64},
    "yarn_attention": {"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.3, "original_max_position_embeddings": 64},
    "longrope": {
        "rope_type": "longrope",
        "short_factor": [1.0 + i / 10 for i in range(16)],
        "long_factor": [2.0 + i for i in range(16)],
        "original_max_position_embeddings": 64,
    },
}


def llama(rope=None, **fields):
    """32 elements to a head, 512 positions."""
    sizes = {"hidden_size": 128, "num_attention_heads": 4, "num_hidden_layers": 1, "max_position_embeddings": 512, **fields}
    return LlamaConfig(**sizes, rope_parameters={"rope_theta": 10000.0, **(rope or {"rope_type": "default"})})


def theirs(module, length):
    """Their table: cosines and sines of the whole head, whose second half repeats the first."""
    cos, sin = module(torch.zeros(1, 1, 1), torch.arange(length)[None])
    return [f64(t[0, :, : t.shape[-1] // 2].numpy()) for t in (cos, sin)]


def assert_tables(got, module, length):
    want = theirs(module, length)
    frequencies = f64(module.inv_freq.numpy())
    angles = np.arange(length)[:, None] * frequencies
    allowed = (angles * (FREQUENCY + U) + 4 * U) * max(1.0, module.attention_scaling)
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape
        assert (np.abs(f64(g) - w) <= allowed).all(), np.abs(f64(g) - w).max()


@pytest.mark.parametrize("theta", [10000.0, 500000.0])
@pytest.mark.parametrize("kind", KINDS)
def test_is_hugging_faces_table(kind, theta):
    config = llama({**KINDS[kind], "rope_theta": theta})
    assert_tables(rope_tables(config, 300, seq_len=300), LlamaRotaryEmbedding(config), 300)


@pytest.mark.parametrize("length", [513, 2000])
@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_a_sequence_beyond_the_trained_length(kind, length):
    """Theirs changes with the longest position it has seen."""
    config = llama(KINDS[kind])
    assert_tables(rope_tables(config, length), LlamaRotaryEmbedding(config), length)
    other = rope_tables(config, 400, seq_len=length)
    assert (np.asarray(other[0]) == np.asarray(rope_tables(config, length)[0])[:400]).all()


def test_angles_are_exact_at_large_positions():
    """Rounded once: within half a unit of float64's at 131,071, where float32 products of theirs are 0.004 off."""
    cos, sin = rope_tables(llama(max_position_embeddings=131072))
    assert cos.shape == (131072, 16)
    angle = 131071 * 10000.0 ** (-np.arange(0, 32, 2) / 32)
    for got, want in ((cos, np.cos(angle)), (sin, np.sin(angle))):
        assert (np.abs(f64(got[-1]) - want) <= U * np.abs(want) + 1e-10).all()  # float64's own error at this angle


def test_deepseek():
    """The rotary part of a head has its own size, and its raw configuration no head_dim."""
    rope = {"rope_theta": 10000.0, **KINDS["yarn_mscale"]}
    config = DeepseekV3Config(qk_rope_head_dim=64, max_position_embeddings=2560, rope_parameters=rope)
    assert_tables(rope_tables(config, 200), DeepseekV3RotaryEmbedding(config), 200)
    raw = {"hidden_size": 7168, "num_attention_heads": 128, "qk_rope_head_dim": 64, "max_position_embeddings": 2560}
    raw |= {"rope_theta": 10000, "rope_scaling": {**rope, "type": "yarn"}}
    for a, b in zip(rope_tables(raw, 200), rope_tables(config, 200), strict=True):
        assert (a == b).all()


def test_old_names_and_plain_dicts():
    """What a ``config.json`` of 2023 says: rope_scaling with type, the base beside it."""
    raw = {"hidden_size": 128, "num_attention_heads": 4, "max_position_embeddings": 512, "rope_theta": 5000.0}
    raw["rope_scaling"] = {"type": "linear", "factor": 2.5}
    want = rope_tables(llama({**KINDS["linear"], "rope_theta": 5000.0}))
    for g, w in zip(rope_tables(json.loads(json.dumps(raw))), want, strict=True):
        assert (g == w).all()


def test_partial_rotation():
    config = llama({"rope_type": "default", "partial_rotary_factor": 0.5})
    module = LlamaRotaryEmbedding(config)
    cos, _ = rope_tables(config, 20)
    assert cos.shape == (20, 8)
    if module.inv_freq.shape == (8,):  # older modules rotate whole heads whatever the configuration says
        assert_tables(rope_tables(config, 20), module, 20)
    want = np.cos(np.arange(20)[:, None] * 10000.0 ** (-np.arange(0, 16, 2) / 16))
    np.testing.assert_allclose(f64(cos), want, rtol=0, atol=2 * U)


FUNCTIONS = {kind: settings for kind, settings in KINDS.items() if kind != "default"}
FUNCTIONS["proportional"] = {"rope_type": "proportional", "factor": 2.0}


def of_head(settings, part):
    """Lists of factors are as long as there are rotated pairs."""
    lists = {n: v[: int(16 * part)] for n, v in settings.items() if isinstance(v, list)}
    return {**settings, **lists, "partial_rotary_factor": part}


@pytest.mark.parametrize("part", [1.0, 0.5, 0.25])
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_frequencies_and_factor_of_a_part_of_the_head(kind, part):
    """Hugging Face's own functions; the frequency of a pair is its angle at position 1, told by sine and cosine."""
    settings = of_head(FUNCTIONS[kind], part)
    config = llama(settings)
    want, factor = ROPE_INIT_FUNCTIONS[settings["rope_type"]](config, torch.device("cpu"), seq_len=400)
    cos, sin = (f64(t[1]) for t in rope_tables(config, 2, seq_len=400))
    assert cos.shape == want.shape
    np.testing.assert_allclose(np.hypot(cos, sin), factor, rtol=4 * U)
    np.testing.assert_allclose(np.arctan2(sin, cos), f64(want.numpy()), rtol=FREQUENCY + 8 * U, atol=1e-45)


def same(a, b):
    for x, y in zip(a, b, strict=True):
        assert x.shape == y.shape
        assert (np.asarray(x) == np.asarray(y)).all()


@pytest.mark.parametrize("kind", [*KINDS, "proportional"])
@pytest.mark.parametrize("where", ["today", "beside", "beside, with type"])
def test_a_configuration_as_each_release_writes_it(kind, where):
    """rope_parameters of transformers 5; rope_scaling of 4 with base and part beside it, named rope_type or (older) type."""
    settings = of_head({**FUNCTIONS, **KINDS}[kind], 0.5)
    config = llama(settings)
    raw = json.loads(json.dumps(config.to_dict()))
    if where != "today":
        scaling = dict(settings)
        if where == "beside, with type":
            scaling["type"] = scaling.pop("rope_type")
        raw |= {"rope_theta": 10000.0, "partial_rotary_factor": scaling.pop("partial_rotary_factor")}
        raw |= {"rope_scaling": None if kind == "default" else scaling}
        del raw["rope_parameters"]
    same(rope_tables(raw, 60, seq_len=300), rope_tables(config, 60, seq_len=300))


def test_gpt_neox_as_its_old_files_name_it():
    raw = {
        "hidden_size": 128,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
        "rotary_pct": 0.25,
        "rotary_emb_base": 5000,
    }
    config = GPTNeoXConfig(**raw)
    assert_tables(rope_tables(config, 200), GPTNeoXRotaryEmbedding(config), 200)
    same(rope_tables(raw, 200), rope_tables(config, 200))


@pytest.mark.parametrize("length", [60, 300])
def test_phi3_called_longrope_su(length):
    raw = {"hidden_size": 128, "num_attention_heads": 4, "num_hidden_layers": 1, "rope_theta": 10000.0}
    raw |= {"max_position_embeddings": 512, "original_max_position_embeddings": 64, "pad_token_id": 0}
    factors = {n: KINDS["longrope"][n] for n in ("short_factor", "long_factor")}
    known = {
        "type": "su",
        "original_max_position_embeddings": 64,
        **factors,
    }  # transformers 5 wants it here, its files have it above
    config = Phi3Config(**json.loads(json.dumps({**raw, "rope_scaling": known})))
    assert_tables(rope_tables(config, length), Phi3RotaryEmbedding(config), length)
    same(rope_tables({**raw, "rope_scaling": {"type": "su", **factors}}, length), rope_tables(config, length))


def test_a_base_stretched_once():
    rope = {"rope_type": "dynamic", "alpha": 1000.0, "factor": 1.0, "rope_theta": 10000.0}
    config = HunYuanDenseV1Config(hidden_size=128, num_attention_heads=4, head_dim=32, rope_parameters=rope)
    assert_tables(rope_tables(config, 200), HunYuanDenseV1RotaryEmbedding(config), 200)


GEMMA = {"head_dim": 32, "num_hidden_layers": 6, "max_position_embeddings": 512}
SCALED = {"rope_type": "linear", "factor": 8.0}


@pytest.mark.parametrize("layer_type", ["sliding_attention", "full_attention"])
def test_gemma3_as_both_releases_write_it(layer_type):
    """Global layers interpolate; local ones have a base of their own, which transformers 4 kept in rope_local_base_freq."""
    old = {**GEMMA, "rope_theta": 1e6, "rope_local_base_freq": 2e4, "rope_scaling": SCALED}
    config = Gemma3TextConfig(**json.loads(json.dumps(old)))
    module = Gemma3RotaryEmbedding(config)
    cos, sin = module(torch.zeros(1, 1, 1), torch.arange(200)[None], layer_type)
    frequencies = f64(getattr(module, f"{layer_type}_inv_freq").numpy())
    allowed = np.arange(200)[:, None] * frequencies * (FREQUENCY + U) + 4 * U
    got = rope_tables(config, 200, layer_type=layer_type)
    for g, w in zip(got, (cos, sin), strict=True):
        assert (np.abs(f64(g) - f64(w[0, :, :16].numpy())) <= allowed).all()
    for raw in (old, json.loads(json.dumps(config.to_dict()))):
        same(rope_tables(raw, 200, layer_type=layer_type), got)
    with pytest.raises(ValueError, match=r"layer_type must be one of \['full_attention', 'sliding_attention'\], got None"):
        rope_tables(old)


def test_layers_of_two_kinds():
    config = Gemma3TextConfig(head_dim=32, num_hidden_layers=2)
    local, whole = (rope_tables(config, 50, layer_type=t) for t in ("sliding_attention", "full_attention"))
    for (cos, _), base in ((local, 1e4), (whole, 1e6)):
        want = np.cos(np.arange(50)[:, None] * base ** (-np.arange(0, 32, 2) / 32))
        np.testing.assert_allclose(f64(cos), want, rtol=0, atol=2 * U)
    with pytest.raises(ValueError, match=r"layer_type must be one of \['full_attention', 'sliding_attention'\], got None"):
        rope_tables(config)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_other_dtypes_are_rounded_float32(dtype):
    config = llama(KINDS["yarn"])
    for got, want in zip(rope_tables(config, 40, dtype=dtype), rope_tables(config, 40), strict=True):
        assert got.dtype == dtype
        assert (got == want.astype(dtype)).all()


def raw(rope=None, **fields):
    return {"head_dim": 32, "max_position_embeddings": 512, "rope_parameters": rope or {}, **fields}


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (raw({"rope_type": "ntk"}), {}, "rope_type must be one of"),
        (raw({"rope_type": "yarn", "factor": "2"}), {}, "factor must be a static float"),
        (raw({"rope_type": "linear"}), {}, "rope settings have no factor, which rope_type 'linear' needs"),
        (raw({"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0}), {}, "have no high_freq_factor"),
        (raw({"rope_type": "linear", "factor": 0}), {}, "factor must be a finite number > 0"),
        (raw({"rope_type": "longrope", "short_factor": [1.0] * 15}), {}, r"short_factor has shape \(15,\), must be \(16,\)"),
        (raw(head_dim=7), {}, "7 of a head's 7 elements are rotated, must be an even number"),
        (raw(partial_rotary_factor=2.0), {}, "64 of a head's 32 elements"),
        (raw(), {"length": 0}, "length must be"),
        (raw(), {"length": 2**24 + 1}, "length must be"),
        (raw(), {"layer_type": "full_attention"}, "layer_type is 'full_attention', must be None"),
        (raw(), {"dtype": FNUZ}, "dtype must be float32 or bfloat16 or float16"),
        (raw(max_position_embeddings=None), {}, "config has no max_position_embeddings, so length must be given"),
        ({"hidden_size": 64}, {"length": 3}, "config has no head_dim, nor hidden_size and num_attention_heads"),
    ],
)
def test_errors_name_the_setting(config, options, message):
    with pytest.raises((TypeError, ValueError), match=f"^rope_tables: .*{message}"):
        rope_tables(config, **options)
