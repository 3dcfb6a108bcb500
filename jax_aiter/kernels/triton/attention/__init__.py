"""Attention over dense, packed and paged sequences, on AITER's Triton kernels."""
