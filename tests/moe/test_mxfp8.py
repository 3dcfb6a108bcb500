"""fused_moe of MXFP8 weights against the float64 model, whose weights are read by ml_dtypes' own types.

Float32 hidden states: as the sums of float32 err, 1e-5 of the largest value at these sizes. Powers of two and e4m3 are exact.
"""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jax_aiter
from jax_aiter.core.errors import NotSupportedError
from tests.oracle import f64
from tests.quant import mx

from . import mxfp4 as model
from . import oracle

KINDS = ("float8_e4m3fn", "float8_e4m3fnuz")


def drawn(kind=KINDS[0], **sizes):
    return model.draws(dtype=np.float32, weights=kind, **sizes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("gate_mode", ["separated", "interleave"])
def test_experts_and_the_gradient_of_what_is_float(gate_mode, kind):
    torch = pytest.importorskip("torch")
    (x, w1, w2, weight, ids), scales, biases = drawn(kind)
    more = {"activation": "swiglu", "gate_mode": gate_mode}

    def call(x, weight, bias1, bias2):
        given = {"bias1": bias1, "bias2": bias2, **scales, **more}
        return jax_aiter.fused_moe(x, w1, w2, weight, ids, quant_type="per_1x32", **given)

    dout = np.float32(np.random.default_rng(1).standard_normal(x.shape))
    got, back = jax.vjp(jax.jit(call), x, weight, biases["bias1"], biases["bias2"])
    floats = [mx.dequantised(w, scales[f"{n}_scale"]) for n, w in (("w1", w1), ("w2", w2))]
    leaves = [oracle.leaf(v) for v in (x, *floats, weight, biases["bias1"], biases["bias2"])]
    want = oracle.moe(*leaves[:4], ids, *leaves[4:], limit=None, **more)
    found = torch.autograd.grad((want * torch.tensor(f64(dout))).sum(), [leaves[i] for i in (0, 3, 4, 5)])
    for ours, theirs in zip((got, *back(jnp.asarray(dout))), (want.detach(), *found), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_quantised_too(kind):
    """a8w8. A requantised value on a border may take either neighbour: a step of its own, and few do."""
    args, scales, biases = drawn(kind)
    given = {**scales, **biases, "activation": "swiglu", "gate_mode": "interleave", "quant_type": "per_1x32"}
    call = jax.jit(lambda x: jax_aiter.fused_moe(x, *args[1:], **given, q_dtype_a=kind))
    want, ulps, steps = model.expected(args, scales, biases, q_dtype_a=kind)
    error = np.abs(f64(call(args[0])) - want)
    assert (error <= 2.0**-18 * ulps + steps).all()
    assert np.median(error) <= 2.0**-20 * np.median(ulps)
    plain, _, _ = model.expected(args, scales, biases)
    assert np.median(np.abs(want - plain)) > 2.0**-10 * np.median(ulps)  # so the quantisation shows
    rows = np.float32(model.rounded(f64(args[0]), kind)[0])
    ones = jnp.ones(want.shape, jnp.float32)
    np.testing.assert_array_equal(jax.vjp(call, args[0])[1](ones)[0], jax.vjp(call, rows)[1](ones)[0])
    with pytest.raises(NotSupportedError, match="no q_dtype_a"):
        jax.jvp(call, (args[0],), (args[0],))


@pytest.mark.parametrize("merged", [False, True])
def test_weights_of_dynamic_mxfp8_quant_shuffled_or_not(merged):
    (x, _, _, weight, ids), _, _ = drawn()
    rng = np.random.default_rng(4)
    floats = [np.float32(rng.standard_normal(s)) for s in ((4, 128, 192), (4, 192, 64))]
    made = [jax_aiter.dynamic_mxfp8_quant(w, quant_dtype=jnp.float8_e4m3fn) for w in floats]
    scales = [np.asarray(s) for _, s in made]
    given = {f"w{i + 1}_scale": s.reshape(-1, s.shape[-1]) if merged else s for i, s in enumerate(scales)}
    want = np.asarray(jax_aiter.fused_moe(x, *(np.float32(mx.dequantised(np.asarray(w), s)) for w, s in made), weight, ids))
    for order in (lambda w: w, jax_aiter.shuffle_weight):
        out = jax_aiter.fused_moe(x, *(order(w) for w, _ in made), weight, ids, quant_type="per_1x32", **given)
        np.testing.assert_allclose(out, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("sizes", [{"tokens": 1, "k": 1, "experts": 1}, {"tokens": 33, "model": 32, "inter": 32}])
def test_sizes(sizes):
    args, scales, biases = drawn(**sizes)
    more = {"activation": "swiglu", "gate_mode": "interleave", "quant_type": "per_1x32", "q_dtype_a": KINDS[0]}
    want, ulps, steps = model.expected(args, scales, biases, q_dtype_a=KINDS[0])
    assert (np.abs(f64(jax_aiter.fused_moe(*args, **scales, **biases, **more)) - want) <= 2.0**-18 * ulps + steps).all()


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"w1_scale": np.zeros((4, 128, 2), np.uint8)}, ValueError, r"w1_scale has shape \(4, 128, 2\), must be \(4, 128, 6\)"),
        ({"w2_scale": None}, TypeError, "w2_scale is required with quant_type 'mxfp8'"),
        ({"w1_scale": np.zeros((4, 128, 6), np.float32)}, TypeError, "w1_scale has dtype float32, must be uint8"),
        ({"a1_scale": np.ones(1, np.float32)}, ValueError, "takes hidden states as floats"),
        ({"q_dtype_a": jnp.uint8}, ValueError, "q_dtype_a is uint8, quant_type 'mxfp8' needs that of w1, float8_e4m3fn"),
        ({"q_dtype_a": KINDS[1]}, TypeError, "q_dtype_a is float8_e4m3fnuz but w1 is float8_e4m3fn"),
        ({"w1_zp": np.zeros(4, np.uint8)}, ValueError, "w1_zp is given, quant_type 'mxfp8' has no zero points"),
        ({"quant_type": "mxfp8", "w2": np.zeros((4, 192, 64), np.float32)}, TypeError, "w2 has dtype float32, w1 has"),
        ({"hidden_states": np.zeros((7, 192), ml_dtypes.float8_e4m3fn)}, TypeError, "hidden_states has dtype float8_e4m3fn"),
    ],
)
def test_errors_name_the_argument(change, error, says):
    args, scales, _ = drawn()
    names = ("hidden_states", "w1", "w2", "topk_weight", "topk_ids")
    with pytest.raises(error, match=says):
        jax_aiter.fused_moe(**{**dict(zip(names, args, strict=True)), **scales, "quant_type": "per_1x32", **change})


def test_columns_are_whole_blocks():
    args, scales, _ = drawn()
    x, w1, w2, *routed = args
    scales["w2_scale"] = scales["w2_scale"][:, :48]
    with pytest.raises(ValueError, match="dimension 2 of w1 is 48, must be a multiple of 32"):
        jax_aiter.fused_moe(x[:, :48], w1[:, :, :48], w2[:, :48], *routed, quant_type="per_1x32", **scales)
