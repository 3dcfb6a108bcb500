"""AITER's tuned choices for fused_moe: aiter/configs/tuned_fmoe.csv and model_configs/*tuned_fmoe*.csv."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

from jax_aiter.kernels.store import Location, aiter_location
from jax_aiter.kernels.tables.cells import Value
from jax_aiter.kernels.tables.tuned import Row, tuned_rows

PATTERN = "*tuned_fmoe*.csv"
KEY = (
    "cu_num", "token", "model_dim", "inter_dim", "expert", "topk", "act_type", "dtype", "q_dtype_a", "q_dtype_w", "q_type",
    "use_g1u1", "doweight_stage1",
)  # fmt: skip
ACTIVATION = KEY.index("act_type")
ANY = ""
Q_TYPES = {"per_token": "QuantType.per_Token", "per_1x128": "QuantType.per_1x128", "none": "QuantType.No"}
TIERS = (32768, 131072)


def padded_tokens(tokens: int) -> int:
    """The number of tokens under which rows are kept: the next power of two, from 32768 on two tiers (``get_padded_M``)."""
    if tokens < TIERS[0]:
        return 1 << (tokens - 1).bit_length() if tokens > 1 else 1
    return TIERS[1] if tokens >= TIERS[1] else TIERS[0]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a row is looked up by beside the number of tokens. activation: as AITER names it. weights: their dtype."""

    arch: str | None
    units: int
    model_dim: int
    inter_dim: int
    experts: int
    topk: int
    activation: str
    dtype: str
    weights: str
    quant_type: str
    gated: bool
    doweight_stage1: bool


def lookup(asked: Asked, tokens: Iterable[int], *, same_activation: bool = False) -> Row | None:
    """The row for the first number of tokens that has one (``get_2stage_cfgs``).

    same_activation: as older releases have it; of rows with another activation later ones take one if none has this.
    """
    rows = _rows(asked.arch, aiter_location())
    for token in tokens:
        key = (
            asked.units,
            token,
            asked.model_dim,
            asked.inter_dim,
            asked.experts,
            asked.topk,
            f"ActivationType.{asked.activation.capitalize()}",
            f"torch.{asked.dtype}",
            f"torch.{asked.weights}",
            f"torch.{asked.weights}",
            Q_TYPES[asked.quant_type],
            int(asked.gated),
            int(asked.doweight_stage1),
        )
        found = rows.get(key) or (None if same_activation else rows.get(_any_activation(key)))
        if found is not None:
            return found
    return None


def _any_activation(key: tuple[Value, ...]) -> tuple[Value, ...]:
    return (*key[:ACTIVATION], ANY, *key[ACTIVATION + 1 :])


@functools.lru_cache(maxsize=4)
def _rows(arch: str | None, where: Location | None) -> dict[tuple[Value, ...], Row]:
    """An architecture's rows by key. AITER merges its files by taking, of equal keys, the row that took the least time."""
    best: dict[tuple[Value, ...], Row] = {}
    for row in tuned_rows(PATTERN):
        if "cu_num" not in row or row.get("_tag", "") == "flydsl_fallback":
            continue
        key = tuple(row.get(column, 0) for column in KEY)
        if row.get("gfx") == arch and (key not in best or float(row["us"]) < float(best[key]["us"])):
            best[key] = row
    for key, row in list(best.items()):
        best.setdefault(_any_activation(key), row)
    return best
