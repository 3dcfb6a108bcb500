"""What tests of the HIP provider need: a compiler, and AITER's sources."""

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
