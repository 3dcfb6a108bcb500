"""Our own kernels of matrix products."""
