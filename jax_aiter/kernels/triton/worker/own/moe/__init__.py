"""Our own kernels of MoE layers for few tokens."""
