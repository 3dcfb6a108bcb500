"""The arithmetic of one block of rows of one expert; forward and backward share it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jax_aiter.core import machine
from jax_aiter.ops.activation.activations import gelu_tanh
from jax_aiter.ops.gemm.shuffle_weight import unshuffled
from jax_aiter.ops.moe.formats import int4, mxfp4, mxfp8, quant
from jax_aiter.ops.moe.formats.quant import Quantized
from jax_aiter.ops.moe.forms import groups as moe_groups

SWIGLU_ALPHA = 1.702
SWIGLU_LIMIT = 7.0
FLOAT_ROWS = ("none", int4.W4A16, int4.MX, mxfp8.NAME)  # quant_types that round no activations, unless q_dtype_a says otherwise


class Expert(NamedTuple):
    """One expert's weights as the GEMMs take them; scales multiply the GEMMs' result columns."""

    w1: jax.Array
    w2: jax.Array
    s1: jax.Array | None
    s2: jax.Array | None
    b1: jax.Array | None
    b2: jax.Array | None


def rounds_rows(params: Mapping[str, Any]) -> bool:
    """Whether hidden states and the intermediate are quantised."""
    return params["quant_type"] not in FLOAT_ROWS or params.get("q_dtype_a") is not None


def matmul(x: jax.Array, w: jax.Array, *, contract: int = 1) -> jax.Array:
    """``x @ w.T`` (or ``x @ w`` for contract=0), accumulated in float32."""
    if x.dtype != w.dtype and w.dtype.itemsize == 2 and machine.is_gpu():
        x = x.astype(w.dtype)  # whose products a matrix unit makes; they are summed in float32
    if x.dtype != w.dtype:
        x, w = x.astype(jnp.float32), w.astype(jnp.float32)
    return jax.lax.dot_general(x, w, (((1,), (contract,)), ((), ())), preferred_element_type=jnp.float32)


def outer(a: jax.Array, b: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
    """``a.T @ b`` in float32: a block's contribution to a weight gradient. On a GPU the factors are of `dtype`, the weight's."""
    wide = dtype if machine.is_gpu() else jnp.float32
    a, b = a.astype(wide), b.astype(wide)
    return jax.lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def keep(x: jax.Array, axis: int, pad: int) -> jax.Array:
    """Zeros in the last `pad` entries along `axis`, whatever stands there."""
    if pad == 0:
        return x
    axis %= x.ndim
    inside = jnp.arange(x.shape[axis]) < x.shape[axis] - pad
    return jnp.where(inside.reshape([-1 if i == axis else 1 for i in range(x.ndim)]), x, jnp.zeros((), x.dtype))


def _keep_intermediate(x: jax.Array, axis: int, intermediate: int, params: Mapping[str, Any]) -> jax.Array:
    """`keep` for an axis that holds I entries, or those of gate and up, one after the other or alternating."""
    pad = params["intermediate_pad"]
    if pad == 0:
        return x
    axis %= x.ndim
    pairs = interleaved(params) and x.shape[axis] != intermediate
    shape = (intermediate, -1) if pairs else (-1, intermediate)
    halves = x.reshape(*x.shape[:axis], *shape, *x.shape[axis + 1 :])
    return keep(halves, axis + (not pairs), pad).reshape(x.shape)


def interleaved(params: Mapping[str, Any]) -> bool:
    """Whether rows of gate and up alternate in w1."""
    return params["gate_mode"] == "interleave"


def loader(operands: Mapping[str, jax.Array | None], params: Mapping[str, Any]) -> Callable[[jax.Array], Expert]:
    """``load(e)``: the weights of local expert e, unshuffled, with padding zeroed and block scales multiplied in."""
    w1, w2 = operands["w1"], operands["w2"]
    assert w1 is not None
    assert w2 is not None
    intermediate = int4.columns(w2, params)

    def weight(w: jax.Array, name: str, e: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        plain = moe_groups.take_row(w, e)
        if params["weight_layout"] is not None:
            plain = unshuffled(plain, params["weight_layout"])
        scales, zeros = operands[f"{name}_scale"], operands.get(f"{name}_zp")
        if scales is None:
            return plain, None
        scale = moe_groups.take_row(scales, e)
        if params["quant_type"] in (int4.MX, mxfp8.NAME):
            return mxfp4.dequantised(plain, scale, int4.compute_dtype(operands, params)), None
        if int4.packed(params):
            zero = None if zeros is None else moe_groups.take_row(zeros, e)
            return int4.dequantised(plain, scale, zero, int4.compute_dtype(operands, params)), None
        plain = plain.astype(jnp.float32)
        if params["quant_type"] != "per_1x128":
            return plain, scale
        block = quant.GROUP
        return plain * jnp.repeat(jnp.repeat(scale, block, axis=0), block, axis=1), None

    def bias(name: str, e: jax.Array) -> jax.Array | None:
        b = operands[name]
        return None if b is None else moe_groups.take_row(b, e).astype(jnp.float32)

    def load(e: jax.Array) -> Expert:
        first, s1 = weight(w1, "w1", e)
        second, s2 = weight(w2, "w2", e)
        whole = Expert(first, second, s1, s2, bias("bias1", e), bias("bias2", e))
        return without_padding(whole, intermediate, params)

    return load


def without_padding(expert: Expert, intermediate: int, params: Mapping[str, Any]) -> Expert:
    """Zeros at the padding of D and I, in what there is of weights, scales (but for one of the whole expert) and biases."""

    def model(x: Any, axis: int = 0) -> Any:
        return x if x is None or not x.ndim else keep(x, axis, params["hidden_pad"])

    def inter(x: Any, axis: int = 0) -> Any:
        return x if x is None or not x.ndim else _keep_intermediate(x, axis, intermediate, params)

    w1, w2, s1, s2, b1, b2 = expert
    return Expert(inter(model(w1, 1)), model(inter(w2, 1)), inter(s1), model(s2), inter(b1), model(b2))


def activate(h: jax.Array, intermediate: int, params: Mapping[str, Any]) -> jax.Array:
    """float32 [R, 2I, ...] or [R, I, ...] -> [R, I, ...]; columns of gate and up stand as `gate_mode` says."""
    kind, limit = params["activation"], params["swiglu_limit"]
    exact = {"silu": jax.nn.silu, "gelu": lambda x: jax.nn.gelu(x, approximate=False), "none": lambda x: x}
    plain = {**exact, "gelu_tanh": gelu_tanh}
    if h.shape[1] == intermediate > 0:  # of no columns there are as many as twice as many
        return plain[kind](h)
    if interleaved(params):
        pairs = h.reshape(h.shape[0], intermediate, 2, *h.shape[2:])
        gate, up = pairs[:, :, 0], pairs[:, :, 1]
    else:
        gate, up = h[:, :intermediate], h[:, intermediate:]
    if kind == "swiglu" and limit is None:
        limit = SWIGLU_LIMIT
    if limit is not None:
        gate, up = jnp.minimum(gate, limit), jnp.clip(up, -limit, limit)
    if kind == "swiglu":
        return gate * jax.nn.sigmoid(SWIGLU_ALPHA * gate) * (up + 1.0)
    return plain[kind](gate) * up


def inputs(operands: Mapping[str, jax.Array | None], params: Mapping[str, Any], groups: moe_groups.Groups) -> Quantized:
    """The hidden states as the first GEMM takes them: padding zeroed, quantised unless they arrive so."""
    hidden, w1, scale = operands["hidden_states"], operands["w1"], operands["a1_scale"]
    assert hidden is not None
    assert w1 is not None
    hidden = keep(hidden, 1, params["hidden_pad"])
    if params.get("q_dtype_a") is not None:
        return Quantized(mxfp4.rounded(hidden, params["q_dtype_a"]), None)
    if params["quant_type"] in FLOAT_ROWS or hidden.dtype == w1.dtype:
        if scale is not None and params["quant_type"] == "per_1x128":
            scale = keep(scale, 1, params["hidden_pad"] // quant.GROUP)  # of groups that are padding altogether
        return Quantized(hidden, scale)
    hidden = hidden.astype(jnp.float32)
    if params["quant_type"] == "per_tensor" and scale is None:  # tokens that no expert here takes must not reach the amax
        taken = groups.used.reshape(hidden.shape[0], -1).any(1)
        hidden = jnp.where(taken[:, None], hidden, 0.0)
    return quant.quantize(hidden, params["quant_type"], w1.dtype, scale)


def first_gemm(expert: Expert, x: Quantized) -> jax.Array:
    """float32 [R, 2I] or [R, I], before weight and bias."""
    values, scale = quant.expand(x)
    u = matmul(values, expert.w1)
    u = u if scale is None else u * scale
    return u if expert.s1 is None else u * expert.s1


def preactivation(expert: Expert, u: jax.Array, weight: jax.Array, params: Mapping[str, Any]) -> jax.Array:
    h = u * weight[:, None] if params["doweight_stage1"] else u
    return h if expert.b1 is None else h + expert.b1


def requantize(a: jax.Array, a2_scale: jax.Array | None, dtype, params: Mapping[str, Any]) -> Quantized:
    """The intermediate as the second GEMM takes it: in its float type, or quantised again."""
    if params.get("q_dtype_a") is not None:
        return Quantized(mxfp4.rounded(a, params["q_dtype_a"], dtype), None)
    if params["quant_type"] in FLOAT_ROWS:
        return Quantized(a.astype(dtype), None)
    return quant.quantize(a, params["quant_type"], dtype, a2_scale)


def second_gemm(expert: Expert, a: Quantized) -> jax.Array:
    values, scale = quant.expand(a)
    y = matmul(values, expert.w2)
    y = y if scale is None else y * scale
    y = y if expert.s2 is None else y * expert.s2
    return y if expert.b2 is None else y + expert.b2
