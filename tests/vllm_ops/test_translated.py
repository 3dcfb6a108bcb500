"""Calls with vLLM's arguments give what the op itself gives: made from the ops' own cases, backwards through the table.

A case of an op, with everything left at its default that vLLM's operation has no argument for, becomes a call of vLLM's. So a
new case, and a new parameter, of an op that vLLM has is tried on the day it is added.
"""

import contextlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter import vllm_ops
from jax_aiter.core.errors import NotSupportedError
from jax_aiter.ops.catalogue import named
from jax_aiter.vllm_ops import ROWS, values
from tests.oracle import assert_same


class NotTheirs(Exception):
    """vLLM's operation cannot say what a case says."""


def _page_of_one(pool):
    if pool.shape[1] != 1:
        raise NotTheirs
    return pool


def _one_row_per_token(x):
    if x.ndim != 3:
        raise NotTheirs
    return x.reshape(len(x), -1)


def _choice(theirs):
    def back(ours):
        if ours not in theirs:
            raise NotTheirs
        return theirs[ours]

    return back


#: Of each way in which a value of theirs becomes ours: what theirs is. The rest hand a value on as it is.
BACK = {
    values.activation: _choice({v: k for k, v in values.ACTIVATION.items()}),
    values.kernels_activation: _choice({"silu": 0, "gelu_tanh": 1}),
    values.quant_type: _choice({v: k for k, v in values.QUANT_TYPE.items()}),
    values.width: lambda k: np.zeros((1, k)),
    values.routed_width: lambda k: np.zeros((1, k)),
    values.dtype_of: lambda dtype: np.zeros((), dtype),
    values.halves: lambda cos, sin: jnp.concatenate([cos, sin], -1),
    values.rotate_style: _choice({"neox": True, "gptj": False}),
    values.shuffled: lambda w: w.data,
    values.limit: lambda limit: limit or 0.0,
    values.pages: _page_of_one,
    values.transposed: lambda scale: scale.T,
    values.window_length: lambda n: (n - 1, 0) if n else (-1, -1),
    values.asm_layout: _choice({"asm": True, "vllm": False}),
    values.shuffled_or_nhd: _choice({"asm": True, "NHD": False}),
    values.flash_or_vllm: _choice({"NHD": True, "vllm": False}),
    values.gathered_layout: _choice({"NHD": "NHD", "asm": "SHUFFLE"}),
    values.heads_of_qkv: lambda *qkv: jnp.concatenate([x.reshape(len(x), -1) for x in qkv], -1),
    values.heads: _one_row_per_token,
    values.channels_last: lambda x: x.swapaxes(-1, -2),
    values.tokens_before_channels: lambda x: x.swapaxes(1, 2),
    values.rows_and_columns: lambda rows, columns: np.zeros((rows, columns)),
}
#: Rows that no case of their op fits, and why.
NO_CASE = {
    "aiter_fp8_attn_wrapper": "its sequences are of one length: see test_fp8_attention_of_whole_sequences",
    **dict.fromkeys(
        ("top_k_top_p_sampling_from_probs", "top_p_sampling_from_probs", "top_k_renorm_probs"), "no records: see test_samplers"
    ),
    "gemm_a4w4": "its weight and scales are plain arrays in the record: see test_a_product_of_mxfp4",
    **dict.fromkeys(("chunk_gated_delta_rule", "chunk_kimi_delta_attn"), "states where asked for: see test_delta_rules"),
    "hc_head": "it has no record of its own: see test_hyper_connections",
    "rocm_aiter_sparse_attn_indexer": "it has no record of its own: see test_the_indexer",
}


def ours_of(row, case) -> dict:
    """The call of the public function that the case is, as far as theirs can say it; what only its record has follows from that."""
    op = row.ops[0]
    signature = inspect.signature(getattr(jax_aiter, op)).parameters
    said = {name for argument in row.arguments.values() for name in argument.ours}
    given = {**case.draw(), **case.params}
    if op == "convert_fp8":
        given["scale"] = jnp.float32(0.5)  # which the op's record has not: it is doubled beside it
    if any(given.get(n, v) != v for n, v in row.given.items() if n not in ("return_lse", "dtype", "activation")):
        raise NotTheirs
    if layout := (16, 16) if op.endswith("_bpreshuffle") else case.params.get("weight_layout"):
        given |= {n: jax_aiter.ShuffledWeight(given[n], layout) for n in ("wq", "b", "w1", "w2") if n in given}
    return {n: v for n, v in given.items() if n in signature and n in said} | dict(row.given)


