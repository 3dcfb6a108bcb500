"""AITER's Triton kernels as a provider: recorded from AITER's own wrappers, compiled offline, replayed as launch plans."""


def load():
    """The provider; imports neither torch nor triton."""
    from jax_aiter.kernels.triton.provider import TritonProvider

    return TritonProvider()
