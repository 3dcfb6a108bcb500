"""Choosing experts, on AITER's Triton kernels."""
