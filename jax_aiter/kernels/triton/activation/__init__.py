"""Gated activations, on AITER's Triton kernels."""
