"""The tiny model runs for a moment: XLA's optimisation passes would take most of the tests' time."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def quick_compile():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
