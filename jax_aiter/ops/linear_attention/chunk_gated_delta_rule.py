"""The gated delta rule over sequences of tokens, from initial states to final ones: Qwen3-Next's and Kimi's linear attention."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check, symbolic
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, normal, uniform
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.reads import NOTHING, Reads, at, grid, spread
from jax_aiter.ops.attention.ragged import offset_checks, some_sequence
from jax_aiter.ops.linear_attention.delta import Chunk, advance, chunk_size, unit
from jax_aiter.ops.linear_attention.sequences import Packed, Rows

NAME = "chunk_gated_delta_rule"
#: Packed sequences stand in one row.
PACKED = {"q": "1 T H K", "k": "1 T H K", "v": "1 T HV V", "g": "1 T HV", "gk": "1 T HV K", "beta": "1 T HV", "o": "1 T HV V"}
PACKED |= {"initial_state": "N HV K V", "final_state": "N HV K V"}


def _abstract(dims, *, q, k, v, g, gk, cu_seqlens, initial_state, ragged, **_):
    check.same_dtype(NAME, q=q.dtype, k=k.dtype, v=v.dtype)
    heads, values = dims["H"], dims["HV"]
    if heads != values and (not heads or values % heads):
        raise ValueError(f"{NAME}: dimension 2 of v is {values}, must be a multiple of that of k, {heads}")
    if g is not None and gk is not None:
        raise ValueError(f"{NAME}: g and gk are both given; a gate is of a head or of each of its channels")
    if (cu_seqlens is not None) != ragged:
        raise ValueError(f"{NAME}: ragged is {ragged}, must say whether cu_seqlens is given")
    sequences = dims["Np"] - 1 if ragged else dims["B"]
    if ragged:
        if dims["Np"] == 0:
            raise ValueError(f"{NAME}: dimension 0 of cu_seqlens is 0, must be one more than there are sequences")
        if initial_state is not None and initial_state.shape[0] != sequences:
            rule = f"must be the number of sequences {sequences}"
            raise ValueError(f"{NAME}: dimension 0 of initial_state is {initial_state.shape[0]}, {rule}")
    out = jax.ShapeDtypeStruct(v.shape, v.dtype)
    return out, jax.ShapeDtypeStruct((sequences, values, dims["K"], dims["V"]), jnp.float32)


def _reference(*, q, k, v, g, gk, beta, initial_state, cu_seqlens, scale, use_qk_l2norm_in_kernel, ragged):
    (batch, tokens, heads, width), (values, columns) = q.shape, v.shape[2:]
    sequences = cu_seqlens.shape[0] - 1 if ragged else batch
    if initial_state is None:
        initial_state = jnp.zeros((sequences, values, width, columns), jnp.float32)
    initial = initial_state.astype(jnp.float32)
    size = chunk_size(tokens, gk is not None)
    lie = Packed(cu_seqlens, tokens, size) if ragged else Rows(tokens, size)
    wide = [lie.chunks(x.astype(jnp.float32)) for x in (q, k)]
    if use_qk_l2norm_in_kernel:
        wide = [unit(x) for x in wide]
    if heads != values:
        wide = [jnp.repeat(x, values // heads, axis=2) for x in wide]
    gate = gk if gk is not None else jnp.zeros((batch, tokens, values, 1)) if g is None else g[..., None]
    rest = [lie.chunks(x.astype(jnp.float32)) for x in (v, beta, gate)]
    chunks = Chunk(wide[0] * scale, wide[1], *rest)
    step = jax.checkpoint(advance)  # of a gradient, one chunk's decays at a time
    if isinstance(lie, Rows):
        final, out = jax.lax.scan(step, initial, chunks)
        return lie.tokens_of(out).astype(v.dtype), final
    (initial,) = some_sequence(cu_seqlens, initial)[1:]

    def turn(carry, x):
        state, final = carry
        chunk, now = x
        state, out = step(jnp.where(now.first, initial[now.sequence][None], state), chunk)
        target = jnp.where(now.there, now.sequence, final.shape[0])  # past the end is what a scatter drops
        return (state, final.at[target].set(state[0], mode="drop", unique_indices=True)), out

    (_, final), out = jax.lax.scan(turn, (jnp.zeros((1, *initial.shape[1:])), initial), (chunks, lie.turns))
    return lie.tokens_of(out).astype(v.dtype), final[:sequences]


def _reads(*, q, v, g, gk, cu_seqlens, initial_state, ragged, **_) -> Reads:
    """A head of a sequence is computed as a whole."""
    (batch, tokens, heads, _), values = q.shape, v.shape[2]
    sequences = len(cu_seqlens) - 1 if ragged else batch
    n, h = grid(sequences, values)
    inside = np.ones((sequences, tokens), bool)
    if ragged:
        token = np.arange(tokens)
        inside = (token >= cu_seqlens[:-1, None]) & (token < cu_seqlens[1:, None])
    row = np.ones((len(n), 1), bool) if ragged else at(n, batch)
    own, shared = at(h, values), at(h // max(values // max(heads, 1), 1), heads)
    reads = {"q": spread(row, inside[n], shared, None), "v": spread(row, inside[n], own, None)}
    reads |= {"k": reads["q"], "beta": spread(row, inside[n], own)}
    reads |= {} if g is None else {"g": reads["beta"]}
    reads |= {} if gk is None else {"gk": reads["v"]}
    reads |= {} if initial_state is None else {"initial_state": spread(at(n, sequences), own, None, None)}
    label = np.arange(len(n)).reshape(sequences, values)
    if ragged:
        owner = np.where(inside.any(0), inside.argmax(0), NOTHING)
        of_tokens = np.where(owner[:, None] == NOTHING, NOTHING, label[owner])[None, :, :, None]
    else:
        of_tokens = np.broadcast_to(label[:, None, :, None], v.shape)
    state = np.broadcast_to(label[:, :, None, None], (sequences, values, q.shape[3], v.shape[3]))
    return Reads(len(n), {"o": np.broadcast_to(of_tokens, v.shape), "final_state": state}, reads)


def _data_checks(*, q, cu_seqlens, **_):
    return {} if cu_seqlens is None else offset_checks("cu_seqlens", cu_seqlens, q.shape[1])


def _inputs(batch: int, tokens: int, heads: int, values: int, k: int, v: int, dtype: Any = jnp.float32):
    q = {n: normal(batch, tokens, heads, k, dtype=dtype, std=k**-0.5) for n in "qk"}
    return {**q, "v": normal(batch, tokens, values, v, dtype=dtype), "beta": uniform(batch, tokens, values, high=0.9)}


CHUNK_GATED_DELTA_RULE = Op(
    name=NAME,
    family="LINEAR_ATTENTION",
    mirrors="aiter.ops.triton chunk_gated_delta_rule, fused_recurrent_gated_delta_rule (aiter/ops/triton/gated_delta_net)",
    operands={
        "q": Arg("B T H K"),
        "k": Arg("B T H K"),
        "v": Arg("B T HV V"),
        "g": Arg("B T HV", optional=True),
        "gk": Arg("B T HV K", optional=True),
        "beta": Arg("B T HV"),
        "initial_state": Arg("B HV K V", optional=True),
        "cu_seqlens": Arg("Np", INT32, optional=True),
    },
    results={"o": "B T HV V", "final_state": "B HV K V"},
    relayout=lambda params: PACKED if params["ragged"] else {},
    abstract=_abstract,
    reference=_reference,
    fixed=("H", "HV", "K", "V"),
    parallel=("B",),
    fold="B",
    gradient=Gradient(
        wrt=("q", "k", "v", "g", "gk", "beta", "initial_state"),
        saves=("q", "k", "v", "g", "gk", "beta", "initial_state", "cu_seqlens"),
        backward=None,
    ),
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "rows",
            **_inputs(2, 5, 1, 2, 4, 3),
            g=uniform(2, 5, 2, low=-1.0),
            initial_state=normal(2, 2, 4, 3),
            scale=0.5,
            use_qk_l2norm_in_kernel=True,
            ragged=False,
        ),
        case(
            "packed",
            **_inputs(1, 8, 2, 2, 4, 4),
            gk=uniform(1, 8, 2, 4, low=-1.0),
            initial_state=normal(3, 2, 4, 4),
            cu_seqlens=constant([0, 5, 5, 7], jnp.int32),
            scale=0.5,
            use_qk_l2norm_in_kernel=False,
            ragged=True,
        ),
        case(
            "ungated_bfloat16",
            **_inputs(1, 3, 1, 1, 4, 2, dtype=jnp.bfloat16),
            scale=1.0,
            use_qk_l2norm_in_kernel=False,
            ragged=False,
        ),
    ],
)


def call(op: str, *, q, k, v, g, gk, beta, scale, initial_state, output_final_state, cu_seqlens, l2norm, implementation):
    """The record under one of its public names, `op`."""
    for name, x in (("q", q), ("k", k), ("v", v)):
        if x.ndim != 4:
            raise ValueError(f"{op}: {name} must have 4 dimensions [B, T, heads, size], got shape {x.shape}")
    if cu_seqlens is not None and symbolic.decided(lambda: q.shape[0] == 1) is False:
        raise ValueError(f"{op}: dimension 0 of q is {q.shape[0]}, must be 1: with cu_seqlens, sequences are packed in one row")
    scale = max(k.shape[3], 1) ** -0.5 if scale is None else check.real(op, "scale", scale)
    keep = check.boolean(op, "output_final_state", output_final_state)
    o, state = CHUNK_GATED_DELTA_RULE(
        q=q,
        k=k,
        v=v,
        g=g,
        gk=gk,
        beta=jnp.ones(v.shape[:3], jnp.float32) if beta is None else beta,
        initial_state=initial_state,
        cu_seqlens=cu_seqlens,
        scale=scale,
        use_qk_l2norm_in_kernel=check.boolean(op, "use_qk_l2norm_in_kernel", l2norm),
        ragged=cu_seqlens is not None,
        implementation=implementation,
    )
    return o, state if keep else None


@public
def chunk_gated_delta_rule(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    g: jax.Array | None = None,
    beta: jax.Array | None = None,
    scale: float | None = None,
    initial_state: jax.Array | None = None,
    output_final_state: bool = False,
    use_qk_l2norm_in_kernel: bool = False,
    cu_seqlens: jax.Array | None = None,
    *,
    implementation: str | None = None,
) -> tuple[jax.Array, Any]:
    """``S = exp(g) S; S = S + k (beta (v - S^T k))^T; o = scale S^T q`` along each sequence, in float32, by chunks of tokens.

    Args:
      q, k: ``[B, T, H, K]`` float32, bfloat16 or float16.
      v: ``[B, T, HV, V]``, the dtype of `q`; HV is a multiple of H: head h reads q and k of head ``h // (HV // H)``.
      g: ``[B, T, HV]`` float, the logarithm of each token's decay, at most 0 in models; -inf forgets all. None: no decay.
      beta: ``[B, T, HV]`` float, how much of a token is written; None: ones.
      scale: static; None: ``K ** -0.5``.
      initial_state: ``[N, HV, K, V]`` float, of each sequence; None: zeros.
      output_final_state: return the states behind the last tokens.
      use_qk_l2norm_in_kernel: q and k are divided by their lengths (``sqrt(sum of squares + 1e-6)``) first.
      cu_seqlens: ``[N + 1]`` int32, not decreasing, from 0 to at most T, with B = 1: sequence n is tokens ``cu_seqlens[n]`` to
        ``cu_seqlens[n + 1] - 1``. Tokens past the last one give zeros; what they hold is not read. None: sequence b is row b.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(o, final_state)``: ``[B, T, HV, V]``, the dtype of `q`, and float32 ``[N, HV, K, V]`` or None. Differentiable in all float
      operands, by the reference (AITER's kernels have no backward pass); its memory is a state for each chunk.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad offsets.
    Mirrors ``chunk_gated_delta_rule`` of AITER's Triton half. `fused_recurrent_gated_delta_rule` is the same function.
    """
    return call(
        NAME, q=q, k=k, v=v, g=g, gk=None, beta=beta, scale=scale, initial_state=initial_state, cu_seqlens=cu_seqlens,
        output_final_state=output_final_state, l2norm=use_qk_l2norm_in_kernel, implementation=implementation,
    )  # fmt: skip
