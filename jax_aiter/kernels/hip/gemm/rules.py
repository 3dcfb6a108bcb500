"""What Composable Kernel's GEMMs take, as their own check of arguments has it: it is asked again when a call is recorded."""

from __future__ import annotations

from typing import Any

from jax_aiter.kernels.hip.rules import HALF, first, fits_int32
from jax_aiter.kernels.hip.worker.errors import RecordError
from jax_aiter.kernels.spec import ITEMSIZE, CallSpec

#: bytes of a row of K that a thread loads at once, and elements of a row of N that it stores. Some tiles store 4.
LOAD, STORE = 16, 8


def written(spec: CallSpec, allowed: tuple[str, ...] = HALF) -> str | None:
    out = spec.results[0].dtype
    return None if out in allowed else f"out_dtype = {out}; AITER's CK kernels write {' or '.join(allowed)}"


def loaded(spec: CallSpec, x: str, w: str) -> str | None:
    """The sizes of [..., M, K] and [..., N, K]."""
    k, n, whole = spec[x].shape[-1], spec[w].shape[-2], LOAD // ITEMSIZE[spec[x].dtype]
    rule = None
    if k % whole:
        rule = f"K = {k}; AITER's CK kernels load {whole} elements of {spec[x].dtype} at once, and take multiples of it"
    elif n % STORE:
        rule = f"N = {n}; AITER's CK kernels store up to {STORE} columns at once, and take multiples of it"
    return first(rule, fits_int32(spec, x, w))


def only(spec: CallSpec, operand: str, dtype: str) -> str | None:
    found = spec[operand].dtype
    return None if found == dtype else f"{operand} has dtype {found}; AITER's CK kernels of this op take {dtype}"


def shuffled(spec: CallSpec, rows: int, least: int, step: int) -> str | None:
    """What every tile asks of a weight in the order that kernels load, where no tile ends behind the matrix."""
    (n, k), rule = spec["wq"].shape, None
    if k < least or k % step:
        rule = f"K = {k}; AITER's CK kernels take multiples of {step} from {least} on"
    elif n % rows:
        rule = f"N = {n}; AITER's CK kernels take multiples of {rows}"
    return rule


def unsplit(spec: CallSpec) -> str | None:
    split = spec.params["splitK"]
    return f"splitK = {split}; AITER's CK kernels of this op split no K" if (split or 1) != 1 else None


def record(ctx: Any, function: str, *values: Any) -> None:
    """Call one of AITER's functions, each the one of its source; RecordError says so where the tile does not take the sizes."""
    try:
        ctx.call(function, function, *values, returns=True)
    except RecordError as error:
        if "IsSupportedArgument" not in str(error):
            raise
        x, w = list(ctx.spec.operands.values())[:2]
        sizes = f"M, N, K = {x.shape[-2]}, {w.shape[-2]}, {x.shape[-1]}"
        raise RecordError(f"the tile that AITER chooses for {sizes} takes other sizes, by its own check") from error