def theirs_of(row, ours: dict) -> dict:
    """vLLM's arguments for a call of ours. NotTheirs for a choice that they have not."""
    theirs = {}
    for name, argument in row.arguments.items():
        if argument.ours and set(argument.ours) <= ours.keys():
            found = [ours[n] for n in argument.ours]
            theirs[name] = BACK[argument.value](*found) if argument.value in BACK else found[0]
    if "qkv" in theirs and "q" in ours:
        theirs |= {"num_heads_q": ours["q"].shape[1], "num_heads_k": ours["k"].shape[1]}
    for name in {"head_dim", "head_size"} & row.arguments.keys():
        theirs[name] = ours["q"].shape[-1]
    return theirs


def is_theirs(row, ours: dict) -> None:
    """NotTheirs where what they cannot say is what makes the case a call, or gives it results that theirs has not."""
    try:
        results = jax.eval_shape(lambda: getattr(jax_aiter, row.ops[0])(**ours))
    except (TypeError, ValueError):
        raise NotTheirs from None
    if len(jax.tree.leaves(results)) != len(row.results):
        raise NotTheirs


def calls():
    """(row, case) for the rows with a translation, and the rows that no case fits."""
    found, none = [], []
    for row in ROWS:
        before = len(found)
        for case in named(row.ops[0]).cases() if row.ops and row.name not in NO_CASE else ():
            with contextlib.suppress(NotTheirs):
                ours = ours_of(row, case)
                is_theirs(row, ours)
                theirs_of(row, ours)
                found.append((row, case))
        none += [row.name] if row.ops and len(found) == before else []
    return found, none


CALLS, NONE = calls()
FIRST = {row.name: case.name for row, case in reversed(CALLS)}


def test_rows_that_no_case_fits():
    assert sorted(NONE) == sorted(NO_CASE)


@pytest.mark.parametrize(
    ("row", "case"),
    [
        pytest.param(r, c, id=f"{r.name}-{c.name}", marks=[] if FIRST[r.name] == c.name else pytest.mark.exhaustive)
        for r, c in CALLS
    ],
)
def test_a_translated_call_gives_what_the_op_gives(row, case):
    ours = ours_of(row, case)
    op, found = vllm_ops.translate(row.name, **theirs_of(row, ours))
    assert op == row.ops[0]
    got = jax.tree.leaves(getattr(jax_aiter, op)(**found))
    want = jax.tree.leaves(getattr(jax_aiter, op)(**ours))
    assert len(got) == len(row.results)
    for g, w in zip(got, want, strict=True):
        assert_same(np.asarray(g), np.asarray(w))


def test_fp8_attention_of_whole_sequences():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((2, 5, 2, 8)), jnp.float8_e4m3fnuz) for _ in range(3))
    scales = {f"{n}_descale": jnp.full(1, 0.5) for n in "qkv"}
    op, found = vllm_ops.translate("aiter_fp8_attn_wrapper", q=q, k=k, v=v, **scales, batch_size=2, output_dtype=jnp.bfloat16)
    want = jax_aiter.flash_attention_fp8(q, k, v, **scales)
    assert_same(getattr(jax_aiter, op)(**found), want.reshape(10, 2, 8))
    short = vllm_ops.translate("aiter_fp8_attn_wrapper", q=q, k=k, v=v, max_seqlen=np.int32(7))[1]
    assert (short["max_seqlen_q"], short["max_seqlen_k"]) == (7, 7)


def test_what_is_left_out_has_their_default():
    x = jnp.ones((2, 8), jnp.int8)
    _, found = vllm_ops.translate("w8a8_gemm", A=x, B=x, As=jnp.ones(1), Bs=jnp.ones((2, 1)))
    assert found["out_dtype"] == "float16"
    assert vllm_ops.translate("reshape_and_cache", key=x)[1]["kv_layout"] == "vllm"
    assert vllm_ops.translate("fused_qk_rmsnorm_group_quant", q=x)[1]["group_size"] == 128


def test_the_indexer():
    case = named("fp8_paged_mqa_logits").cases()[0]
    given = {n: x for n, x in case.draw().items() if n != "q"}
    q = case.draw()["q"]
    op, found = vllm_ops.translate("rocm_aiter_sparse_attn_indexer", q_fp8=q, topk_tokens=2, compress_ratio=1, **given)
    got = getattr(jax_aiter, op)(**found)
    np.testing.assert_array_equal(got, jax_aiter.sparse_attn_indexer(q=q, topk=2, **given))


def test_delta_rules():
    """All arguments have their names and meanings."""
    for name in ("chunk_gated_delta_rule", "chunk_kimi_delta_attn"):
        given = dict.fromkeys(inspect.signature(getattr(jax_aiter, name)).parameters, 1)
        del given["implementation"]
        assert vllm_ops.translate(name, **given) == (name, given)


