"""Our own Triton kernels of dense and packed attention."""
