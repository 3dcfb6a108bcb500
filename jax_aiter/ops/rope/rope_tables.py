"""Tables of cosines and sines from a model's configuration."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import FLOATING
from jax_aiter.core.text import shown
from jax_aiter.ops.rope.frequencies import KINDS, Settings, kind_of

OP = "rope_tables"
MOST = 2**24  # positions: more than any model has, and float32 would no longer tell them apart


@public
def rope_tables(
    config: Any, length: int | None = None, *, layer_type: str | None = None, seq_len: int | None = None, dtype: Any = jnp.float32
) -> tuple[jax.Array, jax.Array]:
    """The cosines and sines that `rope` and the ops around it take, from the rotary settings of a Hugging Face configuration.

    Args:
      config: a ``transformers`` configuration, or the dict of its ``config.json``: ``rope_parameters``, or ``rope_scaling`` and
        ``rope_theta``, with ``head_dim`` (or ``qk_rope_head_dim``, or ``hidden_size`` and ``num_attention_heads``),
        ``partial_rotary_factor`` and ``max_position_embeddings``. Its rope_type is ``"default"``, ``"linear"``, ``"dynamic"``,
        ``"llama3"``, ``"yarn"``, ``"longrope"`` or ``"proportional"``. A base that is given nowhere counts as 10000.
      length: how many positions (tokens) the table has, at most 2^24; None: ``max_position_embeddings``.
      layer_type: for models whose layers differ, such as ``"sliding_attention"`` of Gemma 3 (whose older configurations have
        ``rope_local_base_freq`` for these layers and everything else for ``"full_attention"``).
      seq_len: tokens of the longest sequence that ``"dynamic"`` (which then changes its base) and ``"longrope"`` (which then takes
        its other list) are to be computed for. None: `length`.
      dtype: of the tables: float32, bfloat16 or float16.

    Returns:
      ``(cos, sin)``, cosines and sines of ``position * base^(-2i / rotary)`` radians, ``[length, rotary / 2]`` each, one column per
      rotated pair (``reuse_freqs_front_part=True``), times the
      attention factor of ``"yarn"`` and ``"longrope"``. They are computed in float64 on the host and rounded once; at large
      positions Hugging Face's own, whose angles are float32 products, are less exact. Under ``jit`` they become a constant of the
      program: make them outside and pass them in.

    Raises:
      TypeError, ValueError: naming the setting, its value and the rule.
    """
    limit = _get(config, "max_position_embeddings")
    limit = None if limit is None else check.integer(OP, "max_position_embeddings", limit, 1)
    if length is None and limit is None:
        raise ValueError(f"{OP}: config has no max_position_embeddings, so length must be given")
    rows = check.integer(OP, "length", limit if length is None else length, 1, MOST)
    longest = rows if seq_len is None else check.integer(OP, "seq_len", seq_len, 1)
    settings = Settings(OP, _settings(config, layer_type), _rotary(config, layer_type), limit, longest)
    check.choice(OP, "rope_type", settings.kind, list(KINDS))
    frequencies, factor = KINDS[settings.kind](settings)
    angles = np.arange(rows)[:, None] * frequencies
    kind = check.static_dtype(OP, "dtype", dtype, FLOATING)
    cos, sin = (jnp.asarray((f(angles) * factor).astype(np.float32)).astype(kind) for f in (np.cos, np.sin))
    return cos, sin


def _get(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


# What older configurations keep beside the settings, and what GPT-NeoX calls it.
BESIDE = {
    "rope_theta": ("rope_theta", "rotary_emb_base"),
    "partial_rotary_factor": ("partial_rotary_factor", "rotary_pct"),
    "original_max_position_embeddings": ("original_max_position_embeddings",),
}


def _settings(config: Any, layer_type: str | None) -> dict[str, Any]:
    """The flat rotary settings of (one type of layer of) a configuration, by the names that they have today."""
    found = _get(config, "rope_parameters") or _get(config, "rope_scaling") or {}
    if not isinstance(found, Mapping):
        raise TypeError(f"{OP}: rope_parameters of config must be a dict, got {type(found).__name__} {shown(found)}")
    local = _get(config, "rope_local_base_freq")
    if local is not None and not any(isinstance(value, Mapping) for value in found.values()):
        found = {"full_attention": found, "sliding_attention": {"rope_theta": local}}
    nested = {name for name, value in found.items() if isinstance(value, Mapping)}
    if nested:
        check.choice(OP, "layer_type", layer_type, sorted(nested))
        found = found[str(layer_type)]
    elif layer_type is not None:
        raise ValueError(f"{OP}: layer_type is {shown(layer_type)}, must be None: all layers of config have the same rope settings")
    found = {name: value for name, value in found.items() if value is not None}
    for name, places in BESIDE.items():
        value = next((value for place in places if (value := _get(config, place)) is not None), None)
        # What Phi-3 keeps beside its settings counts before what may stand in them, as Hugging Face has it.
        if value is not None and (name not in found or name.startswith("original")):
            found[name] = value
    return found


def _rotary(config: Any, layer_type: str | None) -> int:
    """How many elements of a head are rotated."""
    name = next((n for n in ("head_dim", "qk_rope_head_dim") if _get(config, n) is not None), None)
    if name is not None:
        head = check.integer(OP, name, _get(config, name), 1)
    else:
        hidden, heads = (_get(config, n) for n in ("hidden_size", "num_attention_heads"))
        if hidden is None or heads is None:
            raise ValueError(f"{OP}: config has no head_dim, nor hidden_size and num_attention_heads to tell it from")
        head = check.integer(OP, "hidden_size", hidden, 1) // check.integer(OP, "num_attention_heads", heads, 1)
    settings = _settings(config, layer_type)
    part = 1.0 if kind_of(settings) == "proportional" else settings.get("partial_rotary_factor", 1.0)
    rotary = int(head * check.real(OP, "partial_rotary_factor", part, low=0.0, open_low=True))
    if rotary % 2 or not 2 <= rotary <= head:
        raise ValueError(f"{OP}: {rotary} of a head's {head} elements are rotated, must be an even number in [2, {head}]")
    return rotary
