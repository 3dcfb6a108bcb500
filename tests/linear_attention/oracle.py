"""The recurrences token by token in float64 numpy; nothing of the package's."""

import numpy as np

from tests.oracle import f64


def silu(x):
    return x / (1.0 + np.exp(-x))


def convolution(x, weight, bias, past, activation):
    """One sequence ``x [L, dim]`` behind ``past [width - 1, dim]``: the results, and the past of the next token."""
    long = np.concatenate([f64(past), f64(x)])
    weight, width = f64(weight), weight.shape[1]
    rows = [sum(weight[:, j] * long[i + j] for j in range(width)) for i in range(len(x))]
    out = np.array(rows).reshape(x.shape) + (0.0 if bias is None else f64(bias))
    return silu(out) if activation else out, long[len(long) - (width - 1) :]


def delta(q, k, v, gate, beta, state, scale, unit=False):
    """One sequence: q, k ``[L, H, K]``, v ``[L, HV, V]``, gate ``[L, HV, K or 1]``; the results and the state ``[HV, K, V]``.

    Also the states behind each token.
    """
    q, k, v, gate, beta, state = map(f64, (q, k, v, gate, beta, state))
    if unit:
        q, k = (x / np.sqrt((x * x).sum(-1, keepdims=True) + 1e-6) for x in (q, k))
    shared = v.shape[1] // q.shape[1]
    out, states = np.zeros(v.shape), []
    for t in range(len(q)):
        state = state.copy()
        for h in range(v.shape[1]):
            key = k[t, h // shared]
            decayed = np.exp(gate[t, h])[:, None] * state[h]
            state[h] = decayed + np.outer(key, beta[t, h] * (v[t, h] - decayed.T @ key))
            out[t, h] = scale * state[h].T @ q[t, h // shared]
        states.append(state)
    return out, state, states
