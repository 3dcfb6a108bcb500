"""AITER's hand-written kernels: code objects that AITER ships, launched from plans."""


def load():
    """The provider; see `jax_aiter.kernels.provider`."""
    from jax_aiter.kernels.asm.provider import AsmProvider

    return AsmProvider()
