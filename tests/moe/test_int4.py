"""4-bit weights of fused_moe: a float64 numpy model that reads each code out of its byte, and every spelling of the same weights.

Tolerances. float32: sums of at most 64 products of numbers near one, 1e-5 of the largest output. bfloat16: the op rounds weights,
the intermediate and the output to 8 bits, and so does the model, but for its float64 sums: where such a difference crosses a
rounding boundary, one entry of the intermediate is off by an ulp, 2^-8 of it, and the output is rounded once more: 2^-7 of the
sum of absolute products is a bound, and the median error is far below.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter import fused_moe, pack_int4
from tests.moe.int4 import EXPERTS, INTER, MODEL, TOKENS, as_floats, code, draws, expected
from tests.oracle import f64

BF16 = jnp.bfloat16


CASES = [
    (2, 1, False, BF16, None),
    (4, 4, True, BF16, jnp.float32),
    (1, 1, False, jnp.float32, jnp.float16),
    (8, 2, True, jnp.float32, BF16),
]


@pytest.mark.parametrize(("groups1", "groups2", "zeros", "dtype", "scales"), CASES)
def test_each_code_is_read_from_its_byte(groups1, groups2, zeros, dtype, scales):
    args, quantised = draws(groups1, groups2, zeros=zeros, dtype=dtype, scales=scales)
    got = fused_moe(*args, quant_type="int4_w4a16", **quantised)
    want, bound = expected(args, quantised)
    error = np.abs(f64(got) - want)
    assert got.dtype == dtype
    if dtype == BF16:
        assert (error <= 2.0**-7 * bound + 2.0**-8 * np.abs(want)).all()
        assert np.median(error) < 2.0**-9 * np.median(bound)
    else:
        assert error.max() < 1e-5 * np.abs(want).max()


def test_every_spelling_is_the_same_call():
    """uint4 and int4 arrays, scales of whole rows without their axis, AITER's per_1x32 and its order of scales."""
    (x, w1, w2, *routing), quantised = draws(2, 1, zeros=True, dtype=jnp.float32)
    call = lambda w1, w2, **more: fused_moe(x, w1, w2, *routing, **{"quant_type": "int4_w4a16", **more})  # noqa: E731
    codes = [jnp.asarray(np.stack([code(w, 2, i) for i in range(2 * w.shape[2])], 2)) for w in (w1, w2)]
    zeros = {n: np.stack([code(quantised[n], 1, i) for i in range(2 * quantised[n].shape[1])], 1) for n in ("w1_zp", "w2_zp")}
    want = call(w1, w2, **quantised)
    four = {n: jnp.asarray(z).astype(jnp.uint4) for n, z in zeros.items()}
    assert (call(*(c.astype(jnp.uint4) for c in codes), **{**quantised, **four}) == want).all()
    del quantised["w1_zp"], quantised["w2_zp"]
    want = call(w1, w2, **quantised)
    signed = [(c - 8).astype(jnp.int4) for c in codes]
    whole = {**quantised, "w2_scale": quantised["w2_scale"][:, :, 0]}
    assert (call(*signed, **whole) == want).all()
    aiters = {n: s.mT for n, s in quantised.items()}
    assert (call(*signed, quant_type="per_1x32", **aiters) == want).all()
    for kind in (jnp.int8, jnp.uint8):
        values = [(c - 8 if kind == jnp.int8 else c).astype(kind) for c in codes]
        assert all((pack_int4(v) == w).all() for v, w in zip(values, (w1, w2), strict=True))
    assert (pack_int4(jnp.asarray(zeros["w1_zp"]).astype(jnp.uint4), axis=1) == four_bytes(zeros["w1_zp"])).all()


def four_bytes(zero):
    return zero[:, 0::2] + 16 * zero[:, 1::2]


def test_gradients_are_those_of_the_dequantised_weights():
    args, quantised = draws(4, 2, zeros=True, dtype=jnp.float32)
    rng = np.random.default_rng(1)
    bias = {"bias1": jnp.asarray(rng.standard_normal((EXPERTS, 2 * INTER)), jnp.float32), "bias2": jnp.ones((EXPERTS, MODEL))}

    def loss(call, more):
        def of(x, weight, bias):
            return jnp.sum(fused_moe(x, *call[1:3], weight, call[4], **bias, **more) ** 2)

        return of

    at = args[0], args[3], bias
    tangents = jax.tree.map(jnp.ones_like, at)

    def derivatives(of):
        return jax.jit(lambda at: (jax.grad(of, (0, 1, 2))(*at), jax.jvp(of, at, tangents)[1]))(at)

    packed, plain = loss(args, {"quant_type": "int4_w4a16", **quantised}), loss(as_floats(args, quantised), {})
    for got, want in zip(*(jax.tree.leaves(derivatives(f)) for f in (packed, plain)), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-4 * float(np.abs(want).max()))


