"""What a layer reads of several streams of residuals, and how its result is to be written back: DeepSeek-V4's hyper-connections."""

from typing import Any

import jax
import jax.numpy as jnp

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import case, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.ops.mhc.mixing import sinkhorn
from jax_aiter.ops.norm.rms_norm import check_weight, normalize

NAME = "mhc_pre"
F32 = ("float32",)


def shapes(op: str, dims, residual, norm_weight, sinkhorn_repeat: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Of the results, once the sizes are checked."""
    streams, width = dims["n"], dims["H"]
    if dims["K"] != streams * width:
        raise ValueError(f"{op}: dimension 1 of fn is {dims['K']}, must be n * H = {streams * width} of the streams")
    rows, scales = (2 * streams + streams * streams, 3) if sinkhorn_repeat else (streams, 1)
    if dims["N"] != rows:
        rule = "2 * n + n * n" if sinkhorn_repeat else "n, without Sinkhorn steps,"
        raise ValueError(f"{op}: dimension 0 of fn is {dims['N']}, must be {rule} = {rows}")
    if dims["C"] != scales:
        raise ValueError(f"{op}: dimension 0 of hc_scale is {dims['C']}, must be {scales}")
    if norm_weight is not None:
        check_weight(op, residual, norm_weight, "norm_weight", "residual")
    lead, kept = residual.shape[:-2], streams if sinkhorn_repeat else 0
    mixes = (jax.ShapeDtypeStruct((*lead, kept, size), jnp.float32) for size in (1, kept))
    return (*mixes, jax.ShapeDtypeStruct((*lead, width), residual.dtype))


def _abstract(dims, *, residual, norm_weight, sinkhorn_repeat, **_):
    return shapes(NAME, dims, residual, norm_weight, sinkhorn_repeat)


def mixed(
    *, residual, fn, hc_scale, hc_base, norm_weight, rms_eps, hc_pre_eps, hc_sinkhorn_eps, hc_post_mult_value, sinkhorn_repeat,
    norm_eps,
):  # fmt: skip
    """The record's reference."""
    *lead, streams, width = residual.shape
    wide = residual.astype(jnp.float32)
    flat = wide.reshape(*lead, streams * width)
    # A row of no elements has a mean square of zero.
    size = max(streams * width, 1)
    mix = jnp.einsum("...k,nk->...n", flat, fn, precision=jax.lax.Precision.HIGHEST)
    mix = mix * jax.lax.rsqrt(jnp.sum(flat * flat, axis=-1, keepdims=True) / size + rms_eps)
    pre = jax.nn.sigmoid(mix[..., :streams] * hc_scale[0] + hc_base[:streams]) + hc_pre_eps
    layer_input = jnp.sum(pre[..., None] * wide, axis=-2)
    if norm_weight is not None:
        layer_input = normalize(layer_input, norm_weight, norm_eps) if width else layer_input
    if sinkhorn_repeat:
        post = jax.nn.sigmoid(mix[..., streams : 2 * streams] * hc_scale[1] + hc_base[streams : 2 * streams]) * hc_post_mult_value
        logits = mix[..., 2 * streams :] * hc_scale[2] + hc_base[2 * streams :]
        comb = sinkhorn(logits.reshape(*lead, streams, streams), hc_sinkhorn_eps, sinkhorn_repeat)
    else:
        post, comb = jnp.zeros((*lead, 0)), jnp.zeros((*lead, 0, 0))
    return post[..., None], comb, layer_input.astype(residual.dtype)


def _inputs(*lead: int, streams: int, width: int, dtype: Any = jnp.float32):
    rows = 2 * streams + streams * streams
    found = {"residual": normal(*lead, streams, width, dtype=dtype), "fn": normal(rows, streams * width, std=0.3)}
    return {**found, "hc_scale": normal(3), "hc_base": normal(rows)}


EPSILONS = {"rms_eps": 1e-6, "hc_pre_eps": 1e-6, "hc_sinkhorn_eps": 1e-6, "norm_eps": 1e-5}

MHC_PRE = Op(
    name=NAME,
    family="MHC",
    mirrors="aiter.ops.mhc.mhc_pre (aiter/ops/mhc.py, csrc/kernels/mhc_kernels.cu)",
    operands={
        "residual": Arg("... n H"),
        "fn": Arg("N K", F32),
        "hc_scale": Arg("C", F32),
        "hc_base": Arg("N", F32),
        "norm_weight": Arg("H", optional=True),
    },
    results={"post_mix": "... n 1", "comb_mix": "... n n", "layer_input": "... H"},
    abstract=_abstract,
    reference=mixed,
    fixed=("n", "H", "N", "K", "C"),
    parallel=("...",),
    fold="...",
    gradient=Gradient(
        wrt=("residual", "fn", "hc_scale", "hc_base", "norm_weight"),
        saves=("residual", "fn", "hc_scale", "hc_base", "norm_weight"),
        backward=None,
    ),
    cases=lambda: [
        case("four", **_inputs(3, streams=4, width=6), hc_post_mult_value=2.0, sinkhorn_repeat=20, **EPSILONS),
        case(
            "normed_bfloat16",
            **_inputs(2, 2, streams=2, width=5, dtype=jnp.bfloat16),
            norm_weight=normal(5, dtype=jnp.bfloat16),
            hc_post_mult_value=1.0,
            sinkhorn_repeat=1,
            **EPSILONS,
        ),
        case(
            "head",
            residual=normal(5, 4, 6, dtype=jnp.bfloat16),
            fn=normal(4, 24, std=0.3),
            hc_scale=normal(1),
            hc_base=normal(4),
            hc_post_mult_value=1.0,
            sinkhorn_repeat=0,
            **EPSILONS,
        ),
    ],
)


def parameters(
    op: str, *, rms_eps, hc_pre_eps, hc_sinkhorn_eps, norm_eps, hc_post_mult_value, sinkhorn_repeat
) -> dict[str, Any]:  # fmt: skip
    """Of a call under a public name, `op`, checked."""
    epsilons = {"rms_eps": rms_eps, "hc_pre_eps": hc_pre_eps, "hc_sinkhorn_eps": hc_sinkhorn_eps, "norm_eps": norm_eps}
    return {
        **{name: check.real(op, name, value, low=0.0) for name, value in epsilons.items()},
        "hc_post_mult_value": check.real(op, "hc_post_mult_value", hc_post_mult_value),
        "sinkhorn_repeat": check.integer(op, "sinkhorn_repeat", sinkhorn_repeat, 0),
    }


@public
def mhc_pre(
    residual: jax.Array,
    fn: jax.Array,
    hc_scale: jax.Array,
    hc_base: jax.Array,
    rms_eps: float = 1e-6,
    hc_pre_eps: float = 1e-6,
    hc_sinkhorn_eps: float = 1e-6,
    hc_post_mult_value: float = 1.0,
    sinkhorn_repeat: int = 20,
    norm_weight: jax.Array | None = None,
    norm_eps: float = 1e-6,
    *,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A layer's input, mixed of n streams of residuals, and the weights by which `mhc_post` writes its result back; all in float32.

    ``mix = (x · fnᵀ) / sqrt(mean(x²) + rms_eps)`` of a token's streams in a row, x, is n + n + n * n numbers:
    ``pre = sigmoid(mix * hc_scale[0] + hc_base) + hc_pre_eps`` of the first n, ``post = sigmoid(mix * hc_scale[1] + hc_base) *
    hc_post_mult_value`` of the next, and of the rest, ``mix * hc_scale[2] + hc_base``, the combination: a softmax over its rows
    plus `hc_sinkhorn_eps`, divided by the sums of its columns, and then rows and columns divided by their sums in turn (plus that
    epsilon), which makes both sum to one.

    Args:
      residual: ``[..., n, H]`` float32, bfloat16 or float16, the n streams of each token.
      fn: ``[2 * n + n * n, n * H]`` float32.
      hc_scale: ``[3]`` and hc_base: ``[2 * n + n * n]`` float32.
      rms_eps, hc_pre_eps, hc_sinkhorn_eps, norm_eps: static, at least 0; added to means of squares, to `pre` and to sums, as above.
      hc_post_mult_value: static.
      sinkhorn_repeat: static: how many times rows and columns are divided, the softmax being the first. 0 makes neither `post` nor
        the combination: fn is ``[n, n * H]``, hc_scale ``[1]``, hc_base ``[n]``, and ``n`` of their results is 0.
      norm_weight: ``[H]``, the dtype of `residual` or float32: the layer's input is `rms_norm`'d by it, with `norm_eps`.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(post_mix, comb_mix, layer_input)``: float32 ``[..., n, 1]`` and ``[..., n, n]``, and ``sum of pre * residual`` over the
      streams, ``[..., H]``, the dtype of `residual`. Differentiable in all operands.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters.
    Mirrors ``aiter.ops.mhc.mhc_pre``; ``sinkhorn_repeat=0`` is DeepSeek-V4's head, under its own names `hc_head`.
    """
    post, comb, layer_input = MHC_PRE(
        residual=residual,
        fn=fn,
        hc_scale=hc_scale,
        hc_base=hc_base,
        norm_weight=norm_weight,
        **parameters(
            NAME, rms_eps=rms_eps, hc_pre_eps=hc_pre_eps, hc_sinkhorn_eps=hc_sinkhorn_eps, norm_eps=norm_eps,
            hc_post_mult_value=hc_post_mult_value, sinkhorn_repeat=sinkhorn_repeat,
        ),
        implementation=implementation,
    )  # fmt: skip
    return post, comb, layer_input
