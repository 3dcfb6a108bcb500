"""MLA on AITER's kernels without a device: selection, refusals, work lists.

The launches themselves are compared with AITER's own in `test_host_launches.py`.
"""

import dataclasses
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
import jax_aiter.ops.mla.mla_decode_fwd  # defines the op
from jax_aiter.bind.op import OPS
from jax_aiter.kernels.asm.mla.rows import TABLE, traits
from jax_aiter.kernels.asm.provider import AsmProvider
from jax_aiter.kernels.asm.tables import kernels
from jax_aiter.kernels.provider import Call, Target
from jax_aiter.ops.mla.metadata import AXES
from jax_aiter.ops.mla.work import BLOCK, OVERHEAD, capacity, work_list

from . import calls
from .calls import FP8, executed


def decode(
    arch="gfx942", *, q="bfloat16", kv="bfloat16", heads=16, queries=1, batch=3, rows=None, pages=100, page=1, slots=60,
    causal=True, cap=0.0, lse=False, kernel=None,
):  # fmt: skip
    def struct(dtype, *shape):
        return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype))

    operands = {
        "q": struct(q, batch * queries if rows is None else rows, heads, 576),
        "kv_buffer": struct(kv, pages, page, 1, 576),
        "qo_indptr": struct("int32", batch + 1),
        "kv_indptr": struct("int32", batch + 1),
        "kv_indices": struct("int32", slots),
        "kv_last_page_lens": struct("int32", batch),
    }
    params = {"max_seqlen_qo": queries, "sm_scale": 0.1, "logit_cap": cap, "causal": causal, "return_lse": lse}
    results = (struct("bfloat16", operands["q"].shape[0], heads, 512), struct("float32", operands["q"].shape[0], heads))
    return Call("mla_decode_fwd", Target("rocm", arch), operands, params, results, kernel)


def refusal(call: Call) -> str:
    found = calls.refusal(call)
    assert found is not None, call
    return found


def test_ops_are_what_the_calls_say():
    call = decode()
    assert OPS[call.op].infer(call.operands, call.params) == call.results


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"q": "float16", "kv": "float16"}, "q has dtype float16; the kernels take bfloat16 and fp8"),
        ({"q": "float8_e4m3fnuz"}, "q fp8, kv_buffer bf16"),
        ({"q": "float8_e4m3fn", "kv": "float8_e4m3fn"}, "q has dtype float8_e4m3fn; gfx942 computes in float8_e4m3fnuz"),
        ({"cap": 5.0}, "logit_cap = 5.0; AITER's kernels know only 0"),
        ({"heads": 12}, "12 heads"),
        ({"queries": 9}, "max_seqlen_qo = 9; the kernels take at most 8"),
        ({"heads": 128, "queries": 5}, "max_seqlen_qo = 5; the persistent kernels of 16 heads take at most 4"),
        ({"queries": 2, "causal": False}, "causal False: this release of AITER has no"),
        ({"batch": 0}, "q is empty"),
        ({"rows": 0}, "q is empty"),
        ({"pages": 2**22}, "kv_buffer holds 4831838208 bytes; the kernels address it with 32 bits"),
        ({"batch": 300000, "queries": 1}, "q holds 5529600000 bytes"),
        ({"kernel": "nothing"}, "kernel = 'nothing'"),
        ({"kernel": "mla_a8w8_qh16_qseqlen2_gqaratio16_ps"}, "kernel = 'mla_a8w8_qh16_qseqlen2_gqaratio16_ps'"),
        ({"kernel": "mla_dec_stage1_bf16_a16w16_subQ128_mqa128"}, "is for 128 heads, q has 16"),
        ({"heads": 128, "queries": 2, "kernel": "mla_dec_stage1_bf16_a16w16_subQ128_mqa128"}, "has no causal mask"),
    ],
)
def test_refusals(change, rule):
    assert rule in refusal(decode(**change))


