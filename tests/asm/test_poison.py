"""What AITER's hand-written kernels do not read, filled with NaN and infinities: see `tests/transforms/poison.py`.

Kernels take the queries of one sequence and key head together, so keys that only some of those see are not tried; and those over
paged caches weigh more than they need with zero (`ZEROED`), as the ops' docstrings say.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jax_aiter.core.arch import FP8
from jax_aiter.core.cases import case, constant, distinct, normal, permutation, uniform
from jax_aiter.ops.catalogue import all_ops
from tests.transforms.common import bound
from tests.transforms.poison import Dependence, assert_kernel_unmoved

BF16, I32 = jnp.bfloat16, jnp.int32
FLASH = {"scale": 0.09, "causal": True, "sliding_window": (-1, -1), "logits_soft_cap": 0.0, "alibi_per_sequence": False}
PACKED = {"cu_seqlens_q": constant([0, 70, 70, 120], I32), "cu_seqlens_k": constant([0, 80, 85, 140], I32)}
PACKED |= {"max_seqlen_q": 70, "max_seqlen_k": 80}
MOE = {"activation": "silu", "hidden_pad": 0, "intermediate_pad": 0, "swiglu_limit": None, "weight_layout": (16, 16)}
MOE |= {"gate_mode": "separated", "q_dtype_a": None}
MOE |= {"doweight_stage1": False, "output_dtype": jnp.dtype(BF16)}
PAGED = {"logits_soft_cap": 0.0, "sliding_window": 0, "kv_layout": "asm", "ragged": False, "scale": 128**-0.5}


def attention(rows_q: tuple[int, ...], rows_k: tuple[int, ...], *, backward: bool = False):
    found = {n: normal(*rows, h, 128, dtype=BF16) for n, rows, h in (("q", rows_q, 2), ("k", rows_k, 1), ("v", rows_k, 1))}
    if backward:
        lse = (*rows_q[:-1], 2, rows_q[-1])
        found |= {n: normal(*rows_q, 2, 128, dtype=BF16) for n in ("dout", "out")} | {"lse": uniform(*lse, low=3.0, high=4.0)}
    return found


def caches(blocks: int, dtype):
    x = 16 // jnp.dtype(dtype).itemsize
    return {
        "key_cache": normal(blocks, 1, 128 // x, 16, x, dtype=dtype),
        "value_cache": normal(blocks, 1, 16 // x, 128, x, dtype=dtype),
    }


def calls(arch: str):
    fp8 = jnp.dtype(FP8[arch])
    experts = {
        "w1": normal(5, 512, 512, dtype=fp8, std=20),
        "w2": normal(5, 512, 256, dtype=fp8, std=20),
        "topk_weight": uniform(20, 2, low=0.1),
        "topk_ids": distinct(20, 2, 7),
        "expert_mask": constant([1, 0, 1, 1, 0, 1, 1], I32),
        "num_local_tokens": constant([17], I32),
    }
    scales = {"w1_scale": uniform(5, 512, low=0.01, high=0.02), "w2_scale": uniform(5, 512, low=0.01, high=0.02)}
    table = {"block_tables": permutation(3, 4, among=14), "context_lens": constant([33, 5, 64], I32)}
    mla = {"kv_indices": permutation(14, among=16), "kv_last_page_lens": constant([1, 1, 1], I32)}
    return {
        "flash_attention": case("", **attention((2, 90), (2, 90)), **FLASH),
        "flash_attention_varlen": case("", **attention((130,), (150,)), **PACKED, **FLASH),
        "flash_attention_bwd": case("", **attention((2, 90), (2, 90), backward=True), **FLASH, with_bias=False),
        "flash_attention_varlen_bwd": case("", **attention((130,), (150,), backward=True), **PACKED, **FLASH),
        "fused_moe": case("", hidden_states=normal(20, 512, dtype=BF16), **experts, **scales, **MOE, quant_type="per_token"),
        "paged_attention": case(
            "", query=normal(3, 8, 128, dtype=BF16), **caches(14, BF16), **table, **PAGED, per_token_scales=False
        ),
        "pa_fwd_asm": case(
            "",
            query=normal(3, 8, 128, dtype=BF16),
            **caches(14, fp8),
            **table,
            **{n: uniform(14, 1, 16, low=0.5, high=1.5) for n in ("k_scale", "v_scale")},
            max_qlen=1,
            high_precision=1,
        ),
        "mla_decode_fwd": case(
            "",
            q=normal(6, 16, 576, dtype=BF16),
            kv_buffer=normal(16, 1, 1, 576, dtype=BF16),
            qo_indptr=constant([0, 2, 3, 5], I32),
            kv_indptr=constant([0, 7, 8, 13], I32),
            **mla,
            max_seqlen_qo=2,
            sm_scale=0.04,
            logit_cap=0.0,
            causal=True,
            return_lse=True,
        ),
        "topk_softmax": case("", gating_output=normal(7, 128), topk=4, renormalize=True),
        "gemm_a16w16": case("", a=normal(64, 256, dtype=BF16), b=normal(256, 256, dtype=BF16), out_dtype=jnp.dtype("float32")),
    }


# Where workgroups add to one result, the order of the sums is not fixed.
UNORDERED = {"fused_moe", "flash_attention_bwd", "flash_attention_varlen_bwd", "gemm_a16w16"}
KERNELS = sorted(calls("gfx942"))


def zeroed(op: str, depends: Dependence) -> None:
    """Adds to what groups read what their kernels weigh with zero: all of a used block, the first block, its scales."""
    for name in ("key_cache", "value_cache", "k_scale", "v_scale"):
        if name in depends.masks and depends.masks[name].ndim > 2:
            mask = depends.masks[name]
            used = mask.any(tuple(range(2, mask.ndim)), keepdims=True)
            used[:, 0] = True
            depends.masks[name] = np.broadcast_to(used, mask.shape)
    if op == "mla_decode_fwd":
        depends.masks["kv_buffer"] = depends.masks["kv_buffer"].copy()
        depends.masks["kv_buffer"][:, 0, 0] = True


@pytest.mark.parametrize("name", KERNELS)
def test_what_is_not_read_changes_nothing(name, arch):
    op, call = all_ops()[name], calls(arch)[name]
    depends = Dependence(op, call.draw(), call.params)
    zeroed(name, depends)
    assert_kernel_unmoved(jax.jit(bound(op, call, "asm")), call.draw(), depends, ordered=name not in UNORDERED)
