"""What a checkpoint is to the loader: tensors by Hugging Face's names, one at a time."""

from collections.abc import Collection, Mapping
from typing import Protocol

import numpy as np


class Tensors(Protocol):
    """names: all there are. read: one of them, in its own dtype (fp8 and uint8 too); nothing else is brought into memory."""

    @property
    def names(self) -> Collection[str]: ...

    def read(self, name: str) -> np.ndarray: ...


class InMemory:
    """Tensors that are there already."""

    def __init__(self, tensors: Mapping[str, np.ndarray]):
        self._tensors = tensors

    @property
    def names(self) -> Collection[str]:
        return self._tensors.keys()

    def read(self, name: str) -> np.ndarray:
        return self._tensors[name]
