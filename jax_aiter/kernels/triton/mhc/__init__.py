"""AITER's Triton kernels of hyper-connections."""
