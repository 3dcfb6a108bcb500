"""Mixture-of-experts layers, on AITER's hand-written kernels."""
