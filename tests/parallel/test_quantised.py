"""Quantised experts over devices against one device, and hidden states that travel in fp8.

Rows are quantised one by one, so both sides compute the same codes, and a sum of float32 products in another order. Where that
moves an entry of the intermediate over a rounding boundary, its code is the neighbour: an eighth of it, of one of I entries.
"""

import jax
import jax.numpy as jnp
import numpy as np

import jax_aiter
from jax_aiter import fused_moe
from tests.moe import int4
from tests.moe.test_fused_moe_quant import FNUZ, INT8, quantised_weight
from tests.oracle import assert_same, draw, f64

from . import common

TOKENS, EXPERTS, K, SIZE = 9, 6, 2, 128


def draws(kind, dtype, tokens=TOKENS):
    rng = np.random.default_rng(0)
    w1, s1, _ = quantised_weight(rng, kind, dtype, (EXPERTS, 2 * SIZE, SIZE))
    w2, s2, _ = quantised_weight(rng, kind, dtype, (EXPERTS, SIZE, SIZE))
    floats = {"hidden_states": draw(1, tokens, SIZE), "topk_weight": jnp.asarray(rng.uniform(0.1, 1, (tokens, K)), jnp.float32)}
    return floats, {"w1": w1, "w2": w2, "w1_scale": s1, "w2_scale": s2}, common.routing("even", tokens, EXPERTS, K, 2)


def close(got, want, share):
    """Within `share` of the largest entry, and nearly all far closer."""
    error, top = np.abs(f64(got) - f64(want)), np.abs(f64(want)).max()
    assert error.max() <= share * top
    assert np.median(error) <= share * top / 16


def both(floats, fixed, ids, kind, method):
    """Output and gradients of the layer over three devices, and of one device."""
    split = common.split(common.mesh_of(3), method=method, quant_type=kind)
    layer = lambda floats, ids: split({**floats, **fixed}, ids)  # noqa: E731
    one = lambda floats, ids: fused_moe(**floats, **fixed, topk_ids=ids, quant_type=kind)  # noqa: E731
    ct = draw(9, ids.shape[0], SIZE)
    return common.with_gradient(layer)(floats, ids, ct), common.with_gradient(one)(floats, ids, ct)


@common.some(
    ("quantised", "method"),
    [("per_token", FNUZ.name), ("per_token", INT8.name), ("per_1x128", FNUZ.name)],
    ["exchange", "psum"],
    default=[(("per_token", INT8.name), "exchange"), (("per_1x128", FNUZ.name), "exchange")],
)
def test_dynamic_scales_of_rows(quantised, method):
    kind, dtype = quantised[0], jnp.dtype(quantised[1])
    with jax_aiter.config(arch="gfx942"):
        (out, gradients), (want, want_gradients) = both(*draws(kind, dtype), kind, method)
    close(out, want, 0.02)
    for name, gradient in gradients.items():
        close(gradient, want_gradients[name], 0.02)


@common.some(("method",), ["exchange", "psum"], default=[("exchange",)])
def test_the_dynamic_scale_of_all_tokens(method):
    """One scale for the hidden states of all devices, the same as on one; the intermediate's own is given."""
    floats, fixed, ids = draws("per_tensor", FNUZ)
    spread = jnp.arange(1, TOKENS + 1)[:, None]  # every device has another largest value
    floats["hidden_states"] *= spread
    ids = ids.at[TOKENS - 1].set(-1)  # the largest of all has no expert
    with jax_aiter.config(arch="gfx942"):
        split = common.split(common.mesh_of(3), method=method, quant_type="per_tensor")
        layer = lambda floats, ids: split({**floats, **fixed, "a2_scale": jnp.full(3, 0.05)}, ids)  # noqa: E731
        one = jax.jit(lambda: fused_moe(**floats, **fixed, topk_ids=ids, quant_type="per_tensor", a2_scale=jnp.full(1, 0.05)))
        close(jax.jit(layer)(floats, ids), one(), 0.02)


def test_hidden_states_that_arrive_quantised():
    """fp8 rows and their scales travel as they are, and the routing weights have a gradient."""
    floats, fixed, ids = draws("per_token", FNUZ)
    with jax_aiter.config(arch="gfx942"):
        x, scale = jax_aiter.per_token_quant(floats.pop("hidden_states"), quant_dtype=FNUZ)
        fixed |= {"hidden_states": x, "a1_scale": scale}
        settings = {"quant_type": "per_token", "output_dtype": jnp.float32}
        split = common.split(common.mesh_of(3), method="exchange", **settings)
        layer = lambda floats, ids: split({**floats, **fixed}, ids)  # noqa: E731
        one = lambda floats, ids: fused_moe(**floats, **fixed, topk_ids=ids, **settings)  # noqa: E731
        ct = draw(9, TOKENS, SIZE)
        got, want = (common.with_gradient(f)(floats, ids, ct) for f in (layer, one))
    close(got[0], want[0], 0.02)
    close(got[1]["topk_weight"], want[1]["topk_weight"], 0.02)


@common.some(("method",), ["exchange", "psum"], default=[("exchange",)])
def test_weights_of_four_bits(method):
    """Codes, scales and zero points of the experts held on each of three devices; nothing is rounded in between."""
    (x, w1, w2, weight, ids), quantised = int4.draws(4, 2, zeros=True, dtype=jnp.float32)
    x, weight, ids = (jnp.concatenate([a, a[:2]]) for a in (x, weight, ids))  # nine tokens, three a device
    fixed = {"w1": w1, "w2": w2, **quantised}
    floats = {"hidden_states": x, "topk_weight": weight}
    split = common.split(common.mesh_of(3), method=method, quant_type="int4_w4a16")
    layer = lambda floats, ids: split({**floats, **fixed}, ids)  # noqa: E731
    one = lambda floats, ids: fused_moe(**floats, **fixed, topk_ids=ids, quant_type="int4_w4a16")  # noqa: E731
    ct = draw(9, *x.shape)
    (out, gradients), (want, want_gradients) = (common.with_gradient(f)(floats, ids, ct) for f in (layer, one))
    for got, expected in zip((out, *gradients.values()), (want, *(want_gradients[n] for n in gradients)), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5 * float(jnp.abs(expected).max()))


def test_rows_that_travel_in_fp8():
    """What arrives is what a quantisation per token makes of it, and its gradient that of what was sent."""
    floats, ids = common.inputs(9, 6, 2), common.routing("even", 9, 6, 2, 2)
    ct = draw(9, 9, common.D)
    layer = common.split(common.mesh_of(3), method="exchange", dispatch_dtype=jnp.float8_e4m3fn)
    with jax_aiter.config(arch="gfx950"):
        codes, scale = jax_aiter.per_token_quant(floats["hidden_states"], quant_dtype=jnp.float8_e4m3fn)
    rounded = {**floats, "hidden_states": codes.astype(jnp.float32) * scale}
    assert np.abs(f64(rounded["hidden_states"]) - f64(floats["hidden_states"])).max() > 1e-3
    got = common.with_gradient(layer)(floats, ids, ct)
    want = common.with_gradient(lambda floats, ids: fused_moe(**floats, topk_ids=ids))(rounded, ids, ct)
    assert_same(got, want, ulps=64)
