"""The flash attention kernels touch nothing outside their buffers: plans replayed with each buffer an allocation of its own."""

import importlib.util

import jax
import numpy as np
import pytest

from jax_aiter.bind.op import Op
from jax_aiter.kernels.asm.attention.flash import CAUSAL, TOP_LEFT, WINDOW, Shape
from jax_aiter.kernels.asm.attention.flash_bwd_select import TABLES, overruns
from jax_aiter.kernels.asm.attention.flash_forward import TABLE
from jax_aiter.kernels.asm.provider import AsmProvider
from jax_aiter.kernels.asm.tables import Kernel
from jax_aiter.kernels.provider import Call, Program, Target
from jax_aiter.ops.attention.flash_attention import FLASH_ATTENTION
from jax_aiter.ops.attention.flash_attention_bwd import FLASH_ATTENTION_BWD
from jax_aiter.ops.attention.flash_attention_varlen import FLASH_ATTENTION_VARLEN
from jax_aiter.ops.attention.flash_attention_varlen_bwd import FLASH_ATTENTION_VARLEN_BWD

from . import attention, common

SHAPES = [(17, 40, 2, 1), (130, 65, 2, 2), (300, 300, 1, 1), (65, 333, 2, 1), (5, 9, 1, 1)]  # Sq, Sk, Hq, Hk
BATCH = 2


@pytest.fixture(scope="module")
def interpreter(arch):
    if importlib.util.find_spec("vgpu") is None:
        pytest.skip("needs vgpu")
    from . import replay

    try:
        return replay.Interpreter(arch)
    except (OSError, FileNotFoundError) as error:
        pytest.skip(f"needs vgpu's interpreter library: {error}")


def replayed(interpreter, arch, op: Op, arrays, params, kernel):
    avals = {n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in arrays.items()}
    call = Call(op.name, Target("rocm", arch), avals, params, op.infer(avals, params), kernel)
    plan = AsmProvider().plan(call)
    interpreter.run(plan.plans[0] if isinstance(plan, Program) else plan, arrays)


def static(row: Kernel, head: int) -> dict:
    causal = row["mask"] in (CAUSAL, TOP_LEFT)
    window = (3, -1) if row["mask"] == WINDOW else (-1, -1)
    return {"scale": head**-0.5, "causal": causal, "sliding_window": window, "logits_soft_cap": 0.0, "alibi_per_sequence": False}


def operands(row: Kernel, sizes, heads, dtype: str, backward: bool):
    sq, sk, hq, hk = sizes
    rng = np.random.default_rng(sq)
    lead_q, lead_k = ((BATCH * sq,), (BATCH * sk,)) if row["mode"] else ((BATCH, sq), (BATCH, sk))
    shapes = {"q": (*lead_q, hq, heads[0]), "k": (*lead_k, hk, heads[0]), "v": (*lead_k, hk, heads[1])}
    if backward:
        shapes = {"dout": (*lead_q, hq, heads[1]), **shapes, "out": (*lead_q, hq, heads[1])}
    arrays = {n: attention.draw(rng, *s, dtype=dtype) for n, s in shapes.items()}
    if backward:
        arrays["lse"] = np.full((hq, BATCH * sq) if row["mode"] else (BATCH, hq, sq), 5, np.float32)
    if row["mode"]:
        arrays |= {f"cu_seqlens_{n}": np.arange(BATCH + 1, dtype=np.int32) * s for n, s in (("q", sq), ("k", sk))}
    return arrays


@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_forward(interpreter, arch, sizes):
    for row in common.rows("flash_attention", arch, TABLE):
        heads = (row.number("hdim_q"), row.number("hdim_v"))
        if row["dtype"] != "bf16":
            continue
        params, op = static(row, heads[0]), FLASH_ATTENTION
        if row["mode"]:
            params |= {"max_seqlen_q": sizes[0], "max_seqlen_k": sizes[1]}
            op = FLASH_ATTENTION_VARLEN
        replayed(interpreter, arch, op, operands(row, sizes, heads, "bfloat16", False), params, row.symbol)


def backward(interpreter, arch, row: Kernel, sizes) -> None:
    heads = (row.number("hdim_q"), row.number("hdim_v"))
    if row["pddv"] and heads[0] == heads[1] != 64:
        heads = ({128: 104, 192: 168}[heads[0]],) * 2
    sq, sk, *counts = sizes
    if not row["pssk"] and not row["mode"]:
        tile = row.number("ts") if row["atomic32"] else 64
        sq = sk = -(-sq // tile) * tile
    if row["mask"] == TOP_LEFT:
        sq = sk
    elif not row["mode"] and broken(row):
        sk = -(-sk // 128) * 128
    sizes = (sq, sk, *counts)
    params, op = static(row, heads[0]), FLASH_ATTENTION_BWD
    if row["mode"]:
        params |= {"max_seqlen_q": sq, "max_seqlen_k": sk}
        op = FLASH_ATTENTION_VARLEN_BWD
    else:
        params["with_bias"] = False
    dtype = {"fp16": "float16", "bf16": "bfloat16"}[str(row["dtype"])]
    replayed(interpreter, arch, op, operands(row, sizes, heads, dtype, True), params, row.symbol)


def broken(row: Kernel) -> bool:
    return overruns(row, Shape(False, 1, 130, 130, 1, 1, 128, 128, 130, 130))


def reachable(arch: str) -> list[Kernel]:
    rows = common.rows("flash_attention_bwd", arch, TABLES[1])
    return [r for r in rows if not (r["mode"] == 1 and r["mask"] == TOP_LEFT)]


def test_backward(interpreter, arch):
    for i, row in enumerate(reachable(arch)):
        if i % 4 == 0 or row["mask"] == WINDOW:
            backward(interpreter, arch, row, SHAPES[i % len(SHAPES)])


@pytest.mark.exhaustive
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_every_backward(interpreter, arch, sizes):
    for row in reachable(arch):
        backward(interpreter, arch, row, sizes)
