"""Mixture-of-experts layers, on AITER's Triton kernels."""
