"""A float64 numpy model of fused_moe with weights of 4 bits, which reads each code out of its byte."""

import jax.numpy as jnp
import numpy as np

from tests.oracle import f64

TOKENS, EXPERTS, K, MODEL, INTER = 7, 3, 2, 64, 32


def code(packed, axis, index):
    """Entry `index` along `axis` of what is packed two to a byte."""
    byte = np.take(np.asarray(packed), index // 2, axis=axis).astype(int)
    return byte // 16 if index % 2 else byte % 16


def dequantised(w, scale, zero):
    """float64 [E, N, K], element by element."""
    experts, rows, half = w.shape
    group = 2 * half // scale.shape[2]
    out = np.empty((experts, rows, 2 * half))
    for column in range(2 * half):
        q, s = code(w, 2, column), f64(scale)[:, :, column // group]
        z = 8 if zero is None else np.stack([code(zero, 1, row)[:, column // group] for row in range(rows)], axis=1)
        out[:, :, column] = (q - z) * s
    return out


def rounded(x, dtype):
    return f64(jnp.asarray(np.asarray(x, np.float32)).astype(dtype))


def expected(args, quantised):
    """(output, sum of absolute products), weights and the intermediate rounded to the hidden states' dtype."""
    x, w1, w2, weight, ids = args
    dtype, ids, weight = x.dtype, np.asarray(ids), f64(weight)
    w1, w2 = (rounded(w, dtype) for w in weights(args, quantised))
    out, bound = np.zeros((2, *x.shape))
    for t, s in np.ndindex(*ids.shape):
        if not 0 <= (e := ids[t, s]) < len(w1):
            continue
        h = w1[e] @ f64(x[t])
        a = rounded(h[:INTER] / (1 + np.exp(-h[:INTER])) * h[INTER:], dtype)
        out[t] += weight[t, s] * (w2[e] @ a)
        bound[t] += weight[t, s] * (np.abs(w2[e]) @ np.abs(a))
    return out, bound


def weights(args, quantised):
    return [dequantised(w, quantised[f"{n}_scale"], quantised.get(f"{n}_zp")) for n, w in zip(("w1", "w2"), args[1:3], strict=True)]


def draws(groups1, groups2, *, zeros, dtype, scales=None):
    """Operands, and scales of `groups1` along D and `groups2` along I."""
    rng = np.random.default_rng(groups1)

    def bytes_of(*shape):
        return jnp.asarray(rng.integers(0, 256, shape), jnp.uint8)

    def scale(*shape):
        return jnp.asarray(rng.uniform(0.01, 0.03, shape).astype(np.float32)).astype(scales or dtype)

    quantised = {"w1_scale": scale(EXPERTS, 2 * INTER, groups1), "w2_scale": scale(EXPERTS, MODEL, groups2)}
    if zeros:
        quantised |= {"w1_zp": bytes_of(EXPERTS, INTER, groups1), "w2_zp": bytes_of(EXPERTS, MODEL // 2, groups2)}
    x = jnp.asarray(rng.standard_normal((TOKENS, MODEL)).astype(np.float32)).astype(dtype)
    weight = jnp.asarray(rng.uniform(0.1, 1, (TOKENS, K)).astype(np.float32))
    ids = jnp.asarray(rng.integers(-1, EXPERTS, (TOKENS, K)), jnp.int32)
    return (x, bytes_of(EXPERTS, 2 * INTER, MODEL // 2), bytes_of(EXPERTS, MODEL, INTER // 2), weight, ids), quantised


def as_floats(args, quantised):
    """The same call with the weights in float32."""
    return args[0], *(jnp.asarray(w, jnp.float32) for w in weights(args, quantised)), *args[3:]
