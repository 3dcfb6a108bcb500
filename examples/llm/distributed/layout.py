"""Weights by what can be split: queries, keys, values, gates and ups apart, each with its axes of the mesh; and together again.

The decoder reads such matrices one below the other, so a device's share is put together of its shares of each.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from examples.llm.config import Attention, Config, Experts, Latent, Layer, Mlp
from examples.llm.decoder import Params
from examples.llm.distributed import axes as axis
from examples.llm.distributed.axes import Axes
from examples.llm.linear import Blocks, Linear, Packed

JOINED = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up"), "w1": ("w1_gate", "w1_up")}


def separate(params: Params, config: Config) -> Params:
    """The decoder's tree with the matrices of `JOINED` apart.

    Raises ValueError for weights with a scale for each block of 128 x 128, or for each 32 columns (MXFP4): heads and columns do not
    begin where blocks do.
    """
    held = {type(w) for w in jax.tree.leaves(params, is_leaf=lambda x: isinstance(x, Blocks | Packed))}
    for kind, blocks in ((Blocks, "blocks of 128 x 128"), (Packed, "32 columns (MXFP4)")):
        if kind in held:
            raise ValueError(f"weights with scales by {blocks} cannot be split: load with the scheme 'fp8' or 'none'")
    return _mapped(params, config, _separated)


def _separated(p: Params, described: Any) -> Params:
    p = dict(p)
    if isinstance(described, Attention):
        a = described
        ends = [a.heads * a.head_dim, (a.heads + a.kv_heads) * a.head_dim]
        p |= dict(zip("qkv", _cut(p.pop("qkv"), ends, 0), strict=True))
    elif isinstance(described, Mlp):
        p |= dict(zip(("gate", "up"), _cut(p.pop("gate_up"), [described.width], 0), strict=True))
    elif isinstance(described, Experts):
        p |= dict(zip(("w1_gate", "w1_up"), _cut(p.pop("w1"), [described.width], 1), strict=True))
    return p


def _cut(w: Linear, ends: Sequence[int], dim: int) -> list[Linear]:
    """Rows of a weight with all that goes with them: scales and biases have their rows in the same dimension."""
    leaves, tree = jax.tree.flatten(w)
    return [tree.unflatten(parts) for parts in zip(*(jnp.split(x, ends, axis=dim) for x in leaves), strict=True)]


def join(separated: Params, config: Config, merge: Callable[[list[Any], int], Any] | None = None) -> Params:
    """The decoder's tree. merge: makes one leaf of several that are split alike, ``(leaves, dimension of the rows)``."""
    merge = merge or (lambda leaves, dim: jnp.concatenate(leaves, axis=dim))

    def joined(p: Params, described: Any) -> Params:
        p = dict(p)
        for name, parts in JOINED.items():
            if parts[0] in p and parts[-1] in p:
                dim = 1 if name == "w1" else 0
                p[name] = jax.tree.map(lambda *x, dim=dim: merge(list(x), dim), *(p.pop(n) for n in parts), is_leaf=_is_spec)
        return p

    return _mapped(separated, config, joined)


def _mapped(params: Params, config: Config, change: Callable[[Params, Any], Params]) -> Params:
    """`change` of every attention, MLP and mixture, with what describes it."""

    def one(p: Params, layer: Layer) -> Params:
        m = change(p["mlp"], layer.mlp)
        if isinstance(layer.mlp, Experts) and layer.mlp.shared is not None:
            m = {**m, "shared": change(m["shared"], layer.mlp.shared)}
        return {**p, "attention": change(p["attention"], layer.attention), "mlp": m}

    return {**params, "layers": [one(p, layer) for p, layer in zip(params["layers"], config.layers, strict=True)]}


def widen(separated: Params, config: Config, axes: Axes) -> Params:
    """With heads of keys and values as often as devices hold them."""

    def wide(p: Params, described: Any) -> Params:
        times = axis.repeats(described, axes) if isinstance(described, Attention) else 1
        if times == 1:
            return p

        def repeated(x: jax.Array) -> jax.Array:
            heads = x.reshape(described.kv_heads, -1, *x.shape[1:])
            return jnp.repeat(heads, times, axis=0).reshape(-1, *x.shape[1:])

        return {**p, **{n: jax.tree.map(repeated, p[n]) for n in "kv"}}

    return _mapped(separated, config, wide)


def specs(separated: Params, config: Config, axes: Axes) -> Params:
    """A `PartitionSpec` for every array of `separate`'s tree, or of the shapes of one."""

    def attention(p: Params, a: Attention | Latent) -> Params:
        names = axes.of(axes.dense) if axis.heads_split(a, axes) else ()
        split = {"q", "q_b"} | {"k", "v", "sinks", "key_up", "value_up"}
        if isinstance(a, Latent) and "q_b" in p:
            split -= {"q"}
        return {n: columns(w, names) if n == "out" else rows(w, names if n in split else ()) for n, w in p.items()}

    def other(p: Params, m: Mlp | Experts) -> Params:
        if isinstance(m, Mlp):
            names = axes.of(axes.dense) if axis.columns_split(m, axes) else ()
            return {"gate": rows(p["gate"], names), "up": rows(p["up"], names), "down": columns(p["down"], names)}
        expert, inner = axes.of(axes.expert), axes.of(axes.inner)
        w1 = {n: rows(p[n], inner, expert) for n in JOINED["w1"]}
        rest = {n: rows(w) for n, w in p.items() if n not in (*w1, "w2", "shared")}
        return {**rest, **w1, "w2": columns(p["w2"], inner, expert), **({"shared": p["shared"]} if "shared" in p else {})}

    def part(p: Params, described: Any) -> Params:
        return attention(p, described) if isinstance(described, Attention | Latent) else other(p, described)

    layers = _mapped(separated, config, part)["layers"]
    names = {"attention_norm", "mlp_norm", "post_attention_norm", "post_mlp_norm"}
    layers = [{n: rows(w) if n in names else w for n, w in p.items()} for p in layers]
    top = {n: rows(w) for n, w in separated.items() if n not in ("layers", "head")}
    return {**top, "layers": layers, "head": rows(separated["head"], vocabulary(config, axes))}


def vocabulary(config: Config, axes: Axes) -> tuple[str, ...]:
    """The axes that the head's rows are split over."""
    return () if config.vocabulary % axes.size(axes.dense) else axes.of(axes.dense)


def rows(w: Any, names: tuple[str, ...] = (), expert: tuple[str, ...] | None = None) -> Any:
    """Specs of a weight ``[N, K]`` split by N, its scales and its bias; with `expert` those of ``[E, N, K]``."""
    lead = [] if expert is None else [expert or None]
    return jax.tree.map(lambda _: P(*lead, names or None), w)


def columns(w: Linear, names: tuple[str, ...] = (), expert: tuple[str, ...] | None = None) -> Any:
    """The same, split by K: only the values are; scales and bias are those of whole rows."""
    lead = [] if expert is None else [expert or None]
    others = jax.tree.leaves(w.weight)[1:]
    inner = [P(*lead, None, names or None), *(P(*lead) for _ in others)]
    bias: Any = None if w.bias is None else P(*lead)
    return Linear(jax.tree.structure(w.weight).unflatten(inner), bias)


def _is_spec(x: Any) -> bool:
    return isinstance(x, P)
