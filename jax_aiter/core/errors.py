"""Exceptions of the package.

Wrong arguments are plain ``TypeError`` / ``ValueError`` (see ``core.check``): they are the caller's mistake and read best under
the names every Python user knows. The classes here are for what a *target* cannot do.
"""

from jax_aiter.core.text import printable


class NotSupportedError(NotImplementedError):
    """An implementation that was asked for by name cannot run this call; the message names the rule that refuses it."""


class KernelBuildError(RuntimeError):
    """A kernel plan could not be produced (worker died, cache not writable, toolchain missing); the message names the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))  # names of files and what a compiler says
