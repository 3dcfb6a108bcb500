"""The work list of persistent paged attention against a restatement of AITER's walk (kernels/mla/metadata/v1_2_pa_device.cuh)."""

import functools

import jax
import numpy as np
import pytest

from jax_aiter.ops.attention.pa_work import capacity, owner_of_pieces, work_list


def walk(pages, queries, group, kv_heads, units):
    """AITER's loops over key/value heads, compute units and sequences (queries of a sequence are never cut here)."""
    begin = np.concatenate([[0], np.cumsum(pages)])
    average, remainder = divmod(sum(pages), units // kv_heads)
    indptr, info, pieces, unit = [0], [], {}, 0
    for head in range(kv_heads):
        b, done, partial, pieces = 0, 0, 0, {}
        while unit < units:
            left = average + (unit % (units // kv_heads) < remainder)
            while b < len(pages):
                rest = pages[b] - done
                take = min(rest, left)
                if rest > left and not left:
                    break
                cut = done > 0 or rest > left
                if cut:
                    pieces.setdefault(b, []).append(partial)
                rows = b * queries, (b + 1) * queries
                keys = begin[b] + done, begin[b] + done + take
                info.append([b, partial if cut else -1, *rows, *keys, 0, head * group | (head + 1) * group << 16])
                partial += queries * cut
                left -= take
                if take < rest:
                    done += take
                    break
                b, done = b + 1, 0
            indptr.append(len(info))
            unit += 1
            if b == len(pages):
                break
    indptr += [len(info)] * (units + 1 - len(indptr))
    return indptr, info, pieces


SIZES = [(1, 1, 16, 1, 8), (5, 3, 2, 4, 12), (9, 1, 8, 2, 6)]


@pytest.mark.parametrize(("sequences", "queries", "group", "kv_heads", "units"), SIZES)
def test_equals_the_walk(sequences, queries, group, kv_heads, units):
    rng = np.random.default_rng(sequences)
    build = jax.jit(functools.partial(work_list, queries=queries, group=group, kv_heads=kv_heads, groups=units))
    works, pieces = capacity(sequences, kv_heads, units)
    for trial in range(60):
        pages = rng.integers(0, [1, 2, 3, 30][trial % 4], sequences).astype(np.int32)
        got = jax.tree.map(np.asarray, build(np.cumsum(pages, dtype=np.int32) - pages, pages))
        indptr, info, parts = walk(pages.tolist(), queries, group, kv_heads, units)
        np.testing.assert_array_equal(got.indptr, indptr)
        np.testing.assert_array_equal(got.info[: len(info)], info)
        assert got.info.shape == (works, 8)
        assert not got.info[len(info) :].any()
        owners = [b for b, p in parts.items() for _ in p]
        np.testing.assert_array_equal(owner_of_pieces(got.parts, pieces), owners + [sequences] * (pieces - len(owners)))
        np.testing.assert_array_equal(np.flatnonzero(np.diff(got.parts)), list(parts))
