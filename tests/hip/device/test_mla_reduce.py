"""mla_decode_fwd on a persistent hand-written kernel, its parts joined by AITER's HIP kernel: one plan, against float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.kernels.asm.mla import launch
from jax_aiter.kernels.asm.mla.rows import stem, usable_rows, writes_lse
from jax_aiter.kernels.asm.provider import AsmProvider
from jax_aiter.kernels.call import CUSTOM_CALL_TARGETS
from tests.asm import mla
from tests.asm.mla import BF16, FP8
from tests.asm.test_mla_decode import causal_for, shape_for
from tests.needs import needs_aiter, skip_without_aiter

from .ran import call_of, recorded

SCALE = float(mla.SCALE)
JOINED, XLAS = "works joined by AITER's HIP kernel", "works joined by XLA's kernels"


def listing(x, queries, *, groups, causal=True, lse=False, kernel=None):
    """The op as a function of the problem's arrays, with a list for `groups` workgroups; None: without a list."""

    def call(q, kv, qo, kv_indptr, indices, last):
        given = {}
        if groups is not None:
            same = {"max_seqlen_qo": queries, "page_size": kv.shape[1], "dtype_q": q.dtype, "dtype_kv": kv.dtype}
            heads = x.q.shape[1]
            given = jax_aiter.get_mla_metadata_v1(qo, kv_indptr, last, heads, is_causal=causal, num_cu=groups, **same)._asdict()
        return jax_aiter.mla_decode_fwd(
            q, kv, qo, kv_indptr, indices, last, max_seqlen_qo=queries, sm_scale=SCALE, causal=causal, return_lse=lse,
            implementation="asm", kernel=kernel, **given,
        )  # fmt: skip

    return call


def said(call, x) -> str:
    """What `explain` says of the join; skips where nothing is joined: the release, or the machine, lacks it."""
    (found,) = [e for e in jax_aiter.explain(call, *x.arguments()) if e.op == "mla_decode_fwd"]
    joins = [line for line in found.details if "joined by" in line]
    if not joins or "cannot be compiled" in joins[0] or "this release of AITER" in joins[0]:
        skip_without_aiter(joins[0] if joins else "a persistent kernel for this call")
    return joins[0]


def check(arch, x, queries, *, how=JOINED, causal=True, lse=False, groups=7, kernel=None):
    needs_aiter("hsa")
    call = listing(x, queries, causal=causal, lse=lse, groups=groups, kernel=kernel)
    assert said(call, x).startswith(how)
    compiled = jax.jit(call).lower(*x.arguments()).compile()
    text = compiled.as_text() or ""
    assert ("mla_reduce" in text) == (how == JOINED)
    assert sum(target in line for target in CUSTOM_CALL_TARGETS for line in text.splitlines()) == 1, "both are one plan"
    found = compiled(*x.arguments())
    mla.check(x, found if lse else (found,), causal=causal)


#: heads, dtypes, queries, tokens of a page. Of the sequences one has no query, one no key, some fit one work, some take several.
KINDS = [(16, "bf16", "bf16", 1, 1), (48, "bf16", "bf16", 2, 16), (16, "bf16", "fp8", 3, 1), (16, "fp8", "fp8", 1, 3)]
KINDS = [KINDS[0], *(pytest.param(*kind, marks=pytest.mark.exhaustive) for kind in KINDS[1:])]
NAMES = ("q", "kv_buffer", "qo_indptr", "kv_indptr", "kv_indices", "kv_last_page_lens")


def problem(arch, heads, q, kv, queries, page):
    types = {"bf16": BF16, "fp8": FP8[arch]}
    counts = [queries, 0, 1, queries, min(queries, 2)]
    lengths = [90, 20, 300, 0, 65]
    return mla.problem(np.random.default_rng(heads), lengths, counts, heads, page=page, q=types[q], kv=types[kv], spare_rows=1)


