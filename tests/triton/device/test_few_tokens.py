"""fused_moe of few slots, each by itself in two launches, against numpy in double precision; what is not read holds NaN."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter

EXPERTS = 41
#: D and I, with their paddings: less than a block of either product, and whole numbers of blocks, and one element more.
SIZES = {"small": (40, 24, 0, 0), "whole": (512, 256, 0, 0), "more": (520, 264, 0, 0), "padded": (96, 80, 16, 24)}
KINDS = {
    "silu": {"activation": "silu"},
    "gelu biased": {"activation": "gelu", "biased": True},
    "gelu_tanh": {"activation": "gelu_tanh"},
    "swiglu biased interleaved": {"activation": "swiglu", "biased": True, "gate_mode": "interleave"},
    "silu limited": {"activation": "silu", "swiglu_limit": 0.5},
    "one weight": {"activation": "gelu", "gated": False},
}
IDS = {(1, 1): [[40]], (1, 3): [[5, 40, 5]], (2, 4): [[5, 31, 5, EXPERTS], [-1, 0, 31, 7]], (1, 16): [list(range(3, 35, 2))]}


def half(rng, *shape, std=1.0):
    return np.array(jnp.asarray(rng.standard_normal(shape) * std, jnp.bfloat16))


def draw(size, ids, *, biased=False, gated=True, **_):
    rng = np.random.default_rng(0)
    model, inter, model_pad, inter_pad = SIZES[size]
    ids = np.asarray(ids, np.int32)
    first = 2 * inter if gated else inter
    w1, w2 = half(rng, EXPERTS, first, model, std=model**-0.5), half(rng, EXPERTS, model, inter, std=inter**-0.5)
    x = half(rng, len(ids), model)
    for unread in (x[:, model - model_pad :], w1[:, :, model - model_pad :], w2[:, :, inter - inter_pad :]):
        unread[...] = np.nan
    w2[:, model - model_pad :] = np.nan
    others = np.setdiff1d(np.arange(EXPERTS), ids)
    w1[others], w2[others] = np.nan, np.nan
    drawn = {"hidden_states": x, "w1": w1, "w2": w2, "topk_ids": ids, "topk_weight": rng.random(ids.shape).astype(np.float32)}
    return drawn | ({"bias1": half(rng, EXPERTS, first), "bias2": half(rng, EXPERTS, model)} if biased else {})


def activated(gate, activation):
    if activation == "gelu":
        return 0.5 * gate * (1 + np.vectorize(math.erf)(gate / math.sqrt(2)))
    if activation == "gelu_tanh":
        return 0.5 * gate * (1 + np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate**3)))
    return gate / (1 + np.exp(-gate * (1.702 if activation == "swiglu" else 1.0)))


def expert(a, e, row, pads, settings):
    """One expert's output for one row, in double precision."""
    model, inter = a["w2"].shape[1:]
    read, kept = model - pads[0], inter - pads[1]
    whole = a["w1"][e][:, :read].astype(np.float64) @ row[:read].astype(np.float64)
    whole = whole + (a["bias1"][e].astype(np.float64) if "bias1" in a else 0)
    if settings.get("gated", True):
        interleaved = settings.get("gate_mode") == "interleave"
        gate, up = (whole[0::2], whole[1::2]) if interleaved else (whole[:inter], whole[inter:])
    else:
        gate, up = whole, None
    limit = settings.get("swiglu_limit", 7.0 if settings["activation"] == "swiglu" else None)
    gate = gate if limit is None else np.minimum(gate, limit)
    value = activated(gate, settings["activation"])
    if up is not None:
        up = up if limit is None else np.clip(up, -limit, limit)
        value = value * (up + 1 if settings["activation"] == "swiglu" else up)
    out = a["w2"][e][:read, :kept].astype(np.float64) @ value[:kept]
    return np.concatenate([out + (a["bias2"][e][:read].astype(np.float64) if "bias2" in a else 0), np.zeros(pads[0])])


def expected(a, pads, settings, held, count):
    table = np.where(held > 0, np.cumsum(held) - 1, -1)
    out = np.zeros(a["hidden_states"].shape)
    for token, slot in np.ndindex(a["topk_ids"].shape):
        number = a["topk_ids"][token, slot]
        if 0 <= number < len(table) and table[number] >= 0 and token < count:
            row = expert(a, table[number], a["hidden_states"][token], pads, settings)
            out[token] += float(a["topk_weight"][token, slot]) * row
    return out


def check(arch, a, size, settings, held=None, count=None):
    pads = SIZES[size][2:]
    given = {n: value for n, value in settings.items() if n not in ("biased", "gated")}
    given |= dict(zip(("hidden_pad", "intermediate_pad"), pads, strict=True))
    more = {"expert_mask": held} if held is not None else {}
    more |= {"num_local_tokens": np.asarray([count], np.int32)} if count is not None else {}
    got = jax.jit(lambda a, m: jax_aiter.fused_moe(**a, **m, **given, implementation="triton"))(a, more)
    whole = np.ones(EXPERTS, np.int32) if held is None else held
    want = expected(a, pads, settings, whole, len(a["topk_ids"]) if count is None else count)
    # Between the products values are rounded to bfloat16, which adds like noise over I of them, and so is the result: half of 2^-8
    # of a value each, and of a sum whose terms nearly cancel, of its terms.
    assert np.abs(np.asarray(got, np.float64) - want).max() <= 2 * 2.0**-8 * max(np.abs(want).max(), 1e-30)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("size", "kind"), list(itertools.product(SIZES, KINDS)))
def test_each_slot_by_itself(arch, size, kind):
    ids = dict(zip(SIZES, IDS.values(), strict=True))[size]
    check(arch, draw(size, ids, **KINDS[kind]), size, KINDS[kind])


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("masked", "counted"), [(True, False), (False, True), (True, True)])
def test_experts_elsewhere_and_tokens_that_are_not_there_are_not_read(arch, masked, counted):
    settings, ids = KINDS["gelu biased"], np.asarray(IDS[2, 4], np.int32)
    held, count = None, 1 if counted else None
    a = draw("more", ids, **settings)
    if masked:  # 8 experts more, the first 8 of all elsewhere
        held = np.ones(EXPERTS + 8, np.int32)
        held[:8] = 0
        a |= draw("more", np.where(ids >= 8, ids - 8, -1), **settings)
        a["topk_ids"] = ids
    if counted:
        a["hidden_states"][1:] = np.nan
        a["topk_weight"][1:] = np.nan
    check(arch, a, "more", settings, held, count)


def test_a_nan_where_something_is_read_shows(arch):
    a = draw("small", IDS[1, 1], **KINDS["silu"])
    a["w2"][40, 7, 3] = np.nan
    got = np.asarray(jax.jit(lambda a: jax_aiter.fused_moe(**a, implementation="triton"))(a), np.float32)
    assert np.isnan(got).tolist() == [[column == 7 for column in range(40)]]
