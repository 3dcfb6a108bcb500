"""cuDNN's fused attention for the calls of `flash_attention` that it takes, forward and backward.

What it can take is asked of JAX's own rules (`jax._src.cudnn`, behind `jax.nn.dot_product_attention`, which rounds the
log-sum-exp to the operands' type and has no backward pass from a saved one), and of what masks mean: its causal mask and window
are aligned to the top left, ours to the bottom right, the same where there are as many queries as keys. So every key of a call
that it takes is seen by some query of its sequence; it may reach the others too, as `flash_attention` says of kernels.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import symbolic
from jax_aiter.core.machine import Form
from jax_aiter.ops.attention.forms.softmax import F32

NAME = "cuDNN's fused attention"


def refuse(arch: str | None, operands: Mapping[str, Any], params: Mapping[str, Any]) -> str | None:
    """None if cuDNN takes a call of `flash_attention` or, with `dout`, of its backward pass; else the rule that forbids it."""
    q, k, v = (operands[n] for n in "qkv")
    if arch is None or not arch.startswith("sm_") or int("0" + "".join(filter(str.isdigit, arch))) < 80:
        return f"it needs an NVIDIA GPU of compute capability 8.0, arch is {arch}"
    if symbolic.any_symbolic(q, k, v) or 0 in (*q.shape, *k.shape, *v.shape):
        return "a size is symbolic or 0"
    for name in ("alibi_slopes", "bias", "dlse"):
        if operands.get(name) is not None:
            return f"{name} is given"
    if params["logits_soft_cap"] or params.get("attention_chunk_size"):
        return "scores are capped or chunked"
    if q.shape[3] != v.shape[3]:
        return f"values have {v.shape[3]} numbers, keys {q.shape[3]}"
    causal, left = mask_of(params)
    if not causal and params["sliding_window"] != (-1, -1):
        return "a window that is not causal"
    if causal and q.shape[1] != k.shape[1]:
        return f"{q.shape[1]} queries, {k.shape[1]} keys: its causal mask begins at the top left"
    shapes = tuple((x.shape, np.dtype(x.dtype)) for x in (q, k, v))
    return _jax_refuses(shapes, causal, left, "dout" in operands)


def mask_of(params: Mapping[str, Any]) -> tuple[bool, int | None]:
    """Whether no key after a query's own counts, and how many before it do (None: all)."""
    left, right = params["sliding_window"]
    return params["causal"] or right == 0, left if left >= 0 else None


@functools.lru_cache(maxsize=1024)
def _jax_refuses(shapes, causal: bool, left: int | None, backward: bool) -> str | None:
    structs = [jax.ShapeDtypeStruct(*s) for s in shapes]
    out = structs[0]

    def run(q, k, v, dout):
        given, pull = jax.vjp(lambda q, k, v: _call(q, k, v, 1.0, causal, left)[0], q, k, v)
        return pull(dout) if backward else given

    try:
        if backward:
            jax.eval_shape(run, *structs, out)
        else:
            jax.eval_shape(lambda q, k, v: _call(q, k, v, 1.0, causal, left), *structs)
    except (ImportError, AttributeError, RuntimeError, NotImplementedError, ValueError, TypeError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None


def _call(q, k, v, scale: float, causal: bool, left: int | None) -> Any:
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    kind = cudnn.MaskType.CAUSAL if causal else cudnn.MaskType.NO_MASK
    window = None if left is None else left + 1
    return cudnn.dot_product_attention(q, k, v, scale=scale, mask_type=kind, sliding_window_length=window, return_residual=True)


def _bind(which: str, q, operands, scale: float, causal: bool, left: int | None, **more: Any):
    """One of JAX's two primitives, with nothing in the place of a bias, lengths, offsets and page tables.

    Not the ones that XLA splits over devices, which cannot be lowered where the devices are not known: `bind.lowering` splits.
    """
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    kind = cudnn.MaskType.CAUSAL if causal else cudnn.MaskType.NO_MASK
    window, nothing = None if left is None else left + 1, [jnp.zeros(0, q.dtype)] * 7
    options: dict[str, Any] = {
        "seed": 42,
        "dropout_rate": 0.0,
        "variadic_args": (False, False),
        "layout": cudnn.AttentionLayout.BTNH.value,
    }
    if "score_mod_name" in inspect.signature(getattr(cudnn, f"_dot_product_attention_{which}_abstract")).parameters:  # jax 0.12
        options |= {"score_mod_name": None, "score_mod_jaxpr": None}
    primitive = getattr(cudnn, f"_dot_product_attention_{which}_p")
    return primitive.bind(
        q, *operands[:2], *nothing, *operands[2:], scale=scale, mask_type=kind, sliding_window_length=window, **options, **more
    )


def forward(*, q, k, v, sinks, scale, **params):
    """The results of flash_attention. A sink is joined to them behind the kernel, which rounds the output once more."""
    out, lse = _bind("fwd", q, (k, v), scale, *mask_of(params), is_training=True)
    if sinks is not None:
        sink = sinks[:, None].astype(F32)
        share = jax.nn.sigmoid(lse - sink)
        out = (out.astype(F32) * share.swapaxes(1, 2)[..., None]).astype(out.dtype)
        lse = jnp.logaddexp(lse, sink)
    return out, lse


def backward(*, dout, q, k, v, out, lse, scale, **params):
    """The results of flash_attention_bwd. The probabilities come from the saved log-sum-exp, which a sink is part of."""
    dq, dk, dv = _bind("bwd", q, (k, v, lse, out, dout), scale, *mask_of(params))
    return dq, dk, dv, jnp.zeros((q.shape[0], 0), F32)


def either(run, otherwise: str):
    """The forms of a record that cuDNN may take; `run` is `forward` or `backward`."""

    def form(arch: str | None, operands: Mapping[str, Any], params: Mapping[str, Any]) -> Form:
        why = refuse(arch, {n: x for n, x in operands.items() if x is not None}, params)
        if why is not None:
            return Form(f"{otherwise} ({NAME}: {why})" if arch and arch.startswith("sm_") else otherwise)
        return Form(NAME, run, fused=True)

    return form
