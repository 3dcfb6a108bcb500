"""Caches that are updated where they stand, and sequences whose table names a block that there is not."""

import jax
import numpy as np
import pytest

from jax_aiter.ops import catalogue
from tests.cache.in_place import cache_sized

from .calls import calls
from .test_plans_run import of, run

WRITERS = (
    "reshape_and_cache",
    "reshape_and_cache_with_pertoken_quant",
    "concat_and_cache_mla",
    "fused_qk_rope_concat_and_cache_mla",
    "fused_qk_norm_rope_cache",
    "indexer_k_quant_and_cache",
    "indexer_qk_rope_quant_and_cache",
)


@pytest.mark.parametrize("op", WRITERS)
def test_donated_caches_are_written_where_they_stand(arch, op):
    record, call = catalogue.named(op), of(op, arch)[0]
    caches = {name: jax.numpy.asarray(x) for name, x in call.operands.items() if name in record.aliases}
    rest = {name: x for name, x in call.operands.items() if name not in caches}
    fn = jax.jit(lambda caches, rest: record(**caches, **rest, **call.params, implementation="hip"), donate_argnums=0)
    compiled = fn.lower(caches, rest).compile()
    small, large = min(x.size for x in caches.values()), max(x.size for x in caches.values())
    assert cache_sized(compiled, large) == []
    assert "copy" not in cache_sized(compiled, small)  # of scales; tokens make arrays of that size
    call.check(compiled(caches, rest))


def test_a_block_that_is_none_makes_its_sequence_nan_and_no_other(arch):
    call = next(call for call in calls(arch) if call.op == "paged_attention")
    query, tables = call.operands["query"], call.operands["block_tables"].copy()
    assert (call.operands["context_lens"][:2] > 0).all()
    tables[0, 0] = -1
    (out,) = run(call.op, {**call.operands, "block_tables": tables}, call.params)
    assert np.isnan(np.asarray(out[0], np.float32)).all()
    (want,) = run(call.op, call.operands, call.params)
    np.testing.assert_array_equal(np.asarray(out[1:]), np.asarray(want[1:]))
    assert out.shape == query.shape
