"""How XLA compiles the tests' programs: most of what the suites cost is compilation, and little of it is what they ask about.

``--xla fast`` (the default) compiles what only tells whether JAX's transformations fit a record without LLVM's optimisations and,
but for programs with 8-bit floats, without XLA's fusion emitters, which takes half the time. ``--xla default`` compiles as users'
programs are compiled; `tests/core/test_other_processors.py` always does, with a sample of all tests.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

#: Folders whose tests are about transformations, or run examples; the others' programs are optimised.
PLAIN = {"transforms", "parallel", "docs"}
# Ask what XLA makes of a program, compare with another process, or with derivatives by JAX of what was not written for it.
OPTIMISED = {"test_memory.py", "test_export.py", "test_export_shuffled.py", "test_gradient.py"}
UNFUSED = "xla_cpu_use_fusion_emitters", False


@contextlib.contextmanager
def of_module(path: Path, fast: bool) -> Iterator[None]:
    """While the tests of one module run."""
    if not fast or path.parent.name not in PLAIN or path.name in OPTIMISED:
        yield
        return
    import jax  # not before its flags are set
    from jax._src import compiler

    compiled = compiler.compile_or_get_cached

    def unfused(backend, computation, devices, options, *rest):
        # The option is a CPU's; without its fusion emitters XLA converts some numbers of 8 bits to NaN.
        if backend.platform == "cpu" and "f8E" not in str(computation):
            options.env_option_overrides = [*options.env_option_overrides, UNFUSED]
        return compiled(backend, computation, devices, options, *rest)

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with mock.patch.object(compiler, "compile_or_get_cached", unfused):
            yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
