"""vLLM's AITER operations in this package's terms, for whoever brings a model from there.

    from jax_aiter import vllm_ops

    vllm_ops.find("rocm_aiter_rmsnorm_fused_dynamic_quant").ops           # ('rms_norm_quant',)
    op, arguments = vllm_ops.translate("rocm_aiter_topk_softmax", ...)    # vLLM's arguments by name -> ours
    y = getattr(jax_aiter, op)(**arguments)

The rows cover what vLLM's ``_aiter_ops.py`` registers and wraps, and what its ROCm code calls of AITER around it. They import no
op; `jax-aiter ops --vllm` prints them, and docs/vllm.md is that print.
"""

from __future__ import annotations

import functools
from typing import Any

from jax_aiter.core.errors import NotSupportedError
from jax_aiter.core.text import shown
from jax_aiter.vllm_ops import attention, cache, gemm, host, hyper, indexer, linear, mla, moe, mxfp, norm, parallel, quant, sampling
from jax_aiter.vllm_ops.row import FITS as FITS
from jax_aiter.vllm_ops.row import OWN
from jax_aiter.vllm_ops.row import Argument as Argument
from jax_aiter.vllm_ops.row import Row as Row

#: The rows by what they are about, in the order in which they are printed.
SECTIONS: dict[str, tuple[Row, ...]] = {
    "Mixture of experts and routing": moe.ROWS,
    "GEMM": gemm.ROWS,
    "Norms and activations": norm.ROWS,
    "Quantisation": quant.ROWS,
    "Attention": attention.ROWS,
    "Multi-head latent attention": mla.ROWS,
    "Caches and rotation": cache.ROWS,
    "Sparse attention's indexer": indexer.ROWS,
    "MXFP4 and MXFP8": mxfp.ROWS,
    "Across devices": parallel.ROWS,
    "Sampling": sampling.ROWS,
    "Linear attention": linear.ROWS,
    "Hyper-connections": hyper.ROWS,
    "Host functions": host.ROWS,
}
ROWS: tuple[Row, ...] = tuple(row for rows in SECTIONS.values() for row in rows)


@functools.cache
def _by_name() -> dict[str, Row]:
    return {name: row for row in ROWS for name in (row.name, *row.aliases)}


def find(name: str) -> Row:
    """The row of an operation, by the name that vLLM registers it under or calls it by. KeyError if there is none."""
    return _by_name()[name]


def translate(name: str, **theirs: Any) -> tuple[str, dict[str, Any]]:
    """Our op's name and its arguments for a call with vLLM's arguments, all by name.

    Output buffers may be given or left out: ours returns them. KeyError for a name that the table lacks, TypeError for an argument
    that vLLM's operation does not have, NotSupportedError where ours does not do what the call asks.
    """
    row = find(name)
    if not row.arguments:
        raise NotSupportedError(f"{name}: no one op does this. {row.lacks}")
    if unknown := theirs.keys() - row.arguments.keys():
        raise TypeError(f"{name} has no argument {', '.join(sorted(unknown))}; it has {', '.join(row.arguments)}")
    defaults = {n: a.default for n, a in row.arguments.items() if a.default is not OWN}
    theirs = defaults | theirs
    ours = dict(row.given)
    for their, value in theirs.items():
        argument = row.arguments[their]
        if argument.ours:
            found = value if argument.value is None else argument.value(value, theirs)
            ours |= zip(argument.ours, found if len(argument.ours) > 1 else (found,), strict=True)
        elif not argument.asks_nothing(value):
            raise NotSupportedError(f"{name}: {their} is {shown(value)}, {argument.text}")
    return row.ops[0], ours
