"""``TRITON_INTERPRET=1 python tests/triton/sort_probe.py``: the MoE slot sort on Triton's interpreter against numpy.

A process of its own, as Triton decides on its interpreter when it is imported. Needs torch and triton, no device.
"""

import functools

import numpy as np
import torch

from jax_aiter.kernels.triton.moe import few
from jax_aiter.kernels.triton.worker.own import glue_sort
from jax_aiter.kernels.triton.worker.own.moe import glue_few

UNWRITTEN = -77


def on_host() -> None:
    """Tensors that the host code asks for are on the CPU, and those it leaves open hold what no kernel writes."""
    empty, zeros = torch.empty, torch.zeros
    torch.empty = lambda *shape, **how: empty(*shape, **{**how, "device": "cpu"}).fill_(UNWRITTEN)
    torch.zeros = lambda *shape, **how: zeros(*shape, **{**how, "device": "cpu"})


def expected(ids, held, tokens, experts: int, block: int):
    """Local experts by slot, the sorted slots and the expert of each block, by their definition."""
    local = np.full(ids.shape, experts)
    table = np.arange(experts) if held is None else np.where(held > 0, np.cumsum(held) - 1, experts)
    for token, row in enumerate(ids):
        for slot, expert in enumerate(row):
            if 0 <= expert < len(table) and (tokens is None or token < tokens):
                local[token, slot] = table[expert]
    order, blocks = [], []
    for expert in range(experts + 1):
        slots = list(np.nonzero(local.ravel() == expert)[0])
        count = -(-len(slots) // block)
        order += slots + [ids.size] * (count * block - len(slots))
        blocks += [-1 if expert == experts else expert] * count
    return local, order, blocks


def drawn(rng: np.random.Generator, rows: int, k: int, experts: int):
    """Ids, some of no expert; a mask of experts and a count of tokens, or None for either."""
    tokens = None if rng.random() < 0.5 else int(rng.integers(0, rows + 1))
    held = None
    if rng.random() < 0.4:
        held = np.zeros(experts + 5, np.int32)
        held[rng.choice(experts + 5, experts, replace=False)] = 1
    return rng.integers(-1, (experts if held is None else len(held)) + 2, (rows, k)).astype(np.int32), held, tokens


def run(group, ids, held, tokens, experts: int, block: int):
    mask, limit = (None if x is None else torch.tensor(x, dtype=torch.int32) for x in (held, None if tokens is None else [tokens]))
    return group(torch.tensor(ids), mask, experts, limit, block)


def check(rng: np.random.Generator) -> None:
    rows, k, experts = (
        int(rng.choice([1, 3, 17, 64, 200, 513, 1400])),
        int(rng.choice([1, 2, 3, 8])),
        int(rng.choice([1, 2, 7, 8, 31, 64])),
    )
    block, given = int(rng.choice([16, 32, 64, 128])), drawn(rng, rows, k, experts)
    for places in (False, True):
        check_one(run(functools.partial(glue_sort.sorted_slots, places=places), *given, experts, block), given, experts, block)


def check_one(found, given, experts: int, block: int) -> None:
    wanted, slots, named = expected(*given, experts, block)
    np.testing.assert_array_equal(found.local.numpy(), wanted)
    assert found.padded.item() == len(slots)
    assert found.taken.item() == block * sum(expert >= 0 for expert in named)
    for written, right in ((found.order, slots), (found.blocks, named)):
        np.testing.assert_array_equal(written.numpy()[: len(right)], right)
        assert (written.numpy()[len(right) :] == UNWRITTEN).all()


def check_few(rng: np.random.Generator) -> None:
    """A block for each slot, those of experts first; what a longer list sorts says which they are."""
    k, experts = int(rng.choice([1, 2, 3, 8, 16])), int(rng.choice([1, 2, 7, 64]))
    rows, block = int(rng.integers(1, few.FEW // k + 1)), int(rng.choice([16, 64]))
    given = drawn(rng, rows, k, experts)
    found = run(glue_few.few_slots, *given, experts, block)
    wanted, _, _ = expected(*given, experts, block)
    np.testing.assert_array_equal(found.local.numpy(), wanted)
    flat = wanted.ravel()
    slots = np.concatenate([np.nonzero(flat < experts)[0], np.nonzero(flat == experts)[0]])
    order = found.order.numpy().reshape(-1, block)
    np.testing.assert_array_equal(order[:, 0], slots)
    assert (order[:, 1:] == rows * k).all()
    np.testing.assert_array_equal(found.blocks.numpy(), np.where(flat[slots] < experts, flat[slots], -1))
    assert (found.padded.item(), found.taken.item()) == (rows * k * block, int((flat < experts).sum()) * block)


if __name__ == "__main__":
    on_host()
    for seed in range(20):
        check(np.random.default_rng(seed))
        check_few(np.random.default_rng(seed))
    print("agreed")
