"""What AITER's Triton kernels do not read, filled with NaN and infinities: see `tests/transforms/poison.py`.

Kernels take the queries of a sequence and key head in tiles, so keys that only some of those see are not tried.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.core.arch import fp8_dtype
from jax_aiter.core.cases import case, constant, normal, permutation, uniform
from jax_aiter.ops.catalogue import all_ops
from tests.transforms.common import bound
from tests.transforms.poison import Dependence, assert_kernel_unmoved

from .common import FLASH, MOE, PAGED, refusal

BF16, I32 = jnp.bfloat16, jnp.int32
PACKED = {"cu_seqlens_q": constant([0, 70, 70, 120], I32), "cu_seqlens_k": constant([0, 80, 85, 140], I32)}
PACKED |= {"max_seqlen_q": 70, "max_seqlen_k": 80}
FLASH = {**FLASH, "scale": 0.125}


def attention(rows_q: tuple[int, ...], rows_k: tuple[int, ...], *, backward: bool = False):
    found = {n: normal(*rows, h, 64, dtype=BF16) for n, rows, h in (("q", rows_q, 2), ("k", rows_k, 1), ("v", rows_k, 1))}
    if backward:
        lse = (*rows_q[:-1], 2, rows_q[-1])
        found |= {n: normal(*rows_q, 2, 64, dtype=BF16) for n in ("dout", "out")} | {"lse": uniform(*lse, low=3.0, high=4.0)}
    return found


def calls():
    fp8 = fp8_dtype()
    # The experts of the third token, 1 and 4, are elsewhere.
    ids = [[t % 7, (t + 3) % 7] if t != 2 else [1, 4] for t in range(20)]
    routed = {"topk_weight": uniform(20, 2, low=0.1), "topk_ids": constant(ids, I32)}
    routed |= {"expert_mask": constant([1, 0, 1, 1, 0, 1, 1], I32), "hidden_states": normal(20, 256, dtype=BF16)}
    floats = {"w1": normal(5, 256, 256, dtype=BF16, std=0.06), "w2": normal(5, 256, 128, dtype=BF16, std=0.09)}
    quantised = {"w1": normal(5, 256, 256, dtype=fp8, std=20), "w2": normal(5, 256, 128, dtype=fp8, std=20)}
    per_token = {"w1_scale": uniform(5, 256, low=0.01, high=0.02), "w2_scale": uniform(5, 256, low=0.01, high=0.02)}
    per_tensor = {"w1_scale": uniform(5, low=0.01, high=0.02), "w2_scale": uniform(5, low=0.01, high=0.02)}
    biases = {"bias1": normal(5, 256, dtype=BF16), "bias2": normal(5, 256, dtype=BF16)}
    gpt_oss = {"activation": "swiglu", "gate_mode": "interleave", "hidden_pad": 11, "intermediate_pad": 3}
    table = {"block_tables": permutation(3, 4, among=14), "context_lens": constant([33, 5, 64], I32)}
    nhd = {n: normal(14, 16, 2, 64, dtype=BF16) for n in ("key_cache", "value_cache")}
    unified = {"scale": 0.125, "causal": True, "logits_soft_cap": 0.0, "kv_layout": "NHD", "per_token_scales": False}
    window = {**FLASH, "sliding_window": (20, -1)}
    longer = {"cu_seqlens_q": constant([0, 10, 50], I32), "cu_seqlens_k": constant([0, 70, 190], I32)}
    longer |= {"max_seqlen_q": 40, "max_seqlen_k": 120}
    return {
        "flash_attention": case("", **attention((2, 90), (2, 90)), **FLASH),
        "flash_attention_varlen": case("", **attention((130,), (150,)), **PACKED, **FLASH),
        "flash_attention_bwd": case("", **attention((2, 90), (2, 90), backward=True), **FLASH, with_bias=False),
        "flash_attention_varlen_bwd": case("", **attention((130,), (150,), backward=True), **PACKED, **FLASH),
        "fused_moe": case("", **routed, **floats, **MOE),
        # gpt-oss: NaN in the padding of D and of I too
        "fused_moe biases": case("", **routed, **floats, **biases, **{**MOE, **gpt_oss}, num_local_tokens=constant([18], I32)),
        "fused_moe per_token": case("", **routed, **quantised, **per_token, **{**MOE, "quant_type": "per_token"}),
        "fused_moe per_tensor": case("", **routed, **quantised, **per_tensor, **{**MOE, "quant_type": "per_tensor"}),
        "paged_attention": case(
            "", query=normal(3, 8, 64, dtype=BF16), **nhd, **table, scale=0.125, **{**PAGED, "kv_layout": "NHD"}
        ),
        "unified_attention": case(
            "",
            q=normal(30, 4, 64, dtype=BF16),
            **nhd,
            **table,
            **unified,
            cu_seqlens_q=constant([0, 20, 21, 28], I32),
            sliding_window=0,
        ),
        "unified_attention window": case(
            "",
            q=normal(30, 4, 64, dtype=BF16),
            **nhd,
            **table,
            **unified,
            cu_seqlens_q=constant([0, 20, 21, 28], I32),
            sliding_window=9,
        ),
        "flash_attention window": case("", **attention((2, 60), (2, 130)), **window),
        "flash_attention_bwd window": case("", **attention((2, 60), (2, 130), backward=True), **window, with_bias=False),
        "flash_attention_varlen window": case("", **attention((60,), (200,)), **longer, **window),
        "flash_attention_varlen_bwd window": case("", **attention((60,), (200,), backward=True), **longer, **window),
        "mla_decode_fwd": case(
            "",
            q=normal(3, 16, 576, dtype=BF16),
            kv_buffer=normal(16, 1, 1, 576, dtype=BF16),
            qo_indptr=constant([0, 1, 2, 3], I32),
            kv_indptr=constant([0, 7, 8, 13], I32),
            kv_indices=permutation(14, among=16),
            kv_last_page_lens=constant([1, 1, 1], I32),
            max_seqlen_qo=1,
            sm_scale=0.04,
            logit_cap=0.0,
            causal=True,
            return_lse=True,
        ),
        "topk_softmax": case("", gating_output=normal(7, 128, dtype=BF16), topk=4, renormalize=True),
        "rms_norm": case("", x=normal(6, 256, dtype=BF16), weight=normal(256, dtype=BF16), epsilon=1e-6),
        "per_token_quant": case("", x=normal(6, 256, dtype=BF16), quant_dtype=jnp.dtype(fp8)),
        "gemm_a8w8": case(
            "",
            xq=normal(64, 512, dtype=fp8),
            wq=normal(256, 512, dtype=fp8),
            x_scale=uniform(64, 1, low=0.5, high=2.0),
            w_scale=uniform(256, 1, low=0.5, high=2.0),
            out_dtype=jnp.dtype(BF16),
        ),
    }


@pytest.mark.parametrize("name", sorted(calls()))
def test_what_is_not_read_changes_nothing(name):
    op, call = all_ops()[name.split()[0]], calls()[name]
    reason = refusal(op, call)
    if reason is not None and ("AITER's files" in reason or "this release of AITER" in reason):
        pytest.skip(reason)
    assert reason is None, reason
    # In the tile of a paged cache where a window begins, the kernel weighs the keys before it with zero.
    params = {**call.params, "sliding_window": 0} if "kv_layout" in call.params else call.params
    depends = Dependence(op, call.draw(), params)
    run = jax.jit(bound(op, call, "triton"))
    assert_kernel_unmoved(run, call.draw(), depends)
    if name.endswith(("window", "per_tensor")):  # what we do about unread elements ourselves must not move the rest
        for x, w, labels in zip(run(call.draw()), bound(op, call, "xla")(call.draw()), depends.labels, strict=True):
            a, b = (np.asarray(y).astype(np.float64)[labels >= 0] for y in (x, w))
            # As in `test_transforms.test_grad`: probabilities and intermediates are rounded to bfloat16 or fp8 between products.
            np.testing.assert_allclose(a, b, rtol=0, atol=16 * float(jnp.finfo(BF16).eps) * np.abs(b).max(initial=0))
