"""mla_decode_fwd on AITER's persistent kernels, following a work list that get_mla_metadata_v1 made, against float64 numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter
from jax_aiter.kernels.asm.mla.rows import TABLE
from jax_aiter.kernels.asm.tables import kernels

from . import common, mla
from .mla import BF16, FP8

SCALE = float(mla.SCALE)


def listed(x, queries, *, causal=True, **options):
    """A function of the problem's arrays that makes the list and follows it."""
    heads, page = x.q.shape[1], x.kv_buffer.shape[1]
    same = {"max_seqlen_qo": queries, "page_size": page, "dtype_q": x.q.dtype, "dtype_kv": x.kv_buffer.dtype}

    def call(q, kv, qo, kv_indptr, indices, last):
        made = jax_aiter.get_mla_metadata_v1(qo, kv_indptr, last, heads, is_causal=causal, **same, **options)
        return decode(q, kv, qo, kv_indptr, indices, last, made, queries=queries, causal=causal)

    return call


def decode(q, kv, qo, kv_indptr, indices, last, made, *, queries, causal=True):
    return jax_aiter.mla_decode_fwd(
        q, kv, qo, kv_indptr, indices, last, max_seqlen_qo=queries, sm_scale=SCALE, causal=causal, return_lse=True,
        implementation="asm", **made._asdict(),
    )  # fmt: skip


def is_followed(arch, found) -> None:
    """The chosen kernel is one that takes a list."""
    rows = [r for r in kernels(arch, TABLE) if r.symbol == found.symbol and r.path == found.path]
    assert any(r["ps"] == 1 for r in rows), f"this release of AITER has no persistent kernel for the call: {found.symbol} is taken"


KINDS = [(16, "bf16", "bf16", 1, 1), (48, "bf16", "bf16", 2, 16), (16, "bf16", "fp8", 3, 1), (16, "fp8", "fp8", 2, 3)]
KINDS += [(128, "fp8", "fp8", 2, 1), (32, "bf16", "bf16", 4, 1)]


@pytest.mark.parametrize(("heads", "q", "kv", "queries", "page"), KINDS)
def test_a_list_made_before_is_followed(arch, heads, q, kv, queries, page):
    """Ragged queries, sequences without queries or keys; a list for few workgroups, so that each has several works."""
    types = {"bf16": BF16, "fp8": FP8[arch]}
    counts = [queries, 0, 1, queries, min(queries, 2)]
    x = mla.problem(np.random.default_rng(heads), [90, 20, 300, 0, 65], counts, heads, page=page, q=types[q], kv=types[kv])
    call = listed(x, queries, num_cu=7)
    with common.running(lambda *a: call(*a), *x.arguments()) as got:
        mla.check(x, got)
    is_followed(arch, common.selected(call, *x.arguments()))


def test_one_list_serves_the_layers_of_a_loop(arch):
    x = mla.problem(np.random.default_rng(1), [40, 100], [1, 2], 32, page=16)
    layers = jnp.asarray([1.0, 0.5], BF16)

    @jax.jit
    def run(q, kv, qo, kv_indptr, indices, last):
        options = {"max_seqlen_qo": 2, "page_size": 16, "dtype_q": q.dtype, "dtype_kv": kv.dtype}
        made = jax_aiter.get_mla_metadata_v1(qo, kv_indptr, last, 32, **options)
        return jax.lax.map(lambda s: decode(q * s, kv, qo, kv_indptr, indices, last, made, queries=2), layers)

    out, lse = run(*x.arguments())
    for i, scale in enumerate((1.0, 0.5)):
        mla.check(x, (out[i], lse[i]), q_scale=scale)


def test_a_list_of_another_kind_gives_nan(arch):
    """Tiles as many as the kernel's, of another mask: the shapes do not tell."""
    x = mla.problem(np.random.default_rng(2), [40, 100], [2, 2], 16)
    made = jax_aiter.get_mla_metadata_v1(
        x.qo_indptr, x.kv_indptr, x.kv_last_page_lens, 16, is_causal=False, max_seqlen_qo=2, dtype_q=BF16, dtype_kv=BF16
    )
    is_followed(arch, common.selected(lambda *a: decode(*a, made, queries=2), *x.arguments()))
    out, lse = jax.jit(functools.partial(decode, queries=2))(*x.arguments(), made)
    assert np.isnan(np.asarray(out, np.float32)).all()
    assert np.isnan(np.asarray(lse)).all()


def test_no_list_leads_outside_the_operands(arch):
    """The virtual device reports accesses outside; whatever the numbers are, there are none."""
    x = mla.problem(np.random.default_rng(3), [40, 100], [2, 2], 16)
    buffer = np.nan_to_num(x.kv_buffer.astype(np.float32)).astype(BF16)
    made = jax_aiter.get_mla_metadata_v1(
        x.qo_indptr, x.kv_indptr, x.kv_last_page_lens, 16, max_seqlen_qo=2, dtype_q=BF16, dtype_kv=BF16, num_cu=5
    )
    rng = np.random.default_rng(4)
    wild = [jnp.asarray(rng.integers(-(2**31), 2**31, a.shape), jnp.int32) for a in made]
    sorted_works = jnp.asarray([0, 1, 3, 4, 6, 10**9], jnp.int32)
    for bad in (made._replace(work_info_set=wild[2]), made._replace(work_indptr=wild[1]), made._replace(work_indptr=sorted_works)):
        out, _ = jax.jit(functools.partial(decode, queries=2))(x.q, buffer, *x.arguments()[2:], bad)
        assert out.shape == (4, 16, 512)
