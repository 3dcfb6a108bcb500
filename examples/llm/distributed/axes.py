"""What of a decoder is split over which axes of a mesh, and the decoder that one device then runs."""

import dataclasses
import math
from collections.abc import Iterator, Mapping

from examples.llm.config import Attention, Config, Experts, Latent, Layer, Mlp


@dataclasses.dataclass(frozen=True)
class Axes:
    """sizes: of all axes, by name. dense: what heads, columns of MLPs and the vocabulary are split over; expert: what experts are;
    inner: what the columns of each expert are.
    """

    sizes: Mapping[str, int]
    dense: tuple[str, ...]
    expert: tuple[str, ...]
    inner: tuple[str, ...]

    def of(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of more than one device."""
        return tuple(n for n in names if self.sizes[n] > 1)

    def size(self, names: tuple[str, ...]) -> int:
        return math.prod(self.sizes[n] for n in names)


def serving(sizes: Mapping[str, int]) -> Axes:
    """Every device has the same tokens: all axes split what is dense, ``"expert"`` spreads experts, ``"model"`` splits them."""
    return Axes(sizes, ("expert", "model"), ("expert",), ("model",))


def training(sizes: Mapping[str, int]) -> Axes:
    """``"data"`` and ``"expert"`` split the batch, so that only ``"model"`` can split heads and columns."""
    return Axes(sizes, ("model",), ("expert",), ("model",))


def heads_split(a: Attention | Latent, axes: Axes) -> bool:
    """Whether the heads can be dealt out: all devices get as many, and a device's queries find their keys there."""
    n = axes.size(axes.dense)
    if n == 1 or a.heads % n:
        return False
    return isinstance(a, Latent) or a.kv_heads % n == 0 or n % a.kv_heads == 0


def repeats(a: Attention | Latent, axes: Axes) -> int:
    """How many devices hold the same key head."""
    return max(1, axes.size(axes.dense) // a.kv_heads) if isinstance(a, Attention) and heads_split(a, axes) else 1


def local(config: Config, axes: Axes) -> Config:
    """The decoder of one device. A part that cannot be dealt out evenly is whole on each (see `whole`).

    Raises ValueError for experts, or their columns, that cannot: there is no use in a mesh whose axis for them does nothing.
    """
    return dataclasses.replace(config, layers=tuple(_layer(layer, axes) for layer in config.layers))


def _layer(layer: Layer, axes: Axes) -> Layer:
    a, n = layer.attention, axes.size(axes.dense)
    if heads_split(a, axes):
        kv = {"kv_heads": max(1, a.kv_heads // n)} if isinstance(a, Attention) else {}
        a = dataclasses.replace(a, heads=a.heads // n, axis=axes.of(axes.dense), **kv)
    m = layer.mlp
    return Layer(a, _experts(m, axes) if isinstance(m, Experts) else _mlp(m, axes))


def columns_split(m: Mlp, axes: Axes) -> bool:
    return axes.size(axes.dense) > 1 and m.width % axes.size(axes.dense) == 0


def _mlp(m: Mlp, axes: Axes) -> Mlp:
    n = axes.size(axes.dense)
    return dataclasses.replace(m, width=m.width // n, axis=axes.of(axes.dense)) if columns_split(m, axes) else m


def _experts(e: Experts, axes: Axes) -> Experts:
    for what, value, names in (("experts", e.count, axes.expert), ("columns of an expert", e.width, axes.inner)):
        if value % axes.size(names):
            raise ValueError(f"{value} {what} cannot be split over {'·'.join(names)}, which has {axes.size(names)} devices")
    shared = None if e.shared is None else _mlp(e.shared, axes)
    inner = axes.of(axes.inner)
    return dataclasses.replace(e, width=e.width // axes.size(inner), axis=axes.of(axes.expert), inner=inner, shared=shared)


def whole(config: Config, axes: Axes) -> Iterator[str]:
    """What is on every device though the mesh would split it, in words."""
    n = axes.size(axes.dense)
    if n > 1:
        for a in {layer.attention for layer in config.layers}:
            if not heads_split(a, axes):
                kv = f" on {a.kv_heads} of keys" if isinstance(a, Attention) else ""
                yield f"attention: {a.heads} heads{kv} cannot be dealt out to {n} devices"
        for m in {layer.mlp for layer in config.layers}:
            m = m.shared if isinstance(m, Experts) else m
            if m is not None and not columns_split(m, axes):
                yield f"MLP: {m.width} columns cannot be dealt out to {n} devices"
        if config.vocabulary % n:
            yield f"head: {config.vocabulary} words cannot be dealt out to {n} devices"
