"""Choosing experts, on AITER's hand-written kernels."""
