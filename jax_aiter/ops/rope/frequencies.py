"""Angles per position of each rotated pair, and the factor on cosines and sines, by the `rope_type` of a model's configuration.

float64 from the published definitions. Hugging Face computes the same in float32.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jax_aiter.core import check
from jax_aiter.core.text import shown


def kind_of(values: Mapping[str, Any]) -> Any:
    """The `rope_type` of settings, which older ones call type."""
    return values.get("rope_type") or values.get("type") or "default"


class Settings:
    """The rotary settings of a model: what names them, with errors that say which is missing or wrong."""

    def __init__(self, op: str, values: Mapping[str, Any], head: int, limit: int | None, seq_len: int | None) -> None:
        """head: elements that a head rotates; limit: the model's max_position_embeddings; seq_len: how long the sequence is."""
        self.op, self.values, self.head, self.limit, self.seq_len = op, values, head, limit, seq_len

    def number(self, name: str, default: float | None = None, low: float = 0.0) -> float:
        value = self.values.get(name)
        if value is None and default is None:
            raise ValueError(f"{self.op}: the rope settings have no {name}, which rope_type {shown(self.kind)} needs")
        return check.real(self.op, name, default if value is None else value, low=low, open_low=True)

    @property
    def kind(self) -> str:
        return kind_of(self.values)

    @property
    def max_positions(self) -> int:
        if self.limit is None:
            raise ValueError(f"{self.op}: config has no max_position_embeddings, which rope_type {shown(self.kind)} needs")
        return self.limit

    @property
    def original(self) -> float:
        """Positions that the model was first trained with."""
        found = self.values.get("original_max_position_embeddings")
        return self.number("original_max_position_embeddings") if found is not None else float(self.max_positions)

    def plain(self, base: float | None = None) -> np.ndarray:
        """base^(-2i / head) for each pair i."""
        return (self.number("rope_theta", 10000.0) if base is None else base) ** (-np.arange(0, self.head, 2) / self.head)


def _default(s: Settings) -> tuple[np.ndarray, float]:
    return s.plain(), 1.0


def _linear(s: Settings) -> tuple[np.ndarray, float]:
    """Positions divided by a factor."""
    return s.plain() / s.number("factor"), 1.0


def _dynamic(s: Settings) -> tuple[np.ndarray, float]:
    """A base that grows with the sequence beyond the trained length, so that the slowest pair is interpolated by the factor.

    With `alpha` (Hunyuan) it is stretched by that once for all lengths.
    """
    if s.values.get("alpha"):
        if s.head <= 2:
            raise ValueError(f"{s.op}: rope_type 'dynamic' with {s.head} rotated elements has no base")
        return s.plain(s.number("rope_theta", 10000.0) * s.number("alpha") ** (s.head / (s.head - 2))), 1.0
    length, factor = max(s.seq_len or 0, s.max_positions), s.number("factor")
    growth = factor * length / s.max_positions - (factor - 1)
    if s.head <= 2 or growth <= 0:
        raise ValueError(f"{s.op}: rope_type 'dynamic' with {s.head} rotated elements and factor {factor} has no base")
    return s.plain(s.number("rope_theta", 10000.0) * growth ** (s.head / (s.head - 2))), 1.0


def _llama3(s: Settings) -> tuple[np.ndarray, float]:
    """Slow pairs are interpolated, fast ones kept, those between blended by how often they turn in the trained length."""
    plain, factor = s.plain(), s.number("factor")
    low, high = s.number("low_freq_factor"), s.number("high_freq_factor")
    if low == high:
        raise ValueError(f"{s.op}: low_freq_factor and high_freq_factor are both {low}, must differ")
    turns = s.original * plain / (2 * math.pi)
    blend = (turns - low) / (high - low)
    between = (1 - blend) * plain / factor + blend * plain
    return np.where(turns < low, plain / factor, np.where(turns > high, plain, between)), 1.0


def _yarn(s: Settings) -> tuple[np.ndarray, float]:
    """Interpolated below a ramp over the pairs and kept above it; attention is sharpened by the factor (`mscale`)."""
    original = s.original
    factor = s.number("factor", s.limit / original if s.limit else None)
    base, plain = s.number("rope_theta", 10000.0), s.plain()
    turning = lambda turns: s.head * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(base))  # noqa: E731
    first = turning(s.number("beta_fast") if s.values.get("beta_fast") else 32.0)
    last = turning(s.number("beta_slow") if s.values.get("beta_slow") else 1.0)
    truncate = s.values.get("truncate")
    if truncate is None or check.boolean(s.op, "truncate", truncate):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, s.head - 1)
    ramp = np.clip((np.arange(s.head // 2) - first) / ((last - first) or 0.001), 0, 1)
    return plain / factor * ramp + plain * (1 - ramp), _yarn_attention(s, factor)


def _yarn_attention(s: Settings, factor: float) -> float:
    if s.values.get("attention_factor") is not None:
        return s.number("attention_factor")
    scale = lambda m: 0.1 * m * math.log(factor) + 1.0 if factor > 1 else 1.0  # noqa: E731
    if s.values.get("mscale") and s.values.get("mscale_all_dim"):
        return scale(s.number("mscale")) / scale(s.number("mscale_all_dim"))
    return scale(1.0)


def _longrope(s: Settings) -> tuple[np.ndarray, float]:
    """A factor for each pair, of two lists by whether the sequence is longer than the trained length."""
    original = s.original
    name = "long_factor" if (s.seq_len or 0) > original else "short_factor"
    factors = np.asarray(s.values.get(name, ()), np.float64)
    if factors.shape != (s.head // 2,):
        raise ValueError(f"{s.op}: {name} has shape {factors.shape}, must be ({s.head // 2},): one for each rotated pair")
    factor = s.number("factor", s.limit / original if s.limit else None)
    sharper = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    return s.plain() / factors, s.number("attention_factor", sharper)


def _proportional(s: Settings) -> tuple[np.ndarray, float]:
    """Pairs of the whole head, of which the slower ones stand still: a partial rotation whose table is that of a whole one."""
    turning = int(s.number("partial_rotary_factor", 1.0) * s.head // 2)
    return np.where(np.arange(s.head // 2) < turning, s.plain() / s.number("factor", 1.0), 0.0), 1.0


KINDS: dict[str, Callable[[Settings], tuple[np.ndarray, float]]] = {
    "default": _default,
    "mrope": _default,  # which positions a pair turns by is the model's choice; the table is the same
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "su": _longrope,  # what Phi-3 called it first
    "proportional": _proportional,
}
