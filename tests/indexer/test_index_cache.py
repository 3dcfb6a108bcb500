"""The indexer's cache byte by byte: numpy's own conversions, and a loop over elements for where each stands."""

import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import jax_aiter
from jax_aiter import cp_gather_indexer_k_quant_cache, fp8_mqa_logits, fp8_paged_mqa_logits, indexer_k_quant_and_cache

FP8 = {"float8_e4m3fnuz": (ml_dtypes.float8_e4m3fnuz, 240.0), "float8_e4m3fn": (ml_dtypes.float8_e4m3fn, 448.0)}


def byte_of(place: int, d: int, head: int, preshuffle: bool) -> int:
    """As the kernels that read it describe it: a tile of 16 keys by 16 bytes is 256 bytes, and a key's part of it 16."""
    if not preshuffle:
        return place * head + d
    (group, row), (tile, column) = divmod(place, 16), divmod(d, 16)
    return group * 16 * head + tile * 256 + row * 16 + column


def stored(cache: np.ndarray, slot: int, head: int, groups: int, dtype: str, preshuffle: bool):
    """The key and the scales at a slot, read out of the cache one byte at a time."""
    _, size, _ = cache.shape
    block, place = divmod(slot, size)
    flat = cache[block].reshape(-1)
    key = np.array([flat[byte_of(place, d, head, preshuffle)] for d in range(head)], np.uint8).view(FP8[dtype][0])
    first = size * head + place * groups * 4
    return key, np.frombuffer(flat[first : first + 4 * groups].tobytes(), "<f4")


