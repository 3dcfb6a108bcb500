"""Attention over dense, packed and paged sequences, on AITER's hand-written kernels."""
