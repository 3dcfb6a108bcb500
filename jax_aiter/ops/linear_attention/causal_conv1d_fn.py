"""A causal convolution of packed sequences, each channel by itself, that begins from states and leaves new ones."""

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.reads import NOTHING, Reads, at, grid, joined, spread
from jax_aiter.ops.attention.ragged import offset_checks, owners, some_sequence
from jax_aiter.ops.linear_attention import pool, window

NAME = "causal_conv1d_fn"


def _abstract(dims, *, x, conv_states, **operands):
    window.check_window(NAME, dims, {"x": x, "conv_states": conv_states}, "conv_states")
    if dims["Np"] != dims["N"] + 1:
        raise ValueError(
            f"{NAME}: dimension 0 of query_start_loc is {dims['Np']}, must be the number of sequences + 1 = {dims['N'] + 1} "
            "(dimension 0 of cache_indices)"
        )
    return x, conv_states


def _reference(*, x, weight, bias, conv_states, query_start_loc, cache_indices, has_initial_state, activation):
    past, tokens = weight.shape[1] - 1, x.shape[0]
    offsets, index, has = some_sequence(jnp.clip(query_start_loc, 0, tokens), cache_indices, has_initial_state)
    live = (index >= 0) & (index < conv_states.shape[0])
    owner, number = owners(offsets, tokens), jnp.arange(index.shape[0], dtype=jnp.int32)
    owned = owner.owned & live[owner.sequence]
    # All sequences in a row, each behind its past: a token is `past` rows further on for each sequence up to its own.
    token = jnp.arange(tokens, dtype=jnp.int32)
    total = tokens + past * index.shape[0]
    place = jnp.where(owned, token + past * (owner.sequence + 1), total + token)  # past the end is what a scatter drops
    row = past * number[:, None] + jnp.arange(past, dtype=jnp.int32)
    early = pool.take(conv_states, index, live & has)[:, :past]
    long = jnp.zeros((total, x.shape[1]), x.dtype).at[place].set(x, mode="drop", unique_indices=True)
    long = long.at[offsets[:-1, None] + row].set(early, mode="drop", unique_indices=True)
    out = window.convolve(long, weight, bias, activation)
    out = out[jnp.clip(token + past * owner.sequence, 0, total - past - 1)] if tokens else jnp.zeros(x.shape)
    out = jnp.where(owned[:, None], out, 0.0).astype(x.dtype)
    written = live & (offsets[1:] > offsets[:-1])
    return out, pool.put(conv_states, index, written, long[offsets[1:, None] + row])


def _reads(*, x, weight, bias, conv_states, query_start_loc, cache_indices, has_initial_state, activation) -> Reads:
    (tokens, dim), past, (lines, size, _) = x.shape, weight.shape[1] - 1, conv_states.shape
    t, d = grid(tokens, dim)
    near, early = np.zeros((tokens, tokens), bool), np.zeros((tokens, lines, size), bool)
    owned, kept = np.zeros(tokens, bool), np.eye(lines * size, dtype=bool).reshape(lines, size, lines, size)
    taken = np.zeros((lines, size, tokens), bool)
    for n, line in enumerate(cache_indices):
        first, last = query_start_loc[n], query_start_loc[n + 1]
        if not 0 <= line < lines or first >= last:
            continue
        owned[first:last] = True
        for i in range(first, last):
            near[i, max(i - past, first) : i + 1] = True
            if has_initial_state[n]:
                early[i, line, min(i - first, past) : past] = True
        for s in range(past):
            source = last - past + s
            kept[line, s] = False
            if source >= first:
                taken[line, s, source] = True
            elif has_initial_state[n]:
                kept[line, s, line, s + last - first] = True
    channel = at(d, dim)
    weights = {"weight": spread(channel, None), **({} if bias is None else {"bias": channel})}
    label = np.where(owned[:, None], np.arange(len(t)).reshape(tokens, dim), NOTHING)
    states = {"conv_states": early[t][..., None] & channel[:, None, None, :]}
    out = "out", label, {"x": spread(near[t], channel), **states, **weights}
    r, s, d = grid(lines, size, dim)
    channel, nothing = at(d, dim), np.zeros((len(d), 1, 1), bool)
    states = {"conv_states": kept[r, s][..., None] & channel[:, None, None, :], "weight": nothing}
    states |= {} if bias is None else {"bias": nothing[:, 0]}
    new = "conv_states", np.arange(len(d)).reshape(lines, size, dim), {"x": spread(taken[r, s], channel), **states}
    found = joined([out, new])
    groups = found.groups["out"]
    return Reads(found.size, {**found.groups, "out": np.where(owned[:, None], groups, NOTHING)}, found.operands)


def _data_checks(*, x, conv_states, query_start_loc, cache_indices, **_):
    ordered = jnp.sort(cache_indices)
    return {
        **offset_checks("query_start_loc", query_start_loc, x.shape[0]),
        f"cache_indices must be below the number of states {conv_states.shape[0]}": cache_indices >= conv_states.shape[0],
        "no two sequences may have the same state in cache_indices": (ordered[1:] == ordered[:-1]) & (ordered[1:] >= 0),
    }


