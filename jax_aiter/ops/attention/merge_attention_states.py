"""Attention over all keys from attention over two parts of them: chunked prefill, cascades, rings of devices."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import Arg
from jax_aiter.core.cases import Array, case, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.reads import Reads, at, grid, spread
from jax_aiter.ops.attention.forms.softmax import F32


def _abstract(dims, *, out_a, out_b, lse_a, **_):
    check.same_dtype("merge_attention_states", out_a=out_a.dtype, out_b=out_b.dtype)
    return jax.ShapeDtypeStruct(out_a.shape, out_a.dtype), jax.ShapeDtypeStruct(lse_a.shape, jnp.float32)


def _rows(lse):
    """[..., H, S] -> [..., S, H, 1], beside the rows of `out`."""
    return lse.swapaxes(-1, -2)[..., None]


def _merge(out_a, lse_a, out_b, lse_b):
    """float32: the two outputs without what has no keys, their shares of the sum of exponentials, out, lse."""
    top = jax.lax.stop_gradient(jnp.maximum(lse_a, lse_b))  # it cancels
    base = jnp.where(top == -jnp.inf, 0.0, top)
    parts = [jnp.exp(x - base) for x in (lse_a, lse_b)]
    total = parts[0] + parts[1]
    seen = top != -jnp.inf
    total = jnp.where(seen, total, 1.0)
    shares = [_rows(x / total) for x in parts]
    outs = [jnp.where(_rows(x) == -jnp.inf, 0.0, out.astype(F32)) for out, x in ((out_a, lse_a), (out_b, lse_b))]
    lse = jnp.where(seen, base + jnp.log(total), -jnp.inf)
    return outs, shares, shares[0] * outs[0] + shares[1] * outs[1], lse


def _reference(*, out_a, lse_a, out_b, lse_b):
    *_, out, lse = _merge(out_a, lse_a, out_b, lse_b)
    return out.astype(out_a.dtype), lse


def _backward(saved, cotangents, *, implementation):
    outs, shares, out, _ = _merge(**saved)
    dout, dlse = cotangents["out"].astype(F32), cotangents["lse"]
    found = {}
    for part, x, share in zip("ab", outs, shares, strict=True):
        keyless = saved[f"lse_{part}"] == -jnp.inf
        slope = jnp.sum(dout * (x - out), axis=-1).swapaxes(-1, -2) + dlse
        found[f"out_{part}"] = jnp.where(_rows(keyless), 0.0, share * dout)
        found[f"lse_{part}"] = jnp.where(keyless, 0.0, share[..., 0].swapaxes(-1, -2) * slope)
    return found


def _reads(*, out_a, lse_a, out_b, lse_b):
    shape = out_a.shape[:-1]
    index = [at(i, n) for i, n in zip(grid(*shape), shape, strict=True)]
    *lead, rows, heads = index
    lse, own = spread(*lead, heads, rows), spread(*index, None)
    some = [(x != -np.inf).swapaxes(-1, -2).reshape(-1, *[1] * out_a.ndim) for x in (lse_a, lse_b)]
    label = np.arange(len(rows)).reshape(shape)
    operands = {"out_a": own & some[0], "lse_a": lse, "out_b": own & some[1], "lse_b": lse}
    return Reads(len(rows), {"out": label[..., None], "lse": label.swapaxes(-1, -2)}, operands)


def _some_keyless(*shape: int) -> Array:
    return Array(shape, F32, lambda rng, s: np.where(rng.random(s) < 0.3, -np.inf, rng.standard_normal(s)).astype(np.float32))


MERGE_ATTENTION_STATES = Op(
    name="merge_attention_states",
    family="ATTENTION",
    mirrors="vLLM's merge_attn_states, beside aiter.flash_attn_varlen_func(return_lse=True)",
    operands={
        "out_a": Arg("... S H D"),
        "lse_a": Arg("... H S", ("float32",)),
        "out_b": Arg("... S H D"),
        "lse_b": Arg("... H S", ("float32",)),
    },
    results={"out": "... S H D", "lse": "... H S"},
    abstract=_abstract,
    reference=_reference,
    infinite=("lse",),
    parallel=("...", "S", "H"),
    fold="...",
    reads=_reads,
    gradient=Gradient(wrt=("out_a", "lse_a", "out_b", "lse_b"), saves=("out_a", "lse_a", "out_b", "lse_b"), backward=_backward),
    cases=lambda: [
        case("dense", out_a=normal(2, 3, 4, 8), lse_a=normal(2, 4, 3), out_b=normal(2, 3, 4, 8), lse_b=normal(2, 4, 3)),
        case(
            "packed_keyless_bf16",
            out_a=normal(7, 3, 5, dtype=jnp.bfloat16),
            lse_a=_some_keyless(3, 7),
            out_b=normal(7, 3, 5, dtype=jnp.bfloat16),
            lse_b=_some_keyless(3, 7),
        ),
    ],
)


@public
def merge_attention_states(
    out_a: jax.Array,
    lse_a: jax.Array,
    out_b: jax.Array,
    lse_b: jax.Array,
    *,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Attention of the same queries over two disjoint sets of keys as one: each output weighs as its keys' exponentials do.

    Args:
      out_a, out_b: ``[..., S, H, D]`` of one dtype, float32, bfloat16 or float16: what `flash_attention` ``[B, Sq, Hq, Dv]`` or
        `flash_attention_varlen` ``[Tq, Hq, Dv]`` gives over some of the keys.
      lse_a, lse_b: ``[..., H, S]`` float32: their log-sum-exps (natural logarithm), -inf where a query saw no key. The output
        there is not read and may hold NaN. A sink must be in one of the two only.
      implementation: None (auto) or ``"xla"``; AITER has no kernel.

    Returns:
      ``[..., S, H, D]``, the dtype of `out_a`, computed in float32 with one rounding, and the log-sum-exp ``[..., H, S]`` of both:
      a query that saw no key in either gives 0 and -inf. Differentiable in all four.

    Raises TypeError or ValueError for wrong shapes or dtypes. Mirrors vLLM's ``merge_attn_states``.
    """
    out, lse = MERGE_ATTENTION_STATES(out_a=out_a, lse_a=lse_a, out_b=out_b, lse_b=lse_b, implementation=implementation)
    return out, lse
