"""The launches of a plan on the interpreter, sampled, with memory of the plan's sizes that holds zeros but for the routing."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from vgpu.devices import Device
from vgpu.estimate import Bench

from jax_aiter.kernels.plan import Fill, Launch, LaunchPlan


def even_routing(tokens: int, topk: int, experts: int, block: int, blocks: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Sorted ids int32 [blocks·block], expert of each block int32 [blocks], rows in use: random distinct experts for each token."""
    rng = np.random.default_rng(0)
    ids = np.argsort(rng.random((tokens, experts), np.float32), axis=1)[:, :topk] if tokens * experts < 1 << 24 else (
        np.arange(tokens)[:, None] * 7 + np.arange(topk) * (experts // topk)) % experts  # fmt: skip
    flat = ids.reshape(-1)
    order = np.argsort(flat, kind="stable")
    counts = np.bincount(flat, minlength=experts)
    used = -(-counts // block)
    rows = np.full(blocks * block, topk << 24 | tokens, np.int64)
    first = np.cumsum(used) - used
    rank = np.arange(flat.size) - (np.cumsum(counts) - counts)[flat[order]]
    rows[first[flat[order]] * block + rank] = order // topk | (order % topk) << 24
    owner = np.zeros(blocks, np.int32)
    owner[: used.sum()] = np.repeat(np.arange(experts), used)
    return rows.astype(np.uint32).view(np.int32), owner, int(used.sum()) * block


def routing_contents(plan: LaunchPlan, *, tokens: int, topk: int, experts: int, block: int) -> dict[str, bytes]:
    """What the buffers of a plan that hold the routing contain, whichever of AITER's forms they have."""
    sizes = {buffer.name: buffer.nbytes for buffer in plan.buffers}
    if "STP" in sizes:  # unsorted
        ids = np.argsort(np.random.default_rng(0).random((tokens, experts), np.float32), axis=1)[:, :topk]
        return {"STP": ids.astype(np.int32).tobytes(), "SW": np.full(tokens * topk, 1 / topk, np.float32).tobytes()}
    if "BLOCKS" in sizes:
        blocks = sizes["BLOCKS"] // 4 - 4
        rows, owner, used = even_routing(tokens, topk, experts, block, blocks)
        head = np.array([used, tokens, 0, 0], np.int32)
        weights = np.full(rows.size, 1 / topk, np.float32)
        return {"ROWS": rows.tobytes() + weights.tobytes(), "BLOCKS": head.tobytes() + owner.tobytes()}
    blocks = sizes["sorted_expert_ids"] // 4
    rows, owner, used = even_routing(tokens, topk, experts, block, blocks)
    weights = np.full(rows.size, 1 / topk, np.float32).tobytes()
    found = {"sorted_token_ids": rows.tobytes()[: sizes["sorted_token_ids"]], "sorted_expert_ids": owner.tobytes()}
    found["num_valid_ids"] = np.array([used, tokens], np.int32).tobytes()
    return found | ({"sorted_weights": weights[: sizes["sorted_weights"]]} if "sorted_weights" in sizes else {})


def run(bench: Bench, device: Device, plan: LaunchPlan, contents: Mapping[str, bytes], samples: int = 3,
        whole: int = 0) -> list[dict]:  # fmt: skip
    """An estimate for each step of the plan that launches a kernel, and one for each that fills memory ("fill": its bytes).

    Kernels of up to `whole` workgroups run whole, so that the next ones find what they write.
    """
    pointers = [bench.allocate(buffer.nbytes, contents.get(buffer.name, b"")) for buffer in plan.buffers]
    found = []
    try:
        for step in plan.steps:
            if isinstance(step, Fill):
                found.append({"fill": step.nbytes})
            if not isinstance(step, Launch):
                continue
            blob = bytearray(step.args.blob)
            for slot in step.args.pointers:
                blob[slot.offset : slot.offset + 8] = (pointers[slot.buffer] + slot.byte_offset).to_bytes(8, "little")
            module = bench.load(step.code.data)
            groups = math.prod(step.grid)
            taken = groups if groups <= whole else samples
            found.append(bench.estimate(device, module, step.symbol, bytes(blob), step.grid, step.block,
                                        shared_bytes=step.shared_bytes, samples=taken))  # fmt: skip
    finally:
        for pointer in pointers:
            bench.free(pointer)
    return found
