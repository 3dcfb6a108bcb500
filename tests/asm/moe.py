"""Calls of fused_moe for kernel tests, and what AITER's one-stage kernels compute of them, in float64.

The oracle shares no code with the package: numpy, token by token. It models the kernels' own requantisation of the intermediate:
the columns one workgroup holds (`tile`) get one scale per row (per token), or each 128 of them (block scale).
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jax_aiter import ShuffledWeight, shuffle_weight

FP8 = {"gfx942": ml_dtypes.float8_e4m3fnuz, "gfx950": ml_dtypes.float8_e4m3fn}
GROUP = 128


@dataclasses.dataclass(frozen=True)
class Shape:
    tokens: int = 33
    experts: int = 4
    topk: int = 2
    dim: int = 512
    inter: int = 256


def largest(dtype):
    return 127.0 if np.dtype(dtype) == np.int8 else float(ml_dtypes.finfo(dtype).max)


def cast(x, dtype):
    """Saturating; fp8 to nearest even, int8 toward zero."""
    x = np.clip(x, -largest(dtype), largest(dtype))
    return np.trunc(x).astype(np.int8) if np.dtype(dtype) == np.int8 else x.astype(np.float32).astype(dtype)


def scaled(x, dtype, width, top=None):
    """x [..., n] quantised per `width` columns: values, and scales [..., n / width].

    The quotient is float32, as on the device: for int8 the largest magnitude would else be 126.99999, which truncates to 126.
    """
    groups = np.asarray(x, np.float32).reshape(*x.shape[:-1], -1, width)
    amax = np.abs(groups).max(-1, keepdims=True)
    scale = np.where(amax == 0, np.float32(1), amax / np.float32(top or largest(dtype)))
    return cast(groups / scale, dtype).reshape(x.shape), scale[..., 0]


def requantised(x, dtype, width, top=None):
    values, scale = scaled(x, dtype, width, top)
    return values.astype(np.float64) * np.repeat(scale.astype(np.float64), width, axis=-1)


def named(table_activation):
    """The activation by our name from AITER's, whose gelu is the tanh form."""
    return {"gelu": "gelu_tanh"}.get(table_activation, table_activation)


