"""Multi-head latent attention, on AITER's Triton kernels."""
