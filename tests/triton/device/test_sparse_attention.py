"""Sparse attention from keys to outputs on Triton kernels, a prompt and a step of decoding: scores, selection, MLA over the chosen.

Dense attention in float64, masked to the choice, is the oracle of the outputs; of the choice, a sort of the scores that the kernels
gave; of the scores, float64. A bfloat16 output is within two units in the last place of its row's largest.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jax_aiter as ja
from jax_aiter.kernels.spec import FP8
from tests.mla.test_sparse import dense
from tests.oracle import f64

HEADS, INDEX_HEADS, INDEX_DIM, PAGE, TOPK, SCALE = 16, 16, 64, 16, 24, 576**-0.5
LENGTHS = [70, 1, 37]


class Sequences:
    """Latents and the indexer's keys of every token, in both caches; page 0 is no one's."""

    def __init__(self, arch):
        rng = np.random.default_rng(0)
        pages = [-(-n // PAGE) for n in LENGTHS]
        order, columns = 1 + rng.permutation(sum(pages)), max(pages)
        self.table = np.full((len(LENGTHS), columns), -1, np.int32)
        for row, end, n in zip(self.table, np.cumsum(pages), pages, strict=True):
            row[:n] = order[end - n : end]
        self.owner = np.repeat(np.arange(len(LENGTHS), dtype=np.int32), LENGTHS)
        self.offsets = np.cumsum([0, *LENGTHS]).astype(np.int32)
        self.place = np.arange(self.offsets[-1]) - self.offsets[self.owner]
        self.slots = (self.table[self.owner, self.place // PAGE] * PAGE + self.place % PAGE).astype(np.int32)
        blocks = sum(pages) + 1
        self.keys = rng.standard_normal((len(self.owner), INDEX_DIM)).astype(np.float32)
        self.latents = np.full((blocks * PAGE, 1, 576), np.nan, np.float32)
        self.latents[:PAGE] = 0
        self.latents[self.slots] = rng.standard_normal((len(self.owner), 1, 576))
        self.latents = jnp.asarray(self.latents.reshape(blocks, PAGE, 1, 576), jnp.bfloat16)
        self.options = {"quant_block_size": INDEX_DIM, "quant_dtype": FP8[arch]}
        empty = np.full((blocks, PAGE, INDEX_DIM + 4), 0xFF, np.uint8)
        self.index = ja.indexer_k_quant_and_cache(self.keys, empty, self.slots, **self.options)

    def queries(self, rows, arch):
        """Of as many tokens: for MLA, for the indexer, and its weights."""
        rng = np.random.default_rng(rows)
        q = jnp.asarray(rng.standard_normal((rows, HEADS, 576)), jnp.bfloat16)
        index = jnp.asarray(rng.standard_normal((rows, INDEX_HEADS, INDEX_DIM)), FP8[arch])
        return q, index, rng.standard_normal((rows, INDEX_HEADS)).astype(np.float32)

    def attend(self, q, positions, owner):
        """Outputs over the chosen positions, checked."""
        slots = ja.req_to_global_index(jnp.asarray(owner), jnp.asarray(self.table), positions, block_size=PAGE)
        call = jax.jit(lambda *a: ja.mla_sparse_fwd(*a, sm_scale=SCALE, v_head_dim=512, implementation="triton"))
        got = f64(call(q, self.latents, slots))
        assert np.isfinite(got).all()
        want, _ = dense(f64(q), np.nan_to_num(f64(self.latents)), np.asarray(slots), SCALE, 512)
        assert (np.abs(got - want) <= 2 * 2.0**-8 * np.abs(want).max(-1, keepdims=True)).all()

    def chosen(self, positions, logits, seen):
        """The lowest positions among the largest logits, in order; logits: by position in the sequence."""
        for row, scores, n in zip(np.asarray(positions), logits, seen, strict=True):
            want = np.sort(np.argsort(-scores[:n], kind="stable")[:TOPK])
            np.testing.assert_array_equal(row, np.concatenate([want, np.full(TOPK - len(want), -1)]))

    def scored(self, logits, index, weights, owner, seen):
        """Scores of float64 from the unquantised keys: rounding a key to fp8 moves each of its elements by 2^-4 of itself at most,
        or by what 2^-10 of the largest is."""
        for t, (row, n) in enumerate(zip(logits, seen, strict=True)):
            keys = f64(self.keys[self.offsets[owner[t]] :][:n])
            products = f64(index[t]) @ keys.T
            wide = np.abs(keys) * 2.0**-4 + np.abs(keys).max(-1, keepdims=True) * 2.0**-10
            moved = np.abs(weights[t]) @ (np.abs(f64(index[t])) @ wide.T)
            assert (np.abs(row[:n] - weights[t] @ np.maximum(products, 0)) <= moved + 1e-4).all()


@pytest.mark.timeout(900)
def test_a_prompt(arch):
    x = Sequences(arch)
    q, index, weights = x.queries(len(x.owner), arch)
    total = {"total_tokens": len(x.owner), "head_dim": INDEX_DIM}
    keys, scales = ja.cp_gather_indexer_k_quant_cache(x.index, x.table, x.offsets, **total, **x.options)
    starts, ends = x.offsets[x.owner], (np.arange(len(x.owner)) + 1).astype(np.int32)

    @jax.jit
    def choose(*given):
        logits = ja.fp8_mqa_logits(*given, starts, ends, implementation="triton")
        found = ja.top_k_per_row_prefill(logits, starts, ends, k=TOPK, stable=True, implementation="triton")
        return logits, jnp.where(found < 0, -1, found - starts[:, None])

    logits, positions = choose(index, keys, scales[:, 0], weights)
    own = [f64(row)[a:b] for row, a, b in zip(np.asarray(logits), starts, ends, strict=True)]
    x.scored(own, index, weights, x.owner, x.place + 1)
    x.chosen(positions, own, x.place + 1)
    x.attend(q, positions, x.owner)


@pytest.mark.timeout(900)
def test_a_step_of_decoding(arch):
    x = Sequences(arch)
    owner = np.arange(len(LENGTHS), dtype=np.int32)
    q, index, weights = x.queries(len(LENGTHS), arch)
    given = index, x.index, weights, x.table, np.array(LENGTHS, np.int32)
    logits = np.asarray(ja.fp8_paged_mqa_logits(*given, implementation="triton"))
    positions = jax.jit(lambda *a: ja.sparse_attn_indexer(*a, topk=TOPK, stable=True, implementation="triton"))(*given)
    x.scored(f64(logits), index, weights, owner, LENGTHS)
    x.chosen(positions, f64(logits), LENGTHS)
    for row, length in zip(logits, LENGTHS, strict=True):
        assert (row[length:] == -np.inf).all()
    x.attend(q, positions, owner)
