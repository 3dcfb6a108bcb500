"""How values of vLLM's arguments become ours. Each takes the value and all of theirs; its docstring is what the table prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Theirs = Mapping[str, Any]

ACTIVATION = {-1: "none", 0: "silu", 1: "gelu", 2: "swiglu"}
QUANT_TYPE = {0: "none", 1: "per_tensor", 2: "per_token", 3: "per_1x32", 4: "per_1x128", 5: "per_128x128"}


def _enum(names: Mapping[int, str], what: str) -> Callable[[Any], str]:
    def name(value: Any) -> str:
        number = int(getattr(value, "value", value))
        if number not in names:
            raise ValueError(f"{what} is {number}, must be one of {dict(names)}")
        return names[number]

    return name


def activation(value: Any, theirs: Theirs) -> str:
    """`ActivationType` as a string: No -1 is "none", Silu 0 "silu", Gelu 1 "gelu", Swiglu 2 "swiglu"."""
    return _enum(ACTIVATION, "activation")(value)


def kernels_activation(value: Any, theirs: Theirs) -> str:
    """`ActivationType` as a string: Silu 0 "silu", Gelu 1 "gelu_tanh", which is what AITER's kernels compute."""
    return _enum({0: "silu", 1: "gelu_tanh"}, "activation")(value)


def quant_type(value: Any, theirs: Theirs) -> str:
    """`QuantType` as a string: No 0 is "none", then "per_tensor", "per_token", "per_1x32", "per_1x128", "per_128x128"."""
    return _enum(QUANT_TYPE, "quant type")(value)


def dtype(value: Any, theirs: Theirs) -> Any:
    """torch's dtype by its name."""
    return str(value).removeprefix("torch.") if type(value).__module__ == "torch" else value


def transposed(value: Any, theirs: Theirs) -> Any:
    """[M, K/128] as [K/128, M]."""
    return value.T


def width(value: Any, theirs: Theirs) -> int:
    """how many columns the buffer has."""
    return value.shape[-1]


def rows_and_columns(value: Any, theirs: Theirs) -> tuple[int, ...]:
    """its shape."""
    return value.shape


def routed_width(value: Any, theirs: Theirs) -> int:
    """how many columns the buffer has, without those of shared experts."""
    return value.shape[-1] - (theirs.get("num_shared_experts") or 0)


def gate_mode(value: Any, theirs: Theirs) -> str:
    """`GateMode` as a string, "" is "separated"."""
    return str(getattr(value, "value", value)) or "separated"


def dtype_of(value: Any, theirs: Theirs) -> Any:
    """the dtype of the buffer."""
    return dtype(value.dtype, theirs)


def halves(value: Any, theirs: Theirs) -> tuple[Any, Any]:
    """its two halves along the last axis."""
    middle = value.shape[-1] // 2
    return value[..., :middle], value[..., middle:]


def rotate_style(value: Any, theirs: Theirs) -> str:
    """True is "neox", False "gptj"."""
    return "neox" if value else "gptj"


def shuffled(value: Any, theirs: Theirs) -> Any:
    """wrapped, if it is not yet: `ShuffledWeight(w, (16, 16))`."""
    from jax_aiter import ShuffledWeight

    return value if isinstance(value, ShuffledWeight) else ShuffledWeight(value, (16, 16))


def limit(value: Any, theirs: Theirs) -> float | None:
    """0 is None."""
    return None if not value else float(value)


def window_pair(value: Any, theirs: Theirs) -> tuple[int, int] | None:
    """its first two entries, tokens to the left and right, -1 for all; the third (sink tokens) must be 0."""
    if value is None:
        return None
    if len(value) > 2 and value[2]:
        raise ValueError(f"window_size is {tuple(value)}: sink tokens beside a window are not done here")
    return int(value[0]), int(value[1])


def window_length(value: Any, theirs: Theirs) -> int | None:
    """(w, 0) is w + 1, (-1, -1) is None: ours counts the token itself."""
    return None if value is None or value[0] < 0 else int(value[0]) + 1


def asm_layout(value: Any, theirs: Theirs) -> str:
    """True is "asm", False "vllm"."""
    return "asm" if value else "vllm"


def shuffled_or_nhd(value: Any, theirs: Theirs) -> str:
    """True is "asm", False "NHD"."""
    return "asm" if value else "NHD"


def flash_or_vllm(value: Any, theirs: Theirs) -> str:
    """True is "NHD", False "vllm"."""
    return "NHD" if value else "vllm"


def heads_of_qkv(value: Any, theirs: Theirs) -> tuple[Any, ...]:
    """[T, (Hq + Hk + Hv) D] in three, each [T, H, D]."""
    q, k = theirs["num_heads_q"], theirs["num_heads_k"]
    heads = value.reshape(value.shape[0], -1, theirs["head_dim"])
    return heads[:, :q], heads[:, q : q + k], heads[:, q + k :]


def heads(value: Any, theirs: Theirs) -> Any:
    """as [T, heads, head_size]."""
    return value.reshape(-1, value.shape[-1] // theirs["head_size"], theirs["head_size"]) if value.ndim == 2 else value


def pages(value: Any, theirs: Theirs) -> Any:
    """as [pages, 1, 1, 576]: pages of one token, as vLLM views it."""
    return value.reshape(-1, 1, 1, theirs["q"].shape[-1])


def packed(value: Any, theirs: Theirs) -> Any:
    """[B, S, H, D] as [B S, H, D]."""
    return value.reshape(-1, *value.shape[2:])


def offsets(value: Any, theirs: Theirs) -> tuple[Any, Any]:
    """both; None is B sequences of S."""
    import jax.numpy as jnp

    batch, length = theirs["q"].shape[:2]
    found = jnp.arange(batch + 1, dtype=jnp.int32) * length if value is None else value
    return found, found


def lengths(value: Any, theirs: Theirs) -> tuple[int, int]:
    """both; None is S."""
    longest = theirs["q"].shape[1] if value is None else int(value)
    return longest, longest


def gathered_layout(value: Any, theirs: Theirs) -> str:
    """NHD is "NHD", SHUFFLE "asm"."""
    return {"NHD": "NHD", "SHUFFLE": "asm"}[value]


def rows_or_top_k(value: Any, theirs: Theirs) -> Any:
    """one for each row, or `top_k_val` for all."""
    return theirs["top_k_val"] if value is None else value


def rows_or_top_p(value: Any, theirs: Theirs) -> Any:
    """one for each row, or `top_p_val` for all."""
    return theirs["top_p_val"] if value is None else value


def channels_last(value: Any, theirs: Theirs) -> Any:
    """[..., dim, n] as [..., n, dim], which is how theirs lies in memory."""
    return value.swapaxes(-1, -2)


def tokens_before_channels(value: Any, theirs: Theirs) -> Any:
    """[B, dim] as it is, [B, dim, L] as [B, L, dim]."""
    return value if value.ndim == 2 else value.swapaxes(1, 2)
