"""A step of decoding through a causal convolution: one or a few new tokens of each sequence, its state updated in place."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.reads import Reads, at, grid, joined, spread
from jax_aiter.ops.linear_attention import pool, window

NAME = "causal_conv1d_update"


def _abstract(dims, *, x, conv_state, num_accepted_tokens, **_):
    window.check_window(NAME, dims, {"x": x, "conv_state": conv_state}, "conv_state")
    rows = dims["width"] - 1 + dims["L"] - 1
    if num_accepted_tokens is not None and dims["state_len"] < rows:
        rule = f"must be at least width - 1 + L - 1 = {rows} where num_accepted_tokens is given"
        raise ValueError(f"{NAME}: dimension 1 of conv_state is {dims['state_len']}, {rule}")
    return x, conv_state


def _reference(*, x, conv_state, weight, bias, conv_state_indices, num_accepted_tokens, activation):
    past, length, size = weight.shape[1] - 1, x.shape[1], conv_state.shape[1]
    live = (conv_state_indices >= 0) & (conv_state_indices < conv_state.shape[0])
    early = pool.take(conv_state, conv_state_indices, live)
    if num_accepted_tokens is None:
        early, left = early[:, :past], length
    else:  # the line ends with drafts of the last step, of which so many stood
        first = jnp.clip(num_accepted_tokens - 1, 0, size - past)
        row = first[:, None] + jnp.arange(past, dtype=jnp.int32)
        early, left = jnp.take_along_axis(early, row[:, :, None], axis=1), min(1, past)
    long = jnp.concatenate([early, x], axis=1)
    if length >= past:  # what is written then follows from x alone: without an order, the pool would be copied before it is read
        long = jax.lax.optimization_barrier(long)
    out = window.convolve(long, weight, bias, activation).astype(x.dtype)
    return jnp.where(live[:, None, None], out, x), pool.put(conv_state, conv_state_indices, live, long[:, left:])


def _reads(*, x, conv_state, weight, bias, conv_state_indices, num_accepted_tokens, activation) -> Reads:
    (rows, length, dim), past, (lines, size, _) = x.shape, weight.shape[1] - 1, conv_state.shape
    near, early = np.zeros((rows, length, rows, length), bool), np.zeros((rows, length, lines, size), bool)
    taken, kept = np.zeros((lines, size, rows, length), bool), np.eye(lines * size, dtype=bool).reshape(lines, size, lines, size)
    weighs = np.zeros(rows, bool)
    for b, line in enumerate(conv_state_indices):
        if not 0 <= line < lines:
            near[b, range(length), b, range(length)] = True
            continue
        weighs[b] = True
        first = 0 if num_accepted_tokens is None else min(max(num_accepted_tokens[b] - 1, 0), size - past)
        left = length if num_accepted_tokens is None else min(1, past)
        for i in range(length):
            near[b, i, b, max(i - past, 0) : i + 1] = True
            early[b, i, line, first + i : first + past] = True
        for s in range(past + length - left):
            kept[line, s] = False
            if s + left < past:
                kept[line, s, line, first + s + left] = True
            else:
                taken[line, s, b, s + left - past] = True
    b, i, d = grid(rows, length, dim)
    channel = at(d, dim)
    weights = {"weight": spread(channel & weighs[b][:, None], None)}
    weights |= {} if bias is None else {"bias": channel & weighs[b][:, None]}
    reads = {"x": near[b, i][..., None] & channel[:, None, None], "conv_state": early[b, i][..., None] & channel[:, None, None]}
    out = "out", np.arange(len(b)).reshape(x.shape), {**reads, **weights}
    r, s, d = grid(lines, size, dim)
    channel = at(d, dim)
    reads = {"x": taken[r, s][..., None] & channel[:, None, None], "conv_state": kept[r, s][..., None] & channel[:, None, None]}
    return joined([out, ("conv_state", np.arange(len(r)).reshape(conv_state.shape), reads)])


def _data_checks(*, x, conv_state, conv_state_indices, num_accepted_tokens, **_):
    ordered, length = jnp.sort(conv_state_indices), x.shape[1]
    checks = {
        f"conv_state_indices must be below the number of states {conv_state.shape[0]}": conv_state_indices >= conv_state.shape[0],
        "no two sequences may have the same state in conv_state_indices": (ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0),
    }
    if num_accepted_tokens is not None:
        wrong = (num_accepted_tokens < 1) | (num_accepted_tokens > length)
        checks[f"num_accepted_tokens must be in [1, {length}]"] = wrong
    return checks


CAUSAL_CONV1D_UPDATE = Op(
    name=NAME,
    family="LINEAR_ATTENTION",
    mirrors="aiter.ops.triton causal_conv1d_update (aiter/ops/triton/conv/causal_conv1d.py)",
    operands={
        "x": Arg("B L dim"),
        "conv_state": Arg("lines state_len dim"),
        "weight": Arg("dim width"),
        "bias": Arg("dim", optional=True),
        "conv_state_indices": Arg("B", INT32),
        "num_accepted_tokens": Arg("B", INT32, optional=True),
    },
    results={"out": "B L dim", "conv_state": "lines state_len dim"},
    abstract=_abstract,
    reference=_reference,
    fixed=("width", "L", "state_len"),
    parallel=("dim",),
    batch=lambda batched, **_: window.fold_channels(batched, {"x": 2, "weight": 0, "bias": 0, "conv_state": 2}, (2, 2)),
    aliases={"conv_state": "conv_state"},
    gradient=Gradient(
        wrt=("x", "weight", "bias", "conv_state"),
        saves=("x", "weight", "bias", "conv_state", "conv_state_indices", "num_accepted_tokens"),
        backward=None,
    ),
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "one_token",
            x=normal(4, 1, 6),
            conv_state=normal(5, 3, 6),
            weight=normal(6, 4),
            bias=normal(6),
            conv_state_indices=constant([3, -1, 0, 4], jnp.int32),
            activation="silu",
        ),
        case(
            "accepted_bfloat16",
            x=normal(2, 3, 4, dtype=jnp.bfloat16),
            conv_state=normal(3, 5, 4, dtype=jnp.bfloat16),
            weight=normal(4, 3, dtype=jnp.bfloat16),
            conv_state_indices=constant([2, 0], jnp.int32),
            num_accepted_tokens=constant([3, 1], jnp.int32),
            activation="none",
        ),
        case(
            "more_tokens_than_state",
            x=normal(2, 4, 3),
            conv_state=normal(2, 2, 3),
            weight=normal(3, 3),
            conv_state_indices=constant([1, 0], jnp.int32),
            activation="silu",
        ),
    ],
)


@public
def causal_conv1d_update(
    x: jax.Array,
    conv_state: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    activation: str | bool | None = None,
    *,
    conv_state_indices: jax.Array | None = None,
    num_accepted_tokens: jax.Array | None = None,
    pad_slot_id: int = -1,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """`causal_conv1d_fn` of the next L tokens of B sequences, behind the inputs that their states hold.

    Args:
      x: ``[B, dim]`` or ``[B, L, dim]`` float32, bfloat16 or float16: the memory of AITER's ``(batch, dim, seqlen)``.
      conv_state: ``[lines, state_len, dim]``, the dtype of `x`, state_len at least ``width - 1``: each line the last inputs of a
        sequence, the oldest first.
      weight: ``[dim, width]`` and bias: ``[dim]``, float. Column ``width - 1`` is of the token itself.
      activation: ``"silu"`` (or ``"swish"``, True) or None (``"none"``, False).
      conv_state_indices: ``[B]`` int32, the line of each sequence; None: line b. One outside of [0, lines), or `pad_slot_id`, skips
        the sequence, which gets its `x` back.
      num_accepted_tokens: ``[B]`` int32 in [1, L], clipped into it, of speculative decoding: how many of the last step's L tokens
        stood. A line then has ``width - 1 + L - 1`` rows, and the past of the new tokens begins at row ``num_accepted_tokens - 1``.
      pad_slot_id: static.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(out, conv_state)``: the shape and dtype of `x`, and the states, in place where they are donated. Differentiable in `x`,
      `conv_state`, `weight` and `bias`. If two sequences have the same line, which one's inputs it holds is undefined.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad lines.
    Mirrors ``causal_conv1d_update`` and ``causal_conv1d_update_single_token`` of AITER's Triton half. Its ``cache_seqlens`` (a
    circular buffer, which AITER's own kernel does not implement) and ``intermediate_conv_window`` are not taken.
    """
    pad = check.integer(NAME, "pad_slot_id", pad_slot_id, -(2**31))
    activation = window.activation_of(NAME, activation)
    if x.ndim not in (2, 3):
        raise ValueError(f"{NAME}: x must have 2 or 3 dimensions, [B, dim] or [B, L, dim], got shape {x.shape}")
    if conv_state.ndim != 3:
        raise ValueError(f"{NAME}: conv_state must have 3 dimensions [lines, state_len, dim], got shape {conv_state.shape}")
    tokens = x[:, None] if x.ndim == 2 else x
    index = window.index_of(NAME, "conv_state_indices", conv_state_indices, x.shape[0], conv_state.shape[0], pad)
    if num_accepted_tokens is not None:
        if num_accepted_tokens.dtype != jnp.int32:
            raise TypeError(f"{NAME}: num_accepted_tokens has dtype {num_accepted_tokens.dtype}, must be int32")
        num_accepted_tokens = jnp.clip(num_accepted_tokens, 1, max(tokens.shape[1], 1))
    out, conv_state = CAUSAL_CONV1D_UPDATE(
        x=tokens,
        conv_state=conv_state,
        weight=weight,
        bias=bias,
        conv_state_indices=index,
        num_accepted_tokens=num_accepted_tokens,
        activation=activation,
        implementation=implementation,
    )
    return out.reshape(x.shape), conv_state