def test_what_else_there_is_applies():
    """Padding that holds anything, an expert mask, the gate interleaved, a limit: as with the same weights in float."""
    args, quantised = draws(8, 4, zeros=True, dtype=jnp.float32)
    more = {"hidden_pad": 9, "intermediate_pad": 3, "gate_mode": "interleave", "activation": "swiglu", "doweight_stage1": True}
    more |= {"expert_mask": jnp.asarray([1, 0, 1, 1], jnp.int32), "num_local_tokens": 5}
    want = fused_moe(*as_floats(args, quantised), **more)
    x = args[0].at[:, -9:].set(jnp.nan)
    quantised["w1_scale"] = quantised["w1_scale"].at[:, :, -1].set(jnp.nan)  # columns 56 to 63, of which 55 to 63 are padding
    got = fused_moe(x, *args[1:], **more, quant_type="int4_w4a16", **quantised)
    np.testing.assert_allclose(got, want, atol=1e-5 * float(jnp.abs(want).max()))


THREE = {"w1_scale": jnp.ones((EXPERTS, 2 * INTER, 3)), "w1_zp": jnp.zeros((EXPERTS, INTER, 3), jnp.uint8)}
TWICE = {"w1": jnp.zeros((EXPERTS, 2 * INTER, MODEL), jnp.uint8), "w1_zp": None, "w2_zp": None}
WRONG = [
    ({"w1_zp": None}, ValueError, "w2_zp is given alone"),
    ({"w1_scale": None}, TypeError, "w1_scale is required"),
    (THREE, ValueError, "dimension 2 of w1_scale is 3, must divide the 64 columns of w1"),
    ({"w1_zp": jnp.zeros((EXPERTS, 2 * INTER, 2), jnp.uint8)}, ValueError, "dimension 1 of w1_zp is 64, must be 64/2"),
    (TWICE, ValueError, "dimension 2 of w1 is 64, must be D/2 with D = 64"),
    ({"w1": jnp.zeros((EXPERTS, 2 * INTER, MODEL), jnp.int4)}, TypeError, "w1 has dtype int4, whose zero is 0"),
    ({"w1": jnp.zeros((EXPERTS, 2 * INTER, MODEL - 1), jnp.uint4)}, ValueError, "dimension 2 of w1 is 63, must be a multiple of 2"),
    ({"w1": jnp.zeros((EXPERTS, 2 * INTER, MODEL // 2), jnp.int8)}, TypeError, "w1 has dtype int8"),
    ({"a1_scale": jnp.ones(1)}, ValueError, "a1_scale is given"),
    ({"hidden_states": jnp.zeros((TOKENS, MODEL), jnp.int8)}, TypeError, "hidden_states has dtype int8"),
    ({"quant_type": "per_1x32"}, ValueError, "w1_zp is given, quant_type 'per_1x32' has no zero points"),
    ({"quant_type": "none"}, ValueError, "dimension 2 of w1 is 32, must be D = 64"),
]


@pytest.mark.parametrize(("changed", "kind", "message"), WRONG, ids=[w[2][:24] for w in WRONG])
def test_wrong_calls(changed, kind, message):
    args, quantised = draws(2, 1, zeros=True, dtype=jnp.float32)
    call = dict(zip(("hidden_states", "w1", "w2", "topk_weight", "topk_ids"), args, strict=True))
    call |= {"quant_type": "int4_w4a16", **quantised, **changed}
    if "w1" in changed and changed["w1"].dtype == jnp.int8:
        call["w2"] = call["w2"].astype(jnp.int8)
    with pytest.raises(kind, match="^fused_moe: .*" + message.replace("(", r"\(")):
        fused_moe(**call)


@pytest.mark.parametrize(
    ("values", "axis", "kind", "message"),
    [
        (jnp.zeros((2, 3), jnp.int8), -1, ValueError, "dimension -1 of values is 3"),
        (jnp.zeros((2, 4), jnp.int32), -1, TypeError, "values has dtype int32"),
        (jnp.zeros((2, 4), jnp.int8), 2, ValueError, "axis must be in"),
        (jnp.zeros((), jnp.int8), 0, ValueError, "values has no dimensions"),
    ],
    ids=["odd", "dtype", "axis", "scalar"],
)
def test_what_cannot_be_packed(values, axis, kind, message):
    with pytest.raises(kind, match=f"^pack_int4: .*{message}"):
        pack_int4(values, axis=axis)
