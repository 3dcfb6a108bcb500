"""AITER's HIP kernels of hyper-connections."""
