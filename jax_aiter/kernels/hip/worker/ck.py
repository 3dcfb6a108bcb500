"""A GEMM of Composable Kernel as the recorder takes it: a library that dispatches, instances when called, kernels by symbol."""

from __future__ import annotations

import functools
from pathlib import Path

from jax_aiter.kernels.hip.build.ck_compile import Family
from jax_aiter.kernels.hip.build.ck_script import Instance
from jax_aiter.kernels.hip.worker import elf
from jax_aiter.kernels.hip.worker.errors import RecordError
from jax_aiter.kernels.hip.worker.functions import demangle
from jax_aiter.kernels.hip.worker.record import Module


class Open:
    """The instances of a family that calls came to, and the kernels that each registers."""

    def __init__(self, family: Family) -> None:
        self._family = family
        self._kernels: dict[str, Instance] = {}

    def has(self, function: str) -> bool:
        return self._family.has(function)

    def library(self, function: str) -> Path:
        instance, library = self._family.instance(function)
        if instance is not None:
            for symbol in elf.names(library.read_bytes()).defined:
                self._kernels.setdefault(symbol, instance)  # of kernels that two have, either's are the same
        return library

    def code(self, symbol: str) -> bytes:
        if symbol not in self._kernels:
            raise RecordError(f"AITER's host code launches {demangle(symbol)}, which is no kernel of an instance")
        return self._family.kernel(self._kernels[symbol], symbol, demangle(symbol))


def module(family: Family, tensor: str) -> Module:
    instances = Open(family)
    return Module(family.dispatcher(), tensor, functools.cache(instances.code), instances)
