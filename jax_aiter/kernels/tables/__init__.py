"""AITER's tables that more than one kind of kernels is chosen by."""
