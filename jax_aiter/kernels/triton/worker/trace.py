"""Watches torch between launches: allocations, views, fills and plain copies are recorded, anything else is refused.

AITER's wrappers run on meta tensors (shapes, strides and byte offsets, no data). A wrapper that computes on tensors
with torch, or reads a value back, would bake one call's data into the plan; here that is an error, not a wrong answer.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false
# Triton may be absent where types are checked, and its kernels are no Python functions.
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from jax_aiter.kernels.triton.worker.errors import RecordError

IS_CUDA = torch.Tensor.is_cuda.__get__  # type: ignore[attr-defined]

ALLOCATE = {
    "aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::new_empty_strided",
    "aten::empty_permuted",
}  # fmt: skip
FILLED = {
    "aten::zeros": 0, "aten::zeros_like": 0, "aten::new_zeros": 0, "aten::zero_": 0,
    "aten::ones": 1, "aten::ones_like": 1, "aten::new_ones": 1,
}  # fmt: skip
FILLED_WITH_ARGUMENT = {"aten::full": 1, "aten::full_like": 1, "aten::new_full": 2, "aten::fill_": 1}
COPIES = {"aten::clone": 0, "aten::contiguous": 0, "aten::_to_copy": 0}


class OnMeta(TorchFunctionMode):
    """Tensors asked for on "cuda" are made on "meta", and meta tensors say they are on a GPU."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cuda":
            kwargs["device"] = torch.device("meta")
        if func == IS_CUDA and args[0].device.type == "meta":
            return True
        return func(*args, **kwargs)


class Watch(TorchDispatchMode):
    """Reports fills and copies to the recorder and refuses computation on meta tensors."""

    def __init__(self, keep: Callable, fill: Callable, copy: Callable) -> None:
        super().__init__()
        self._keep, self._fill, self._copy = keep, fill, copy

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name
        inputs = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        if "_local_scalar_dense" in name and inputs and inputs[0].device.type == "meta":
            raise RecordError("the wrapper reads a value of a device array on the host (.item()), which a plan cannot")
        out = func(*args, **kwargs)
        outputs = [x for x in tree_flatten(out)[0] if isinstance(x, torch.Tensor)]
        if not any(x.device.type == "meta" for x in inputs + outputs):
            return out
        for tensor in outputs:
            self._keep(tensor)
        if name in ALLOCATE or func.is_view:
            return out
        if name in FILLED:
            self._fill(outputs[0], FILLED[name])
        elif name in FILLED_WITH_ARGUMENT:
            self._fill(outputs[0], args[FILLED_WITH_ARGUMENT[name]])
        elif name == "aten::copy_":
            self._copy(args[0], args[1])
        elif name in COPIES:
            self._copy(outputs[0], args[0])
        else:
            shapes = [tuple(x.shape) for x in inputs]
            raise RecordError(f"the wrapper computes {func} on device arrays of shapes {shapes} between launches")
        return out


def fill_pattern(tensor: torch.Tensor, value: Any) -> tuple[int, int]:
    """(value, width): the unsigned number of `width` bytes that, repeated, fills `tensor` with `value`."""
    if isinstance(value, torch.Tensor):
        if value.device.type == "meta":
            raise RecordError("a buffer is filled with a value held on the device")
        value = value.item()
    raw = bytes(torch.tensor([value], dtype=tensor.dtype, device="cpu").view(torch.uint8).tolist())
    if len(raw) > 4:
        if raw[:4] != raw[4:]:
            raise RecordError(f"fill with {value!r} of {len(raw)}-byte elements; a plan fills with at most 4 bytes")
        raw = raw[:4]
    nbytes = tensor.numel() * tensor.element_size()
    offset = tensor.storage_offset() * tensor.element_size()
    if len(raw) < 4 and nbytes % 4 == 0 and offset % 4 == 0:
        raw *= 4 // len(raw)
    return int.from_bytes(raw, "little"), len(raw)


def is_dense(tensor: torch.Tensor) -> bool:
    """True when the tensor's elements occupy one gap-free span of memory (in any dimension order)."""
    expected = 1
    for size, stride in sorted(zip(tensor.shape, tensor.stride(), strict=True), key=lambda p: (p[1], p[0])):
        if size == 1:
            continue
        if stride != expected:
            return False
        expected *= size
    return True
