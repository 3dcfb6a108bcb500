"""What a call does not read, filled with what no arithmetic survives. The records say which elements those are: `core.reads`."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jax_aiter.core import dependence

# Operands that hold keys and values.
SHARED = {"k", "v", "key_cache", "value_cache", "kv_buffer"}
KINDS = ("nan", "inf", "-inf", "huge", "mixed")


def bad(dtype, kind: str, shape, rng: np.random.Generator) -> np.ndarray:
    """An array of poison. fp8 has no infinity that both families share: its largest values stand for it, its NaN is itself."""
    dtype = np.dtype(dtype)
    if jnp.issubdtype(dtype, jnp.floating):
        top = float(jnp.finfo(dtype).max)
        values = [np.nan, np.inf, -np.inf, min(1e30, top)] if dtype.itemsize > 1 else [np.nan, top, -top, top]
    elif dtype == np.bool_:
        values = [True, False, True, False]
    else:
        info = np.iinfo(dtype)
        # Bytes of a cache are fp8 codes and float32 scales too: 0x7f and 0x80 are NaN in one family each, 0xff in both.
        values = [info.max, info.min, -1, 1 << 20] if info.min < 0 and dtype.itemsize > 1 else [info.max, info.max // 2, 128, 255]
        values = np.asarray(values).astype(dtype)
    palette = np.asarray(values).astype(dtype)
    choice = rng.integers(0, 4, shape) if kind == "mixed" else np.full(shape, KINDS.index(kind))
    return palette[choice]


class Dependence:
    """`core.reads` of one call, its masks at full size, for the groups that any result has."""

    def __init__(self, op, operands, params):
        found = dependence.of(op, operands, params)
        structs = op.infer({n: jax.ShapeDtypeStruct(x.shape, x.dtype) for n, x in operands.items()}, params)
        self.labels = [np.broadcast_to(found.groups[n], s.shape) for n, s in zip(op.results, structs, strict=True)]
        self.live = np.zeros(found.size, bool)
        for labels in self.labels:
            self.live[labels[labels >= 0]] = True
        self.shapes = {n: x.shape for n, x in operands.items()}
        self.masks = {}
        for n, mask in found.operands.items():
            assert len(mask) in (1, found.size), (n, mask.shape)
            np.broadcast_shapes(mask.shape[1:], self.shapes[n])  # or it says nothing of this operand
            self.masks[n] = np.broadcast_to(mask, (found.size, *mask.shape[1:]))

    def read(self, groups: np.ndarray) -> dict[str, np.ndarray]:
        """bool of each operand's shape: what any of these groups (bool [G]) reads."""
        groups = groups & self.live
        full = {n: self.masks[n][groups].any(0) if n in self.masks else groups.any() for n in self.shapes}
        return {n: np.broadcast_to(mask, self.shapes[n]) for n, mask in full.items()}

    def own(self, groups: np.ndarray, *, constant: bool = False) -> list[np.ndarray]:
        """Per result, the elements of one of the groups; `constant`: and those that are the same whatever the operands hold."""
        padded = np.append(groups, constant)
        return [padded[labels] for labels in self.labels]

    def only(self, groups: np.ndarray, name: str) -> np.ndarray:
        """The elements of an operand that no other live group reads."""
        return ~self.read(~groups)[name]

    def readers(self, name: str, index: tuple[int, ...]) -> np.ndarray:
        """bool [G]: the live groups that read one element."""
        if name not in self.masks:
            return self.live.copy()
        mask = self.masks[name]
        return mask[(slice(None), *(i if n > 1 else 0 for i, n in zip(index, mask.shape[1:], strict=True)))] & self.live

    def one(self, group: int) -> np.ndarray:
        return np.arange(len(self.live)) == group

    def tile(self, groups: np.ndarray) -> np.ndarray:
        """The groups, and all that share a key with one of them, and so on: what a kernel that works in tiles takes together."""
        size = 0
        while groups.sum() > size:
            size, read = groups.sum(), self.read(groups)
            for name in SHARED & set(self.masks):
                flat = np.broadcast_to(self.masks[name], (len(groups), *self.shapes[name])).reshape(len(groups), -1)
                groups = groups | (flat[:, read[name].reshape(-1)].any(1) & self.live)
        return groups

    def tiles(self, most: int) -> list[np.ndarray]:
        """Like `some`, each with its `tile`."""
        found = {groups.tobytes(): groups for groups in map(self.tile, self.some(most))}
        return list(found.values())

    def some(self, most: int) -> list[np.ndarray]:
        """Live groups, one at a time, evenly spread."""
        live = np.flatnonzero(self.live)
        chosen = np.unique(np.linspace(0, len(live) - 1, min(most, len(live))).astype(int)) if len(live) else []
        return [self.one(g) for g in live[chosen]]


def poisoned(operands: Mapping, kept: Mapping[str, np.ndarray], kind: str, *, tables: bool = False, seed: int = 0) -> dict:
    """The operands with poison everywhere but where `kept`; int32 operands (ids, tables, lengths) only where `tables`."""
    rng, out = np.random.default_rng(seed), {}
    for n, x in operands.items():
        if n not in kept or (x.dtype == jnp.int32 and not tables):
            out[n] = x
            continue
        x = np.asarray(x)
        out[n] = jnp.asarray(np.where(kept[n], x, bad(x.dtype, kind, x.shape, rng)))
    return out


def assert_equal_at(got, want, where, what: str) -> None:
    for i, (g, w, at) in enumerate(zip(got, want, where, strict=True)):
        with np.errstate(invalid="ignore"):  # a float of poisoned bytes may be a signalling NaN
            a, b = (np.asarray(x).astype(np.float64) for x in (g, w))
        np.testing.assert_array_equal(a[at], b[at], err_msg=f"{what}, result {i}")


def assert_kernel_unmoved(run, operands, depends: Dependence, *, ordered: bool = True) -> None:
    """What no group reads, or no group of two tiles, holds NaN and infinities: the results of those are as on clean data.

    Bit for bit, the program being the same; but not `ordered`, where workgroups add to one result in any order: then partial sums
    are each rounded to it, which moves it by a few units of the largest.
    """
    want = [np.asarray(x).astype(np.float64) for x in run(operands)]
    assert all(np.isfinite(x[labels >= 0]).all() for x, labels in zip(want, depends.labels, strict=True))
    for groups in [depends.live, *depends.tiles(2)]:
        for kind in ("nan", "mixed"):
            got = run(poisoned(operands, depends.read(groups), kind, tables=bool((groups == depends.live).all())))
            what = f"what groups {np.flatnonzero(groups)} do not read is {kind}"
            for x, w, own in zip(got, want, depends.own(groups), strict=True):
                a, b = np.asarray(x).astype(np.float64)[own], w[own]
                if ordered:
                    np.testing.assert_array_equal(a, b, err_msg=what)
                    continue
                assert np.isfinite(a).all(), what
                np.testing.assert_allclose(
                    a, b, rtol=0, atol=8 * float(jnp.finfo(x.dtype).eps) * np.abs(b).max(initial=0), err_msg=what
                )
