"""fused_moe of MXFP4 weights against float64 loops over the values that the bytes stand for, and gpt-oss's experts of transformers.

Float32 hidden states: as the sums of float32 err, 1e-5 of the largest value at these sizes. Powers of two and e2m1 are exact.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jax_aiter
from jax_aiter.core.errors import NotSupportedError
from tests.oracle import f64
from tests.quant import mx

from . import mxfp4 as model
from . import oracle

TOKENS, EXPERTS, K, MODEL, INTER = 7, 4, 2, 96, 32


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    sizes = {"w1": (EXPERTS, 2 * INTER, MODEL), "w2": (EXPERTS, MODEL, INTER)}
    packed = {n: rng.integers(0, 256, (*s[:2], s[2] // 2), dtype=np.uint8) for n, s in sizes.items()}
    scales = {f"{n}_scale": rng.integers(118, 125, (*s[:2], s[2] // 32), dtype=np.uint8) for n, s in sizes.items()}
    floats = {n: mx.dequantised(packed[n], scales[f"{n}_scale"]) for n in sizes}
    biases = {"bias1": rng.standard_normal((EXPERTS, 2 * INTER)), "bias2": rng.standard_normal((EXPERTS, MODEL))}
    x, weight = rng.standard_normal((TOKENS, MODEL)), rng.uniform(0.1, 1, (TOKENS, K))
    ids = rng.integers(-1, EXPERTS, (TOKENS, K)).astype(np.int32)
    return [np.float32(x), np.float32(weight), ids], packed, scales, floats, {n: np.float32(b) for n, b in biases.items()}


@pytest.mark.parametrize("gate_mode", ["separated", "interleave"])
def test_experts_and_the_gradient_of_what_is_float(gate_mode):
    (x, weight, ids), packed, scales, floats, biases = drawn()
    more = {"activation": "swiglu", "gate_mode": gate_mode}

    def call(x, weight, bias1, bias2):
        given = {"bias1": bias1, "bias2": bias2, **scales, **more}
        return jax_aiter.fused_moe(x, packed["w1"], packed["w2"], weight, ids, quant_type="per_1x32", **given)

    dout = np.float32(np.random.default_rng(1).standard_normal(x.shape))
    got, back = jax.vjp(jax.jit(call), x, weight, biases["bias1"], biases["bias2"])
    leaves = [oracle.leaf(v) for v in (x, floats["w1"], floats["w2"], weight, biases["bias1"], biases["bias2"])]
    want = oracle.moe(*leaves[:4], ids, *leaves[4:], limit=None, **more)
    wanted = [leaves[i] for i in (0, 3, 4, 5)]
    found = torch.autograd.grad((want * torch.tensor(f64(dout))).sum(), wanted)
    for ours, theirs in zip((got, *back(jnp.asarray(dout))), (want.detach(), *found), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("rows", [None, "float8_e4m3fn"])
def test_gpt_oss_experts_of_transformers(rows):
    """A layer of odd size with packed weights is the one with the decoded weights, x · w in transformers' order.

    rows: what its hidden states and intermediate are rounded to, the router's not; a value on a border may take either neighbour.
    """
    transformers = pytest.importorskip("transformers")
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssMLP

    (x, _, _), packed, scales, floats, biases = drawn(2)
    sizes = {"hidden_size": MODEL, "intermediate_size": INTER, "num_local_experts": EXPERTS, "num_experts_per_tok": K}
    layer = GptOssMLP(transformers.GptOssConfig(**sizes)).double().eval()
    rng = np.random.default_rng(3)

    def less(hidden):
        return torch.tensor(model.rounded(hidden.numpy(), rows)[0])

    with torch.no_grad():
        layer.router.weight.copy_(torch.tensor(rng.standard_normal((EXPERTS, MODEL)) * 0.1))
        layer.router.bias.copy_(torch.tensor(rng.standard_normal(EXPERTS)))
        layer.experts.gate_up_proj.copy_(torch.tensor(floats["w1"]).mT)
        layer.experts.down_proj.copy_(torch.tensor(floats["w2"]).mT)
        layer.experts.gate_up_proj_bias.copy_(torch.tensor(biases["bias1"]))
        layer.experts.down_proj_bias.copy_(torch.tensor(biases["bias2"]))
        gate = layer.experts._apply_gate
        layer.experts._apply_gate = lambda gate_up: less(gate(gate_up))
        layer.experts.register_forward_pre_hook(lambda _, given: (less(given[0]), *given[1:]))
        want = layer(torch.tensor(f64(x))[None])[0][0].numpy()
        logits = torch.nn.functional.linear(torch.tensor(f64(x)), layer.router.weight, layer.router.bias)
    top, ids = torch.topk(logits, K)
    weight, ids = np.float32(torch.softmax(top, -1)), np.int32(ids)
    given = {**scales, **biases, "activation": "swiglu", "gate_mode": "interleave", "quant_type": "per_1x32", "q_dtype_a": rows}
    error = np.abs(f64(jax_aiter.fused_moe(x, packed["w1"], packed["w2"], weight, ids, **given)) - want)
    _, _, steps = model.expected((x, packed["w1"], packed["w2"], weight, ids), scales, biases, q_dtype_a=rows)
    small = 1e-5 * np.abs(want).max()
    assert (error <= small + steps).all()
    assert np.median(error) <= small


def test_weights_of_dynamic_mxfp4_quant():
    """What the quantiser makes of weights is what the experts take, rows and experts merged or not."""
    (x, weight, ids), _, _, floats, _ = drawn()
    packed, scales = zip(*(jax_aiter.dynamic_mxfp4_quant(np.float32(floats[n])) for n in ("w1", "w2")), strict=True)
    merged = [s.reshape(-1, s.shape[-1]) for s in scales]
    outs = [
        jax_aiter.fused_moe(x, *packed, weight, ids, quant_type="per_1x32", w1_scale=s1, w2_scale=s2) for s1, s2 in (scales, merged)
    ]
    plain = [np.float32(mx.dequantised(w, s)) for w, s in zip(packed, scales, strict=True)]
    want = np.asarray(jax_aiter.fused_moe(x, *plain, weight, ids))
    for out in outs:
        np.testing.assert_allclose(out, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("kind", [jnp.uint8, jnp.float8_e4m3fn])
def test_rows_quantised_too(kind):
    """a4w4 and a8w4. A requantised value on a border may take either neighbour: a step of its own, and few do."""
    args, scales, biases = model.draws(dtype=np.float32)
    given = {**scales, **biases, "activation": "swiglu", "gate_mode": "interleave", "quant_type": "per_1x32"}
    call = jax.jit(lambda x: jax_aiter.fused_moe(x, *args[1:], **given, q_dtype_a=kind))
    want, ulps, steps = model.expected(args, scales, biases, q_dtype_a=jnp.dtype(kind).name)
    error = np.abs(f64(call(args[0])) - want)
    assert (error <= 2.0**-18 * ulps + steps).all()
    assert np.median(error) <= 2.0**-20 * np.median(ulps)
    plain, _, _ = model.expected(args, scales, biases)
    assert np.median(np.abs(want - plain)) > 2.0**-10 * np.median(ulps)  # so the quantisation shows
    # The gradient passes straight through: that of the product at the quantised rows, which a factor below the step leaves alone.
    pulled = jax.vjp(call, args[0])[1](jnp.ones_like(want, jnp.float32))[0]
    assert np.isfinite(pulled).all()
    rows = np.float32(model.rounded(f64(args[0]), jnp.dtype(kind).name)[0])
    np.testing.assert_array_equal(pulled, jax.vjp(call, rows)[1](jnp.ones_like(want, jnp.float32))[0])
    with pytest.raises(NotSupportedError, match="no q_dtype_a"):
        jax.jvp(call, (args[0],), (args[0],))


def test_only_weights_of_mxfp4_have_a_choice_of_rows():
    (x, weight, ids), packed, scales, floats, _ = drawn()
    with pytest.raises(ValueError, match="q_dtype_a is given, only quant_type 'per_1x32'"):
        jax_aiter.fused_moe(x, np.float32(floats["w1"]), np.float32(floats["w2"]), weight, ids, q_dtype_a=jnp.uint8)
    with pytest.raises(ValueError, match="q_dtype_a must be uint8 or float8"):
        jax_aiter.fused_moe(x, packed["w1"], packed["w2"], weight, ids, quant_type="per_1x32", **scales, q_dtype_a=jnp.int8)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (
            {"w1_scale": np.zeros((EXPERTS, 2 * INTER, 2), np.uint8)},
            ValueError,
            r"w1_scale has shape \(4, 64, 2\), must be \(4, 64, 3\)",
        ),
        ({"w2_scale": None}, TypeError, "w2_scale is required with quant_type 'per_1x32'"),
        ({"w1_scale": np.zeros((EXPERTS, 2 * INTER, 3), np.float32)}, TypeError, "w1_scale has dtype float32, must be uint8"),
        ({"a1_scale": np.ones(1, np.float32)}, ValueError, "quantises no activations"),
    ],
)
def test_errors_name_the_argument(change, error, says):
    (x, weight, ids), packed, scales, _, _ = drawn()
    with pytest.raises(error, match=says):
        jax_aiter.fused_moe(x, packed["w1"], packed["w2"], weight, ids, quant_type="per_1x32", **{**scales, **change})
