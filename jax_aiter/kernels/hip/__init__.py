"""AITER's HIP, opus and CK kernels: its own host code recorded, the one kernel that a plan names compiled, no ROCm needed."""


def load():
    """The provider; no compiler is asked for."""
    from jax_aiter.kernels.hip.provider import HipProvider

    return HipProvider()
