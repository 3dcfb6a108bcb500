"""Triton kernels of our own that join AITER's, and the host code that launches both."""
