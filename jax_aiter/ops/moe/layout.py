"""The layout in which MoE kernels read expert weights, and AITER's spellings of what comes with them."""

from typing import Any

from jax_aiter.ops.gemm.shuffle_weight import ShuffledWeight

KERNEL_LAYOUT = (16, 16)


def plain(op: str, w1: Any, w2: Any) -> tuple[Any, Any, tuple[int, int] | None]:
    """The data of both weights and their layout, None for plain ones."""
    layouts = [layout_of(op, name, w) for name, w in (("w1", w1), ("w2", w2))]
    if layouts[0] != layouts[1]:
        raise ValueError(f"{op}: w1 has layout {layouts[0]}, w2 has {layouts[1]}: both must be shuffled, or neither")
    first, second = (w.data if isinstance(w, ShuffledWeight) else w for w in (w1, w2))
    return first, second, layouts[0]


def layout_of(op: str, name: str, w: Any) -> tuple[int, int] | None:
    """None for a plain weight, the kernels' layout for one that is shuffled so."""
    layout = w.layout if isinstance(w, ShuffledWeight) else None
    if layout not in (None, KERNEL_LAYOUT):
        raise ValueError(f"{op}: {name} is shuffled with layout {layout}, must be plain or shuffled with {KERNEL_LAYOUT}")
    return layout


def without(scale: Any, axis: int) -> Any:
    """A scale per expert and row, without the axis of size one that AITER gives it."""
    return scale.squeeze(axis) if getattr(scale, "ndim", 0) == 3 and scale.shape[axis] == 1 else scale
