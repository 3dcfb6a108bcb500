"""AITER's tuned choices for fused_moe: aiter/configs/tuned_fmoe.csv and model_configs/*tuned_fmoe*.csv."""

from __future__ import annotations

import functools

from jax_aiter.kernels.asm.device import compute_units
from jax_aiter.kernels.asm.dialects import Value
from jax_aiter.kernels.asm.tables import location
from jax_aiter.kernels.asm.tuned import Row, tuned_rows
from jax_aiter.kernels.provider import Call
from jax_aiter.kernels.store import Location

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


def lookup(call: Call) -> Row | None:
    """The row of a call; of rows with another activation only if none has this one (``get_2stage_cfgs``).

    With an expert mask AITER expects topk_ids to hold one slot more than the model routes, so the key has ``topk - 1``.
    """
    (tokens, topk), w1, w2 = call.operands["topk_ids"].shape, call.operands["w1"], call.operands["w2"]
    params, rows = call.params, _rows(call.target.arch, location())
    padded = padded_tokens(tokens)
    for token in (padded, *([TIERS[0]] if padded == TIERS[1] else [])):
        key = (
            compute_units(call.target),
            token,
            w1.shape[2],
            w2.shape[2],
            w1.shape[0],
            topk - ("expert_mask" in call.operands),
            f"ActivationType.{params['activation'].capitalize()}",
            f"torch.{call.results[0].dtype.name}",
            f"torch.{w1.dtype.name}",
            f"torch.{w1.dtype.name}",
            Q_TYPES[params["quant_type"]],
            int(w1.shape[1] == 2 * w2.shape[2]),
            int(params["doweight_stage1"]),
        )
        found = rows.get(key) or rows.get(_any_activation(key))
        if found is not None:
            return found
    return None


def _any_activation(key: tuple[Value, ...]) -> tuple[Value, ...]:
    return (*key[:ACTIVATION], ANY, *key[ACTIVATION + 1 :])


@functools.lru_cache(maxsize=4)
def _rows(arch: str | None, where: Location) -> dict[tuple[Value, ...], Row]:
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