@pytest.mark.parametrize(("heads", "q", "kv", "queries", "page"), KINDS)
def test_tiles_of_one_part_of_several_and_of_none(arch, heads, q, kv, queries, page):
    x = problem(arch, heads, q, kv, queries, page)
    said(listing(x, queries, groups=7), x)
    options = {"max_seqlen_qo": queries, "page_size": page, "dtype_q": x.q.dtype, "dtype_kv": x.kv_buffer.dtype, "num_cu": 7}
    list_of = functools.partial(jax_aiter.get_mla_metadata_v1, num_heads_per_head_k=heads, **options)
    made = jax.eval_shape(list_of, x.qo_indptr, x.kv_indptr, x.kv_last_page_lens)
    params = {"max_seqlen_qo": queries, "sm_scale": SCALE, "logit_cap": 0.0, "causal": True, "return_lse": False, "v_head_dim": 512}
    operands = {**dict(zip(NAMES, x.arguments(), strict=True)), **made._asdict()}
    with recorded(*AsmProvider().recorded(call_of("mla_decode_fwd", operands, params, arch))):
        check(arch, x, queries)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("index", range(48))
def test_every_persistent_kernel(arch, index, monkeypatch):
    """Each writes what a work computes of a whole tile, and the log-sum-exp where it has one."""
    monkeypatch.setattr(launch, "groups_of", lambda target: 5)
    rows = [row for row in usable_rows(arch, prefill=False) if row["ps"] == 1]
    if index >= len(rows):
        pytest.skip(f"{arch} has {len(rows)} persistent kernels for decoding")
    row = rows[index]
    heads, queries = shape_for(row)
    q, kv = ({"bf16": BF16, "fp8": FP8[arch]}[str(row[name])] for name in ("qType", "kvType"))
    lengths = [max(n, queries) for n in (1, 17, 65, 700)]
    x = mla.problem(np.random.default_rng(index), lengths, [queries] * 4, heads, q=q, kv=kv)
    check(arch, x, queries, causal=causal_for(row), kernel=stem(row), groups=None, lse=writes_lse(row))


def test_log_sum_exps_that_no_kernel_writes_are_xlas(arch):
    x = problem(arch, 16, "bf16", "bf16", 1, 1)
    call = listing(x, 1, groups=7, lse=True, kernel="mla_a16w16_qh16_m16x4_n16x1_coex0_mask1_ps")
    assert said(call, x).startswith(f"{XLAS}: return_lse, and mla_a16w16_qh16_m16x4_n16x1_coex0_mask1_ps writes none")


def test_a_list_for_more_workgroups_than_compute_units_is_joined_by_xla(arch):
    x = problem(arch, 16, "bf16", "bf16", 1, 1)
    assert said(listing(x, 1, groups=999), x).startswith(f"{XLAS}: a list for 999 workgroups; AITER's HIP kernel joins")


@pytest.mark.exhaustive
def test_a_list_of_another_mask_gives_nan_and_a_wild_one_reads_nothing_outside(arch):
    x = mla.problem(np.random.default_rng(2), [40, 100], [2, 2], 16)
    said(listing(x, 2, groups=5), x)  # a kernel that follows no list has the right numbers with any
    buffer = np.nan_to_num(x.kv_buffer.astype(np.float32)).astype(BF16)
    made = jax_aiter.get_mla_metadata_v1(
        x.qo_indptr, x.kv_indptr, x.kv_last_page_lens, 16, max_seqlen_qo=2, dtype_q=BF16, dtype_kv=BF16, num_cu=5
    )
    options = {"max_seqlen_qo": 2, "sm_scale": SCALE, "implementation": "asm"}
    decode = jax.jit(lambda made: jax_aiter.mla_decode_fwd(x.q, buffer, *x.arguments()[2:], **options, **made._asdict()))
    assert np.isfinite(np.asarray(decode(made), np.float32)).all()
    other = made._replace(work_meta_data=made.work_meta_data.at[3].set(0))
    assert np.isnan(np.asarray(decode(other), np.float32)).all()
    rng = np.random.default_rng(4)
    wild = [jnp.asarray(rng.integers(-(2**31), 2**31, a.shape), jnp.int32) for a in made]
    for bad in (
        made._replace(work_info_set=wild[2]),
        made._replace(work_indptr=wild[1]),
        made._replace(work_info_set=-made.work_info_set),
    ):
        assert decode(bad).shape == (4, 16, 512)
