"""What a decoder is made of. Everything here is static: hashable, known when a program is traced.

On a mesh of devices a part may hold its share of heads, columns or experts: `axis` then names the mesh axes that it is split over,
and what it gives is summed over them. See `examples.llm.distributed`.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Attention:
    """Grouped-query attention.

    window: keys that a query sees, itself included. chunk: the query sees none before its chunk of the sequence. rope: which of the
    model's tables rotates queries and keys, None: none does. qk_norm: ``"weight"``: a norm of each head before the rotation;
    ``"after"``: one without a weight behind it. temperature: ``(floor, scale)``: queries grow with the logarithm of their position.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    rope: str | None = "full_attention"
    rotate_style: str = "neox"
    window: int | None = None
    chunk: int | None = None
    soft_cap: float = 0.0
    qk_norm: str | None = None
    temperature: tuple[float, float] | None = None
    axis: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Latent:
    """Multi-head latent attention: the cache holds `rank` numbers of a token and one rotated key of `rope_dim`, for all heads."""

    heads: int
    rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    scale: float
    rope: str | None = "full_attention"
    rotate_style: str = "gptj"
    axis: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Mlp:
    """``down(activation(gate) * up)``; activation: ``"silu"``, ``"gelu"`` or ``"gelu_tanh"``."""

    width: int
    activation: str = "silu"
    axis: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Experts:
    """A mixture of experts, and perhaps one more MLP that every token takes.

    router: ``"softmax"``, ``"sigmoid"`` (of the chosen logits) or ``"grouped"`` (sigmoid plus a bias that only chooses, in the best
    `topk_group` of `groups`). weigh_input: a token's weight scales what its expert reads, not what it gives (Llama 4). On a mesh,
    `axis` is what the experts are spread over, and `inner` what the columns of each are split over; `count` is that of all.
    """

    count: int
    topk: int
    width: int
    activation: str = "silu"
    router: str = "softmax"
    renormalize: bool = True
    factor: float = 1.0
    groups: int = 1
    topk_group: int = 1
    weigh_input: bool = False
    limit: float | None = None
    shared: Mlp | None = None
    axis: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Layer:
    attention: Attention | Latent
    mlp: Mlp | Experts


@dataclasses.dataclass(frozen=True)
class Norms:
    """offset: what is added to the weights. post: attention and MLP end in a norm too."""

    epsilon: float = 1e-6
    offset: float = 0.0
    post: bool = False


@dataclasses.dataclass(frozen=True)
class Config:
    """layers: one description each."""

    model_type: str
    vocabulary: int
    dim: int
    layers: tuple[Layer, ...]
    norms: Norms
    embed_scale: float = 1.0
    logit_cap: float = 0.0
    max_length: int = 4096
