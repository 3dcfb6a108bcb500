"""Quantisation to fp8 and int8, on AITER's Triton kernels."""
