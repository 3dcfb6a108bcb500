"""One file per family of AITER's hand-written kernels; see `jax_aiter.kernels.asm.registry`."""
