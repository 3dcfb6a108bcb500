"""Releases of AITER up to 0.1.7 keep in one folder what later ones sort into packages: here these modules have their later names.

A module is the same object under both names: its relative imports are those of where it lies, and a kernel exists once.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path

TOP = "aiter.ops.triton"
#: packages that the releases have since.
PACKAGES = ("attention", "fusions", "gemm", "gemm.basic", "gemm.batched", "moe", "normalization", "quant", "rope")


class FormerPlaces(MetaPathFinder, Loader):
    """Asked last, so for names only that this release does not have."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None) -> ModuleSpec | None:
        former = self._former(fullname)
        return None if former is None else importlib.util.spec_from_loader(fullname, self, origin=former)

    def _former(self, fullname: str) -> str | None:
        """The name of the module that lies in the innermost folder around `fullname` that there is."""
        if not fullname.startswith(f"{TOP}."):
            return None
        *packages, leaf = fullname.removeprefix(f"{TOP}.").split(".")
        while packages and not self._folder.joinpath(*packages).is_dir():
            packages.pop()
        former = ".".join((TOP, *packages, leaf))
        return former if former != fullname and self._folder.joinpath(*packages, f"{leaf}.py").is_file() else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        assert spec.origin is not None
        module = importlib.import_module(spec.origin)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """It was executed under its own name, which it keeps."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install(root: Path) -> None:
    """Once per process, for the AITER under `root`, whose modules can be imported by now."""
    folder = root.joinpath(*TOP.split("."))
    sys.meta_path.append(FormerPlaces(folder))
    for name in (*PACKAGES, *(f"_triton_kernels.{name}" for name in PACKAGES)):
        place, full = folder.joinpath(*name.split(".")), f"{TOP}.{name}"
        if place.is_dir():
            continue
        if place.with_suffix(".py").is_file():  # a module of that name, which gets members
            importlib.import_module(full).__dict__["__path__"] = []
            continue
        parent, _, leaf = full.rpartition(".")
        package = sys.modules[full] = types.ModuleType(full)
        package.__dict__["__path__"] = []
        setattr(importlib.import_module(parent), leaf, package)
