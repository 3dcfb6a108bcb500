"""What tests of the HIP provider need: a compiler, and AITER's sources."""

import stat

import pytest

from jax_aiter.core.errors import KernelBuildError
from jax_aiter.kernels.hip.build import compilers, source
from jax_aiter.kernels.hip.build.compilers import Compiler
from jax_aiter.kernels.hip.build.source import Source
from tests.needs import needs_aiter, skip_without_aiter


def compiler() -> Compiler:
    """The compiler; skips the test where there is none."""
    try:
        return compilers.find()
    except KernelBuildError as error:
        pytest.skip(str(error))


def needs_source(name: str) -> Source:
    """Source `name` of the AITER that is here; skips the test if there is none, or no compiler."""
    compiler()
    where = needs_aiter()
    if (rule := source.lacking(where, name)) is not None:
        skip_without_aiter(rule)
    return source.source(where, name)


def program(path, says, status=0):
    """A program that says something."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def whole(folder, name="clang++", version="22.1.0"):
    """What is found as a compiler, without HIP's headers: its path."""
    for tool in compilers.TOOLS:
        program(folder / tool, "")
    return program(folder / name, f"clang version {version}")
