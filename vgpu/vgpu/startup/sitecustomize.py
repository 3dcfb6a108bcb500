"""Start-up hook of processes under ``vgpu run``, which puts this folder on PYTHONPATH.

The ROCm plugin asks JAX how many AMD GPUs the kernel driver lists, and gives up at zero. There is no driver
here, so that one function is replaced once its module has been imported. The file stands alone: the program's
Python need not have vgpu installed.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys

_MODULE = "jax._src.hardware_utils"


def _count(stop_at=None):
    devices = int(os.environ["VGPU_DEVICES"])
    return devices if stop_at is None else min(devices, stop_at)


class _Loader(importlib.abc.Loader):
    def __init__(self, loader):
        self._loader = loader

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        module.num_available_amd_gpus = _count


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != _MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


if "VGPU_DEVICES" in os.environ:
    sys.meta_path.insert(0, _Finder())


def _run_shadowed():
    """Runs the sitecustomize that this one hides, if there is one."""
    here = os.path.dirname(os.path.abspath(__file__))
    rest = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", rest)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


_run_shadowed()
