"""The k largest logits of each row up to its sequence's length (sparse attention's indexer, decode)."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, normal
from jax_aiter.core.machine import always
from jax_aiter.ops.indexer import row_top_k

OP = "top_k_per_row_decode"


def _abstract(dims, *, logits, seq_lens, next_n, k, stable):
    rows, sequences = logits.shape[0], seq_lens.shape[0]
    if rows != sequences * next_n:
        raise ValueError(f"{OP}: dimension 0 of logits is {rows}, must be B * next_n = {sequences} * {next_n}")
    return (jax.ShapeDtypeStruct((rows, k), jnp.int32),)


def row_ends(seq_lens: jax.Array, next_n: int) -> jax.Array:
    """One past the last column of each row: the j-th of a sequence's next_n tokens sees all but the next_n - 1 - j last ones."""
    return (seq_lens[:, None] - next_n + 1 + jnp.arange(next_n, dtype=jnp.int32)).reshape(-1)


def _reference(*, logits, seq_lens, next_n, k, stable):
    ends = row_ends(jnp.clip(seq_lens, 0, logits.shape[1]), next_n)
    return (row_top_k.select(logits, jnp.zeros_like(ends), ends, k, stable),)


def _reads(*, logits, seq_lens, next_n, **_):
    ends = (np.clip(seq_lens, 0, logits.shape[1])[:, None] - next_n + 1 + np.arange(next_n)).reshape(-1)
    return row_top_k.reads(logits, np.zeros_like(ends), ends)


TOP_K_PER_ROW_DECODE = Op(
    name=OP,
    family="ATTENTION",
    mirrors="aiter.top_k_per_row_decode, aiter.top_k_per_row_decode_fast (aiter/ops/topk.py)",
    operands={"logits": Arg("T L", ("float32",)), "seq_lens": Arg("B", INT32)},
    results={"indices": "T k"},
    # Rows and sequences correspond one to one with a single next token only, so only then do they split and fold together.
    relayout=lambda params: {"seq_lens": "T"} if params["next_n"] == 1 else {"logits": "Tn L", "indices": "Tn k"},
    abstract=_abstract,
    reference=_reference,
    gpu=always(row_top_k.NAME),
    parallel=("T",),
    fold="T",
    reads=_reads,
    data_checks=lambda *, logits, seq_lens, next_n, **_: {"0 <= seq_lens <= L": (seq_lens < 0) | (seq_lens > logits.shape[1])},
    cases=lambda: [
        case("one", logits=normal(4, 12), seq_lens=constant([12, 1, 7, 4], jnp.int32), next_n=1, k=4, stable=True),
        case("speculative", logits=normal(4, 9), seq_lens=constant([9, 1], jnp.int32), next_n=2, k=8, stable=False),
    ],
)


@public
def top_k_per_row_decode(
    logits: jax.Array,
    next_n: int,
    seq_lens: jax.Array,
    *,
    k: int = 2048,
    stable: bool = False,
    implementation: str | None = None,
    kernel: str | None = None,
) -> jax.Array:
    """The columns of the k largest logits of each row, up to the row's length.

    Args:
      logits: float32 ``[B * next_n, L]``, the rows of a sequence one after the other.
      next_n: static, >= 1: new tokens per sequence (1 without speculation).
      seq_lens: int32 ``[B]``, lengths with the new tokens; outside [0, L] counts as the nearer bound. Row ``b * next_n + j`` ends
        before column ``seq_lens[b] - next_n + 1 + j``.
      k: static, >= 1 (AITER's hand-written kernel has 2048).
      stable: static. True: ascending columns, the lowest among equals, the same on every run. False: any order, and any choice
        among logits that are equal to the k-th; implementations differ.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.
      kernel: ``"asm_top_k_per_row_decode"`` runs AITER's hand-written kernel (gfx942). It is exact while no float16 bin of a row's
        logits (sign, exponent, 5 bits of mantissa: 32 bins to an octave) holds more than 2048, else takes any of the bin that
        holds the k-th; a row with NaN it may get wrong. ``implementation="asm"`` alone takes it for L <= 2048 only.

    Returns:
      int32 ``[B * next_n, k]``; where a row has fewer than k columns the rest is -1, at the end. A NaN ranks beyond the infinity of
      its sign. Not differentiable.

    Raises:
      TypeError, ValueError: naming the argument, its value and the rule.

    Mirrors ``aiter.top_k_per_row_decode`` and ``aiter.top_k_per_row_decode_fast``.
    """
    (indices,) = TOP_K_PER_ROW_DECODE(
        logits=logits,
        seq_lens=seq_lens,
        next_n=check.integer(OP, "next_n", next_n, 1),
        k=check.integer(OP, "k", k, 1),
        stable=check.boolean(OP, "stable", stable),
        implementation=implementation,
        kernel=kernel,
    )
    return indices
