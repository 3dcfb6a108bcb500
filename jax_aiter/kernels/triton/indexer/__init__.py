"""Scores of sparse attention's indexer, on Triton kernels."""
