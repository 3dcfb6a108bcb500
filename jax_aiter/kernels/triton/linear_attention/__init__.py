"""AITER's Triton kernels of linear attention."""