def test_500_random_calls_that_cannot_run_are_refused():
    rng = np.random.default_rng(0)
    for _ in range(500):
        arch = str(rng.choice(["gfx942", "gfx950"]))
        good = {"arch": arch, "heads": int(rng.choice([8, 16, 32, 64, 128])), "batch": int(rng.integers(1, 300))}
        good |= {"page": int(rng.choice([1, 16, 64])), "lse": bool(rng.integers(2)), "slots": int(rng.integers(1, 5000))}
        wrong = [
            {"q": "float32", "kv": "float32"},
            {"q": "float16", "kv": "float16"},
            {"q": FP8["gfx950" if arch == "gfx942" else "gfx942"], "kv": FP8["gfx950" if arch == "gfx942" else "gfx942"]},
            {"q": FP8[arch], "kv": "bfloat16"},
            {"cap": float(rng.uniform(0.1, 50))},
            {"heads": int(rng.choice([1, 2, 4, 7, 12, 20, 24, 40, 72, 144]))},
            {"queries": int(rng.integers(9, 100))},
            {"pages": 2**32 // (576 * good["page"])},
            {"rows": 0},
            {"kernel": f"mla_{rng.integers(100)}"},
            {"kernel": str(rng.choice([_stem(r) for r in kernels(arch, TABLE) if traits(r).excluded or r["prefill"] == 1]))},
        ]
        change = wrong[rng.integers(len(wrong))]
        if "heads" in change and change["heads"] == 144:
            change = {**change, "q": FP8[arch], "kv": FP8[arch], "queries": 5}
        assert refusal(decode(**{**good, **change}))


def _stem(row):
    return row.path.rpartition("/")[2].removesuffix(".co")


def test_selection_is_quick_and_plans_too():
    import time

    provider = AsmProvider()
    provider.plan(decode())  # reads tables and code
    begin = time.process_time()
    for slots in range(1000, 1020):
        provider.refuse(decode(slots=slots))
    assert (time.process_time() - begin) / 20 < 0.005


@pytest.mark.parametrize("seed", range(30))
def test_work_lists_cover_every_key_once(seed):
    """Against the definition: each tile's keys in order, none twice, none missing; shares even; the tail in one work."""
    rng = np.random.default_rng(seed)
    tiles, groups, tokens = int(rng.integers(1, 20)), int(rng.integers(1, 12)), int(rng.integers(1, 5))
    keys = rng.integers(0, 400, tiles).astype(np.int32) * (rng.random(tiles) < 0.8)
    first = rng.integers(0, 1000, tiles).astype(np.int32)
    listed = jax.jit(work_list, static_argnums=(2, 3))(first, keys, tokens, groups)
    indptr, info, owner = (np.asarray(x) for x in listed)
    used = int(indptr[-1])
    assert indptr[0] == 0
    assert (np.diff(indptr) >= 0).all()
    assert used <= capacity(tiles, groups)
    assert (owner[used:] == tiles).all()
    assert (info[used:] == 0).all()
    assert (owner[:used] == info[:used, 0]).all()
    assert (info[:used, 1] == tokens * np.arange(used)).all()
    for tile in range(tiles):
        works = info[:used][info[:used, 0] == tile]
        if keys[tile] == 0:
            assert len(works) == 0
            continue
        assert (works[:, 2:4] == [tile * tokens, (tile + 1) * tokens]).all()
        assert works[0, 4] == first[tile]
        assert works[-1, 5] == first[tile] + keys[tile]
        assert (works[1:, 4] == works[:-1, 5]).all()
        assert (works[:, 5] > works[:, 4]).all()
        assert (works[:, 6] == first[tile] + keys[tile] - works[:, 5]).all()
        assert len(works) == 1 or works[-1, 5] - works[-1, 4] >= tokens
    loads = [sum(w[5] - w[4] for w in info[a:b]) for a, b in itertools.pairwise(indptr)]
    cost = sum(-(-n // BLOCK) + OVERHEAD for n in keys if n)
    assert max(loads) <= -(-cost // groups) * BLOCK + tokens


@pytest.mark.parametrize("arch", ["gfx942", "gfx950"])
def test_layers_share_one_work_list(arch):
    """Three layers that are given a list hold one computation of it (what sorts), others three; they run the same kernel."""

    def layers(q, kv, qo, kv_indptr, indices, last, *, shared):
        given = {}
        if shared:
            kinds = {"dtype_q": q.dtype, "dtype_kv": kv.dtype}
            given = jax_aiter.get_mla_metadata_v1(qo, kv_indptr, last, 48, max_seqlen_qo=2, **kinds)._asdict()
        call = functools.partial(jax_aiter.mla_decode_fwd, max_seqlen_qo=2, sm_scale=0.1, implementation="asm", **given)
        return [call(q * scale, kv, qo, kv_indptr, indices, last) for scale in (1, 2, 3)]

    kernels_of, lists = [], []
    for shared in (True, False):
        with jax_aiter.config(arch=arch):
            traced = jax.jit(functools.partial(layers, shared=shared)).trace(*decode(heads=48, queries=2).operands.values())
            text = traced.lower(lowering_platforms=("rocm",)).as_text()
        kernels_of.append(re.findall(r'kernels = "([^"]*)"', text))
        lists.append(executed(text, "stablehlo.sort"))
    assert lists == [1, 3]
    assert kernels_of[0] == kernels_of[1]
    assert len(kernels_of[0]) == 3


def with_list(call: Call, tiles: int, groups: int = 304) -> Call:
    """The call with a work list of that many tiles."""
    shapes = (4,), (groups + 1,), (tiles + groups - 1, 8), (tiles + 1,), (tiles, 2), (tiles + groups - 1,)
    arrays = {n: jax.ShapeDtypeStruct(s, jnp.dtype("int32")) for n, s in zip(AXES, shapes, strict=True)}
    return dataclasses.replace(call, operands={**call.operands, **arrays})


def test_a_given_list_asks_for_a_persistent_kernel():
    """Its workgroups are launched; where AITER has found even splits to be faster, or has no other, they stay."""
    provider = AsmProvider()
    kernel, place, rule = provider.details(with_list(decode(), 3, groups=5))[:3]
    assert kernel.endswith("_psE")
    assert "grid (5, 1, 1)" in place
    assert "works given by the caller" in rule
    assert "split evenly" in provider.details(decode())[2]
    assert "split evenly" in provider.details(with_list(decode(heads=8), 3))[2]
    assert "split evenly" in provider.details(with_list(decode("gfx950", batch=32), 32))[2]
    assert "persistent" in provider.details(with_list(decode("gfx950", batch=31), 31))[2]


def test_a_list_of_other_tiles_is_refused():
    found = refusal(with_list(decode(heads=48, queries=2, kernel=None), 3))
    assert "reduce_final_map has 3 tiles; the kernel takes 9 of 2 queries" in found
