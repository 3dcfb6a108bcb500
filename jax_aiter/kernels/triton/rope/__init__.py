"""Rotary position embedding, on AITER's Triton kernels."""
