"""Normalisation, on AITER's Triton kernels."""