CAUSAL_CONV1D_FN = Op(
    name=NAME,
    family="LINEAR_ATTENTION",
    mirrors="aiter.ops.triton causal_conv1d_fn (aiter/ops/triton/conv/causal_conv1d.py)",
    operands={
        "x": Arg("T dim"),
        "weight": Arg("dim width"),
        "bias": Arg("dim", optional=True),
        "conv_states": Arg("lines state_len dim"),
        "query_start_loc": Arg("Np", INT32),
        "cache_indices": Arg("N", INT32),
        "has_initial_state": Arg("N", ("bool",)),
    },
    results={"out": "T dim", "conv_states": "lines state_len dim"},
    abstract=_abstract,
    reference=_reference,
    fixed=("width", "state_len"),
    parallel=("dim",),
    batch=lambda batched, **_: window.fold_channels(batched, {"x": 1, "weight": 0, "bias": 0, "conv_states": 2}, (1, 2)),
    aliases={"conv_states": "conv_states"},
    gradient=Gradient(
        wrt=("x", "weight", "bias", "conv_states"),
        saves=("x", "weight", "bias", "conv_states", "query_start_loc", "cache_indices", "has_initial_state"),
        backward=None,
    ),
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "states",
            x=normal(9, 6),
            weight=normal(6, 4),
            bias=normal(6),
            conv_states=normal(5, 3, 6),
            query_start_loc=constant([0, 1, 1, 6, 7, 8], jnp.int32),
            cache_indices=constant([4, 2, 0, -1, 3], jnp.int32),
            has_initial_state=constant([True, True, False, True, True], jnp.bool_),
            activation="silu",
        ),
        case(
            "fresh_bfloat16",
            x=normal(5, 3, dtype=jnp.bfloat16),
            weight=normal(3, 2, dtype=jnp.bfloat16),
            conv_states=normal(2, 4, 3, dtype=jnp.bfloat16),
            query_start_loc=constant([0, 5], jnp.int32),
            cache_indices=constant([1], jnp.int32),
            has_initial_state=constant([False], jnp.bool_),
            activation="none",
        ),
    ],
)


@public
def causal_conv1d_fn(
    x: jax.Array,
    weight: jax.Array,
    bias: jax.Array | None = None,
    conv_states: jax.Array | None = None,
    query_start_loc: jax.Array | None = None,
    *,
    cache_indices: jax.Array | None = None,
    has_initial_state: jax.Array | None = None,
    activation: str | bool | None = "silu",
    pad_slot_id: int = -1,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """``activation(bias + sum of weight[:, j] * x[t - width + 1 + j])`` of N packed sequences, in float32, each channel by itself.

    Args:
      x: ``[T, dim]`` float32, bfloat16 or float16: the memory of AITER's ``(dim, cu_seq_len)``, whose channels lie side by side.
      weight: ``[dim, width]`` and bias: ``[dim]``, float. Column ``width - 1`` is of the token itself.
      conv_states: ``[lines, state_len, dim]``, the dtype of `x`, state_len at least ``width - 1``: each line the last inputs of a
        sequence, the oldest first. None: N lines of ``width - 1``.
      query_start_loc: ``[N + 1]`` int32, not decreasing, from 0 to at most T: sequence n is rows ``query_start_loc[n]`` to
        ``query_start_loc[n + 1] - 1``. None: one sequence of T.
      cache_indices: ``[N]`` int32, the line of each sequence; None: line n. One outside of [0, lines), or `pad_slot_id`, skips the
        sequence.
      has_initial_state: ``[N]`` bool: the sequence begins with what its line holds, not with zeros. None: none does.
      activation: ``"silu"`` (or ``"swish"``, True) or None (``"none"``, False).
      pad_slot_id: static.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(out, conv_states)``: ``[T, dim]``, zeros for tokens of no sequence or of one that is skipped; and the states, in place
      where they are donated, with the last ``width - 1`` inputs of each sequence that has a token. Differentiable in `x`,
      `weight`, `bias` and `conv_states`. If two sequences have the same line, which one's inputs it holds is undefined.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad offsets and lines.
    Mirrors ``causal_conv1d_fn`` of AITER's Triton half, which vLLM calls as well.
    """
    pad = check.integer(NAME, "pad_slot_id", pad_slot_id, -(2**31))
    activation = window.activation_of(NAME, activation)
    if x.ndim != 2 or weight.ndim != 2:
        raise ValueError(f"{NAME}: x must be [T, dim] and weight [dim, width], got {list(x.shape)} and {list(weight.shape)}")
    if query_start_loc is None:
        query_start_loc = jnp.asarray([0, x.shape[0]], jnp.int32)
    if query_start_loc.ndim != 1 or not query_start_loc.shape[0]:
        raise ValueError(f"{NAME}: query_start_loc must have one dimension of N + 1 numbers, got shape {query_start_loc.shape}")
    sequences = query_start_loc.shape[0] - 1
    if conv_states is None:
        conv_states = jnp.zeros((sequences, max(weight.shape[1] - 1, 0), x.shape[1]), x.dtype)
    if conv_states.ndim != 3:
        raise ValueError(f"{NAME}: conv_states must have 3 dimensions [lines, state_len, dim], got shape {conv_states.shape}")
    if has_initial_state is None:
        has_initial_state = jnp.zeros(sequences, jnp.bool_)
    out, conv_states = CAUSAL_CONV1D_FN(
        x=x,
        weight=weight,
        bias=bias,
        conv_states=conv_states,
        query_start_loc=query_start_loc,
        cache_indices=window.index_of(NAME, "cache_indices", cache_indices, sequences, conv_states.shape[0], pad),
        has_initial_state=has_initial_state,
        activation=activation,
        implementation=implementation,
    )
    return out, conv_states
