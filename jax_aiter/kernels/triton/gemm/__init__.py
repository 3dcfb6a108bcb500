"""Matrix products, on AITER's Triton kernels."""
