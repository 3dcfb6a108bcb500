"""Random numbers, control flow and small programs."""

import jax
import jax.numpy as jnp
from cases import case, floats, integers

KEY = 1234
X = floats((9, 21))


def keyed(function):
    return lambda x: function(jax.random.key(KEY), x.shape)


# Threefry is integer arithmetic: bits are exact. Distributions add a transcendental function.
for name, function, ulps in (
    ("bits", lambda k, s: jax.random.bits(k, s), 0),
    ("uniform", lambda k, s: jax.random.uniform(k, s), 0),
    ("normal", lambda k, s: jax.random.normal(k, s), 32),
    ("randint", lambda k, s: jax.random.randint(k, s, 0, 99), 0),
    ("bernoulli", lambda k, s: jax.random.bernoulli(k, 0.3, s), 0),
    ("permutation", lambda k, s: jax.random.permutation(k, 64), 0),
    ("exponential", lambda k, s: jax.random.exponential(k, s), 8),
    ("gumbel", lambda k, s: jax.random.gumbel(k, s), 16),
    ("categorical", lambda k, s: jax.random.categorical(k, jnp.zeros(s)), 0),
    ("split", lambda k, s: jax.random.key_data(jax.random.split(k, 5)), 0),
):
    case(f"random_{name}", keyed(function), X, ulps=ulps, scale=1 if ulps else 0)

case("cond", lambda x: jax.lax.cond(x[0, 0] > 0, lambda y: y + 1, lambda y: y * 2, x), X)
case("switch", lambda x, i: jax.lax.switch(i[0], [lambda y: y, lambda y: -y, lambda y: y * 2], x), X, integers(1, 2, 3))
case("while_loop", lambda x: jax.lax.while_loop(lambda c: c[0] < 7, lambda c: (c[0] + 1, c[1] * 0.5), (0, x)), X)
case("while_dynamic", lambda x: jax.lax.while_loop(lambda v: jnp.max(v) > 1, lambda v: v - 0.5, x), X)
case("fori_loop", lambda x: jax.lax.fori_loop(0, 5, lambda i, v: v + i, x), X, ulps=1)
case("scan", lambda x: jax.lax.scan(lambda c, a: (c + a, c * 2), x[0], x), X, ulps=2, scale=8)
case("map", lambda x: jax.lax.map(lambda r: jnp.max(r), x), X)
case("associative_scan", lambda x: jax.lax.associative_scan(jnp.maximum, x), X)
case("reduce_window", lambda x: jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (2, 3), (2, 3), "VALID"), X)
case("grad", lambda x: jax.grad(lambda v: jnp.sum(jnp.tanh(v) ** 2))(x), X, ulps=24, scale=1)
case("vmap", jax.vmap(lambda r: r[::2] - r[1]), X)


def newton(x):
    """A scan whose body has a matrix product, a reduction and a division."""

    def step(w, _):
        gradient = jnp.dot(x.T, jnp.dot(x, w, precision="highest") - 1, precision="highest") / x.shape[0]
        return w - 0.05 * gradient, jnp.sum(gradient**2)

    return jax.lax.scan(step, jnp.zeros(x.shape[1]), None, length=6)


case("training_loop", newton, X, ulps=64, scale=4)
