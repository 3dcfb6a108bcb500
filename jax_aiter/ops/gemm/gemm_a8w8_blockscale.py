"""Matrix product of quantised matrices with one scale per 1x128 block of activations and per 128x128 block of weights."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal, uniform
from jax_aiter.core.record import Struct
from jax_aiter.ops.gemm import product
from jax_aiter.ops.gemm.rows import over_rows
from jax_aiter.ops.gemm.shuffle_weight import unshuffled
from jax_aiter.ops.quant.numerics import QUANTIZED
from jax_aiter.ops.shared import narrow

BLOCK = 128


def result(op: str, dims, *, xq, wq, x_scale, w_scale, out_dtype, transpose_scale=False):
    """Check a block-scaled product; transpose_scale: `x_scale` is [K/128, M]."""
    check.same_dtype(op, xq=xq.dtype, wq=wq.dtype)
    check.multiple(op, "the last dimension of xq (K)", dims["K"], BLOCK, "one scale covers 128 of K")
    tokens, blocks = dims["M"], dims["K"] // BLOCK
    want = {"x_scale": (blocks, tokens) if transpose_scale else (tokens, blocks), "w_scale": (-(-dims["N"] // BLOCK), blocks)}
    for name, scale in (("x_scale", x_scale), ("w_scale", w_scale)):
        if scale.shape != want[name]:
            rule = "[ceil(N/128), K/128]" if name == "w_scale" else "[K/128, M]" if transpose_scale else "[M, K/128]"
            raise ValueError(f"{op}: {name} has shape {scale.shape}, must be {rule} = {want[name]}")
    return (Struct((tokens, dims["N"]), out_dtype),)


def reference(*, xq, wq, x_scale, w_scale, out_dtype, layout=None):
    """One block of K after another, as the kernel promotes its accumulator: nothing dequantised is larger than 128 columns.

    layout: the order of a shuffled `wq`, of which the tiles of 128 columns stand together in each row of tiles.
    """
    m, n, blocks = xq.shape[0], wq.shape[0], x_scale.shape[1]
    if blocks == 0:
        return (jnp.zeros((m, n), out_dtype),)

    height = 1 if layout is None else layout[0]
    tiles = wq.reshape(n // height, blocks, height * BLOCK)

    def step(acc, block):
        x = narrow.read(xq, block * BLOCK, lambda x, i: jax.lax.dynamic_slice_in_dim(x, i, BLOCK, axis=1))
        w = narrow.read(tiles, block, lambda x, i: jax.lax.dynamic_index_in_dim(x, i, axis=1, keepdims=False)).reshape(n, BLOCK)
        w = w if layout is None else unshuffled(w, layout)
        xs = jax.lax.dynamic_slice_in_dim(x_scale, block, 1, axis=1)
        ws = jax.lax.dynamic_slice_in_dim(w_scale, block, 1, axis=1)
        ws = jnp.broadcast_to(ws, (ws.shape[0], BLOCK)).reshape(-1)[:n]
        return acc + product.dot(x, w).astype(jnp.float32) * xs * ws, None

    acc, _ = jax.lax.scan(step, jnp.zeros((m, n), jnp.float32), jnp.arange(blocks))
    return (acc.astype(out_dtype),)


_widen = product.batching(left=("xq", "x_scale"), right=("wq", "w_scale"), many=None)


def batch(batched, **params):
    # Widening N by a batch of weights keeps their scale blocks aligned only where N is whole blocks.
    ragged = batched.get("wq").shape[-2] % BLOCK
    return NotImplemented if ragged else _widen(batched, **params)


GEMM_A8W8_BLOCKSCALE = Op(
    name="gemm_a8w8_blockscale",
    family="LINEAR",
    mirrors="aiter.gemm_a8w8_blockscale (aiter/ops/gemm_op_a8w8.py)",
    operands={
        "xq": Arg("M K", QUANTIZED),
        "wq": Arg("N K", QUANTIZED),
        "x_scale": Arg("M Kb", ("float32",)),
        "w_scale": Arg("Nb Kb", ("float32",)),
    },
    results={"y": "M N"},
    abstract=functools.partial(result, "gemm_a8w8_blockscale"),
    reference=reference,
    parallel=("M",),  # not N: a shard of N could cut a block of 128 that shares a scale
    fold="M",
    batch=batch,
    cases=lambda: [
        case(
            "fp8",
            xq=normal(6, 256, dtype=jnp.float8_e4m3fnuz),
            wq=normal(128, 256, dtype=jnp.float8_e4m3fnuz),
            x_scale=uniform(6, 2, low=0.5, high=2.0),
            w_scale=uniform(1, 2, low=0.5, high=2.0),
            out_dtype=jnp.dtype("bfloat16"),
        ),
        case(
            "ragged_n",
            xq=normal(1, 128, dtype=jnp.float8_e4m3fn),
            wq=normal(130, 128, dtype=jnp.float8_e4m3fn),
            x_scale=uniform(1, 1, low=0.5, high=2.0),
            w_scale=uniform(2, 1, low=0.5, high=2.0),
            out_dtype=jnp.dtype("float16"),
        ),
    ],
)


@public
def gemm_a8w8_blockscale(
    xq: jax.Array,
    wq: jax.Array,
    x_scale: jax.Array,
    w_scale: jax.Array,
    *,
    out_dtype: Any = jnp.bfloat16,
    implementation: str | None = None,
) -> jax.Array:
    """``y[m, n] = Σ_b x_scale[m, b] * w_scale[n // 128, b] * Σ_{k in block b} xq[m, k] * wq[n, k]`` in float32.

    Args:
      xq: ``[..., K]`` fp8 (of the target's family) or int8; K a multiple of 128.
      wq: ``[N, K]``, the dtype of `xq`, not preshuffled.
      x_scale: float32 ``[..., K/128]`` (`group_quant` with group_size 128 returns it).
      w_scale: float32 ``[ceil(N/128), K/128]``.
      out_dtype: bfloat16, float16 or float32.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``[..., N]`` in `out_dtype`.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.gemm_a8w8_blockscale``.
    """
    out_dtype = check.static_dtype("gemm_a8w8_blockscale", "out_dtype", out_dtype, product.OUT_TYPES)
    operands: dict[str, Any] = {"xq": xq, "wq": wq, "x_scale": x_scale, "w_scale": w_scale}
    return over_rows(GEMM_A8W8_BLOCKSCALE, **operands, out_dtype=out_dtype, implementation=implementation)
