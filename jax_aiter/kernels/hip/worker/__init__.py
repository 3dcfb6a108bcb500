"""Runs in the worker process: AITER's host code, loaded with a HIP that tells what it launches, and what becomes of that.

Standard library only, so that a worker starts in a moment; the compiler is `jax_aiter.kernels.hip.build`'s.
"""