def activate(name, x):
    if name == "silu":
        return x / (1 + np.exp(-x))
    if name == "gelu":
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / np.sqrt(2)))
    assert name == "gelu_tanh"  # AITER's MoE kernels take the tanh form, by the constants -1.5957691 and -0.0713548 in their code
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def weights(rng, rows, columns, experts, dtype, quant):
    """An expert stack in `dtype` with its scales, plain layout."""
    w = rng.standard_normal((experts, rows, columns)) / math.sqrt(columns)
    if quant == "none":
        return w.astype(dtype), None
    if quant == "per_token":
        values, scale = scaled(w, dtype, columns)
        return values, scale[..., 0]
    blocks = w.reshape(experts, rows // GROUP, GROUP, columns // GROUP, GROUP)
    scale = (np.abs(blocks).max((2, 4), keepdims=True) / largest(dtype)).astype(np.float32)
    return cast(blocks / scale, dtype).reshape(w.shape), scale[:, :, 0, :, 0]


def activations(rng, shape, quant, hidden):
    """Normal hidden states whose quotients by the scale never lie half way between two fp8 values.

    With few mantissa bits such ties are common, and a division that is off by one ulp then moves a value by a whole step. The
    largest magnitude of every row (or 128 columns) is a prime at the top of the type's mantissa: no tie has it as a divisor.
    """
    width = GROUP if quant == "per_1x128" else shape.dim
    top = 251 / 64 if hidden == "bfloat16" else 2039 / 512
    x = np.clip(rng.standard_normal((shape.tokens, shape.dim // width, width)), -3.8, 3.8)
    np.put_along_axis(x, rng.integers(width, size=(*x.shape[:2], 1)), top, -1)
    return np.asarray(jnp.asarray(x.reshape(shape.tokens, shape.dim), hidden))


def arguments(rng, shape, dtype, quant, *, hidden="bfloat16", ids=None):
    """Everything fused_moe takes, as numpy arrays; weights in plain layout."""
    s = shape
    w1, w1_scale = weights(rng, 2 * s.inter, s.dim, s.experts, dtype, quant)
    w2, w2_scale = weights(rng, s.dim, s.inter, s.experts, dtype, quant)
    if ids is None:
        ids = np.argsort(rng.random((s.tokens, s.experts)), axis=-1)[:, : s.topk]
    scales = {} if quant == "none" else {"w1_scale": w1_scale, "w2_scale": w2_scale}
    return {
        "hidden_states": activations(rng, s, quant, hidden),
        "w1": w1,
        "w2": w2,
        "topk_weight": (0.1 + rng.random(ids.shape)).astype(np.float32),
        "topk_ids": ids.astype(np.int32),
        **scales,
    }


def shuffle(w):
    """AITER's (16, 16) layout of [..., N, K]: tiles of 16 rows and 32 columns, split into runs of 16 bytes."""
    *lead, n, k = w.shape
    run = 16 // w.dtype.itemsize
    tiles = w.reshape(*lead, n // 16, 16, k // 32, 32 // run, run)
    return ShuffledWeight(jnp.asarray(np.moveaxis(tiles, -4, -2).reshape(w.shape)), (16, 16))


def on_device(args) -> dict[str, Any]:
    """The arguments as `jax_aiter.fused_moe` takes them, weights shuffled."""
    return {n: shuffle(x) if n in ("w1", "w2") else jnp.asarray(x) for n, x in args.items()}


def structs(shape, dtype, quant, hidden="bfloat16"):
    """The shapes of `on_device(arguments(...))`, for calls that are only traced."""
    s = shape
    if quant == "per_token":
        scales = (s.experts, 2 * s.inter), (s.experts, s.dim)
    else:
        scales = (s.experts, 2 * s.inter // GROUP, s.dim // GROUP), (s.experts, s.dim // GROUP, s.inter // GROUP)
    struct = jax.ShapeDtypeStruct
    return {
        "hidden_states": struct((s.tokens, s.dim), jnp.dtype(hidden)),
        "w1": jax.eval_shape(shuffle_weight, struct((s.experts, 2 * s.inter, s.dim), dtype)),
        "w2": jax.eval_shape(shuffle_weight, struct((s.experts, s.dim, s.inter), dtype)),
        "topk_weight": struct((s.tokens, s.topk), jnp.float32),
        "topk_ids": struct((s.tokens, s.topk), jnp.int32),
        "w1_scale": struct(scales[0], jnp.float32),
        "w2_scale": struct(scales[1], jnp.float32),
    }


def dequantised(w, scale):
    if scale is None:
        return w.astype(np.float64)
    if scale.ndim == 2:
        return w.astype(np.float64) * scale[..., None]
    return w.astype(np.float64) * np.repeat(np.repeat(scale.astype(np.float64), GROUP, axis=1), GROUP, axis=2)


def local(ids, experts, mask=None, local_tokens=None):
    """The expert of each entry in the arrays held here, -1 for none."""
    ids = np.array(ids)
    if mask is not None:
        numbers = np.where(mask != 0, np.cumsum(mask != 0) - 1, -1)
        ids = np.where((ids >= 0) & (ids < len(mask)), numbers[np.clip(ids, 0, len(mask) - 1)], -1)
    ids = np.where((ids >= 0) & (ids < experts), ids, -1)
    return ids if local_tokens is None else np.where(np.arange(len(ids))[:, None] < local_tokens, ids, -1)


def oracle(
    args,
    *,
    tile,
    activation="silu",
    mask=None,
    local_tokens=None,
    a1_scale: Any = None,
    early: bool = False,
    top: Any = None,
    stored: Any = None,
):
    """float64 [T, D]; `top` is the magnitude that the kernel gives the intermediate's largest value, the dtype's own by default.

    stored: the dtype in which the intermediate lies between two stages, before it is quantised; None for a kernel of one.
    """
    x, w1, w2 = args["hidden_states"], args["w1"], args["w2"]
    scales = args.get("w1_scale"), args.get("w2_scale")
    blocked = scales[0] is not None and scales[0].ndim == 3
    width = GROUP if blocked else x.shape[1]
    if scales[0] is None:
        x = x.astype(np.float64)
    elif x.dtype == w1.dtype:
        assert a1_scale is not None
        x = x.astype(np.float64) * np.repeat(a1_scale.astype(np.float64), width, axis=-1)
    else:
        x = requantised(x.astype(np.float64), w1.dtype, width)
    inter, experts = w2.shape[2], w1.shape[0]
    ids = local(args["topk_ids"], experts, mask, local_tokens)
    out = np.zeros((len(x), w2.shape[1]))
    for e in range(experts):
        token, slot = np.nonzero(ids == e)
        if not len(token):
            continue
        weight = args["topk_weight"][token, slot].astype(np.float64)[:, None]
        scale1, scale2 = (None if scale is None else scale[e : e + 1] for scale in scales)
        h = x[token] @ dequantised(w1[e : e + 1], scale1)[0].T
        if early:
            h = h * weight
        middle = activate(activation, h[:, :inter]) * h[:, inter:]
        middle = middle if stored is None else middle.astype(np.float32).astype(stored).astype(np.float64)
        middle = middle if scale1 is None else requantised(middle, w1.dtype, GROUP if blocked else tile, top)
        part = middle @ dequantised(w2[e : e + 1], scale2)[0].T
        np.add.at(out, token, part if early else part * weight)
    return out


def top_of(kernel):
    """What these kernels make of the intermediate's largest value: some of gfx950 keep gfx942's largest fp8 number, 240."""
    kept = kernel.arch == "gfx950" and "_blockscaleFp8_" in kernel.symbol
    return 240 if kept and ("_fp16_" in kernel.symbol or not kernel.since("0.1.12.post1")) else None


def assert_agrees(out, expected):
    """Within 1 % RMS and correlation 0.9999, over everything and over each quarter of the columns.

    The kernel rounds where the oracle does, but its float32 sums put a value on the other side of a rounding boundary now and then:
    one step of fp8 in a few hundred of the intermediate's values is 0.2 % of the output's RMS; the 16-bit atomics of k parts add
    0.3 % (bf16). An error in a whole tile, row or scale is far above both. Quarters, because some of AITER's objects leave whole
    ranges of columns out.
    """
    out, expected = np.asarray(out, np.float64), np.asarray(expected, np.float64)
    assert np.isfinite(out).all()
    untouched = ~expected.any(axis=1)
    assert (out[untouched] == 0).all(), "rows that nothing contributes to must be zero"
    quarter = out.shape[1] // 4
    for start in range(0, out.shape[1], quarter):
        a, b = out[:, start : start + quarter], expected[:, start : start + quarter]
        scale = np.sqrt((b**2).mean())
        if scale == 0:
            continue
        error = np.sqrt(((a - b) ** 2).mean()) / scale
        assert error < 0.01, f"columns {start}..: RMS error {error:.4f}"
        correlation = (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
        assert correlation >= 0.9999, f"columns {start}..: correlation {correlation:.6f}"
