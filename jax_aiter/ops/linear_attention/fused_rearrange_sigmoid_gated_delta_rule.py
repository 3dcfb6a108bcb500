"""A step of decoding through the gated delta rule: gates from their logits, states in a pool that is updated in place."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.bind.op import Op
from jax_aiter.bind.public import public
from jax_aiter.core import check
from jax_aiter.core.axes import INT32, Arg
from jax_aiter.core.cases import case, constant, normal
from jax_aiter.core.gradient import Gradient
from jax_aiter.core.reads import NOTHING, Reads
from jax_aiter.ops.attention.ragged import offset_checks
from jax_aiter.ops.linear_attention import pool
from jax_aiter.ops.linear_attention.delta import HIGHEST, unit

NAME = "fused_rearrange_sigmoid_gated_delta_rule"


def heads_of(columns: int, values: int, width: int, size: int) -> int:
    """H of ``columns = 2 * H * K + HV * V``."""
    return (columns - values * size) // (2 * width) if width else 0


def _abstract(dims, *, qkv, initial_state, cu_seqlens, ssm_state_indices, **_):
    values, size, width, columns = (dims[n] for n in ("HV", "V", "K", "D"))
    heads = heads_of(columns, values, width, size)
    if heads < 0 or 2 * heads * width + values * size != columns or (heads != values and (not heads or values % heads)):
        raise ValueError(
            f"{NAME}: dimension 1 of qkv is {columns}, must be 2 * H * K + HV * V with HV = {values} a multiple of H; "
            f"initial_state has V = {size}, K = {width}"
        )
    if dims["Np"] != dims["N"] + 1:
        rule = f"must be the number of sequences + 1 = {dims['N'] + 1} (dimension 0 of ssm_state_indices)"
        raise ValueError(f"{NAME}: dimension 0 of cu_seqlens is {dims['Np']}, {rule}")
    return jax.ShapeDtypeStruct((dims["T"], values, size), qkv.dtype), initial_state


def _reference(
    *, A_log, a, b, dt_bias, qkv, initial_state, cu_seqlens, ssm_state_indices, num_accepted_tokens, beta, threshold, scale,
    use_qk_l2norm_in_kernel, is_kda,
):  # fmt: skip
    lines, values, size, width = initial_state.shape
    tokens, columns = qkv.shape
    steps = ssm_state_indices.shape[1]
    if not (tokens and lines and steps and ssm_state_indices.shape[0]):
        return jnp.zeros((tokens, values, size), qkv.dtype), initial_state
    heads = heads_of(columns, values, width, size)
    wide = qkv.astype(jnp.float32)
    q, k = (wide[:, i * heads * width : (i + 1) * heads * width].reshape(tokens, heads, width) for i in (0, 1))
    v = wide[:, 2 * heads * width :].reshape(tokens, values, size)
    if use_qk_l2norm_in_kernel:
        q, k = unit(q), unit(k)
    q, k = (jnp.repeat(x, values // max(heads, 1), axis=1) for x in (q * scale, k))
    x = a.astype(jnp.float32) + dt_bias.astype(jnp.float32)
    soft = jnp.where(beta * x <= threshold, jnp.log1p(jnp.exp(jnp.minimum(beta * x, threshold))) / beta, x)
    rate = jnp.exp(A_log.astype(jnp.float32))
    decay = jnp.exp(-(rate[:, None] if is_kda else rate) * soft)
    decay = decay if is_kda else decay[..., None]  # [T, HV, K or 1]
    write = jax.nn.sigmoid(b.astype(jnp.float32))
    accepted = 1 if num_accepted_tokens is None else num_accepted_tokens[:, None]
    start = jnp.take_along_axis(
        ssm_state_indices, jnp.broadcast_to(jnp.clip(accepted - 1, 0, steps - 1), (cu_seqlens.shape[0] - 1, 1)), 1
    )
    live = (start[:, 0] >= 0) & (start[:, 0] < lines)
    state = pool.take(initial_state, start[:, 0], live).astype(jnp.float32)

    def step(state, s):
        token = cu_seqlens[:-1] + s
        there = live & (token < cu_seqlens[1:])
        take = lambda x: jnp.where(  # noqa: E731
            there.reshape(-1, *[1] * (x.ndim - 1)), x[jnp.clip(token, 0, tokens - 1)], jnp.zeros((), x.dtype)
        )
        now, key = jnp.where(there[:, None, None], take(decay), 1.0), take(k)
        state = state * now[:, :, None, :]
        u = take(write)[..., None] * (take(v) - jnp.einsum("nhvk,nhk->nhv", state, key, precision=HIGHEST))
        state = state + u[..., None] * key[:, :, None, :]
        out = jnp.einsum("nhvk,nhk->nhv", state, take(q), precision=HIGHEST)
        index = ssm_state_indices[:, s]
        written = there & (index >= 0) & (index < lines)
        place = jnp.where(there, token, tokens + s * token.shape[0] + jnp.arange(token.shape[0], dtype=jnp.int32))
        return state, (out, state.astype(initial_state.dtype), place, index, written)

    _, (out, states, token, index, written) = jax.lax.scan(step, state, jnp.arange(steps, dtype=jnp.int32))
    o = jnp.zeros((tokens, values, size), qkv.dtype).at[token].set(out.astype(qkv.dtype), mode="drop", unique_indices=True)
    return o, pool.put(initial_state, index.reshape(-1), written.reshape(-1), states.reshape(-1, values, size, width))


def _reads(*, A_log, a, qkv, initial_state, cu_seqlens, ssm_state_indices, num_accepted_tokens, is_kda, **_) -> Reads:
    """A head of a token reads its sequence up to it, and the state that the sequence began with."""
    lines, values, size, width = initial_state.shape
    heads = heads_of(qkv.shape[1], values, width, size)
    tokens, parts = len(qkv), []
    o = np.full((tokens, values, size), NOTHING)
    states = np.full(initial_state.shape, NOTHING)

    def group(h, span=None, line=None):
        reads = {n: np.zeros(x, bool) for n, x in shapes.items()}
        if line is not None:
            reads["initial_state"][line, h] = True
        if span is not None:
            shared = h // (values // heads)
            for first in (0, heads * width):
                reads["qkv"][span, first + shared * width : first + (shared + 1) * width] = True
            reads["qkv"][span, 2 * heads * width + h * size : 2 * heads * width + (h + 1) * size] = True
            for n in ("a", "b"):
                reads[n][span, h] = True
            for n in ("A_log", "dt_bias"):
                reads[n][h] = True
        parts.append(reads)
        return len(parts) - 1

    shapes = {"A_log": (values,), "a": a.shape, "b": (tokens, values), "dt_bias": a.shape[1:], "qkv": qkv.shape}
    shapes["initial_state"] = initial_state.shape
    for line in range(lines):
        for h in range(values):
            states[line, h] = group(h, None, line)
    for n, indices in enumerate(ssm_state_indices):
        first = 0 if num_accepted_tokens is None else min(max(num_accepted_tokens[n] - 1, 0), len(indices) - 1)
        if not 0 <= indices[first] < lines:
            continue
        for s, token in enumerate(range(cu_seqlens[n], min(cu_seqlens[n + 1], cu_seqlens[n] + len(indices)))):
            for h in range(values):
                o[token, h] = found = group(h, slice(cu_seqlens[n], token + 1), indices[first])
                if 0 <= indices[s] < lines:
                    states[indices[s], h] = found
    masks = {n: np.stack([p[n] for p in parts]) for n in shapes}
    return Reads(len(parts), {"o": o, "final_state": states}, masks)


def _data_checks(*, qkv, cu_seqlens, initial_state, ssm_state_indices, num_accepted_tokens, **_):
    lines, steps = initial_state.shape[0], ssm_state_indices.shape[1]
    checks = {
        **offset_checks("cu_seqlens", cu_seqlens, qkv.shape[0]),
        f"no sequence may have more than {steps} tokens (dimension 1 of ssm_state_indices)": jnp.diff(cu_seqlens) > steps,
        f"ssm_state_indices must be below the number of states {lines}": ssm_state_indices >= lines,
    }
    if num_accepted_tokens is not None:
        checks[f"num_accepted_tokens must be in [1, {steps}]"] = (num_accepted_tokens < 1) | (num_accepted_tokens > steps)
    return checks


def _inputs(tokens: int, heads: int, values: int, k: int, v: int, gate: tuple[int, ...], dtype: Any = jnp.float32):
    return {
        "A_log": normal(values),
        "a": normal(tokens, values, *gate, dtype=dtype),
        "b": normal(tokens, values, dtype=dtype),
        "dt_bias": normal(values, *gate),
        "qkv": normal(tokens, 2 * heads * k + values * v, dtype=dtype),
        "beta": 1.0,
        "threshold": 20.0,
        "scale": k**-0.5,
        "use_qk_l2norm_in_kernel": True,
        "is_kda": bool(gate),
    }


FUSED_REARRANGE_SIGMOID_GATED_DELTA_RULE = Op(
    name=NAME,
    family="LINEAR_ATTENTION",
    mirrors="aiter.ops.triton fused_rearrange_sigmoid_gated_delta_rule (aiter/ops/triton/gated_delta_net)",
    operands={
        "A_log": Arg("HV"),
        "a": Arg("T HV"),
        "b": Arg("T HV"),
        "dt_bias": Arg("HV"),
        "qkv": Arg("T D"),
        "initial_state": Arg("lines HV V K"),
        "cu_seqlens": Arg("Np", INT32),
        "ssm_state_indices": Arg("N steps", INT32),
        "num_accepted_tokens": Arg("N", INT32, optional=True),
    },
    results={"o": "T HV V", "final_state": "lines HV V K"},
    relayout=lambda params: {"a": "T HV K", "dt_bias": "HV K"} if params["is_kda"] else {},
    abstract=_abstract,
    reference=_reference,
    fixed=("HV", "V", "K", "D", "steps"),
    aliases={"initial_state": "final_state"},
    gradient=Gradient(
        wrt=("A_log", "a", "b", "dt_bias", "qkv", "initial_state"),
        saves=(
            "A_log",
            "a",
            "b",
            "dt_bias",
            "qkv",
            "initial_state",
            "cu_seqlens",
            "ssm_state_indices",
            "num_accepted_tokens",
        ),
        backward=None,
    ),
    reads=_reads,
    data_checks=_data_checks,
    cases=lambda: [
        case(
            "one_token",
            **_inputs(4, 1, 2, 4, 3, ()),
            initial_state=normal(4, 2, 3, 4),
            cu_seqlens=constant([0, 1, 2, 3], jnp.int32),
            ssm_state_indices=constant([[3], [-1], [0]], jnp.int32),
        ),
        case(
            "drafts_bfloat16",
            **_inputs(4, 2, 2, 4, 2, (), dtype=jnp.bfloat16),
            initial_state=normal(5, 2, 2, 4),
            cu_seqlens=constant([0, 2, 3], jnp.int32),
            ssm_state_indices=constant([[1, 4], [0, 2]], jnp.int32),
            num_accepted_tokens=constant([2, 1], jnp.int32),
        ),
        case(
            "channels",
            **_inputs(4, 1, 2, 4, 3, (4,)),
            initial_state=normal(4, 2, 3, 4),
            cu_seqlens=constant([0, 1, 1, 2], jnp.int32),
            ssm_state_indices=constant([[2], [-1], [1]], jnp.int32),
        ),
    ],
)


@public
def fused_rearrange_sigmoid_gated_delta_rule(
    A_log: jax.Array,
    a: jax.Array,
    b: jax.Array,
    dt_bias: jax.Array,
    qkv: jax.Array,
    initial_state: jax.Array,
    ssm_state_indices: jax.Array,
    cu_seqlens: jax.Array | None = None,
    *,
    beta: float = 1.0,
    threshold: float = 20.0,
    scale: float | None = None,
    num_accepted_tokens: jax.Array | None = None,
    use_qk_l2norm_in_kernel: bool = False,
    is_kda: bool = False,
    implementation: str | None = None,
) -> tuple[jax.Array, jax.Array]:
    """`chunk_gated_delta_rule` of the next tokens of N sequences, with its gates' arithmetic, on a pool of states.

    A token's decay is ``exp(-exp(A_log) * softplus(a + dt_bias))`` and what is written of it ``sigmoid(b)``, in float32.

    Args:
      A_log: ``[HV]`` float.
      a: ``[T, HV]`` float, with `is_kda` ``[T, HV, K]``: a decay of each channel.
      b: ``[T, HV]`` float.
      dt_bias: ``[HV]`` float, with `is_kda` ``[HV, K]``.
      qkv: ``[T, 2 * H * K + HV * V]`` float32, bfloat16 or float16: the heads of q, then of k, then of v. HV is a multiple of H.
      initial_state: ``[lines, HV, V, K]`` float, the pool; values before keys.
      ssm_state_indices: ``[N]`` or ``[N, S]`` int32: the line that the state behind each token of a sequence is written to; one
        outside of [0, lines) is not. A sequence has at most S tokens. It begins with the line of its first token; where that is no
        line, the sequence is skipped.
      cu_seqlens: ``[N + 1]`` int32, not decreasing, from 0 to at most T: sequence n is rows ``cu_seqlens[n]`` to
        ``cu_seqlens[n + 1] - 1``. None: a row each.
      beta, threshold: static, of the softplus: ``log(1 + exp(beta x)) / beta``, x itself where ``beta x`` is above the threshold.
      scale: static; None: ``K ** -0.5``.
      num_accepted_tokens: ``[N]`` int32 in [1, S], tokens of speculative decoding: a sequence begins with the line of the last of
        them.
      use_qk_l2norm_in_kernel: q and k are divided by their lengths (``sqrt(sum of squares + 1e-6)``) first.
      implementation: None (auto), ``"asm"``, ``"hip"``, ``"triton"`` or ``"xla"``.

    Returns:
      ``(o, state)``: ``[T, HV, V]``, the dtype of `qkv`, zeros for tokens of no sequence or of one that is skipped; and the pool,
      in place where it is donated. Differentiable in the float operands. If two tokens have the same line, which one's state it
      holds is undefined.

    Raises TypeError or ValueError for wrong shapes, dtypes or parameters; `debug_checks` reports bad offsets and lines.
    Mirrors ``fused_rearrange_sigmoid_gated_delta_rule`` of AITER's Triton half with ``inplace_final_state``; sizes come from
    shapes.
    """
    kda = check.boolean(NAME, "is_kda", is_kda)
    if initial_state.ndim != 4:
        raise ValueError(f"{NAME}: initial_state must have 4 dimensions [lines, HV, V, K], got shape {initial_state.shape}")
    if ssm_state_indices.ndim not in (1, 2) or ssm_state_indices.dtype != jnp.int32:
        got = f"{ssm_state_indices.dtype}{list(ssm_state_indices.shape)}"
        raise (TypeError if ssm_state_indices.dtype != jnp.int32 else ValueError)(
            f"{NAME}: ssm_state_indices must be int32 [N] or [N, S], got {got}"
        )
    indices = ssm_state_indices if ssm_state_indices.ndim == 2 else ssm_state_indices[:, None]
    if cu_seqlens is None:
        cu_seqlens = jnp.arange(indices.shape[0] + 1, dtype=jnp.int32)
        if qkv.ndim != 2 or qkv.shape[0] < indices.shape[0]:
            raise ValueError(f"{NAME}: qkv must have a row for each of {indices.shape[0]} sequences, got shape {qkv.shape}")
    if num_accepted_tokens is not None:
        if num_accepted_tokens.dtype != jnp.int32:
            raise TypeError(f"{NAME}: num_accepted_tokens has dtype {num_accepted_tokens.dtype}, must be int32")
        num_accepted_tokens = jnp.clip(num_accepted_tokens, 1, max(indices.shape[1], 1))
    width = initial_state.shape[3]
    o, state = FUSED_REARRANGE_SIGMOID_GATED_DELTA_RULE(
        A_log=A_log,
        a=a,
        b=b,
        dt_bias=dt_bias,
        qkv=qkv,
        initial_state=initial_state,
        cu_seqlens=cu_seqlens,
        ssm_state_indices=jnp.where((indices < 0) | (indices >= initial_state.shape[0]), -1, indices),
        num_accepted_tokens=num_accepted_tokens,
        beta=check.real(NAME, "beta", beta, low=0.0, open_low=True),
        threshold=check.real(NAME, "threshold", threshold),
        scale=max(width, 1) ** -0.5 if scale is None else check.real(NAME, "scale", scale),
        use_qk_l2norm_in_kernel=check.boolean(NAME, "use_qk_l2norm_in_kernel", use_qk_l2norm_in_kernel),
        is_kda=kda,
        implementation=implementation,
    )
    return o, state