def check_written(cache, old, k, slots, dtype, *, block=128, scale_fmt=None, preshuffle=False):
    """Every key within half a step of k / scale, the scales exact to two roundings, every other byte as it was."""
    head, largest = k.shape[1], FP8[dtype][1]
    groups, touched = head // block, np.zeros(old.shape, bool)
    for t, slot in enumerate(slots):
        if not 0 <= slot < old.shape[0] * old.shape[1]:
            continue
        key, scales = stored(np.asarray(cache), slot, head, groups, dtype, preshuffle)
        wide = k[t].astype(np.float64).reshape(groups, block)
        want = np.maximum(np.abs(wide).max(-1), np.float32(1e-4)) / largest
        if scale_fmt == "ue8m0":
            assert (scales == 2.0 ** np.ceil(np.log2(want))).all()
        else:
            np.testing.assert_allclose(scales, want, rtol=2.0**-22)
        quotient = wide / scales[:, None].astype(np.float64)
        spacing = np.maximum(2.0 ** (np.floor(np.log2(np.maximum(np.abs(quotient), 2.0**-30))) - 3), FP8_STEP[dtype])
        error = np.abs(key.astype(np.float64).reshape(groups, block) - np.clip(quotient, -largest, largest))
        assert (error <= spacing * (0.5 + 2.0**-18)).all()
        flat = touched[slot // old.shape[1]].reshape(-1)
        place = slot % old.shape[1]
        flat[[byte_of(place, d, head, preshuffle) for d in range(head)]] = True
        flat[old.shape[1] * head + place * groups * 4 :][: 4 * groups] = True
    np.testing.assert_array_equal(np.asarray(cache)[~touched], old[~touched])


FP8_STEP = {name: float(ml_dtypes.finfo(dtype).smallest_subnormal) for name, (dtype, _) in FP8.items()}


def made(seed, tokens, head, blocks, size, groups=1, padding=0, dtype="bfloat16"):
    rng = np.random.default_rng(seed)
    k = np.array(jnp.asarray(rng.standard_normal((tokens, head)) * 3, dtype))
    old = rng.integers(0, 256, (blocks, size, head + 4 * groups + padding), np.uint8)
    slots = rng.permutation(blocks * size)[:tokens].astype(np.int32)
    return k, old, slots


@pytest.mark.parametrize("scale_fmt", [None, "ue8m0"])
@pytest.mark.parametrize("dtype", FP8)
@pytest.mark.parametrize(
    ("head", "block", "size", "padding", "preshuffle"),
    [(128, 128, 1, 0, False), (128, 128, 64, 12, False), (24, 8, 3, 1, False), (128, 128, 64, 0, True), (32, 16, 16, 3, True)],
)
def test_writer(head, block, size, padding, preshuffle, dtype, scale_fmt):
    k, old, slots = made(size, 6, head, 9, size, head // block, padding)
    slots[1], slots[4], k[2] = -1, 9 * size, 0  # skipped, skipped, and a key of zeros
    options = {"quant_block_size": block, "scale_fmt": scale_fmt, "preshuffle": preshuffle}
    cache = indexer_k_quant_and_cache(k, old, slots, **options, quant_dtype=dtype)
    check_written(cache, old, k, slots, dtype, block=block, scale_fmt=scale_fmt, preshuffle=preshuffle)


@pytest.mark.parametrize("dtype", FP8)
@pytest.mark.parametrize(("size", "preshuffle"), [(1, False), (5, False), (16, True), (48, True)])
def test_gather_reads_what_the_writer_wrote(size, preshuffle, dtype):
    lengths, head, blocks = [2 * size + 1, 0, 3 * size - 1, 1], 64, 12
    rng = np.random.default_rng(size)
    order, tables = rng.permutation(blocks), np.full((4, 4), -1, np.int32)
    for row, length in zip(tables, lengths, strict=True):
        used = -(-length // size)
        row[:used], order = order[:used], order[used:]
    slots = [table[i // size] * size + i % size for table, n in zip(tables, lengths, strict=True) for i in range(n)]
    k, old, _ = made(size, len(slots), head, blocks, size)
    options = {"quant_block_size": head, "preshuffle": preshuffle, "quant_dtype": dtype}
    cache = np.asarray(indexer_k_quant_and_cache(k, old, np.array(slots, np.int32), **options))
    offsets = np.cumsum([0, *lengths]).astype(np.int32)
    got, scales = cp_gather_indexer_k_quant_cache(cache, tables, offsets, total_tokens=len(slots) + 3, head_dim=head, **options)
    for t, slot in enumerate(slots):
        key, scale = stored(cache, slot, head, 1, dtype, preshuffle)
        np.testing.assert_array_equal(np.asarray(got[t]).view(np.uint8), key.view(np.uint8))
        assert np.asarray(scales[t]) == scale
    assert not np.asarray(got[len(slots) :]).view(np.uint8).any()
    assert not np.asarray(scales[len(slots) :]).any()


def test_rows_without_a_block_are_zeros():
    old = np.full((3, 2, 12), 1, np.uint8)
    tables, offsets = np.array([[0, 7], [-1, 2]], np.int32), np.array([1, 6, 9], np.int32)
    got, scales = cp_gather_indexer_k_quant_cache(old, tables, offsets, total_tokens=10, head_dim=8, quant_block_size=8)
    # Row 0 is of no sequence; 1, 2 of block 0; 3, 4 of block 7; 5 past the table; 6, 7 of block -1; 8 of block 2; 9 past the end.
    assert (np.asarray(scales)[:, 0] != 0).tolist() == [False, True, True, *[False] * 5, True, False]
    assert (np.asarray(got).astype(np.float32).any(1)).tolist() == [False, True, True, *[False] * 5, True, False]


@pytest.mark.parametrize("preshuffle", [False, True])
def test_paged_logits_are_those_of_the_gathered_keys(preshuffle):
    """Decode over pages and prefill over packed keys score the same bytes: to the rounding of sums of 3 heads of 32."""
    size, head, lengths = 16, 32, [37, 5]
    k, old, _ = made(7, sum(lengths), head, 5, size)
    tables = np.array([[4, 0, 2], [3, -1, -1]], np.int32)
    slots = [table[i // size] * size + i % size for table, n in zip(tables, lengths, strict=True) for i in range(n)]
    options = {"quant_block_size": head, "preshuffle": preshuffle, "quant_dtype": jnp.float8_e4m3fn}
    cache = indexer_k_quant_and_cache(k, old, np.array(slots, np.int32), **options)
    offsets = np.array([0, *np.cumsum(lengths)], np.int32)
    keys, scales = cp_gather_indexer_k_quant_cache(cache, tables, offsets, total_tokens=sum(lengths), head_dim=head, **options)
    rng = np.random.default_rng(0)
    q = rng.standard_normal((2, 3, head)).astype(ml_dtypes.float8_e4m3fn)
    weights = rng.standard_normal((2, 3)).astype(np.float32)
    packed = np.asarray(fp8_mqa_logits(q, keys, scales[:, 0], weights, offsets[:-1], offsets[1:]))
    paged = np.asarray(fp8_paged_mqa_logits(q, cache, weights, tables, np.array(lengths, np.int32), preshuffle=preshuffle))
    for row, ours, (first, end) in zip(packed, paged, itertools.pairwise(offsets), strict=True):
        np.testing.assert_allclose(ours[: end - first], row[first:end], rtol=1e-5, atol=1e-5 * np.abs(row[first:end]).max())
        assert (ours[end - first :] == -np.inf).all()


def test_batches_and_donation():
    k, old, slots = made(8, 4, 32, 3, 4)
    options = {"quant_block_size": 32, "quant_dtype": jnp.float8_e4m3fn}
    both = jax.vmap(lambda k, cache, slots: indexer_k_quant_and_cache(k, cache, slots, **options))
    got = both(np.stack([k, 2 * k]), np.stack([old, old[::-1]]), np.stack([slots, slots[::-1]]))
    for one, arguments in zip(got, ((k, old, slots), (2 * k, old[::-1], slots[::-1])), strict=True):
        np.testing.assert_array_equal(one, indexer_k_quant_and_cache(*arguments, **options))


def test_errors_name_argument_and_rule():
    k, old, slots = made(9, 2, 32, 3, 4)
    with pytest.raises(ValueError, match=r"the size of a key is 32, must be a multiple of 128 \(it is quantised in blocks"):
        indexer_k_quant_and_cache(k, old, slots)
    with pytest.raises(ValueError, match=r"dimension 2 of kv_cache is 36, must be at least D \+ 8 = 40"):
        indexer_k_quant_and_cache(k, old, slots, quant_block_size=16)
    with pytest.raises(ValueError, match=r"dimension 1 of kv_cache is 4, must be a multiple of 16 \(preshuffled"):
        indexer_k_quant_and_cache(k, old, slots, quant_block_size=32, preshuffle=True)
    with pytest.raises(ValueError, match=r"scale_fmt must be one of \[None, 'ue8m0'\], got 'e4m3'"):
        indexer_k_quant_and_cache(k, old, slots, quant_block_size=32, scale_fmt="e4m3")
    with pytest.raises(ValueError, match="cu_seq_lens has 2 elements, must be the number of sequences"):
        cp_gather_indexer_k_quant_cache(old, slots.reshape(2, 1), slots, total_tokens=3, head_dim=32, quant_block_size=32)
    with jax_aiter.debug_checks(), pytest.raises(Exception, match="no two tokens may have the same slot in slot_mapping"):
        indexer_k_quant_and_cache(k, old, np.array([3, 3], np.int32), quant_block_size=32)
