"""Matrix products, on AITER's hand-written kernels."""
