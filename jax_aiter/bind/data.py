"""Checks of what shapes cannot show, which `debug_checks` inserts into a program: one host callback per call of an op."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

NONE = np.int32(2**31 - 1)


def insert_checks(op: str, rules: Mapping[str, jax.Array]) -> None:
    """Raise a ValueError, where the program runs, that names every rule with a bad element, and the first such element.

    rules: what must hold, and a bool array of where it does not.
    """
    if rules:
        jax.debug.callback(_report(op, rules), jnp.stack([_summary(bad) for bad in rules.values()]))


def checked(op: str, rules: Mapping[str, jax.Array], value: jax.Array, axis: tuple[str, ...]) -> jax.Array:
    """`value`, integers, for what comes after `insert_checks` of `rules` on all devices along `axis`.

    Where devices wait for one another, one that raises alone leaves the others waiting for ever, and XLA then ends the process: all
    of them raise, for the first device that breaks a rule, and nothing that needs `value` begins before.
    """
    found = jax.lax.all_gather(jnp.stack([_summary(bad) for bad in rules.values()]), axis)
    report = _report(op, rules)

    def on_host(found: np.ndarray) -> np.ndarray:
        for each in np.asarray(found):
            report(each)
        return np.zeros((), np.int32)

    from jax.experimental import io_callback  # not at the top: few programs need it

    nothing = io_callback(on_host, jax.ShapeDtypeStruct((), np.int32), found)
    return value + nothing.astype(value.dtype)


def _report(op: str, rules: Mapping[str, jax.Array]) -> Callable[[np.ndarray], None]:
    shapes = {rule: bad.shape for rule, bad in rules.items()}

    def report(found: np.ndarray) -> None:
        broken = [
            f"{count} value(s){_place(first, shape)} break the rule: {rule}"
            for (rule, shape), (count, first) in zip(shapes.items(), found.tolist(), strict=True)
            if count
        ]
        if broken:
            raise ValueError(f"{op}: {'; '.join(broken)}")

    return report


def _summary(bad: jax.Array) -> jax.Array:
    """int32 [2]: how many are bad, and the first of them in the array's order."""
    flat = bad.reshape(-1)
    index = jax.lax.broadcasted_iota(jnp.int32, flat.shape, 0)
    return jnp.stack([jnp.sum(flat, dtype=jnp.int32), jnp.min(jnp.where(flat, index, NONE), initial=NONE)])


def _place(first: int, shape: tuple[int, ...]) -> str:
    """Where the first bad element stands; nothing for a scalar, or in a program for any size."""
    if not shape or not all(isinstance(n, int) for n in shape):
        return ""
    return f", the first at {[int(i) for i in np.unravel_index(first, shape)]},"
