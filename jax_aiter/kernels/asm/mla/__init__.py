"""Multi-head latent attention, on AITER's hand-written kernels."""
