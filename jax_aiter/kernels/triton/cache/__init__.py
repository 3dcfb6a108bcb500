"""Key/value caches: their layouts, what is read of them, writing into them, on AITER's Triton kernels."""