def test_a_product_of_mxfp4():
    """vLLM's weight is shuffled where it is loaded."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(0, 256, (rows, 64), dtype=np.uint8) for rows in (3, 32))
    a_scale, b_scale = (rng.integers(120, 130, (rows, 4), dtype=np.uint8) for rows in (3, 32))
    theirs = {"A": a, "B": jax_aiter.shuffle_weight(b), "A_scale": a_scale, "B_scale": b_scale, "dtype": jnp.float32}
    op, found = vllm_ops.translate("gemm_a4w4", **theirs)
    assert op == "gemm_a4w4_bpreshuffle"
    got, want = getattr(jax_aiter, op)(**found), jax_aiter.gemm_a4w4(a, b, a_scale, b_scale, out_dtype=jnp.float32)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * float(jnp.abs(want).max()))


def test_samplers():
    """An array for each row, or None and one number for all."""
    probs, key = jnp.full((3, 8), 0.125), jax.random.key(0)
    k, p = jnp.asarray([1, 2, 3], jnp.int32), jnp.asarray([0.2, 0.5, 0.9], jnp.float32)
    shared = {"probs": probs, "indices": None, "deterministic": True, "generator": key}
    for rows_k, rows_p in ((k, None), (None, p)):
        cuts = {"maybe_top_k_arr": rows_k, "top_k_val": 4, "maybe_top_p_arr": rows_p, "top_p_val": 0.75}
        op, found = vllm_ops.translate("top_k_top_p_sampling_from_probs", **shared, **cuts)
        top_k, top_p = 4 if rows_k is None else rows_k, 0.75 if rows_p is None else rows_p
        want = jax_aiter.top_k_top_p_sampling_from_probs(probs, key, top_k, top_p)
        np.testing.assert_array_equal(getattr(jax_aiter, op)(**found), want)
    op, found = vllm_ops.translate("top_p_sampling_from_probs", **shared, maybe_top_p_arr=p, top_p_val=0.0)
    np.testing.assert_array_equal(getattr(jax_aiter, op)(**found), jax_aiter.top_p_sampling_from_probs(probs, key, p))
    op, found = vllm_ops.translate("top_k_renorm_probs", probs=probs, maybe_top_k_arr=None, top_k_val=3)
    np.testing.assert_array_equal(getattr(jax_aiter, op)(**found), jax_aiter.top_k_renorm_probs(probs, 3))
    with pytest.raises(NotSupportedError, match=r"top_p_sampling_from_probs: indices is .*, None only"):
        vllm_ops.translate("top_p_sampling_from_probs", **{**shared, "indices": k}, maybe_top_p_arr=p, top_p_val=0.0)


def test_what_a_call_cannot_have_is_refused_by_name():
    with pytest.raises(NotSupportedError, match=r"moe_gemm_a8w4: no one op does this"):
        vllm_ops.translate("moe_gemm_a8w4", x=1)
    with pytest.raises(TypeError, match="rms_norm has no argument eps; it has x, weight, epsilon"):
        vllm_ops.translate("rms_norm", x=jnp.ones((2, 4)), eps=1e-6)
    with pytest.raises(NotSupportedError, match=r"fused_moe: beta is 1\.5, None only: of SiTUv2"):
        vllm_ops.translate("fused_moe", beta=1.5)
    with pytest.raises(NotSupportedError, match=r"unified_attention: q_scales is .*, None only"):
        vllm_ops.translate("unified_attention", q_scales=jnp.ones(1))
    with pytest.raises(ValueError, match="quant type is 7, must be one of"):
        vllm_ops.translate("fused_moe", quant_method=7)
    with pytest.raises(KeyError):
        vllm_ops.translate("no_such_operation")


def test_hyper_connections():
    """The head, and a layer's end with the beginning of the next: functions of two records."""
    n, width = 2, 3
    streams, x = jnp.ones((4, n, width), jnp.bfloat16), jnp.ones((4, width), jnp.bfloat16)
    mixes, rows = {"post_layer_mix": jnp.ones((4, n, 1)), "comb_res_mix": jnp.ones((4, n, n))}, 2 * n + n * n
    weights = {"fn": jnp.ones((rows, n * width)), "hc_scale": jnp.ones(3), "hc_base": jnp.zeros(rows)}
    name, given = vllm_ops.translate("mhc_fused_post_pre", x=x, residual=streams, **mixes, **weights, sinkhorn_repeat=2)
    assert [a.shape for a in getattr(jax_aiter, name)(**given)] == [(4, n, 1), (4, n, n), (4, width), (4, n, width)]
    head = {"fn": jnp.ones((n, n * width)), "hc_scale": jnp.ones(1), "hc_base": jnp.zeros(n), "rms_eps": 1e-6, "hc_eps": 0.0}
    buffer = {"out": jnp.zeros((4, width), jnp.bfloat16), "hidden_size": width, "hc_mult": n}
    name, given = vllm_ops.translate("hc_head", hs_flat=streams, **head, **buffer)
    assert getattr(jax_aiter, name)(**given).shape == (4, width)
